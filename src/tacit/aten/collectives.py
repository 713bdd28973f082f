"""Collectives of `torch.distributed` on secrets, as `dist.all_reduce` and its family, DDP and functional ones ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import _create_work_from_future  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _resolve_process_group  # type: ignore[attr-defined]

from tacit.aten.arithmetic import scaled, wrapped
from tacit.errors import DataError
from tacit.functions.collective import Collective
from tacit.protocols.number import Number
from tacit.protocols.values import Bits, Value
from tacit.tensor import SecretTensor
from tacit.tensor.operands import arithmetic, as_secret, bits, scalar, secret, write
from tacit.tensor.refusals import no_place_for_a_secret, unsupported
from tacit.tensor.registry import HANDLERS, implements, last_resort

aten, c10d, functional = torch.ops.aten, torch.ops.c10d, torch.ops._c10d_functional

ALL_AT_ONCE: dict[str, tuple[Any, Any]] = {
    "max": (aten.amax.default, [0]),
    "min": (aten.amin.default, [0]),
    "product": (aten.prod.dim_int, 0),
}
"""Reductions that are not linear: every rank gathers what all have, and computes them with the other roles."""

NAMES = {int(getattr(dist.ReduceOp, name)): name.lower() for name in dist.ReduceOp.RedOpType.__members__}


# --- what they have in common -----------------------------------------------------------------------------------------


def _group(group: Any) -> Any:
    """The process group that an operator was given: boxed, or by name."""
    if isinstance(group, str):
        return _resolve_process_group(group)  # type: ignore[arg-type]
    return group if isinstance(group, dist.ProcessGroup) else dist.ProcessGroup.unbox(group)


def _reduction(op: Any) -> str:
    """The name of a reduction."""
    return op if isinstance(op, str) else NAMES[int(op.op())]


def _begin(func: Any, group: Any, x: SecretTensor, words: str = "", shape: Any = None) -> Collective:
    """Begin a collective on a secret, or on others of its dtype."""
    sizes = "×".join(map(str, x.shape if shape is None else shape)) or "scalar"
    name = str(func).removesuffix(".default")
    return Collective(x._protocol, _group(group), f"{name}{words and f' ({words})'} of {x.dtype} {sizes}")


def _value(x: SecretTensor) -> Value:
    return bits(x) if x.dtype == torch.bool else arithmetic(x)


def _rows(tensors: Sequence[SecretTensor]) -> Value:
    """Tensors of one shape and dtype, [len(tensors), …]."""
    values = [_value(x) for x in tensors]
    shape = torch.Size((len(values), *values[0].shape))
    numbers = [v for v in values if isinstance(v, Number)]
    if numbers:
        return Number.end_to_end(numbers).move(lambda t: t.view(shape), view=False)
    return Bits.stack([v for v in values if isinstance(v, Bits)])


def _secrets(func: Any, targets: Sequence[Any]) -> list[SecretTensor]:
    """The targets of a collective, all of which must be secrets."""
    for x in targets:
        if not isinstance(x, SecretTensor):
            raise no_place_for_a_secret(
                f"{str(func).removesuffix('.default')} would write a secret into a plain tensor"
            )
    return list(targets)


def _check(func: Any, inputs: Sequence[Tensor], targets: Sequence[Tensor], count: int, wanted: int) -> None:
    """Refuse lists of another length than there are ranks, and tensors of several shapes or dtypes."""
    kinds = {(tuple(x.shape), x.dtype) for x in (*inputs, *targets)}
    if count != wanted or len(kinds) > 1:
        shown = ", ".join(f"{dtype} {shape}" for shape, dtype in kinds)
        raise DataError(
            f"{str(func).removesuffix('.default')} among {wanted} ranks takes {wanted} tensors of one shape and dtype, "
            f"not {count} of {shown}"
        )


def _put(x: SecretTensor, value: Value) -> None:
    """x[...] = value, as a tensor of its shape."""
    shape = x.shape
    write(x, secret(value if value.shape == shape else value.move(lambda t: t.view(shape), view=False), x.dtype))


def _row(value: Value, place: int) -> Value:
    return value.move(lambda t: t[place], view=False)


def _done(result: Sequence[Tensor]) -> Any:
    """What a program waits for: it is done already."""
    future: Any = torch.futures.Future()
    future.set_result(result)
    return _create_work_from_future(future).boxed()


# --- reductions -------------------------------------------------------------------------------------------------------


def _reduced(func: Any, group: Any, op: Any, x: SecretTensor, *, scattered: bool = False) -> SecretTensor:
    """The reduction over all ranks of x; `scattered`, of the rows of x for this rank."""
    kind = _reduction(op)
    if x.dtype == torch.bool:
        raise unsupported(f"{func} of bits", "write x.long() for counts; (counts > 0) is whether any rank has it")
    if kind not in ("sum", "avg", *ALL_AT_ONCE) or (kind == "avg" and not x.dtype.is_floating_point):
        instead = (
            "sum integers and divide, x // dist.get_world_size()"
            if kind == "avg"
            else "sum, avg, min, max and product work"
        )
        raise unsupported(f"{func} with the reduction {kind} of {x.dtype}", instead)
    collective = _begin(func, group, x, kind)
    number = arithmetic(x)
    if kind in ALL_AT_ONCE:
        every = collective.exchange(number) if scattered else collective.gather(number)
        reduction, dim = ALL_AT_ONCE[kind]
        result: SecretTensor = HANDLERS[reduction](reduction, secret(every, x.dtype), dim)
        return result
    total = collective.sum_of_rows(number) if scattered else collective.sum(number)
    return wrapped(scaled(total, scalar(1 / len(collective))) if kind == "avg" else total, x.dtype, x)


@implements(c10d.allreduce_.default)
def all_reduce_(func: Any, tensors: Any, group: Any, op: Any, sparse: Any = None, *rest: Any, **named: Any) -> Any:
    """Overwrite each with the reduction over all ranks."""
    for x in _secrets(func, tensors):
        write(x, _reduced(func, group, op, x))
    return tensors, _done(tensors)


@implements(c10d.allreduce_coalesced_.default)
def all_reduce_coalesced_(func: Any, tensors: Any, group: Any, op: Any, *rest: Any, **named: Any) -> Any:
    """As `all_reduce_`."""
    return all_reduce_(func, tensors, group, op)[1]


@implements(c10d.reduce_.default)
def reduce_(func: Any, tensors: Any, group: Any, op: Any, root: int, *rest: Any, **named: Any) -> Any:
    """Overwrite each with the reduction, at the root alone."""
    for x in _secrets(func, tensors):
        result = _reduced(func, group, op, x)
        if _group(group).rank() == root:
            write(x, result)
    return _done(tensors)


@implements(c10d.reduce_scatter_.default)
def reduce_scatter_(func: Any, outputs: Any, inputs: Any, group: Any, op: Any, *rest: Any, **named: Any) -> Any:
    """Overwrite the output with the reduction of the inputs for this rank."""
    for x, row in zip(_secrets(func, outputs), inputs, strict=True):
        _check(func, row, [x], len(row), _group(group).size())
        rows = secret(_rows([as_secret(y, x) for y in row]), x.dtype)
        write(x, _reduced(func, group, op, rows, scattered=True))
    return outputs, _done(outputs)


@implements(c10d._reduce_scatter_base_.default)
def reduce_scatter_base_(func: Any, output: Any, x: Any, group: Any, op: Any, *rest: Any, **named: Any) -> Any:
    """As `reduce_scatter_`, from one tensor."""
    (target,) = _secrets(func, [output])
    rows = as_secret(x, target).reshape(_group(group).size(), *_chunk(func, x, target, group))
    assert isinstance(rows, SecretTensor)
    write(target, _reduced(func, group, op, rows, scattered=True))
    return output, _done([output])


def _chunk(func: Any, whole: Tensor, part: Tensor, group: Any) -> torch.Size:
    """The shape of the part of a whole that is one rank's."""
    if whole.numel() != part.numel() * _group(group).size() or whole.dtype != part.dtype:
        raise DataError(
            f"{str(func).removesuffix('.default')} among {_group(group).size()} ranks: {whole.dtype} "
            f"{tuple(whole.shape)} is not that many of {part.dtype} {tuple(part.shape)}"
        )
    return part.shape


@implements(c10d.reduce_scatter_tensor_coalesced_.default)
def reduce_scatter_coalesced_(
    func: Any, outputs: Any, inputs: Any, group: Any, op: Any, *rest: Any, **named: Any
) -> Any:
    """As `reduce_scatter_base_`, of each pair."""
    for output, x in zip(outputs, inputs, strict=True):
        reduce_scatter_base_(func, output, x, group, op)
    return _done(outputs)


# --- what all have ----------------------------------------------------------------------------------------------------


@implements(c10d.allgather_.default)
def all_gather_(func: Any, outputs: Any, inputs: Any, group: Any, *rest: Any, **named: Any) -> Any:
    """Overwrite the outputs with what all ranks have."""
    for row, x in zip(outputs, inputs, strict=True):
        targets = _secrets(func, row)
        _check(func, [x], targets, len(targets), _group(group).size())
        given = as_secret(x, *targets)
        every = _begin(func, group, given).gather(_value(given))
        for place, target in enumerate(targets):
            _put(target, _row(every, place))
    return outputs, _done([y for row in outputs for y in row])


@implements(c10d._allgather_base_.default)
def all_gather_base_(func: Any, output: Any, x: Any, group: Any, *rest: Any, **named: Any) -> Any:
    """As `all_gather_`, into one tensor."""
    (target,) = _secrets(func, [output])
    _chunk(func, target, x, group)
    given = as_secret(x, target)
    _put(target, _begin(func, group, given).gather(_value(given)))
    return output, _done([output])


@implements(c10d.allgather_into_tensor_coalesced_.default)
def all_gather_coalesced_(func: Any, outputs: Any, inputs: Any, group: Any, *rest: Any, **named: Any) -> Any:
    """As `all_gather_base_`, of each pair."""
    for output, x in zip(outputs, inputs, strict=True):
        all_gather_base_(func, output, x, group)
    return _done(outputs)


@implements(c10d.gather_.default)
def gather_(func: Any, outputs: Any, inputs: Any, group: Any, root: int, *rest: Any, **named: Any) -> Any:
    """Overwrite the outputs with what all ranks have, at the root alone."""
    here = _group(group).rank() == root
    (x,) = inputs
    targets = _secrets(func, outputs[0]) if here else []
    if here:
        _check(func, [x], targets, len(targets), _group(group).size())
    given = as_secret(x, *targets, x)
    every = _begin(func, group, given, f"to {root}").gather(_value(given))
    for place, target in enumerate(targets):
        _put(target, _row(every, place))
    return _done(targets)


@implements(c10d.broadcast_.default)
def broadcast_(func: Any, tensors: Any, group: Any, root: int, *rest: Any, **named: Any) -> Any:
    """Overwrite each with what the root has."""
    for x in _secrets(func, tensors):
        collective = _begin(func, group, x, f"from {root}")
        value = collective.broadcast(_value(x), root)
        if collective.here != root:
            _put(x, value)
    return tensors, _done(tensors)


@implements(c10d.scatter_.default)
def scatter_(func: Any, outputs: Any, inputs: Any, group: Any, root: int, *rest: Any, **named: Any) -> Any:
    """Overwrite the output with the root's input for this rank."""
    (x,) = _secrets(func, outputs)
    size, here = _group(group).size(), _group(group).rank()
    if here == root:
        _check(func, inputs[0], [x], len(inputs[0]), size)
    row = [as_secret(y, x) for y in inputs[0]] if here == root else [x] * size  # whose values go nowhere
    rows = _begin(func, group, x, f"from {root}").broadcast(_rows(row), root)
    _put(x, _row(rows, here))
    return outputs, _done(outputs)


# --- exchanges --------------------------------------------------------------------------------------------------------


@implements(c10d.alltoall_.default)
def all_to_all_(func: Any, outputs: Any, inputs: Any, group: Any, *rest: Any, **named: Any) -> Any:
    """Overwrite output i with what rank i has for this one."""
    targets = _secrets(func, outputs)
    _check(func, inputs, targets, len(inputs), _group(group).size())
    given = [as_secret(y, *targets) for y in inputs]
    rows = _begin(func, group, given[0]).exchange(_rows(given))
    for place, target in enumerate(targets):
        _put(target, _row(rows, place))
    return outputs, _done(outputs)


@implements(c10d.alltoall_base_.default)
def all_to_all_base_(func: Any, output: Any, x: Any, group: Any, out: Any, into: Any, *rest: Any, **named: Any) -> Any:
    """As `all_to_all_`, of one tensor cut in equal parts."""
    (target,) = _secrets(func, [output])
    _put(target, _exchanged(func, as_secret(x, target), group, out, into))
    return _done([output])


def _exchanged(func: Any, x: SecretTensor, group: Any, out: Any, into: Any) -> Value:
    size = _group(group).size()
    if len({*out, *into}) > 1 or not x.dim() or x.shape[0] % size:
        raise unsupported(f"{func} of unequal parts", "pad the parts to one length")
    rows = x.reshape(size, x.shape[0] // size, *x.shape[1:])
    assert isinstance(rows, SecretTensor)
    return _begin(func, group, rows).exchange(_value(rows))


@implements(c10d.send.default, c10d.recv_.default, c10d.recv_any_source_.default)
def send(func: Any, *args: Any, **named: Any) -> Any:
    """Refuse."""
    raise unsupported(f"{func}", "write dist.broadcast(x, source, group=dist.new_group([source, destination])) at both")


# --- functional collectives -------------------------------------------------------------------------------------------


@implements(functional.all_reduce.default)
def all_reduce(func: Any, x: SecretTensor, op: Any, group: Any) -> SecretTensor:
    """The reduction over all ranks."""
    return _reduced(func, group, op, x)


@implements(functional.all_reduce_.default)
def all_reduce_into(func: Any, x: SecretTensor, op: Any, group: Any) -> SecretTensor:
    """Overwrite it with the reduction over all ranks."""
    write(x, _reduced(func, group, op, x))
    return x


@implements(functional.all_reduce_coalesced.default)
def all_reduce_coalesced(func: Any, tensors: Any, op: Any, group: Any) -> list[SecretTensor]:
    """As `all_reduce`, of each."""
    return [_reduced(func, group, op, as_secret(x, *tensors)) for x in tensors]


@implements(functional.reduce_scatter_tensor.default)
def reduce_scatter(func: Any, x: SecretTensor, op: Any, size: int, group: Any) -> SecretTensor:
    """The reduction over all ranks of the rows for this one."""
    return _reduced(func, group, op, _cut(func, x, size), scattered=True)


@implements(functional.reduce_scatter_tensor_coalesced.default)
def reduce_scatter_coalesced(func: Any, tensors: Any, op: Any, size: int, group: Any) -> list[SecretTensor]:
    """As `reduce_scatter`, of each."""
    return [reduce_scatter(func, as_secret(x, *tensors), op, size, group) for x in tensors]


def _cut(func: Any, x: SecretTensor, size: int) -> SecretTensor:
    if not x.dim() or x.shape[0] % size:
        raise DataError(f"{func} among {size} ranks: {tuple(x.shape)} has no {size} equal parts in dimension 0")
    rows = x.reshape(size, x.shape[0] // size, *x.shape[1:])
    assert isinstance(rows, SecretTensor)
    return rows


@implements(functional.all_gather_into_tensor.default)
def all_gather(func: Any, x: SecretTensor, size: int, group: Any) -> SecretTensor:
    """What all ranks have, one after the other in dimension 0."""
    every = _begin(func, group, x).gather(_value(x))
    shape = torch.Size((size * x.shape[0], *x.shape[1:])) if x.dim() else torch.Size((size,))
    return secret(every.move(lambda t: t.reshape(shape), view=False), x.dtype)


@implements(functional.all_gather_into_tensor_coalesced.default)
def all_gather_coalesced(func: Any, tensors: Any, size: int, group: Any) -> list[SecretTensor]:
    """As `all_gather`, of each."""
    return [all_gather(func, as_secret(x, *tensors), size, group) for x in tensors]


@implements(functional.broadcast.default)
def broadcast(func: Any, x: SecretTensor, root: int, group: Any) -> SecretTensor:
    """What the root has."""
    value = _begin(func, group, x, f"from {root}").broadcast(_value(x), root)
    return secret(value.fork(), x.dtype)


@implements(functional.broadcast_.default)
def broadcast_into(func: Any, x: SecretTensor, root: int, group: Any) -> SecretTensor:
    """Overwrite it with what the root has."""
    broadcast_(func, [x], group, root)
    return x


@implements(functional.all_to_all_single.default)
def all_to_all(func: Any, x: SecretTensor, out: Any, into: Any, group: Any) -> SecretTensor:
    """Part i of each rank's x, for rank i."""
    shape = x.shape
    return secret(_exchanged(func, x, group, out, into).move(lambda t: t.view(shape), view=False), x.dtype)


@implements(functional.wait_tensor.default)
def wait_tensor(func: Any, x: SecretTensor) -> SecretTensor:
    """It is done already."""
    return x


@last_resort
def unwrapped(func: Any, args: Any, kwargs: Any) -> Any:
    """Functional collectives wrap what nobody has waited for, which here is there already.

    By the name of an operator that PyTorch makes when they are first imported.
    """
    if func.namespace != functional.name or not func.__name__.startswith("_wrap_tensor"):
        return None
    return HANDLERS[aten.alias.default](aten.alias.default, args[0])
