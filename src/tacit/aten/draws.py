"""Places drawn by secret weights. The draw is secret, too: made of what each party draws, not of public randomness.

A softmax remembers what its exponentials are of, for whoever draws by it: of the many words of a vocabulary, 16
fractional bits of each probability would leave little.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.functions.draws import drawn, fine_weights
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.session.ledger import source_line
from tacit.session.watcher import Guard
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, places, plain
from tacit.tensor.refusals import unsupported
from tacit.tensor.registry import implements

__all__ = ["BEHIND"]

aten = torch.ops.aten
BEHIND: Remembered[tuple[Number, int]] = Remembered("what the exponentials of a softmax are of, and along which side")

LARGEST_SUM = 2.0**16
"""Of weights that are none of a softmax."""


@implements(aten.multinomial.default)
def multinomial(
    func: Any, p: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> SecretTensor:
    """Places along the last dimension, drawn by weights p; see `functions.draws`. Nobody knows what was drawn.

    Domain: 0 <= p, of sums above zero and below 2^16. Of others some place is drawn, of zeros the last one; only a
    session with `range_check` tells.
    """
    if not isinstance(p, SecretTensor):
        raise unsupported("torch.multinomial into a secret", "leave out=… out")
    if not p.is_floating_point() or p.dim() not in (1, 2) or not p.shape[-1]:
        raise RuntimeError(f"multinomial expects weights of one or two dimensions, not {p.dtype} of {tuple(p.shape)}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if generator is not None:
        raise unsupported("torch.multinomial with a generator", "leave it out: what is drawn of secrets is secret")
    if num_samples > 1 and not replacement:
        raise unsupported("torch.multinomial of several places without replacement", "set replacement=True")
    weights, most = _weights(p)
    return places(drawn(weights, num_samples, most), p.shape[-1])


def _weights(p: SecretTensor) -> tuple[Number, float]:
    """Weights, and a bound of their sums."""
    share = arithmetic(p)
    behind = BEHIND.of(share)
    if behind is not None and behind[1] == p.dim() - 1:
        return fine_weights(behind[0]), float(p.shape[-1] + 1)
    share = share.settle()
    guard = p._protocol.session.guard
    if guard is not None and plain(p) is None:
        _look(share, guard)
    return share, LARGEST_SUM


def _look(weights: Number, guard: Guard) -> None:
    """In a session that looks at ranges: no weight is below zero, and their sum is above and not too large."""
    less = weights.protocol.less
    total = weights.sum([len(weights.shape) - 1])
    none, fits = less(total, [1, round(LARGEST_SUM * 2.0**weights.frac_bits)])
    (negative,) = less(weights, [0])
    bits = [b.move(lambda t: t.reshape(-1), view=False) for b in (negative.invert(), none.invert(), fits)]
    guard.require(
        bits[0].joined(bits[1]).joined(bits[2]),
        f"nothing can be drawn by the weights of torch.multinomial ({source_line()}): one is below zero, or a sum of "
        f"them is zero, or {LARGEST_SUM:g} or more",
    )
