"""PyTorch's own samples of its operators, forward and backward, wherever an operator that we claim can take them.

A sample outside of an operator's domain is brought into it by the filter below; one that is refused with a clear error
is left out; whatever runs has to agree with plain PyTorch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

import tacit
from tacit import SecretTensor
from tacit.errors import DataError, EncodingError, RevealError, UnsupportedOperator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

SAMPLES, LARGEST = 4, 420
"""Of each operator in the fast tests, and their elements; the slow ones take all, up to a hundred."""


class Claim(NamedTuple):
    """How close an operator comes, and for which inputs."""

    tolerance: float = 2**-9
    domain: Callable[[Tensor], Tensor] | None = None
    """From any tensor to one in the domain."""


def between(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """Bring numbers between two ends, by folding."""
    return lambda x: low + (x.abs() % 1.0) * (high - low)


def each(names: str, claim: Claim) -> dict[str, Claim]:
    """The same claim for several operators."""
    return dict.fromkeys(names.split(), claim)


POSITIVE = between(0.5, 4.0)
EXACT, FINE, FAIR, ROUGH = 2**-13, 2**-10, 2**-8, 2**-6

CLAIMS: dict[str, Claim] = {
    **each(
        "add sub rsub neg abs clone contiguous permute transpose t reshape view flatten unflatten expand cat stack "
        "hstack vstack dstack squeeze unsqueeze narrow select chunk split unbind flip fliplr flipud roll rot90 tril "
        "triu diag diagonal diag_embed movedim tile repeat repeat_interleave masked_fill "
        "index_select index_fill index_add gather take_along_dim where sum cumsum trace maximum minimum fmax fmin "
        "max min amax amin "
        "eq ne lt le gt ge nn.functional.relu nn.functional.relu6 nn.functional.hardtanh nn.functional.pad "
        "ones_like zeros_like new_zeros column_stack atleast_2d broadcast_to diff unfold block_diag "
        "sort topk kthvalue median msort cummax cummin aminmax argmax argmin",
        Claim(EXACT * 4),
    ),
    **each(
        "mul mean square mm bmm mv matmul dot outer addmm addmv addbmm baddbmm addr addcmul einsum inner kron "
        "lerp linalg.multi_dot nn.functional.linear nn.functional.mse_loss nn.functional.leaky_relu var std var_mean "
        "std_mean cov sigmoid tanh  nn.functional.logsigmoid nn.functional.hardswish "
        "nn.functional.hardsigmoid nn.functional.elu nn.functional.selu nn.functional.celu nn.functional.silu "
        "nn.functional.gelu nn.functional.mish nn.functional.softsign nn.functional.tanhshrink "
        "nn.functional.softshrink nn.functional.hardshrink nn.functional.threshold nn.functional.glu softmax "
        "log_softmax logsumexp nn.functional.softmin erf sin cos nn.functional.l1_loss nn.functional.huber_loss "
        "nn.functional.smooth_l1_loss nn.functional.cosine_similarity "
        "nn.functional.layer_norm nn.functional.scaled_dot_product_attention "
        "nn.functional.bilinear  tensordot",
        Claim(FAIR),
    ),
    **each(
        "log log2 log10 log1p sqrt rsqrt reciprocal", Claim(FAIR, POSITIVE)),
    **each(
        "div true_divide", Claim(FAIR, POSITIVE)),
    **each(
        "exp exp2 expm1 sinh cosh", Claim(FAIR, between(-2.0, 2.0))),
    "pow": Claim(ROUGH, between(0.5, 2.0)),
    "nn.functional.normalize": Claim(FAIR, POSITIVE),
    "tan": Claim(FAIR, between(-1.0, 1.0)),
    "erfc": Claim(FAIR),
    "prod": Claim(ROUGH, between(0.5, 1.5)),
    "cumprod": Claim(ROUGH, between(0.5, 1.5)),
    "logcumsumexp": Claim(FAIR, between(-2.0, 2.0)),
    "xlogy": Claim(FAIR, POSITIVE),
    "hypot": Claim(FAIR, POSITIVE),
    "linalg.vector_norm": Claim(ROUGH, between(1.0, 2.0)),
    "nn.functional.pairwise_distance": Claim(2**-5, POSITIVE),
    "norm": Claim(FAIR, POSITIVE),
    "logaddexp": Claim(FAIR, between(-4.0, 4.0)),
    }  # fmt: skip

REFUSALS = (UnsupportedOperator, EncodingError, DataError, RevealError, ZeroDivisionError)


def samples(name: str, largest: float) -> Iterator[Any]:
    """The inputs of an operator in all its variants, up to a number of elements."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for info in op_db:
            if info.name == name and info.supports_dtype(torch.float32, "cpu"):
                for sample in info.sample_inputs("cpu", torch.float32, requires_grad=False):
                    if not isinstance(sample.input, Tensor) or sample.input.numel() <= largest:
                        yield info, sample


def prepared(claim: Claim, arguments: Any) -> Any:
    """The arguments within the domain, and on the grid of fixed point."""

    def op(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        x = claim.domain(x) if claim.domain else x
        return ((x * 2**12).round() / 2**12).detach()

    return tree_map_only(Tensor, op, arguments)


def run(function: Any, arguments: Any, leaf: Callable[[Tensor], Tensor], *, gradient: bool) -> tuple[list[Any], list]:
    """Results, and gradients of a weighted sum of the floating-point ones."""
    leaves: list[Tensor] = []

    def op(x: Tensor) -> Tensor:
        y = leaf(x)
        if gradient and x.is_floating_point():
            leaves.append(y.requires_grad_())
        return y

    args, kwargs = tree_map_only(Tensor, op, arguments)
    results = [r for r in tree_flatten(function(*args, **kwargs))[0] if isinstance(r, Tensor)]
    if gradient:
        total = [(r * torch.linspace(-1, 1, r.numel()).view(r.shape)).sum() for r in results if r.requires_grad]
        if total:
            sum(total[1:], total[0]).backward()
    return results, [x.grad for x in leaves]


def plain(x: Any) -> Any:
    return tacit.reveal(x.detach()) if isinstance(x, SecretTensor) else x.detach()


def hidden(x: Tensor) -> Tensor:
    """Numbers are secret; positions are public here, and secret in other tests."""
    return tacit.share(x.clone()) if x.is_floating_point() else x.clone()


def close(got: Any, want: Any, tolerance: float) -> None:
    """Equal up to the tolerance, relative to the largest element."""
    got, want = plain(got).double(), plain(want).double()
    assert got.shape == want.shape
    if want.numel() and bool(want.isfinite().all()):
        scale = max(1.0, float(want.abs().max()))
        torch.testing.assert_close(got, want, atol=tolerance * scale, rtol=0)


def agree(name: str, limit: int) -> int:
    """Compare samples; return how many ran."""
    claim, ran = CLAIMS[name], 0
    for info, sample in islice(samples(name, LARGEST if limit == SAMPLES else math.inf), limit):
        arguments = prepared(claim, ([sample.input, *sample.args], sample.kwargs))
        try:
            want, wanted = run(info.op, arguments, Tensor.clone, gradient=info.supports_autograd)
        except RuntimeError:
            continue  # the operator no longer takes it within the domain, or has no gradient for one of its tensors
        try:
            got, found = run(info.op, arguments, hidden, gradient=info.supports_autograd)
        except REFUSALS:
            continue
        for g, w in zip([*got, *found], [*want, *wanted], strict=True):
            if w is not None and g is not None:
                close(g, w, claim.tolerance)
        ran += 1
    return ran


@pytest.mark.parametrize("name", CLAIMS)
def test_samples_agree(name, session):
    torch.manual_seed(0)

    assert agree(name, SAMPLES) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CLAIMS)
def test_all_samples_agree(name, session):
    torch.manual_seed(0)

    assert agree(name, 100) > 0


def test_all_claims_are_operators_of_pytorch():
    assert set(CLAIMS) <= {info.name for info in op_db}
