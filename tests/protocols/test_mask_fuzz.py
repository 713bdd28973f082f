"""Random programs of operators, optimizers, data sets and checkpoints, of which every word that leaves is looked at.

Masks are used once: so no two words are equal, nor one a small multiple of another one, however programs are put
together. What is looked for, and the chance to find it where it is not, is told in `relations`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tacit
from tacit.errors import TacitError
from tacit.protocols import leaving
from tacit.protocols.additive.masks import Premask
from tacit.protocols.additive.source.base import Dealt
from tacit.protocols.additive.source.dealing import Dealing

from .relations import Seen, watching

SEED = int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
"""Drawn at random, and in the name of what fails: a program is found again by it."""

STEPS: list[Callable[[Tensor, Tensor], object]] = [
    lambda x, y: x * y,
    lambda x, y: x @ y,
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: (x * y) + (x * y),
    lambda x, y: torch.relu(x),
    lambda x, y: torch.sigmoid(x),
    lambda x, y: x.t() @ y,
    lambda x, y: torch.cat([x[:2], y[2:]]) * x,
    lambda x, y: torch.cat([x[1:3], x[1:3]]) * y,
    lambda x, y: x[[0, 0, 1, 1]] * y,
    lambda x, y: nn.functional.pad(x[:, :2], (1, 1)) * y,
    lambda x, y: x[:1].expand(4, 4) * y,
    lambda x, y: x.sum(0, keepdim=True) + y,
    lambda x, y: (x * 2 + y) * y,
    lambda x, y: x * 0.5,
    lambda x, y: torch.where(x > 0, x, y),
    lambda x, y: (x < y).float() * x,
    lambda x, y: x.add_(y),
    lambda x, y: x[1:3].mul_(0.5).sum() + x,
    lambda x, y: x.__setitem__(0, y[1]),
    lambda x, y: torch.maximum(x, y),
    lambda x, y: torch.exp(x.clamp(-2, 2)),
    lambda x, y: torch.softmax(x, 1),
    lambda x, y: torch.sin(x),
    lambda x, y: x.repeat(2, 1)[:4] * y,
    lambda x, y: x.flip(0) * x,
    lambda x, y: x.tril() * y.triu(),
    lambda x, y: (x @ y) @ (x @ y),
    lambda x, y: ((x @ y) - (x @ y).t()) * 0.25,
    lambda x, y: x.sort(0).values,
    lambda x, y: torch.stack([x[i] for i in (0, 2, 1, 3)]) * y,
    lambda x, y: x.roll(1, 0) * x + x.roll(1, 0),
    lambda x, y: torch.tanh(x),
    lambda x, y: x / (y * y + 1),
    lambda x, y: (x * x + 0.5).sqrt(),
    lambda x, y: x.argmax(1, keepdim=True) + y,
    lambda x, y: x.cumsum(0) * y,
    lambda x, y: nn.functional.layer_norm(x, (4,)),
    lambda x, y: nn.functional.conv2d(x.view(1, 1, 4, 4), y.view(1, 1, 4, 4)[..., :3, :3], padding=1).view(4, 4),
    lambda x, y: nn.functional.max_pool2d(x.view(1, 4, 4), 3, 1, 1).view(4, 4),
    lambda x, y: nn.functional.gelu(x) + torch.floor(y),
    lambda x, y: tacit.reveal(x * y),
    lambda x, y: tacit.reveal(x + y, to=x._protocol.session.parties[0]),
]


def program(draws: random.Random, folder: Path, *, zero: bool, steps: int) -> None:
    """Steps of operators on a pool of matrices of several owners, some of them written to, saved and loaded."""
    parties = tacit.api.active_protocol().session.parties

    def fresh() -> Tensor:
        value = torch.zeros(4, 4) if zero else torch.randn(4, 4).clamp(-2, 2)
        return tacit.share(value, owner=draws.choice((*parties, None)))

    pool = [fresh() for _ in range(4)]
    pool.append(torch.cat([fresh()[:2], fresh()[:2]]))
    for _ in range(steps):
        x, y = draws.choice(pool), draws.choice(pool)
        z = draws.choice(STEPS)(x, y)
        if isinstance(z, tacit.SecretTensor) and z.shape == (4, 4) and z.is_floating_point():
            pool[draws.randrange(len(pool))] = z.clamp(-2, 2) if draws.random() < 0.5 else z * 0.25
    tacit.save(pool, folder)
    again = tacit.load(folder)
    tacit.reveal([a * b for a, b in zip(again, pool, strict=True)])


def training(draws: random.Random, folder: Path, *, zero: bool) -> None:
    """A network of a random optimizer on batches of two owners' columns, then its data in a DataLoader."""
    one, other = tacit.api.active_protocol().session.parties[:2]
    columns = [
        tacit.share(torch.zeros(12, n) if zero else torch.randn(12, n), owner=o) for n, o in ((3, one), (2, other))
    ]
    y = tacit.share((torch.rand(12, 1) > 0.5).float(), owner=other)
    x = torch.cat(columns, dim=1)
    net = tacit.share(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)), owner=draws.choice((one, None)))
    kind = draws.choice(("SGD", "Adam", "Adagrad", "RMSprop", "AdamW", "NAdam", "Adamax", "Rprop"))
    optimizer = getattr(torch.optim, kind)(net.parameters(), lr=0.05)
    for batch, target in tacit.batches(x, y, size=4, epochs=2, progress=False):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(batch), target).backward()
        optimizer.step()
    tacit.save({"net": net.state_dict(), "x": x}, folder)
    kept = tacit.load(folder)["x"]
    for (rows,) in DataLoader(TensorDataset(kept), batch_size=5, shuffle=True):
        tacit.reveal((rows @ rows.t()).sum(), to=one)
    x[2:4].add_(1.0)
    tacit.reveal(x * x + kept * kept)


OPTIMIZERS: tuple[Callable[..., torch.optim.Optimizer], ...] = (
    lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    lambda p: torch.optim.Adam(p, lr=0.05),
    lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True),
    lambda p: torch.optim.AdamW(p, lr=0.05),
)


def compiled_training(draws: random.Random, *, zero: bool) -> int:
    """A compiled step, what it leaves opened now and then in between; return how often it was replayed."""
    one, other = tacit.api.active_protocol().session.parties[:2]
    x = tacit.share(torch.zeros(40, 3) if zero else torch.randn(40, 3), owner=one)
    y = tacit.share((torch.rand(40, 1) > 0.5).float(), owner=other)
    net = tacit.share(nn.Linear(3, 1), owner=draws.choice((one, None)))
    optimizer = draws.choice(OPTIMIZERS)(net.parameters())

    @tacit.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        out = net(x)
        nn.functional.binary_cross_entropy_with_logits(out, y).backward()
        optimizer.step()
        return out.detach()

    for k in range(14):
        out = step(x[2 * k : 2 * k + 2], y[2 * k : 2 * k + 2])
        kept = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, tacit.SecretTensor)]
        what = draws.choice(("averages", "gradient", "parameter", "result", "", "", "", "", ""))
        for secret in {"averages": kept, "gradient": [net.weight.grad], "parameter": [net.weight], "result": [out]}.get(
            what, []
        ):
            tacit.reveal([(secret * secret).detach(), secret.detach() * 3])
    tacit.reveal([p * p for p in net.parameters()] + [v * v for v in kept])
    return step.replayed


@pytest.mark.slow
@pytest.mark.parametrize("parties", [2, 3])
def test_no_mask_is_used_twice_by_compiled_steps(monkeypatch: pytest.MonkeyPatch, parties: int) -> None:
    replayed = 0
    for seed in range(SEED, SEED + 10 - 2 * parties):
        torch.manual_seed(seed)
        with watching(monkeypatch) as seen, tacit.session(parties=("alice", "bob", "carol")[:parties]):
            replayed += compiled_training(random.Random(seed), zero=seed % 3 == 0)
        assert not seen.suspicious(), f"program {seed}: {seen.suspicious()}"

    assert replayed > 3


def looked_at(
    monkeypatch: pytest.MonkeyPatch, folder: Path, seed: int, *, parties: int = 2, protocol: str = "additive"
) -> Seen:
    """What is seen of one program: of every third one, that all secrets are zero, so that masks would lie open."""
    draws = random.Random(seed)
    torch.manual_seed(seed)
    names = ("alice", "bob", "carol")[:parties]
    chosen: dict[str, object] = {"roles": names} if protocol == "two-party" else {"parties": names}
    # a number out of range, an operator that is not there: what was sent, was sent
    with watching(monkeypatch) as seen, tacit.session(**chosen), suppress(TacitError):
        if seed % 4:
            program(draws, folder, zero=seed % 3 == 0, steps=20)
        else:
            training(draws, folder, zero=seed % 3 == 0)
    return seen


def fuzz(monkeypatch: pytest.MonkeyPatch, folder: Path, count: int, **how: object) -> int:
    """Look at so many programs; return how many words they sent."""
    total = 0
    for at in range(count):
        seed = SEED + at
        seen = looked_at(monkeypatch, folder / str(at), seed, **how)
        assert not seen.suspicious(), f"program {seed}, {how}: {seen.suspicious()}"
        total += seen.count
    return total


def test_no_mask_is_used_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert fuzz(monkeypatch, tmp_path, 5) > 2000


@pytest.mark.slow
@pytest.mark.parametrize(("parties", "protocol"), [(2, "additive"), (3, "additive"), (2, "two-party")])
def test_no_mask_is_used_twice_in_many_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parties: int, protocol: str
) -> None:
    assert (
        fuzz(monkeypatch, tmp_path, 150 if protocol == "additive" else 25, parties=parties, protocol=protocol) > 100_000
    )


def repeated(self: Dealing, shape: tuple[int, ...]) -> Dealt:
    """A mask that is the same for all of one shape."""
    torch_words = torch.arange(torch.Size(shape).numel()).view(tuple(shape)) * 0x9E3779B97F4A7C1 + 0x1234567890ABCDE
    return Dealt([torch_words.clone() for _ in self._hosted], torch_words * len(self._hosted))


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a premask that is spent twice": lambda m: m.setattr(Premask, "spend", lambda self: None),
    "a premask of which some values repeat": lambda m: m.setattr(
        Premask, "fresh", property(lambda self: not any(d.spent for d in self.draws))
    ),
    "masks that are drawn once": lambda m: m.setattr(Dealing, "random_ring", repeated),
    "an owner's masks that are drawn once": lambda m: m.setattr(
        Dealing,
        "private_ring",
        lambda self, shape, holder: Dealt(
            [p * (i == holder) for i, p in enumerate(repeated(self, shape).parts)], repeated(self, shape).parts[0]
        ),
    ),
    "shares that leave as they are": lambda m: m.setattr(
        leaving, "_fresh", lambda s, index, part, binary: part.clone()
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_masks_that_are_used_twice_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    FAULTS[fault](monkeypatch)

    assert any(looked_at(monkeypatch, tmp_path / str(at), SEED + at).suspicious() for at in range(60))
