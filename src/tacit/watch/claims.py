"""What is claimed of PyTorch's operators on secrets: how close they come, and for which numbers.

`docs/generate.py` writes the claims into the documentation, with their measured costs; `tests/aten/test_samples.py`
holds them against PyTorch's own samples of its operators. The names are those of PyTorch's list of samples, `op_db`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["CLAIMS", "Between", "Claim"]


class Between(NamedTuple):
    """The numbers from one end to another."""

    low: float
    high: float

    def fold(self, x: Tensor) -> Tensor:
        """Bring any numbers between the ends."""
        return self.low + (x.abs() % 1.0) * (self.high - self.low)

    def __str__(self) -> str:
        return f"{self.low:g} … {self.high:g}"


class Claim(NamedTuple):
    """How close the results and gradients of an operator come."""

    error: float
    """Of any element, as a part of the largest element or of 1, whichever is larger."""
    between: Between | None = None
    """Where the samples are brought; None leaves them where PyTorch draws them, mostly from -9 to 9."""
    function: str = ""
    """The function of `tacit.functions` whose docstring states the domain, if one limits it."""


def each(names: str, claim: Claim) -> dict[str, Claim]:
    """The same claim for several operators."""
    return dict.fromkeys(names.split(), claim)


UNITS, CLOSE, FAIR, ROUGH = 2.0**-14, 2.0**-12, 2.0**-10, 2.0**-7
"""A few units in the last place, which is 2^-16; and what approximations, and sums of many roundings, come to."""

CLAIMS: dict[str, Claim] = {
    **each(
        "__getitem__ abs add addbmm addmm addmv all amax amin aminmax any argmax argmin argsort atleast_1d atleast_2d "
        "ceil floor frac round signbit trunc "
        "atleast_3d baddbmm block_diag bmm broadcast_tensors broadcast_to cartesian_prod cat chunk clamp clamp_max "
        "clamp_min clone column_stack constant_pad_nd contiguous count_nonzero cross cummax cummin cumsum diag "
        "diag_embed diagflat diagonal diff dot dsplit dstack eq expand expand_as fill flatten flip fliplr flipud "
        "fmax fmin full_like gather ge gt heaviside hsplit hstack index_add index_copy index_fill index_put "
        "index_select inner isclose isfinite isinf isnan kthvalue le lerp linalg.cross linalg.diagonal "
        "linalg.multi_dot linalg.vander linalg.vecdot logical_and logical_not logical_or "
        "logical_xor lt masked_fill max maximum median "
        "meshgrid min minimum mm movedim msort mv nan_to_num nanmean nanmedian nansum narrow ne neg new_full "
        "new_ones new_zeros "
        "nn.functional.adaptive_avg_pool2d nn.functional.adaptive_max_pool1d nn.functional.adaptive_max_pool2d "
        "nn.functional.adaptive_max_pool3d nn.functional.batch_norm nn.functional.channel_shuffle "
        "nn.functional.conv1d nn.functional.conv2d nn.functional.conv_transpose1d nn.functional.conv_transpose2d "
        "nn.functional.conv_transpose3d nn.functional.dropout nn.functional.dropout2d nn.functional.embedding "
        "nn.functional.hardshrink nn.functional.hardsigmoid nn.functional.hardtanh "
        "nn.functional.hinge_embedding_loss nn.functional.l1_loss nn.functional.max_pool1d "
        "nn.functional.max_pool2d nn.functional.max_pool3d nn.functional.max_unpool1d nn.functional.max_unpool2d "
        "nn.functional.max_unpool3d nn.functional.mse_loss nn.functional.multi_margin_loss "
        "nn.functional.multilabel_margin_loss nn.functional.pad "
        "nn.functional.pixel_shuffle nn.functional.pixel_unshuffle nn.functional.relu nn.functional.relu6 "
        "nn.functional.softshrink nn.functional.threshold "
        "ones_like permute put quantile ravel repeat repeat_interleave reshape reshape_as roll rot90 rsub scatter "
        "scatter_add scatter_reduce select select_scatter sgn sign slice sort split split_with_sizes square "
        "squeeze stack sub sum sum_to_size t take take_along_dim tensor_split tensordot tile topk trace transpose "
        "trapezoid tril triu unbind unflatten unfold unsqueeze var vdot view view_as vsplit vstack where "
        "zeros_like",
        Claim(UNITS),
    ),
    **each(
        "addr cos cov cumulative_trapezoid einsum erf erfc gradient kron ldexp linalg.matrix_power log_softmax "
        "logaddexp2 logsumexp matmul mean mul "
        "nn.functional.adaptive_avg_pool1d nn.functional.avg_pool1d "
        "nn.functional.avg_pool2d nn.functional.avg_pool3d nn.functional.bilinear nn.functional.celu "
        "nn.functional.conv3d nn.functional.cosine_similarity nn.functional.cross_entropy nn.functional.elu "
        "nn.functional.group_norm nn.functional.hardswish nn.functional.huber_loss nn.functional.instance_norm "
        "nn.functional.interpolate nn.functional.layer_norm nn.functional.leaky_relu nn.functional.linear "
        "nn.functional.logsigmoid nn.functional.margin_ranking_loss nn.functional.multilabel_soft_margin_loss "
        "nn.functional.prelu nn.functional.selu nn.functional.smooth_l1_loss nn.functional.softmin "
        "nn.functional.softsign nn.functional.triplet_margin_loss nn.functional.triplet_margin_with_distance_loss "
        ""
        " outer sin softmax var_mean",
        Claim(CLOSE),
    ),
    **each(
        "corrcoef nn.functional.binary_cross_entropy_with_logits nn.functional.gelu nn.functional.glu "
        "nn.functional.linear_cross_entropy nn.functional.local_response_norm nn.functional.mish "
        "nn.functional.silu nn.functional.tanhshrink renorm sigmoid std std_mean tanh",
        Claim(FAIR),
    ),
    **each(
        "nn.functional.binary_cross_entropy nn.functional.kl_div nn.functional.nll_loss "
        "nn.functional.poisson_nll_loss nn.functional.scaled_dot_product_attention",
        Claim(ROUGH),
    ),
    "addcdiv": Claim(FAIR, Between(0.5, 4), "quotient"),
    "addcmul": Claim(FAIR),
    "cosh": Claim(CLOSE, Between(-2, 2), "exp"),
    "cumprod": Claim(CLOSE, Between(0.5, 1.5)),
    "div": Claim(FAIR, Between(0.5, 4), "quotient"),
    "exp": Claim(UNITS, Between(-2, 2), "exp"),
    "exp2": Claim(CLOSE, Between(-2, 2), "exp"),
    "expm1": Claim(UNITS, Between(-2, 2), "exp"),
    "floor_divide": Claim(UNITS, Between(0.5, 4), "floor_quotient"),
    "fmod": Claim(UNITS, Between(0.5, 4), "floor_quotient"),
    "remainder": Claim(UNITS, Between(0.5, 4), "floor_quotient"),
    "float_power": Claim(CLOSE, Between(0.5, 2)),
    "hypot": Claim(CLOSE, Between(0.5, 4), "sqrt"),
    "linalg.matrix_norm": Claim(UNITS, Between(0.5, 4)),
    "linalg.norm": Claim(FAIR, Between(0.5, 4)),
    "linalg.vector_norm": Claim(FAIR, Between(1, 2)),
    "log": Claim(UNITS, Between(0.5, 4), "log"),
    "log10": Claim(UNITS, Between(0.5, 4), "log"),
    "log1p": Claim(CLOSE, Between(0.5, 4), "log"),
    "log2": Claim(UNITS, Between(0.5, 4), "log"),
    "sinc": Claim(CLOSE, Between(0.25, 4)),  # below, its gradient divides a small difference by a small square
    "logaddexp": Claim(CLOSE, Between(-4, 4)),
    "logcumsumexp": Claim(CLOSE, Between(-2, 2), "exp"),
    "logit": Claim(CLOSE, Between(0.05, 0.95), "log"),
    "nn.functional.cosine_embedding_loss": Claim(FAIR, Between(0.5, 4)),
    "nn.functional.multi_head_attention_forward": Claim(FAIR, Between(-1, 1)),
    "nn.functional.normalize": Claim(CLOSE, Between(0.5, 4)),
    "nn.functional.pairwise_distance": Claim(FAIR, Between(0.5, 4), "sqrt"),
    "nn.functional.rms_norm": Claim(FAIR, Between(0.5, 4)),
    "nn.functional.soft_margin_loss": Claim(FAIR, Between(-2, 2)),
    "norm": Claim(FAIR, Between(0.5, 4)),
    "pow": Claim(CLOSE, Between(0.5, 2)),
    "prod": Claim(ROUGH, Between(0.5, 1.5)),  # partial products of many may be large, and their rounding counts
    "reciprocal": Claim(CLOSE, Between(0.5, 4), "reciprocal"),
    "rsqrt": Claim(CLOSE, Between(0.5, 4), "rsqrt"),
    "sinh": Claim(CLOSE, Between(-2, 2), "exp"),
    "sqrt": Claim(UNITS, Between(0.5, 4), "sqrt"),
    "tan": Claim(CLOSE, Between(-1, 1)),
    "true_divide": Claim(FAIR, Between(0.5, 4), "quotient"),
    "xlogy": Claim(CLOSE, Between(0.5, 4), "log"),
}
