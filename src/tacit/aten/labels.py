"""Class labels: one-hot rows, and the weights that class weights, smoothing and gaps make of them.

A cross-entropy is -Σ W x over log-probabilities x, whatever its options. With labels y, class weights w, smoothing s
and C classes, for labels that are not ignored, and for means divided by the sum of w_y over these:

    W_c  =  (1 - s) w_y [c = y] + s / C w_c

A party that shared the labels knows them: it checks that they are classes, and shares W, without a round. Of secrets
that nobody knows, labels that are no classes count as ignored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tacit.aten.rows import weighed_loss
from tacit.functions.labels import by_owner, check_within, hot, inverse_count, known_within
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.scale import SLACK_BITS
from tacit.ring.fixed_point import encode
from tacit.tensor import SecretTensor
from tacit.tensor.above_autograd import Unlike, above_autograd
from tacit.tensor.operands import arithmetic, plain, secret

__all__ = ["MEAN", "NONE", "mean_factor", "sum_of_weights", "weights_of_labels"]

aten = torch.ops.aten
WEIGHTS: Remembered[Tensor] = Remembered("the weights of labels", anew=True)
NONE, MEAN = 0, 1


def weights_of_labels(
    target: Tensor, classes: int, weight: Tensor | None, ignore: int, reduction: int, smoothing: float = 0.0
) -> Tensor:
    """W as [.., C], for labels of any shape; public for public labels and weights."""
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}: class labels are y.long()")
    if isinstance(weight, SecretTensor) and plain(weight) is not None:
        weight = plain(weight)
    if not isinstance(target, SecretTensor):
        return _public(target, classes, weight, ignore, reduction, smoothing)
    if plain(target) is not None and not isinstance(weight, SecretTensor):
        return _public(plain(target), classes, weight, ignore, reduction, smoothing)
    labels = arithmetic(target)
    key = classes, ignore, reduction, smoothing
    known = WEIGHTS.of(labels, key) if weight is None else None
    if known is not None:
        return known
    found = (
        None if isinstance(weight, SecretTensor) else _of_owner(labels, classes, weight, ignore, reduction, smoothing)
    )
    if found is None:
        out = _of_nobody(labels, classes, weight, ignore, reduction, smoothing)
    else:
        out = secret(found, torch.float32 if found.frac_bits else torch.int64)
    return WEIGHTS.keep(labels, out, key) if weight is None else out


def sum_of_weights(target: Tensor, classes: int, weight: Tensor | None, reduction: int, ignore: int) -> float | None:
    """Σ_c W_c of every label, where that is public: secret labels of which all are known to be classes."""
    if weight is not None or not isinstance(target, SecretTensor) or not target.numel():
        return None
    if not _sure(arithmetic(target), classes, ignore):
        return None
    return 1 / target.numel() if reduction == MEAN else 1.0


def _sure(labels: Number, classes: int, ignore: int) -> bool:
    """Whether it is public that no label is left out."""
    return known_within(labels, range(classes)) and not 0 <= ignore < classes


def _public(
    target: Tensor, classes: int, weight: Tensor | None, ignore: int, reduction: int, smoothing: float
) -> Tensor:
    """W of labels that all roles know, for a public or a secret weight."""
    kept = target != ignore
    wrong = kept & ((target < 0) | (target >= classes))
    if bool(wrong.any()):
        raise IndexError(f"Target {int(target[wrong][0])} is out of bounds.")
    rows = ((target.unsqueeze(-1) == torch.arange(classes)) & kept.unsqueeze(-1)).to(torch.int64)
    return _weighted(rows, kept.unsqueeze(-1), weight, reduction, smoothing, _total(rows, weight))


def _total(rows: Tensor, weight: Tensor | None) -> Tensor:
    return rows.sum() if weight is None else (rows * weight).sum()


def _weighted(
    rows: Tensor, kept: Tensor, weight: Tensor | None, reduction: int, smoothing: float, total: Tensor
) -> Tensor:
    """W from one-hot rows and whether a label counts, for tensors of which some are secret."""
    out = rows if weight is None else rows * weight
    if smoothing:
        even = kept * (smoothing / rows.shape[-1])
        out = out * (1 - smoothing) + (even if weight is None else even * weight)
    if reduction != MEAN:
        return out
    if isinstance(total, SecretTensor):
        return out * total.reciprocal()
    return out * mean_factor(total) if rows.numel() else out


def mean_factor(weights: Tensor) -> float:
    """1 / Σ of public weights, for their mean."""
    total = float(weights.sum())
    if not total:
        raise ZeroDivisionError(
            "every label of this batch is ignored, or of weight 0, so its mean loss is NaN, which no secret holds: "
            "leave such a batch out, or write reduction='sum'"
        )
    return 1 / total


def _of_owner(
    labels: Number, classes: int, weight: Tensor | None, ignore: int, reduction: int, smoothing: float
) -> Number | None:
    """W as the party computes it that shared the labels, if one did; nothing of a batch without labels is 0."""
    exact = weight is None and not smoothing and reduction != MEAN
    frac_bits = 0 if exact else labels.protocol.frac_bits + SLACK_BITS

    def compute(t: Tensor) -> Tensor:
        check_within(t, range(classes), "a tensor of class labels", ignore)
        kept = (t != ignore).unsqueeze(-1)
        rows = ((t.unsqueeze(-1) == torch.arange(classes)) & kept).to(torch.int64)
        w = None if weight is None else weight.detach().to(torch.float64)
        out = _weighted(rows, kept.to(torch.float64), w, NONE, smoothing, rows)
        total = _total(rows, w)
        if reduction == MEAN and float(total):
            out = out / total.to(torch.float64)
        return encode(out, frac_bits, name="a tensor of weights of labels")

    out = by_owner(labels, compute, (*labels.shape, classes), frac_bits)
    if out is not None and reduction == MEAN and labels.numel:
        out.declare(headroom=min(int(math.log2(labels.numel)), SLACK_BITS))
    return out


def _of_nobody(
    labels: Number, classes: int, weight: Tensor | None, ignore: int, reduction: int, smoothing: float
) -> Tensor:
    """W of labels that no single party knows: 4 rounds, and for a mean 5 or more, unless all are known to be classes.

    The mean of a batch whose labels are all ignored is 0.
    """
    column = labels.move(lambda t: t.unsqueeze(-1), view=False)
    rows = hot(column, classes, len(labels.shape), "a tensor of class labels", outside=True, ignore=ignore)
    places = (torch.arange(classes) != ignore).long()
    if 0 <= ignore < classes:
        rows = rows.linear(lambda t: t * places.to(t.device))
    rows_ = secret(rows, torch.int64)
    sure = _sure(labels, classes, ignore)
    kept = torch.ones((*labels.shape, 1)) if sure else rows_.sum(-1, keepdim=True)
    if reduction != MEAN or weight is not None:
        total = _total(rows_, weight) if reduction == MEAN else rows_
        return _weighted(rows_, kept, weight, reduction, smoothing, total)
    out = _weighted(rows_, kept, None, NONE, smoothing, rows_)
    if sure or not labels.numel:
        return out * (1 / max(labels.numel, 1))
    count = secret(inverse_count(arithmetic(rows_.sum()), labels.numel), torch.float32)  # type: ignore[arg-type]
    out = out * count
    arithmetic(out).declare(headroom=min(int(math.log2(labels.numel)), SLACK_BITS))  # type: ignore[arg-type]
    return out


@above_autograd(aten.cross_entropy_loss.default)
def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor | Unlike | None:
    """Secret labels with smoothing, which PyTorch would pick one by one; all else is taken apart as ever."""
    found = weighed_loss(aten.cross_entropy_loss.default, x, target, weight, reduction, ignore_index, label_smoothing)
    if found is not None:
        return found
    if not isinstance(target, SecretTensor) or target.dtype.is_floating_point or not label_smoothing:
        return None
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    empty = [None if t is None else torch.empty(t.shape, dtype=t.dtype, device="meta") for t in (x, target, weight)]
    aten.nll_loss_nd(*empty, reduction, ignore_index)  # PyTorch's own checks
    along = min(1, x.dim() - 1)
    w = weights_of_labels(target, x.shape[along], weight, ignore_index, reduction, label_smoothing)
    products = x.log_softmax(along) * w.movedim(-1, along).to(x.dtype)
    return -(products.sum(along) if reduction == NONE else products.sum())


@above_autograd(aten.one_hot.default)
def one_hot(index: Tensor, num_classes: int = -1) -> Tensor | None:
    """Rows of the unit matrix; an owner's own indices are checked by the owner. Others give zeros if they are none."""
    if not isinstance(index, SecretTensor) or plain(index) is not None or num_classes < 1:
        return None
    session = index._protocol.session
    session.check_open()
    session.transcript.record(f"one_hot({tuple(index.shape)}, {num_classes})")
    column = arithmetic(index).move(lambda t: t.unsqueeze(-1), view=False)
    return secret(hot(column, num_classes, index.dim(), "a tensor of classes", outside=True), torch.int64)
