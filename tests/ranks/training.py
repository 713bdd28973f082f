"""Replicas on secrets at each rank that runs this: their gradients and weights beside those of one plain model."""

import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as loss_of
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import tacit
from tacit.errors import TacitError

protocol, seed, cases = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
dist.init_process_group("gloo")
HERE, RANKS = dist.get_rank(), dist.get_world_size()
ROWS, STEPS = 16 * RANKS, 3
draws = torch.Generator().manual_seed(seed)
X = torch.randn(ROWS, 5, generator=draws).clamp(-3, 3)
Y = torch.randint(0, 2, (ROWS, 1), generator=draws).float()
WEIGHTS = {
    "0.weight": torch.randn(8, 5, generator=draws).clamp(-2, 2) / 2,
    "0.bias": torch.randn(8, generator=draws).clamp(-2, 2) / 2,
    "2.weight": torch.randn(1, 8, generator=draws).clamp(-2, 2) / 2,
    "2.bias": torch.randn(1, generator=draws),
}
UNIT = 2.0**-16
Sgd = torch.optim.SGD


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def plain() -> list[list[Tensor]]:
    """The gradients of each step on all rows, and the weights at the end."""
    model = network()
    model.load_state_dict(WEIGHTS)
    optimizer, found = Sgd(model.parameters(), lr=0.25, momentum=0.5), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model(X), Y).backward()
        found.append([p.grad.clone() for p in model.parameters()])
        optimizer.step()
    return [*found, [p.detach() for p in model.parameters()]]


def shared() -> nn.Module:
    """Rank 0 has the weights, and the others have others, which they are to forget."""
    model = network()
    if HERE == 0:
        model.load_state_dict(WEIGHTS)
    return tacit.share(model)


def train(model: nn.Module, wanted: list[list[Tensor]], step: Callable[[int], None], name: str) -> None:
    optimizer = Sgd(model.parameters(), lr=0.25, momentum=0.5)
    for k in range(STEPS):
        optimizer.zero_grad()
        step(k)
        near([p.grad for p in model.parameters()], wanted[k], 32 * (k + 1), f"{name}, gradients of step {k}")
        optimizer.step()
    near(list(model.parameters()), wanted[-1], 64, f"{name}, weights")


def near(found: list[Tensor], wanted: list[Tensor], units: float, what: str) -> None:
    for x, y in zip(found, wanted, strict=True):
        off = (tacit.reveal(x.detach(), to="all") - y).abs().max() / UNIT
        assert off <= units, f"{what}: {off:.1f} units"


def rows() -> tuple[Tensor, Tensor]:
    return tacit.share(X[HERE::RANKS], owner="alice"), tacit.share(Y[HERE::RANKS], owner="bob")


def ddp(**settings: bool) -> None:
    """DDP as programs write it; the mean over ranks of means over their rows is the mean over all."""
    model = DistributedDataParallel(shared(), **settings)
    train(model, plain(), lambda _: loss_of(model(rows()[0]), rows()[1]).backward(), f"DDP {settings}")


def hook() -> None:
    """The three lines that do without DDP."""
    model = shared()
    for p in model.parameters():
        dist.broadcast(p.detach(), 0)
        p.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad, op=dist.ReduceOp.AVG))
    train(model, plain(), lambda _: loss_of(model(rows()[0]), rows()[1]).backward(), "hooks")


def accumulated() -> None:
    """Without synchronisation but at the last of several backward passes."""
    model = DistributedDataParallel(shared())
    (x, y), half = rows(), ROWS // RANKS // 2

    def step(_: int) -> None:
        with model.no_sync():
            (loss_of(model(x[:half]), y[:half]) / 2).backward()
        (loss_of(model(x[half:]), y[half:]) / 2).backward()

    train(model, plain(), step, "accumulated")


def sampled() -> None:
    """A DataLoader with a DistributedSampler: in an epoch, all rows are seen once."""
    model = DistributedDataParallel(shared())
    data = TensorDataset(tacit.share(X, owner="alice"), tacit.share(Y, owner="bob"))
    sampler = DistributedSampler(data, shuffle=True, seed=seed % 1000)
    loader = DataLoader(data, batch_size=ROWS // RANKS, sampler=sampler)

    def step(epoch: int) -> None:
        sampler.set_epoch(epoch)
        ((x, y),) = loader
        loss_of(model(x), y).backward()

    train(model, plain(), step, "sampled")


def buffers() -> None:
    """Batch norm, whose statistics rank 0 tells the others before each forward pass."""
    torch.manual_seed(HERE)
    model = DistributedDataParallel(tacit.share(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))))
    optimizer = Sgd(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model(rows()[0]), rows()[1]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        outputs = model(tacit.share(X, owner="alice"))
    every = [torch.zeros_like(outputs) for _ in range(RANKS)]
    dist.all_gather(every, outputs)
    copies = tacit.reveal(torch.stack(every), to="all")
    assert (copies - copies[0]).abs().max() < 2**-8


class Slope(nn.Module):
    """A linear model, and a part that is not used."""

    def __init__(self, spare: bool = False) -> None:
        super().__init__()
        self.used = nn.Linear(3, 1)
        nn.init.constant_(self.used.weight, 0.01)
        nn.init.zeros_(self.used.bias)
        self.spare = nn.Linear(2, 1) if spare else None

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x).square().mean()


def small() -> None:
    """Gradients far below the session's 2^-16 are as fine as in one process."""
    sizes = torch.tensor([1.0, 1e-2, 1e-4])
    data = torch.rand(256 * RANKS, 3, generator=draws) * sizes
    room = 4 + 100 * sizes  # units of 2^-24, as a mean over 256 leaves 8 bits more; and what the outputs are off by
    plainly = Slope()
    plainly(data).backward()
    wanted = plainly.used.weight.grad
    assert 1e-7 < wanted.min() < 1e-6 < wanted[0, 1] < 1e-4
    for settings in (None, {}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}):
        model = tacit.share(Slope(spare=settings is not None and "find_unused_parameters" in settings))
        replica = model if settings is None else DistributedDataParallel(model, **settings)
        for step in range(2):  # the second time in buckets that have been used
            replica.zero_grad()
            replica(tacit.share(data if settings is None else data[HERE::RANKS], owner="alice")).backward()
            off = (tacit.reveal(model.used.weight.grad, to="all") - wanted).abs() * 2.0**24
            assert (off <= room).all(), f"{settings}, step {step}: {off} units from {wanted}"


def apart() -> None:
    """A module of which only some is secret is refused, and one that is all public is PyTorch's."""
    model = network()
    model[0] = tacit.share(model[0])
    try:
        DistributedDataParallel(model)
    except TacitError as refusal:
        said = str(refusal)
    assert "of which only some is secret" in said, said
    public = DistributedDataParallel(network())
    public(X[HERE::RANKS]).sum().backward()
    assert type(next(public.parameters()).grad) is Tensor


CASES: dict[str, Callable[[], None]] = {
    "ddp": ddp,
    "views": lambda: ddp(gradient_as_bucket_view=True),
    "unused": lambda: ddp(find_unused_parameters=True),
    "static": lambda: ddp(static_graph=True),
    **{case.__name__: case for case in (hook, accumulated, sampled, buffers, small, apart)},
}
with tacit.session(roles=["alice", "bob"]) if protocol == "two-party" else tacit.session(protocol=protocol):
    for case in cases or CASES:
        CASES[case]()
dist.destroy_process_group()
print("as one model")
