"""Every collective on secrets, at each of the ranks that run this, beside what it is on plain numbers."""

import sys
import warnings

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import Tensor

import tacit
from tacit.errors import DataError, TacitError, UnsupportedOperator

warnings.simplefilter("ignore", FutureWarning)  # that newer versions of PyTorch have other names for some
protocol, seed = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo")
HERE, RANKS = dist.get_rank(), dist.get_world_size()
Op = dist.ReduceOp
draws = torch.Generator().manual_seed(seed)
EVERY = torch.randint(-4000, 4000, (RANKS, 2, 3), generator=draws) / 256
"""What each rank has: sums and products of few of them have places after the point that all fit."""
PARTS = torch.randint(-4000, 4000, (RANKS, RANKS, 2), generator=draws) / 256
UNIT = 2.0**-16


def mine(values: Tensor = EVERY) -> Tensor:
    return tacit.share(values[HERE].clone(), owner=("alice", "bob")[seed % 2])


def close(x: Tensor, wanted: Tensor, units: float = 0.0) -> None:
    found = tacit.reveal(x.detach(), to="all")
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= units * UNIT, (found, wanted)


def refused(kind: type[Exception], words: str, act: object) -> None:
    try:
        act()
    except kind as refusal:
        said = str(refusal)
    else:
        raise AssertionError(f"not refused: {words}")
    assert words in said, said


def reductions() -> None:
    for op, wanted, units in (
        (Op.SUM, EVERY.sum(0), 0),
        (Op.AVG, EVERY.mean(0), 2 + float(EVERY.sum(0).abs().max())),  # a third has so many places after the point
        (Op.MAX, EVERY.amax(0), 0),
        (Op.MIN, EVERY.amin(0), 0),
    ):
        x = mine()
        dist.all_reduce(x, op=op)
        close(x, wanted, units)
    x = mine(EVERY / 16)
    dist.all_reduce(x, op=Op.PRODUCT)
    close(x, (EVERY / 16).prod(0), 64 * RANKS)
    x = mine()
    work = dist.all_reduce(x, async_op=True)
    assert work.wait()
    assert work.is_completed()
    close(x, EVERY.sum(0))
    x = mine()
    dist.reduce(x, RANKS - 1)
    close(x, EVERY.sum(0) if HERE == RANKS - 1 else EVERY[HERE])
    out = mine().new_zeros(2)
    dist.reduce_scatter_tensor(out, mine(PARTS).reshape(-1))
    close(out, PARTS.sum(0)[HERE])
    dist.reduce_scatter(out, list(mine(PARTS).unbind(0)), op=Op.MAX)
    close(out, PARTS.amax(0)[HERE])


def storages() -> None:
    """Views, products that are short of a mask, what was opened before and is not any more, and scales that differ."""
    x = mine()
    row, square = x[0], x * x
    column = square[:, 1]
    close(x * 2, EVERY[HERE] * 2, 1)  # opens it
    dist.all_reduce(row)
    wanted = EVERY[HERE].clone()
    wanted[0] = EVERY.sum(0)[0]
    close(x, wanted)
    close(x * x, wanted * wanted, 2)
    dist.all_reduce(square)
    close(square, EVERY.square().sum(0), 2 + RANKS)
    close(column, EVERY.square().sum(0)[:, 1], 2 + RANKS)
    zeros = torch.zeros_like(x)
    dist.all_reduce(zeros)
    close(zeros + x, wanted)
    y = mine()
    y = y * y if HERE == 0 else y  # one rank has twice the fractional bits that others have
    dist.all_reduce(y)
    close(y, EVERY[0].square() + EVERY[1:].sum(0), 2)
    weight = torch.nn.Parameter(mine())
    dist.broadcast(weight.detach(), 0)
    close(weight, EVERY[0])
    assert weight.requires_grad


def copies() -> None:
    x = mine()
    dist.broadcast(x, RANKS - 1)
    close(x, EVERY[-1])
    x = mine()
    outs = [torch.zeros_like(x) for _ in range(RANKS)]
    dist.all_gather(outs, x)
    for out, wanted in zip(outs, EVERY, strict=True):
        close(out, wanted)
    out = x.new_zeros(2 * RANKS, 3)
    dist.all_gather_into_tensor(out, x)
    close(out, EVERY.reshape(-1, 3))
    outs = [torch.zeros_like(x) for _ in range(RANKS)] if HERE == 0 else None
    dist.gather(x, outs, dst=0)
    for out, wanted in zip(outs or [], EVERY, strict=HERE == 0):
        close(out, wanted)
    out = torch.zeros_like(x)
    dist.scatter(out, [x + k for k in range(RANKS)] if HERE == 0 else None, src=0)
    close(out, EVERY[0] + HERE)
    parts = mine(PARTS)
    out = torch.zeros_like(parts)
    dist.all_to_all_single(out, parts)
    close(out, PARTS[:, HERE])
    positive = mine() > 0
    outs = [torch.zeros_like(positive) for _ in range(RANKS)]
    dist.all_gather(outs, positive)
    dist.broadcast(positive, 0)
    assert torch.equal(tacit.reveal(positive, to="all"), EVERY[0] > 0)
    assert torch.equal(tacit.reveal(torch.stack(outs), to="all"), EVERY > 0)


def integers() -> None:
    large = torch.tensor([1 << 40, -5])
    x = tacit.share(large, owner="alice")
    dist.all_reduce(x)
    close(x, large * RANKS)
    small = torch.tensor([100, -5], dtype=torch.int8)
    x = tacit.share(small, owner="bob")
    dist.all_reduce(x)
    close(x, small * RANKS)  # wraps


def functional() -> None:
    x, world = mine(), dist.group.WORLD
    close(funcol.all_reduce(x, "sum", world), EVERY.sum(0))
    close(x, EVERY[HERE])
    close(funcol.all_gather_tensor(x, 0, world), EVERY.reshape(-1, 3))
    close(
        funcol.reduce_scatter_tensor(mine(PARTS), "avg", 0, world),
        PARTS.mean(0)[HERE : HERE + 1],
        2 + float(PARTS.sum(0).abs().max()),
    )
    close(funcol.broadcast(x, 0, world), EVERY[0])


def several() -> None:
    """Operators on lists, which programs reach by managers of PyTorch only, and those that overwrite."""
    x, y, world = mine(), mine(PARTS), dist.group.WORLD
    dist.all_reduce_coalesced([x, y])
    close(x, EVERY.sum(0))
    close(y, PARTS.sum(0))
    x, out, part = mine(), mine().new_zeros(2 * RANKS, 3), y.new_zeros(2)
    world.allgather_into_tensor_coalesced([out], [x]).wait()
    close(out, EVERY.reshape(-1, 3))
    world.reduce_scatter_tensor_coalesced([part], [mine(PARTS).reshape(-1)]).wait()
    close(part, PARTS.sum(0)[HERE])
    outs = [torch.zeros_like(part) for _ in range(RANKS)]
    dist.all_to_all(outs, list(mine(PARTS).unbind(0)))
    close(torch.stack(outs), PARTS[:, HERE])
    close(funcol.all_reduce_coalesced([x], "sum", world)[0], EVERY.sum(0))
    close(funcol.all_gather_into_tensor_coalesced([x], world)[0], EVERY.reshape(-1, 3))
    (part,) = funcol.reduce_scatter_tensor_coalesced([mine(PARTS)], "sum", [0], world)
    close(part, PARTS.sum(0)[HERE : HERE + 1])
    close(funcol.all_to_all_single(mine(PARTS), None, None, world), PARTS[:, HERE])
    close(torch.ops._c10d_functional.broadcast_(x, 0, world.group_name), EVERY[0])
    close(torch.ops._c10d_functional.all_reduce_(x, "avg", world.group_name), EVERY[0], 2 + 64)


def lists() -> None:
    """Lists of lists, into which PyTorch's dispatcher does not look."""
    x, plain = mine(), EVERY[HERE].clone()
    outs = [torch.zeros_like(x) for _ in range(RANKS)]
    dist.all_gather(outs, plain)
    for out, wanted in zip(outs, EVERY, strict=True):
        close(out, wanted)
    out, row = torch.zeros_like(x), [x + k for k in range(RANKS)]
    dist.reduce_scatter(out, [plain + k for k in range(RANKS)])
    close(out, EVERY.sum(0) + HERE * RANKS)
    refused(TacitError, "into a plain tensor", lambda: dist.reduce_scatter(plain, row))
    if HERE == 0:
        refused(TacitError, "into a plain tensor", lambda: dist.scatter(plain, row, src=0))
        refused(TacitError, "share it first", lambda: dist.gather(plain, outs, dst=0))
    assert torch.equal(plain, EVERY[HERE])
    copies = [torch.zeros(2, 3) for _ in range(RANKS)]
    dist.all_gather(copies, plain)
    assert torch.equal(torch.stack(copies), EVERY)


def groups() -> None:
    """Only some of the ranks, and public tensors among all."""
    some = dist.new_group([0])
    x = mine()
    if HERE == 0:
        dist.all_reduce(x, group=some)
    close(x, EVERY[HERE])
    t = torch.ones(3)
    dist.all_reduce(t)
    assert torch.equal(t, torch.full((3,), float(RANKS)))
    dist.barrier()


def refusals() -> None:
    x = mine()
    whole = tacit.share(torch.tensor([3, 4]), owner="alice")
    bits = x > 0
    plain = [torch.zeros(2, 3) for _ in range(RANKS)]
    refused(UnsupportedOperator, "x.long()", lambda: dist.all_reduce(bits))
    refused(UnsupportedOperator, "sum, avg, min, max", lambda: dist.all_reduce(whole, op=Op.BAND))
    refused(UnsupportedOperator, "sum integers and divide", lambda: dist.all_reduce(whole, op=Op.AVG))
    refused(TacitError, "into a plain tensor", lambda: dist.all_gather(plain, x))
    refused(DataError, "tensors of one shape", lambda: dist.all_gather([torch.zeros_like(x[0])] * RANKS, x))
    if RANKS > 1:
        refused(UnsupportedOperator, "dist.broadcast", lambda: dist.send(x, (HERE + 1) % RANKS))
    close(x, EVERY[HERE])  # and the session goes on


with tacit.session(roles=["alice", "bob"]) if protocol == "two-party" else tacit.session(protocol=protocol):
    for check in (reductions, storages, copies, integers, functional, several, lists, groups, refusals):
        check()
dist.destroy_process_group()
print("as they should be")
