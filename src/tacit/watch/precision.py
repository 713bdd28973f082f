"""A session that checks itself: every operator's result on secrets is compared with PyTorch's on plain values.

Each secret has a *shadow*: what it is supposed to hold. Views of a secret have views of its shadow, and what is written
to one is seen in the others where PyTorch would have it seen. So two things are found out at every operator: that each
operand still holds what it did when it was made or written last, and that the result is what PyTorch makes of just
these operands. It is then the result, as it is, that the shadow continues with: small roundings of a long training add
up, but are no operator's fault.

Shadows never enter the computation. They are made of shares that are all in this process, without sending, opening or
drawing anything: rounds, bytes, the ledger and PyTorch's public randomness are those of the same program unchecked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.errors import PrecisionError
from tacit.protocols.number import Number
from tacit.protocols.values import Value
from tacit.session.watcher import Watcher
from tacit.tensor import SecretTensor
from tacit.watch.call import FAR, Call
from tacit.watch.content import content, contradicted, unit
from tacit.watch.place import Lines, Modules
from tacit.watch.reference import leaves
from tacit.watch.report import Deviation, Where, at

__all__ = ["Precision", "stop", "warn"]

CHANGED = (
    "look for a plain tensor that was shared, copied or assigned to it and has changed since, or for views of it that "
    "were written to. It is a fault of Tacit, too: please report it"
)

DOUBTS = 16
"""Places that are remembered at which PyTorch's result is NaN. A message names the first; more take memory."""


class Precision(Watcher):
    """The checks of one session. `deviations` has the largest deviation of every operator in every module."""

    def __init__(self, say: Callable[[str], object]) -> None:
        """`say` is called with each message: it raises, warns or keeps them, see `stop` and `warn`."""
        self.deviations: dict[tuple[Any, str], Deviation] = {}
        self.unchecked: dict[str, str] = {}
        """Operators for which PyTorch had no result on plain values, and why."""
        self.generator = torch.Generator().manual_seed(0)
        """Randomness of its own."""
        self.say = say
        self._modules, self._lines = Modules(), Lines()
        self._modules.__enter__()
        self._busy = False
        self._doubts: list[Where] = []

    def close(self) -> None:
        """Stop following modules."""
        self._modules.__exit__()

    # --- what comes in and goes out -----------------------------------------------------------------------------------

    def shared(self, x: SecretTensor) -> None:
        """Give it its shadow."""
        self.confirm(x)

    def revealed(self, x: SecretTensor) -> None:
        """Compare it with its shadow, once more, and say if PyTorch's is NaN."""
        if self._busy:
            return
        self.confirm(x)
        shadow = x.share.shadow
        if shadow is None or not shadow.dtype.is_floating_point:
            return
        none = shadow.isnan() | shadow.isinf() & (content(x).abs() < FAR)  # what is far stands for infinity
        if bool(none.any()):
            first = f", first from {self._doubts[0]}" if self._doubts else ""
            where = at(int(none.reshape(-1).int().argmax()), shadow.shape)
            self.say(
                f"tacit.reveal ({self._lines.now()}): the value {where} is none: PyTorch's would be NaN or infinite"
                f"{first}\n  what to do: keep the operand in the function's domain, with clamp or an epsilon"
            )

    def replaced(self, before: Sequence[SecretTensor], after: Sequence[SecretTensor], why: str) -> None:
        """Say if a number is another one now."""
        for old, new in zip(before, after, strict=True):
            share = old._share
            if not isinstance(share, Number):
                continue
            was, now = content(old), content(new)
            far = (was - now).abs() > 4 * unit(share) * was.abs().clamp(min=1)
            if bool(far.any()):
                place = int(far.int().argmax())
                self.say(
                    f"{why} ({self._lines.now()}): it changes {int(far.sum())} of {far.numel()} numbers, "
                    f"{was.reshape(-1)[place]:.6g} {at(place, was.shape)} to {now.reshape(-1)[place]:.6g}\n  what to "
                    f"do: scale the loss down, or clip gradients by norm before the step"
                )

    # --- operators ----------------------------------------------------------------------------------------------------

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], handler: Callable[..., Any]) -> Any:
        """Run the operator, and compare what it gives with what PyTorch gives."""
        if self._busy:  # an operator that is a part of another one
            return handler(func, *args, **kwargs)
        self._busy = True
        try:
            call = self._begun(func, args, kwargs)
            result = handler(func, *args, **kwargs)
            call.check(result)
            return result
        finally:
            self._busy = False

    def composed(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Compare the result with PyTorch's; its parts have been compared before, where they are operators."""
        if self._busy:
            return
        self._busy = True
        try:
            with torch.no_grad():
                self._begun(func, args, kwargs).check(result)
        finally:
            self._busy = False

    def _begun(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        """What is to be compared of a call, after its secrets have been found as they were left."""
        where = Where(func, self._modules.now(), self._lines.now())
        secrets = {id(x): x for x in leaves(args, kwargs) if isinstance(x, SecretTensor)}
        for x in secrets.values():
            self.confirm(x, where)
        return Call(self, where, args, kwargs, list(secrets.values()))

    def confirm(self, x: SecretTensor, where: Where | None = None) -> None:
        """Compare a secret with its shadow; one without gets it."""
        share = x._share
        if not isinstance(share, Value):
            return
        expected, now = x._expected, content(x)
        if contradicted(x):
            self.say(
                f"{where or self._lines.now()}: a secret of shape {tuple(now.shape)} was written to from a plain "
                f"tensor, which does not hold what the shares do any more\n  what to do: {CHANGED}"
            )
        if share.shadow is None:
            share.shadow = now if expected is None else expected.judged(now)
        else:
            self._unchanged(share, now, where)
        x._expected = None

    def _unchanged(self, share: Value, now: Tensor, where: Where | None) -> None:
        shadow = share.shadow
        assert shadow is not None
        if shadow.dtype.is_floating_point:
            assert isinstance(share, Number)
            near = (now - shadow).abs() <= unit(share) + 2.0**-50 * shadow.abs()
            same = near | ~shadow.isfinite() | (shadow.abs() > 2.0**30) & (now.abs() >= FAR)
        else:
            same = now == shadow
        if bool(same.all()):
            return
        place = int((~same).reshape(-1).int().argmax())
        what = f"tacit.reveal or tacit.share ({self._lines.now()})" if where is None else str(where)
        was, found = shadow.reshape(-1)[place].item(), now.reshape(-1)[place].item()
        share.shadow = now
        self.say(
            f"{what}: a secret of shape {tuple(now.shape)} has changed since it was made or written: "
            f"{at(place, now.shape)} it holds {found:.6g} in the place of {was:.6g}\n  what to do: {CHANGED}"
        )

    # --- what was found -----------------------------------------------------------------------------------------------

    def doubt(self, where: Where) -> None:
        """Remember where PyTorch's result is NaN first: it is an error only where somebody looks at it."""
        if len(self._doubts) < DOUBTS:
            self._doubts.append(where)

    def book(self, where: Where, deviation: float, allowed: float, size: float) -> None:
        """Keep the largest deviation of an operator in a module."""
        key = where.place, str(where.func)
        row = self.deviations.setdefault(key, Deviation(*key))
        row.calls += 1
        if deviation >= row.largest:
            row.largest, row.allowed, row.size = deviation, allowed, size


def stop(message: str) -> None:
    """Raise `PrecisionError`."""
    raise PrecisionError(message)


def warn(message: str) -> None:
    """Warn, and let the program go on."""
    warnings.warn(message, stacklevel=2)
