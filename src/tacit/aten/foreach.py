"""Operators on lists of tensors, `torch._foreach_*`: what optimizers and clipping do to all parameters, at once.

The tensors of a list are laid end to end, the operator is applied to that one tensor, and its result is cut up again.
So a step of an optimizer needs as many rounds as for a single parameter, however many there are.

PyTorch's optimizers choose these operators by themselves on GPUs only; `tacit.optim` has them do so for
secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tacit.aten.arithmetic import gradients
from tacit.functions.linear import fractional
from tacit.functions.squares import EXTRA_BITS, Squares
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, is_precise, keep_precise, plain, protocol_of, public_secret, secret, write
from tacit.tensor.refusals import no_place_for_a_secret
from tacit.tensor.registry import implements

aten = torch.ops.aten
List = Sequence[Tensor]

BINARY = {"add": aten.add.Tensor, "sub": aten.sub.Tensor, "mul": aten.mul.Tensor, "div": aten.div.Tensor}
CLAMPS = {
    "maximum": (aten.clamp_min.default, aten.maximum.default),
    "minimum": (aten.clamp_max.default, aten.minimum.default),
    "clamp_min": (aten.clamp_min.default, aten.maximum.default),
    "clamp_max": (aten.clamp_max.default, aten.minimum.default),
}
"""By numbers, and by tensors."""

KEEPS_PRECISE = {*CLAMPS, "lerp"}
"""What leaves a result as precise as the second list, in place as well."""

END_TO_END: Remembered[tuple[list[object], Number]] = Remembered("a list end to end, by its first")
"""The first of a list keeps all of them end to end, with what becomes known of that: what momentum was opened for in
one step serves the next."""

LARGEST_LOSS_SCALE = 2.0**10
"""By how much a `torch.amp.GradScaler` may multiply a loss. Larger: smaller gradients count; smaller: the range of
gradients, 2^18 at their finest, is narrowed less."""

UNARY = ("sqrt", "rsqrt", "neg", "abs", "sign", "reciprocal", "exp", "sigmoid", "tanh", "log")


def apply(op: Callable[..., Tensor], operands: Sequence[List], each: Sequence[dict[str, Any]]) -> list[Tensor]:
    """op(*operands, **each) for every place of the lists, with one call for all places whose tensors go together."""
    groups: dict[Any, list[int]] = {}
    for place, column in enumerate(zip(*operands, strict=True)):
        alike = all(t.shape == column[0].shape for t in column)
        kinds = tuple(_kind(t) for t in column) if alike else (place,)
        groups.setdefault((kinds, tuple(each[place].items())), []).append(place)
    out: dict[int, Tensor] = {}
    for places in groups.values():
        if len(places) == 1:
            out[places[0]] = op(*(column[places[0]] for column in operands), **each[places[0]])
            continue
        flats: dict[tuple[int, ...], Tensor] = {}  # a list that is given twice is laid out once, so a square stays one
        columns = [[column[k] for k in places] for column in operands]
        ends = [flats.setdefault(tuple(map(id, column)), flat(column)) for column in columns]
        result = op(*ends, **each[places[0]])
        shapes = [columns[0][k].shape for k in range(len(places))]
        out.update(zip(places, cut(result, shapes), strict=True))
    return [out[place] for place in range(len(operands[0]))]


def _beside(xs: List) -> AbstractContextManager[None]:
    """Small parameters are opened in the round that multiplies their change: so what they become is masked already."""
    shares = [x.share for x in xs if isinstance(x, SecretTensor) and plain(x) is None]
    if not shares or len(shares) < len(xs) or not all(isinstance(s, Number) and s.storage.lasting for s in shares):
        return nullcontext()
    protocol = shares[0].protocol
    if sum(share.numel for share in shares) > protocol.prices.beside:
        return nullcontext()
    return protocol.beside(*shares)


def _kind(x: Tensor) -> Any:
    """Tensors of one kind can be laid end to end."""
    if not isinstance(x, SecretTensor):
        return x.dtype
    known = plain(x) is not None
    return x.dtype, known, is_precise(x)


def flat(column: List) -> Tensor:
    """Tensors of one kind, end to end."""
    first = column[0]
    if not isinstance(first, SecretTensor):
        return torch.cat([t.reshape(-1) for t in column])
    if plain(first) is not None:
        known = public_secret(protocol_of(first), torch.cat([plain(t).reshape(-1) for t in column]))
        keep_precise(known, first)
        return known
    shares = [t.share for t in column]  # type: ignore[attr-defined]
    if not all(isinstance(share, Number) for share in shares):
        return torch.cat([t.reshape(-1) for t in column])
    names = [share.facts.name for share in shares]
    kept = END_TO_END.of(shares[0])
    if kept is None or kept[0] != names:
        kept = END_TO_END.keep(shares[0], (names, Number.end_to_end(shares)))
    return SecretTensor(kept[1], first.dtype)


def keep_end_to_end(pieces: List, whole: SecretTensor) -> None:
    """Remember what pieces are cut from: end to end they are that again, with all that is known of it."""
    shares = [piece.share for piece in pieces]  # type: ignore[attr-defined]
    END_TO_END.keep(shares[0], ([share.facts.name for share in shares], arithmetic(whole)))


def cut(whole: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    """The tensors that lie end to end in a result."""
    sizes = [shape.numel() for shape in shapes]
    if not isinstance(whole, SecretTensor):
        return [piece.view(shape) for piece, shape in zip(whole.split(sizes), shapes, strict=True)]
    out: list[Tensor] = []
    for stop, size, shape in zip(accumulate(sizes), sizes, shapes, strict=True):
        place = slice(stop - size, stop)
        out.append(SecretTensor(whole.share.move(partial(_piece, place=place, shape=shape), view=True), whole.dtype))
    return out


def _piece(t: Tensor, place: slice, shape: torch.Size) -> Tensor:
    return t[place].reshape(shape)


def _overwrite(targets: List, results: List) -> None:
    """Write each result into its target. If all of them have to be truncated for that, they are opened in one round."""
    pairs = []
    for x, result in zip(targets, results, strict=True):
        if not isinstance(x, SecretTensor):
            raise no_place_for_a_secret("a plain tensor in a list would be overwritten by a secret")
        pairs.append((x, result if isinstance(result, SecretTensor) else public_secret(x._protocol, result)))
    finer = [
        theirs
        for x, result in pairs
        if isinstance(mine := x.share, Number)
        and isinstance(theirs := result.share, Number)
        and theirs.frac_bits > mine.scale_for(theirs)
    ]
    untruncated = 0 < len(finer) < len(pairs)  # what some of the targets keep as it is, the others keep as well
    if finer and not untruncated:
        protocol_of(*targets).together(*finer)
    for x, result in pairs:
        write(x, result, untruncated=untruncated)


def _register(name: str, overload: str, handler: Callable[..., list[Tensor]]) -> None:
    """Register an operator and its twin that overwrites the first list."""
    packet, twin = (getattr(aten, f"_foreach_{n}", None) for n in (name, f"{name}_"))
    if packet is not None and overload in packet.overloads():

        @implements(getattr(packet, overload))
        def out_of_place(func: Any, *args: Any, **kwargs: Any) -> list[Tensor]:
            return [t.clone() for t in handler(*args, **kwargs)]  # of their own, no parts of one another

    if twin is not None and overload in twin.overloads():

        @implements(getattr(twin, overload))
        def in_place(func: Any, *args: Any, **kwargs: Any) -> None:
            if name in KEEPS_PRECISE and isinstance(args[1], list):
                for x, source in zip(args[0], args[1], strict=True):
                    keep_precise(x, source)
            if name == "addcmul":
                for x, left, right in zip(*args[:3], strict=True):
                    if isinstance(x, SecretTensor):
                        x.share.declare(precise=x.share.scale.precise or gradients(left, right))  # see `aten.addcmul_`
            _overwrite(args[0], handler(*args, **kwargs))


def _binary(name: str, op: Any) -> None:
    def scalar(xs: List, value: Any) -> list[Tensor]:
        return apply(lambda x, value: op(x, value), [xs], [{"value": value}] * len(xs))

    def scalars(xs: List, values: Sequence[Any]) -> list[Tensor]:
        return apply(lambda x, value: op(x, value), [xs], [{"value": v} for v in values])

    def lists(xs: List, ys: List, **alpha: Any) -> list[Tensor]:
        with _beside(xs) if alpha else nullcontext():
            return apply(op, [xs, ys], [alpha] * len(xs))

    def tensor(xs: List, y: Tensor, **alpha: Any) -> list[Tensor]:
        return apply(lambda x: op(x, y, **alpha), [xs], [{}] * len(xs))

    for overload, handler in (("Scalar", scalar), ("ScalarList", scalars), ("List", lists), ("Tensor", tensor)):
        _register(name, overload, handler)


def _ternary(name: str, op: Any) -> None:
    def scalar(xs: List, ys: List, zs: List, value: float = 1) -> list[Tensor]:
        return apply(op, [xs, ys, zs], [{"value": value}] * len(xs))

    def scalars(xs: List, ys: List, zs: List, values: Any) -> list[Tensor]:
        each = values.tolist() if isinstance(values, Tensor) else values
        return apply(op, [xs, ys, zs], [{"value": v} for v in each])

    for overload, handler in (("Scalar", scalar), ("ScalarList", scalars), ("Tensor", scalars)):
        _register(name, overload, handler)


def _clamp(name: str, by_number: Any, by_tensor: Any) -> None:
    def scalar(xs: List, value: float) -> list[Tensor]:
        return apply(lambda x, value: by_number(x, value), [xs], [{"value": value}] * len(xs))

    def scalars(xs: List, values: Sequence[float]) -> list[Tensor]:
        return apply(lambda x, value: by_number(x, value), [xs], [{"value": v} for v in values])

    def lists(xs: List, ys: List) -> list[Tensor]:
        return apply(by_tensor, [xs, ys], [{}] * len(xs))

    for overload, handler in (("Scalar", scalar), ("ScalarList", scalars), ("List", lists)):
        _register(name, overload, handler)


def _lerp(xs: List, ys: List, weight: Any) -> list[Tensor]:
    weights = weight if isinstance(weight, list | tuple) else [weight] * len(xs)
    return apply(lambda x, y, weight: aten.lerp.Scalar(x, y, weight), [xs, ys], [{"weight": w} for w in weights])


def _power(xs: List, exponent: Any) -> list[Tensor]:
    exponents = exponent if isinstance(exponent, list | tuple) else [exponent] * len(xs)
    return apply(lambda x, exponent: aten.pow.Tensor_Scalar(x, exponent), [xs], [{"exponent": e} for e in exponents])


@implements(aten._foreach_norm.Scalar)
def norm(func: Any, xs: List, order: float = 2, dtype: torch.dtype | None = None) -> list[Tensor]:
    """The norm of each tensor. Of order 2: sums of squares, and one root for all of them."""
    if order != 2 or len(xs) < 2 or not all(x.numel() and isinstance(x, SecretTensor) for x in xs):
        return [aten.linalg_vector_norm.default(x, order) for x in xs]
    shares = [fractional(arithmetic(x)) for x in xs]  # type: ignore[arg-type]
    bits = min(x.frac_bits for x in shares)
    shares[0].protocol.together(*shares)
    squares = [Squares.of(x, range(len(x.shape)), bits=min(bits, x.protocol.frac_bits + EXTRA_BITS)) for x in shares]
    return list(secret(Squares.joined(squares).root(), xs[0].dtype).unbind())


@implements(aten._foreach_copy_.default)
def copy_(func: Any, xs: List, sources: List, non_blocking: bool = False) -> None:
    """Overwrite each tensor by another."""
    for x, source in zip(xs, sources, strict=True):
        keep_precise(x, source)
    _overwrite(xs, list(sources))


@implements(aten._foreach_zero_.default)
def zero_(func: Any, xs: List) -> None:
    """Overwrite with zeros."""
    for x in xs:
        x.zero_()


@implements(aten._amp_foreach_non_finite_check_and_unscale_.default)
def unscale_(func: Any, xs: List, found_inf: Tensor, inv_scale: Tensor) -> None:
    """What `torch.amp.GradScaler` does before a step. Fixed point has no infinity that would tell of an overflow, so a
    scale that is too large is reported as one: PyTorch leaves out the step then, and halves the scale.
    """
    aten._foreach_mul_.Scalar(xs, float(inv_scale))
    if float(inv_scale) * LARGEST_LOSS_SCALE < 1:
        found_inf.fill_(1.0)


def _register_all() -> None:
    for name, op in BINARY.items():
        _binary(name, op)
    for name, (by_number, by_tensor) in CLAMPS.items():
        _clamp(name, by_number, by_tensor)
    _ternary("addcmul", aten.addcmul.default)
    _ternary("addcdiv", aten.addcdiv.default)
    for overload in ("Scalar", "ScalarList"):
        _register("lerp", overload, _lerp)
        _register("pow", overload, _power)
    for name in UNARY:
        op = getattr(aten, name).default
        _register(name, "default", lambda xs, op=op: apply(op, [xs], [{}] * len(xs)))


_register_all()
