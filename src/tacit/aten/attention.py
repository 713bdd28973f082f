"""Attention, and the fused layers that PyTorch runs in evaluation in the place of `nn.TransformerEncoderLayer`.

Below autograd attention is one operator, so its gradient is another; the weights that the forward pass computes reach
it as the value behind its second result, and are not computed again.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tacit.aten.softmax import softmax_of
from tacit.protocols.values import Value
from tacit.ring import kernels
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import above_autograd
from tacit.tensor.operands import arithmetic, as_secret, plain, secret, zeros
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""


class Weights:
    """softmax(scale q kᵀ + mask), one row for each query, and their logarithmic sums when somebody asks for them."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        value: Tensor | None = None,
        *,
        causal: bool = False,
        scale: float | None = None,
    ) -> None:
        """`value` is what they are for, if that is known: it is truncated beside the others."""
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        _truncated_together(query, key, value)
        query = query * scale
        scores = query @ key.transpose(-2, -1)
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        self.scores, self.scale = scores, scale
        self._some: Tensor | None = None
        """Of queries that may attend to no key at all, and attend to nothing, zero."""
        if mask is not None and not isinstance(mask, SecretTensor):
            some = mask.any(-1, keepdim=True) if mask.dtype == torch.bool else (mask != -math.inf).any(-1, keepdim=True)
            self._some = None if bool(some.all()) else some.to(torch.int64)

    @cached_property
    def value(self) -> Tensor:
        """The weights themselves."""
        weights = self.scores.softmax(-1)
        return weights if self._some is None else weights * self._some

    def of(self, value: Tensor) -> Tensor:
        """Sums of values by these weights, which are divided after they were added up: no weight is opened for them."""
        if not value.numel() or not all(isinstance(t, SecretTensor) and plain(t) is None for t in (self.scores, value)):
            return self.value @ value
        parts = softmax_of(as_secret(self.scores), -1, weighted=True)
        sums = secret(parts.weighted(arithmetic(as_secret(value)).without_headroom(), kernels.matmul), value.dtype)
        return sums if self._some is None else sums * self._some

    def __call__(self) -> Value:
        """The value of PyTorch's second result."""
        return arithmetic(as_secret(self.scores.logsumexp(-1)))


def _truncated_together(*tensors: Tensor | None) -> None:
    """Open products that are going to be truncated, in one round."""
    secrets = [t for t in tensors if isinstance(t, SecretTensor) and plain(t) is None]
    shares = [s for s in map(arithmetic, secrets) if s.frac_bits > s.settled_bits]
    if shares:
        shares[0].protocol.together(*shares)


@above_autograd(aten.scaled_dot_product_attention.default)
def batched(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Attention of three dimensions as that of one batch more, whose operator knows of queries without a key.

    If the mask is secret, these cost 5 rounds more.
    """
    if isinstance(attn_mask, SecretTensor) and attn_mask.dtype == torch.bool:
        low = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, -math.inf)
        out = F.scaled_dot_product_attention(
            query, key, value, low, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return out * (attn_mask.sum(-1, keepdim=True) > 0)
    if dropout_p or enable_gqa or any(t.dim() != 3 for t in (query, key, value)):
        return None
    if attn_mask is not None and attn_mask.dim() > 2:
        attn_mask = attn_mask.unsqueeze(0)
    q, k, v = (t.unsqueeze(0) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=is_causal, scale=scale).squeeze(0)


@implements(aten._safe_softmax.default)
def safe_softmax(func: Any, x: SecretTensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """Softmax, and zeros for rows of nothing but minus infinity: where some may stand, 4 rounds and more."""
    out = x.softmax(dim, dtype=dtype)
    return out * (x != -math.inf).any(dim, keepdim=True) if x.share.scale.far else out


@implements(aten._scaled_dot_product_flash_attention_for_cpu.default)
def attention(
    func: Any,
    query: Operand,
    key: Operand,
    value: Operand,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, SecretTensor]:
    """softmax(scale q kᵀ + mask) v, see `functions.softmax.Softmax.weighted`: where |v| < 2^22 and Σ exp |v| < 2^30."""
    if dropout_p:
        raise unsupported(
            "dropout inside of attention", "PyTorch's other form of attention has it: leave out need_weights"
        )
    secrets = (query, key, value, attn_mask)
    query = as_secret(query, *secrets)
    key, value = (_for_every_head(t, query.shape[1]) for t in (key, value))
    weights = Weights(query, key, attn_mask, value, causal=is_causal, scale=scale)
    sums = SecretTensor(weights, query.dtype, protocol=query._protocol, shape=query.shape[:-1])
    return weights.of(value), sums


def _for_every_head(x: Tensor, heads: int) -> Tensor:
    """Keys or values that groups of queries share, repeated."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def _of_groups(x: Tensor, heads: int) -> Tensor:
    """Gradients of keys or values that groups of queries share, summed."""
    return x if x.shape[1] == heads else x.unflatten(1, (heads, -1)).sum(2)


@implements(aten._scaled_dot_product_flash_attention_for_cpu_backward.default)
def attention_backward(
    func: Any,
    grad: Operand,
    query: Operand,
    key: Operand,
    value: Operand,
    out: SecretTensor,
    logsumexp: SecretTensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """With weights w: dv = wᵀ g, ds = w (g vᵀ - Σ w (g vᵀ)), dq = scale ds k, dk = scale dsᵀ q."""
    heads = key.shape[1]
    key, value = (_for_every_head(t, query.shape[1]) for t in (key, value))
    weights = logsumexp._share
    if not isinstance(weights, Weights):  # somebody has looked at the sums
        weights = Weights(as_secret(query, grad, key, value, out), key, attn_mask, causal=is_causal, scale=scale)
    w = weights.value
    dw = grad @ value.transpose(-2, -1)
    ds = w * (dw - (w * dw).sum(-1, keepdim=True)) * weights.scale
    dk, dv = ds.transpose(-2, -1) @ query, w.transpose(-2, -1) @ grad
    return ds @ key, _of_groups(dk, heads), _of_groups(dv, heads)


@implements(aten._native_multi_head_attention.default)
def multi_head_attention(
    func: Any,
    query: Operand,
    key: Operand,
    value: Operand,
    embed_dim: int,
    num_head: int,
    qkv_weight: Operand,
    qkv_bias: Operand,
    proj_weight: Operand,
    proj_bias: Operand,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`nn.MultiheadAttention` in evaluation: projections, attention of every head, and one more projection."""
    inputs = zip((query, key, value), qkv_weight.chunk(3), qkv_bias.chunk(3), strict=True)
    q, k, v = (F.linear(x, w, b).unflatten(-1, (num_head, -1)).transpose(1, 2) for x, w, b in inputs)
    weights = Weights(q, k, _allowed(mask, mask_type), v)
    out = F.linear(weights.of(v).transpose(1, 2).flatten(2), proj_weight, proj_bias)
    if not need_weights:
        return out, zeros(as_secret(out)._protocol, (0,), out.dtype)
    return out, weights.value.mean(1) if average_attn_weights else weights.value


PADDING = 1
"""The mask type of PyTorch's fused layers that says which keys of each sequence are padding."""


def _allowed(mask: Tensor | None, mask_type: int | None) -> Tensor | None:
    """The mask of a fused layer, where True leaves out, as one of `scaled_dot_product_attention`, where True keeps."""
    if mask is None:
        return None
    if mask_type == PADDING:
        mask = mask[:, None, None, :]
    return ~mask if mask.dtype == torch.bool else mask


@implements(aten._transformer_encoder_layer_fwd.default)
def encoder_layer(
    func: Any,
    src: Operand,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Operand,
    qkv_bias: Operand,
    proj_weight: Operand,
    proj_bias: Operand,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Operand,
    norm_bias_1: Operand,
    norm_weight_2: Operand,
    norm_bias_2: Operand,
    ffn_weight_1: Operand,
    ffn_bias_1: Operand,
    ffn_weight_2: Operand,
    ffn_bias_2: Operand,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """`nn.TransformerEncoderLayer` in evaluation: attention and two linear layers, each with a shortcut and a norm."""
    projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
    multi_head = aten._native_multi_head_attention.default

    def attend(x: Tensor) -> Tensor:
        y, _ = multi_head_attention(
            multi_head, x, x, x, embed_dim, num_heads, *projections, mask, need_weights=False, mask_type=mask_type
        )
        return y

    def feed(x: Tensor) -> Tensor:
        hidden = F.linear(x, ffn_weight_1, ffn_bias_1)
        return F.linear(F.gelu(hidden) if use_gelu else F.relu(hidden), ffn_weight_2, ffn_bias_2)

    def norm(x: Tensor, weight: Operand, bias: Operand) -> Tensor:
        out: Tensor = F.layer_norm(x, (embed_dim,), weight, bias, eps)
        return out

    if norm_first:
        x = src + attend(norm(src, norm_weight_1, norm_bias_1))
        return x + feed(norm(x, norm_weight_2, norm_bias_2))
    x = norm(src + attend(src), norm_weight_1, norm_bias_1)
    return norm(x + feed(x), norm_weight_2, norm_bias_2)


@implements(aten._nested_tensor_from_mask_left_aligned.default)
def left_aligned(func: Any, x: Tensor, mask: Tensor) -> bool:
    """Whether padding may be cut off into a nested tensor: a mask does the same, and secrets have one shape."""
    return False
