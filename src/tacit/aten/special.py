"""Powers with exponents that are tensors, hyperbolic functions, and the derivatives of the shrinking activations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import LOG_OF_ZERO, times_fine
from tacit.errors import DataError
from tacit.functions.exponential import exp
from tacit.functions.linear import fractional
from tacit.functions.logarithm import log
from tacit.protocols.number import Number
from tacit.ring.shapes import broadcast
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, plain, result_dtype, secret
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

aten = torch.ops.aten
Operand = Tensor
"""Public or secret."""
MEAN = 1


@implements(aten.pow.Tensor_Tensor)
def power(func: Any, x: Operand, exponent: Operand) -> Tensor:
    """x^y = exp(y log x) for x > 0, and by multiplications where one public whole number is the exponent of all."""
    known = plain(exponent)
    if known is not None and known.numel() and bool((known == known.reshape(-1)[0]).all()):
        out: Tensor = x ** known.reshape(-1)[0].item()
        return out.expand(broadcast(x.shape, exponent.shape)).clone()
    if known is not None and len(values := known.unique()) <= DISTINCT and bool((values == values.round()).all()):
        terms = [torch.where(known == v, x ** v.item(), torch.zeros(())) for v in values]
        return sum(terms[1:], terms[0])
    return secret(_power(x, exponent, known), result_dtype(x, exponent))


DISTINCT = 8
"""Whole numbers among public exponents that are taken by multiplications, one after the other."""


def _power(x: Operand, exponent: Operand, known: Tensor | None) -> Number:
    base = plain(x)
    power = None if known is not None else fractional(arithmetic(as_secret(exponent)))
    if power is not None and base is not None:
        if not bool((base > 0).all()):
            raise unsupported("a secret power of a public number that is not positive", "select those that are first")
        return exp(times_fine(power, _logarithm(base)))
    logarithm = log(arithmetic(as_secret(x)), zero=LOG_OF_ZERO)
    return exp(times_fine(logarithm, known) if power is None else power.settle() * logarithm)  # type: ignore[arg-type]


def _logarithm(x: Tensor) -> Tensor:
    """log x from single sums, products and quotients, which all machines round alike:  2 artanh((m - 1) / (m + 1))."""
    mantissa, exponent = torch.frexp(x.double())
    t = (mantissa - 1) / (mantissa + 1)
    total = torch.full_like(t, 1 / 39)
    for k in range(37, 0, -2):
        total = total * (t * t)
        total = total + 1 / k
    return 2 * t * total + exponent * math.log(2)


@implements(aten.sinh.default, aten.cosh.default)
def hyperbolic(func: Any, x: SecretTensor) -> Tensor:
    """(exp x ∓ exp -x) / 2, for |x| <= 11. 4 rounds."""
    up, down = torch.stack([x, -x]).exp().unbind(0)
    return (up - down if func is aten.sinh.default else up + down) / 2


@implements(aten.tan.default)
def tangent(func: Any, x: SecretTensor) -> Tensor:
    """sin x / cos x, both from one opening. 12 rounds."""
    return x.sin() / x.cos()


@implements(aten.hypot.default)
def hypotenuse(func: Any, x: Operand, y: Operand) -> Tensor:
    """√(x² + y²), a norm of two."""
    pair = torch.broadcast_tensors(as_secret(x, y), as_secret(y, x))
    out: Tensor = torch.stack(pair).norm(dim=0)
    return out


@implements(aten.fmax.default, aten.fmin.default)
def larger(func: Any, x: Operand, y: Operand) -> Tensor:
    """The larger (smaller) of two: there is no NaN to be left out."""
    return torch.maximum(x, y) if func is aten.fmax.default else torch.minimum(x, y)


@implements(aten.softshrink_backward.default, aten.hardshrink_backward.default)
def shrink_backward(func: Any, grad: Operand, x: Operand, lambd: float) -> Tensor:
    """grad where |x| > lambda. Both comparisons come from one opening."""
    inside = (x > lambd) | (x < -lambd)
    return inside * grad


@implements(aten._trilinear.default)
def trilinear(
    func: Any,
    a: Operand,
    b: Operand,
    c: Operand,
    expand1: list[int],
    expand2: list[int],
    expand3: list[int],
    sumdim: list[int],
    unroll_dim: int = 1,
) -> Tensor:
    """Σ a b c over `sumdim`, each spread over dimensions of its own: what `nn.Bilinear` is made of."""
    letters = "abcdefgh"[: a.dim() + len(expand1)]

    def of(left_out: list[int]) -> str:
        return "".join(letter for k, letter in enumerate(letters) if k not in left_out)

    return torch.einsum(f"{of(expand1)},{of(expand2)},{of(expand3)}->{of(sumdim)}", a, b, c)


@implements(aten.addbmm.default)
def addbmm(func: Any, x: Operand, left: Operand, right: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta x + alpha Σ of a batch of matrix products, which are one product of longer rows."""
    rows, columns = left.transpose(0, 1).flatten(1), right.flatten(0, 1)
    return torch.addmm(x, rows, columns, beta=beta, alpha=alpha)


@implements(aten.put.default)
def put(func: Any, x: Operand, index: Tensor, source: Operand, accumulate: bool = False) -> Tensor:
    """A copy of x with elements at places, counted through all of x, replaced or added to. Local."""
    flat = x.reshape(-1)
    return flat.index_put((index.reshape(-1),), source.reshape(-1), accumulate).view(x.shape)


@implements(aten._cdist_forward.default)
def distances(func: Any, x: Operand, y: Operand, p: float, compute_mode: int | None) -> Tensor:
    """Distances of all pairs of rows; the Euclidean ones by √(Σx² + Σy² - 2 x yᵀ)."""
    if p != 2:
        norms: Tensor = (x.unsqueeze(-2) - y.unsqueeze(-3)).norm(p, -1)
        return norms
    squares = (x * x).sum(-1, keepdim=True) + (y * y).sum(-1).unsqueeze(-2)
    return (squares - 2 * (x @ y.transpose(-2, -1))).clamp(min=0).sqrt()


@implements(aten._cdist_backward.default)
def distances_backward(func: Any, grad: Operand, x: Operand, y: Operand, p: float, distance: Operand) -> Tensor:
    """Σ_j g_ij (x_i - y_j) / d_ij for Euclidean distances; the signs of the differences for sums of them."""
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    if p == 1:
        return (grad.unsqueeze(-1) * difference.sign()).sum(-2)
    if p == math.inf:
        chosen = difference.abs() == distance.unsqueeze(-1)
        return (chosen * (grad.unsqueeze(-1) * difference.sign())).sum(-2)
    if p != 2:
        raise unsupported(f"the gradient of distances of order {p}", "orders 1, 2 and inf have one")
    share = grad / distance
    return share.sum(-1, keepdim=True) * x - share @ y


@implements(aten.multi_margin_loss_backward.default)
def multi_margin_loss_backward(
    func: Any,
    grad: Operand,
    x: Operand,
    target: Tensor,
    p: int,
    margin: float,
    weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor:
    """w_y [j ≠ y] [z_j > 0] p z_j^(p - 1) / C for z_j = margin - x_y + x_j, and minus their sum at y."""
    rows, y = (x, target) if x.dim() == 2 else (x.reshape(1, -1), target.reshape(1))
    hot = y.unsqueeze(1) == torch.arange(rows.shape[1])
    z = rows - (rows * hot).sum(1, keepdim=True) + margin
    slope = (z > 0) & ~hot
    slopes = slope * (grad.reshape(-1, 1) * ((2 * z if p == 2 else torch.ones(z.shape)) / rows.shape[1]))
    if weight is not None:
        slopes = slopes * (hot * weight).sum(1, keepdim=True)
    if reduction == MEAN:
        slopes = slopes / len(rows)
    return (slopes - hot * slopes.sum(1, keepdim=True)).reshape(x.shape)


def _labelled(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z_ij = 1 - x_i + x_j of each row, how often i is among its labels where j is not, and [i is a label]."""
    rows, labels = torch.atleast_2d(x), torch.atleast_2d(target)
    listed = (labels >= 0).cumprod(1)  # a list of labels ends at its first negative number
    often = torch.zeros(rows.shape).scatter_add(1, labels.clamp(min=0), listed.float())
    pairs = often.unsqueeze(2) * (often == 0).unsqueeze(1)
    return 1 - rows.unsqueeze(2) + rows.unsqueeze(1), pairs, (often > 0).float().reshape(x.shape)


@implements(aten.multilabel_margin_loss_forward.default)
def multilabel_margin_loss(func: Any, x: SecretTensor, target: Tensor, reduction: int) -> tuple[Tensor, Tensor]:
    """Σ max(0, z_ij) / C over labels i and others j of a row of C classes. PyTorch's own decomposition is wrong."""
    z, pairs, is_target = _labelled(x, target)
    loss = (z.relu() * (pairs / z.shape[-1])).sum((1, 2)).reshape(x.shape[:-1])
    return (loss.mean() if reduction == MEAN else loss.sum() if reduction else loss), is_target


@implements(aten.multilabel_margin_loss_backward.default)
def multilabel_margin_loss_backward(
    func: Any, grad: Operand, x: SecretTensor, target: Tensor, reduction: int, is_target: Tensor
) -> Tensor:
    """[z_ij > 0] / C, to j and with a minus to i."""
    z, pairs, _ = _labelled(x, target)
    factor = pairs / z.shape[-1] / (len(z) if reduction == MEAN else 1)
    slopes = (z > 0) * (grad.reshape(-1, 1, 1) * factor)
    return (slopes.sum(1) - slopes.sum(2)).reshape(x.shape)


# --- distances of pairs, histograms -----------------------------------------------------------------------------------


@implements(aten._pdist_forward.default)
def distances_within(func: Any, x: SecretTensor, p: float = 2) -> Tensor:
    """The distances of all pairs of rows, each pair once."""
    found: Tensor = torch.linalg.vector_norm(_differences(x), p, -1)
    return found


def _differences(x: Tensor) -> Tensor:
    i, j = torch.triu_indices(x.shape[0], x.shape[0], 1).unbind(0)
    return x[i] - x[j]


@implements(aten._pdist_backward.default)
def distances_within_backward(func: Any, grad: Operand, x: Operand, p: float, distance: Operand) -> Tensor:
    """The slope of each distance goes to its first row, and with a minus to its second; see `distances_backward`."""
    i, j = torch.triu_indices(x.shape[0], x.shape[0], 1).unbind(0)
    difference, grad = _differences(x), grad.unsqueeze(-1)
    if p == 1:
        slope = grad * difference.sign()
    elif p == math.inf:
        slope = (difference.abs() == distance.unsqueeze(-1)) * (grad * difference.sign())
    elif p == 2:
        slope = grad / distance.unsqueeze(-1) * difference
    else:
        raise unsupported(f"the gradient of distances of order {p}", "orders 1, 2 and inf have one")
    zeros = torch.zeros(x.shape, dtype=x.dtype)
    return torch.index_add(zeros, 0, i, slope) - torch.index_add(zeros, 0, j, slope)


@implements(aten.histc.default)
def histc(func: Any, x: SecretTensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements are in each of equal parts of [min, max], which includes both ends: sums of comparisons."""
    if bins < 1:
        raise DataError(f"torch.histc: bins must be positive, and it is {bins}")
    if min == max:
        raise unsupported("torch.histc without a range", "the range of secrets is secret: give min and max")
    if min > max:
        raise DataError(f"torch.histc: min {min} is larger than max {max}")
    return _counted(x, _edges(bins, min, max)).to(x.dtype)


def _edges(bins: int, low: float, high: float) -> list[float]:
    return [low + (high - low) * k / bins for k in range(bins)] + [high]


def _counted(x: Tensor, edges: list[float], weight: Operand | None = None) -> Tensor:
    """How many are in each half-open part, the last one closed; all comparisons from one opening."""
    flat = x.reshape(-1)
    below = [(flat < e).to(torch.int64) for e in edges[:-1]] + [(flat <= edges[-1]).to(torch.int64)]
    columns = torch.stack(below)
    sums: Tensor = columns.sum(1) if weight is None else columns.to(weight.dtype) @ weight.reshape(-1)
    return sums[1:] - sums[:-1]


@implements(aten.histogram.bin_ct, aten.histogram.bins_tensor)
def histogram(
    func: Any,
    x: Operand,
    bins: Any = 100,
    *,
    range: Any = None,
    weight: Operand | None = None,
    density: bool = False,
) -> tuple[Tensor, Tensor]:
    """See `histc`; with weights, sums of those, and with `density` parts of one divided by the widths."""
    if isinstance(bins, SecretTensor) or (isinstance(bins, int) and range is None):
        raise unsupported("torch.histogram without a public range", "give range=(low, high), or bins as a plain tensor")
    edges = _edges(bins, *range) if isinstance(bins, int) else bins.tolist()
    counts = _counted(x, edges, weight).to(x.dtype)
    if density:
        counts = counts / counts.sum() / torch.tensor(edges).diff()
    return counts, torch.tensor(edges, dtype=x.dtype)
