"""One call of an operator in a session that checks itself: its results beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.values import Value
from tacit.ring.fixed_point import VALUE_BITS
from tacit.tensor import SecretTensor
from tacit.watch.content import content
from tacit.watch.indices import same_choice
from tacit.watch.reference import Operand, Reference, flat, leaves
from tacit.watch.report import Where, advice, at, described
from tacit.watch.tolerance import base, widened

if TYPE_CHECKING:
    from tacit.watch.precision import Precision

__all__ = ["FAR", "Call", "Expected"]

aten = torch.ops.aten

FAR = 2.0**12
"""What stands for masked-out scores, -inf in PyTorch, is at least so far from zero."""

UNDEFINED = (
    *(aten.empty_like.default, aten.new_empty.default, aten.new_empty_strided.default),
    *(aten.native_dropout.default, aten.multinomial.default),
)
"""Operators whose result nobody has defined, or in which something is drawn that is not what PyTorch would draw."""

LIKELIHOODS = {
    aten.nll_loss_backward.default: aten.nll_loss_forward.default,
    aten.nll_loss2d_backward.default: aten.nll_loss2d_forward.default,
}
"""Operators whose last operand, the sum of weights, is nothing on secrets: they have no need of it."""

BAGS = (aten._embedding_bag.default, aten._embedding_bag_forward_only.default)
UNUSED = {(f, 1) for f in LIKELIHOODS.values()} | {(f, k) for f in BAGS for k in (1, 2, 3)}
"""Results that nobody looks at but a backward operator, which has no need of them here."""

OUT_OF_RANGE = ("out of bounds", "out of range", "Class values must be")
"""What PyTorch says of an index that is none."""

FAILURES = (IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)

Choose = partial[Tensor]
"""One tensor out of what a reference gives: of the result, or of the operands as they are left."""


class Expected(NamedTuple):
    """What a value that waits until somebody needs it will have to be."""

    value: Tensor
    tolerance: Tensor
    call: Call

    def judged(self, now: Tensor) -> Tensor:
        """Compare with what has been computed; the shadow of it."""
        return self.call.judged(now, self.value, self.tolerance)


class Call:
    """An operator that is about to run, and then has."""

    def __init__(
        self, watch: Precision, where: Where, args: Sequence[Any], kwargs: Mapping[str, Any], secrets: Sequence[Any]
    ) -> None:
        self._watch, self._where, self._func = watch, where, where.func
        self._args, self._kwargs, self._secrets = args, kwargs, secrets
        self._shares = [x._share if isinstance(x._share, Value) else None for x in secrets]
        self._versions = [None if s is None else s.storage.version for s in self._shares]
        self._frac_bits: int = secrets[0]._protocol.frac_bits
        self._rounding = 2.0**-self._frac_bits
        """Of an operand before its use, or after the operator that made it has used it finer."""
        self._operands: list[Operand] = []
        self._reference: Reference | None = None
        self._state: tuple[torch.Generator, Tensor] | None = None
        if torch.Tag.nondeterministic_seeded in self._func.tags:
            given = (x for x in leaves(args, kwargs) if isinstance(x, torch.Generator))
            generator = next(given, torch.default_generator)
            self._state = generator, generator.get_state()

    # --- after the operator -------------------------------------------------------------------------------------------

    def check(self, result: Any) -> None:
        """Compare what has come out, and give it shadows."""
        if torch.Tag.inplace_view in self._func.tags:
            self._reshape()
            return
        written = self._written()
        for x, share in zip(self._secrets, self._shares, strict=True):
            if share is None and id(x) not in written:
                self._watch.confirm(x, self._where)
        if not written and any(r.alias_info is not None for r in self._func._schema.returns):
            self._view(result)
            return
        here = self._func.namespace == "aten"  # and is not about what other processes hold
        known = here and self._func not in UNDEFINED and self._find_operands(written)
        answer = self._answer() if known else None
        if answer is None:
            self._adopt(result, written)
            return
        for got, want, choose in self._pairs(result, answer, written):
            shadow = self._shadow(got, want, choose)
            if shadow is not None and (id(got) in written or got.share.shadow is None):
                _put(got, shadow)

    def _named(self) -> Iterator[tuple[Any, Any]]:
        """The schema's arguments and their values."""
        for k, argument in enumerate(self._func._schema.arguments):
            yield argument, self._args[k] if k < len(self._args) else self._kwargs.get(argument.name)

    def _written(self) -> set[int]:
        """The secrets, by their ids, that the operator writes to; some of batch norm's say nothing of it."""
        written = {
            id(x)
            for argument, value in self._named()
            if argument.alias_info is not None and argument.alias_info.is_write
            for x in flat(value)
            if isinstance(x, SecretTensor)
        }
        rows = zip(self._secrets, self._shares, self._versions, strict=True)
        return written or {id(x) for x, s, version in rows if s is not None and s.storage.version != version}

    def _find_operands(self, written: set[int]) -> bool:
        """What the operands held before; False if that is not known of one."""
        for x, share in zip(self._secrets, self._shares, strict=True):
            share = x._share if share is None and isinstance(x._share, Value) and id(x) not in written else share
            if share is not None and share.shadow is not None:
                self._operands.append(Operand(x, share.shadow, self._rounding))
                continue
            expected: Expected | None = x._expected
            if expected is None:
                return False
            self._operands.append(Operand(x, expected.value, expected.tolerance))
        if self._func in LIKELIHOODS:
            self._weigh()
        return True

    def _weigh(self) -> None:
        """Put the sum of weights where it is missing."""
        x = self._args[6]
        values = {id(o.tensor): o.value for o in self._operands}
        plain = [values.get(id(v), v) for v in self._args[1:6]]
        plain = [v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for v in plain]
        total = LIKELIHOODS[self._func](*plain)[1]
        self._operands = [Operand(x, total, 0.0) if o.tensor is x else o for o in self._operands]

    def _answer(self) -> tuple[Any, dict[int, Tensor]] | None:
        """PyTorch's result, and the operands as it leaves them."""
        self._reference = Reference(self._func, self._args, self._kwargs, self._operands, self._state)
        for narrow in (False, True):
            try:
                return self._reference.run()
            except FAILURES as error:
                why = (str(error) or type(error).__name__).splitlines()[0]
            if any(word in why for word in OUT_OF_RANGE):
                found = f"PyTorch refuses these values: {why}"
                todo = "look for labels or positions below 0, above the largest class, or counted from one"
                self._watch.say(described(self._where, self._ranges(), found, todo))
                return None
            if narrow:
                self._watch.unchecked.setdefault(str(self._func), why)
            self._reference.narrow()
        return None

    def _pairs(self, result: Any, answer: Any, written: set[int]) -> Iterator[tuple[SecretTensor, Tensor, Choose]]:
        """What has come out, beside what PyTorch has, and how to find that in another answer."""
        wanted, left = answer
        for k, (got, want) in enumerate(zip(flat(result), flat(wanted), strict=False)):
            compared = isinstance(want, Tensor) and id(got) not in written and (self._func, k) not in UNUSED
            if isinstance(got, SecretTensor) and compared:
                yield got, want, partial(_result, k)
        for x in self._secrets:
            if id(x) in written:
                yield x, left[id(x)], partial(_left, id(x))

    # --- views and what is not compared -------------------------------------------------------------------------------

    def _reshape(self) -> None:
        """An operator that changes the form of a secret itself: its shadow's form changes alike."""
        x, share = self._secrets[0], self._shares[0]
        taken = any(isinstance(y, Tensor) for y in self._args[1:])  # whose content it has now
        if share is not None and share.shadow is not None and x._share is not share and not taken:
            view = share.shadow.detach()
            self._func(view, *self._args[1:], **self._kwargs)
            x._share.shadow = view
        self._watch.confirm(x, self._where)

    def _view(self, result: Any) -> None:
        """Views of secrets get views of their shadows."""
        shadows = {id(x): x._share.shadow for x in self._secrets if isinstance(x._share, Value)}
        views: list[Any] = []
        if len(shadows) == len(self._secrets):
            args = [shadows.get(id(x), x) if isinstance(x, Tensor) else x for x in self._args]
            try:
                views = flat(self._func(*args, **self._kwargs))
            except FAILURES:  # strides that the shares allow, and the shadow does not
                views = []
        for k, got in enumerate(flat(result)):
            if not isinstance(got, SecretTensor):
                continue
            if not isinstance(got._share, Value):
                got._expected = self._secrets[0]._expected
            elif got._share.shadow is None and k < len(views):
                got._share.shadow = views[k]
            self._watch.confirm(got, self._where)

    def _adopt(self, result: Any, written: set[int]) -> None:
        """Take what has come out for right."""
        for x in self._secrets:
            if id(x) in written and isinstance(x._share, Value):
                _put(x, content(x))
        for got in flat(result):
            if isinstance(got, SecretTensor) and id(got) not in written:
                self._watch.confirm(got, self._where)

    # --- comparison ---------------------------------------------------------------------------------------------------

    def _shadow(self, got: SecretTensor, want: Tensor, choose: Choose) -> Tensor | None:
        """Compare a result and return its shadow; None for one that waits, which is compared when it is there."""
        tolerance = base(self._func, want, self._frac_bits)
        if not isinstance(got._share, Value):
            got._expected = Expected(want, self._widened(tolerance, want, choose), self)
            return None
        now = content(got)
        if now.shape != want.shape:
            if want.numel() and choose.args[:1] == (0,):  # PyTorch and secrets keep other things for a backward pass
                self._watch.say(f"{self._where}: a result of shape {tuple(now.shape)}, PyTorch's {tuple(want.shape)}")
            return now
        return self.judged(now, want, tolerance, choose)

    def judged(self, now: Tensor, want: Tensor, tolerance: Tensor, choose: Choose | None = None) -> Tensor:
        """Compare a result with PyTorch's, and return its shadow: the result, but what is none in PyTorch either."""
        if not (now.dtype.is_floating_point and want.dtype.is_floating_point):
            self._judge_exact(now, want, choose)
            return now
        far = torch.zeros_like(want, dtype=torch.bool)
        outside = want.abs() >= 2.0 ** (VALUE_BITS - self._frac_bits)
        if bool(outside.any()) and self._masks():
            far = outside & (want.sign() == now.sign()) & (now.abs() >= FAR)
        unknown = (want.isnan() | want.isinf()) & ~far
        compared = ~(far | unknown) & self._attended(want)
        deviation = torch.where(compared, (now - want).abs(), 0.0)
        claimed, bad = tolerance, compared & (deviation > tolerance)
        if choose is not None and bool(bad.any()):
            tolerance = self._widened(tolerance, want, choose)
            bad = compared & (deviation > tolerance)
        self._book(deviation, tolerance, want)
        if bool(bad.any()):
            self._speak(now, want, bad, deviation, claimed, tolerance)
        if bool(unknown.any()) and not any(bool(o.value.isnan().any()) for o in self._operands if _floats(o)):
            self._watch.doubt(self._where)
        return torch.where(unknown | far, want, now)

    def _judge_exact(self, now: Tensor, want: Tensor, choose: Choose | None) -> None:
        """Integers and bools: equal, but where operands are so near a boundary that their rounding decides."""
        bad = now.double() != want.double()
        floats = [o for o in self._operands if _floats(o)]
        if bool(bad.any()) and floats and choose is not None:
            if any(not bool(o.value.isfinite().all()) for o in floats):
                return
            for moved in self._moved(choose):
                if moved.shape == want.shape:
                    bad &= ~((moved != want) & ((now == moved) | (now.double() - want.double()).abs().le(1)))
            bad &= ~same_choice(self._func, dict(self._values()), now, want, 4 * self._rounding)
        if bool(bad.any()):
            none = torch.zeros(want.shape, dtype=torch.float64)
            self._speak(now, want, bad, (now.double() - want.double()).abs(), none, none)

    def _moved(self, choose: Choose) -> list[Tensor]:
        return [] if self._reference is None else self._reference.spread(choose, self._watch.generator)

    def _widened(self, tolerance: Tensor, want: Tensor, choose: Choose) -> Tensor:
        pointwise = torch.Tag.pointwise in self._func.tags
        return widened(tolerance, want, self._moved(choose), pointwise=pointwise)

    def _masks(self) -> bool:
        """Whether an operand is beyond what fixed point holds, as the numbers are by which scores are masked out."""
        beyond = 2.0 ** (VALUE_BITS - self._frac_bits)
        values = [o.value for o in self._operands if _floats(o)]
        values += [x for x in leaves(self._args, self._kwargs) if isinstance(x, Tensor) and id(x) not in self._ids()]
        numbers = [abs(x) for x in leaves(self._args, self._kwargs) if isinstance(x, float)]
        return any(n >= beyond for n in numbers) or any(
            v.is_floating_point() and bool((v.abs() >= beyond).any()) for v in values
        )

    def _attended(self, want: Tensor) -> Tensor:
        """Rows of attention that attend to anything; what stands in others is zeroed by what comes after."""
        mask = dict(self._values()).get("attn_mask")
        if not isinstance(mask, Tensor) or not mask.is_floating_point() or want.dim() < 2:
            return torch.ones_like(want, dtype=torch.bool)
        some = (mask > -(2.0 ** (VALUE_BITS - self._frac_bits))).any(-1, keepdim=True)
        return some.expand(want.shape) if some.shape[-2] == want.shape[-2] else torch.ones_like(want, dtype=torch.bool)

    def _ids(self) -> set[int]:
        return {id(o.tensor) for o in self._operands}

    # --- what is said -------------------------------------------------------------------------------------------------

    def _values(self) -> Iterator[tuple[str, Any]]:
        """The arguments by name, with values in the place of secrets."""
        values = {id(o.tensor): o.value for o in self._operands}
        for argument, value in self._named():
            yield argument.name, values.get(id(value), value)

    def _ranges(self) -> list[tuple[str, Tensor]]:
        values = {id(o.tensor): o.value for o in self._operands}
        return [
            (argument.name, values[id(x)])
            for argument, value in self._named()
            for x in flat(value)
            if id(x) in values and values[id(x)].numel()
        ]

    def _book(self, deviation: Tensor, tolerance: Tensor, want: Tensor) -> None:
        place = int(deviation.argmax()) if deviation.numel() else 0
        size = float(want.abs().nan_to_num(0, 0, 0).max()) if want.numel() else 0.0
        largest, allowed = ((float(t.reshape(-1)[place]) if t.numel() else 0.0) for t in (deviation, tolerance))
        self._watch.book(self._where, largest, allowed, size)

    def _speak(
        self, now: Tensor, want: Tensor, bad: Tensor, deviation: Tensor, claimed: Tensor, tolerance: Tensor
    ) -> None:
        worst = int(torch.where(bad, deviation, -1.0).reshape(-1).argmax())
        got, exact, off, claim, allowed = (
            t.reshape(-1)[worst].item() for t in (now, want, deviation, claimed, tolerance)
        )
        found = (
            f"{int(bad.sum())} of {bad.numel()} results deviate from PyTorch's; {at(worst, want.shape)} it is "
            f"{got:.6g}, PyTorch's {exact:.6g}: off by {off:.3g}, where {claim:.3g} is documented and rounded "
            f"operands explain {allowed - claim:.3g} more"
        )
        ranges = self._ranges()
        self._watch.say(described(self._where, ranges, found, advice(want, bad, ranges, self._frac_bits)))


def _result(k: int, result: Any, _: Any) -> Tensor:
    return flat(result)[k]  # type: ignore[no-any-return]


def _left(key: int, _: Any, left: dict[int, Tensor]) -> Tensor:
    return left[key]


def _floats(operand: Operand) -> bool:
    return operand.value.dtype.is_floating_point


def _put(x: SecretTensor, shadow: Tensor) -> None:
    """Give a secret a shadow, or write to the one it has, so that views of it change as well."""
    share = x.share
    if share.shadow is None or share.shadow.shape != shadow.shape:
        share.shadow = shadow
    else:
        share.shadow.copy_(shadow)
    x._expected = None
