"""What an owner has shared takes no more memory than E and, at the owner, x; and is as good as any other secret."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.protocols.additive import product
from tacit.protocols.additive import protocol as additive
from tacit.protocols.additive.given import LARGE
from tacit.session.session import Session

PARTIES = ("alice", "bob", "carol")


@pytest.fixture(params=PARTIES)
def owner(request: pytest.FixtureRequest) -> str:
    """The first party, another, the last."""
    return str(request.param)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Three parties and a producer, for whom every secret is a large one."""
    monkeypatch.setattr(additive, "LARGE", 1)
    with tacit.session(parties=list(PARTIES), seed=1) as opened:
        yield opened


def total_bytes() -> int:
    """All memory of tensors in this process."""
    gc.collect()
    found = {}
    for each in gc.get_objects():
        if type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu":
            memory = each.untyped_storage()
            found[memory.data_ptr()] = memory.nbytes()
    return sum(found.values())


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_a_model_takes_three_times_its_plain_memory_at_its_owner_and_twice_at_others(owner: str) -> None:
    model, x = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)), torch.randn(2, 512)
    assert min(p.numel() for p in model.parameters() if p.dim() == 2) >= LARGE
    plain, want = 4 * sum(p.numel() for p in model.parameters()), model(x)

    with tacit.session(), torch.no_grad():
        before = total_bytes()
        secret = tacit.share(model, owner=owner)
        for _ in range(2):
            got = tacit.reveal(secret(tacit.share(x, owner="alice")), to="all")
        weight = tacit.reveal(secret[0].weight, to="all")
        held = total_bytes() - before - weight.nbytes - got.nbytes

    assert (got - want).abs().max() < 1e-3
    assert (weight - model[0].weight).abs().max() < 1e-5
    assert held < 5.3 * plain  # E, which both parties hold: 2; x at the owner: 1; the producer's masks: 2; key streams


def test_weights_are_opened_once_for_all_clients(tmp_path: Path) -> None:
    model, bytes_of = nn.Linear(64, 48, bias=False), []
    with tacit.session() as opened, torch.no_grad():
        tacit.save({"model": tacit.share(model, owner="bob").state_dict()}, tmp_path)
        secret = tacit.share(nn.Linear(64, 48, bias=False))
        secret.load_state_dict(tacit.load(tmp_path)["model"])  # a model that no party knows
        for client in ("alice", "bob", "alice"):
            before = opened.meter.cost
            secret(tacit.share(torch.randn(2, 64), owner=client))
            bytes_of.append(sum((opened.meter.cost - before).online.values()))

    assert bytes_of[0] == bytes_of[1] + 2 * 8 * model.weight.numel()
    assert bytes_of[2] == bytes_of[1]


CHANGES: dict[str, Callable[[Tensor], object]] = {
    "a view is written": lambda x: x[1:].mul_(2.0),
    "a view of a view is written": lambda x: x.t()[:2].view(2, 3)[0].fill_(0.5),
    "all of it is written": lambda x: x.copy_(torch.ones(3, 4)),
    "it is added to": lambda x: x.add_(x),
}


@pytest.mark.parametrize("name", CHANGES)
def test_writing_leaves_what_was_made_before_and_reaches_all_views(session: Session, owner: str, name: str) -> None:
    x = torch.randn(3, 4)
    y = tacit.share(x, owner=owner)
    views, apart = [y.t(), y[:, 1], y.view(-1)[5:]], y * 1.0
    square = y @ y.t()

    CHANGES[name](y)
    changed = x.clone()
    CHANGES[name](changed)

    assert (tacit.reveal(y, to="all") - changed).abs().max() < 1e-4
    for view, plain in zip(views, [changed.t(), changed[:, 1], changed.view(-1)[5:]], strict=True):
        assert (tacit.reveal(view, to="all") - plain).abs().max() < 1e-4
        assert (tacit.reveal(view * view, to="all") - plain * plain).abs().max() < 1e-3
    assert (tacit.reveal(apart, to="all") - x).abs().max() < 1e-4
    assert (tacit.reveal(square, to="all") - x @ x.t()).abs().max() < 1e-3
    assert (tacit.reveal(y @ y.t(), to="all") - changed @ changed.t()).abs().max() < 1e-3


USES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matrix product": lambda x, w: x @ w,
    "turned": lambda x, w: w.t() @ x.t(),
    "rows by an index": lambda x, w: x[torch.tensor([2, 0, 2])] @ w,
    "a slice": lambda x, w: x[:, 1:] @ w[1:],
    "a sum": lambda x, w: (x + 3.0) @ w,
    "a sum, turned": lambda x, w: (w + 3.0).t() @ (1.0 - x).t(),
    "a part of a sum": lambda x, w: (x + 1.0)[:, 1:] @ (w - 2.0)[1:].contiguous(),
    "rows of a sum by an index": lambda x, w: (x - 1.5)[torch.tensor([2, 0, 2])] @ w,
    "the opposite of a sum": lambda x, w: -(x + 1.0) @ w,
    "a sum of a part of a sum": lambda x, w: ((x + 1.0).t() + 2.0)[1:].t() @ (w * 2 + 1)[1:],
    "squares of a part of a sum": lambda x, w: (x + 1.0)[1:] * (x + 1.0)[1:] + w.sum(),
    "a part of a sum compared": lambda x, w: ((x + 1.0).t()[1:] > 0).float().sum() + w.sum(),
    "a multiple": lambda x, w: (x * 4) @ -w,
    "squares": lambda x, w: x * x + (w * w).sum(),
    "two of them joined": lambda x, w: torch.cat([x, w.t()]) @ w,
    "rows of both by an index": lambda x, w: torch.cat([x, w.t()])[[4, 0]] @ w,
    "compared": lambda x, w: torch.where(x > 0, x, w.t()[:3]),
    "its largest": lambda x, w: x.max(1).values + w.relu().sum(),
    "repeated": lambda x, w: x.repeat(2, 1) @ w.expand(4, 5),
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("other", ["alice", "carol"])
def test_it_is_as_good_as_any_other_secret(session: Session, owner: str, other: str, name: str) -> None:
    x, w = torch.randn(3, 4), torch.randn(4, 5)

    got = tacit.reveal(USES[name](tacit.share(x, owner=owner), tacit.share(w, owner=other)), to="all")

    assert (got - USES[name](x, w)).abs().max() < 2e-3


@pytest.mark.parametrize("size", [2.0**14, 2.0**15, -(2.0**15), 2.0**40])
def test_numbers_that_fit_no_four_bytes_are_kept_as_they_are(session: Session, owner: str, size: float) -> None:
    x = torch.tensor([size, 1.0, -size], dtype=torch.float64)

    secret = tacit.share(x, owner=owner)

    assert torch.equal(tacit.reveal(secret, to="all").to(torch.float64), x)
    assert torch.equal(tacit.reveal(secret.view(3, 1).sum(1) - x, to="all"), torch.zeros(3))


@pytest.mark.parametrize("shape", [(30, 70), (70, 30)])
def test_masks_are_worked_out_piece_by_piece(
    session: Session, owner: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "PIECE", 250)
    x, w = torch.randn(3, shape[0]), torch.randn(*shape)

    got = tacit.reveal(tacit.share(x, owner="alice") @ tacit.share(w, owner=owner), to="all")

    assert (got - x @ w).abs().max() < 5e-3


def test_the_gradient_reaches_what_an_owner_has_shared(session: Session, owner: str) -> None:
    plain = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    plain(x).square().sum().backward()
    secret = tacit.share(plain, owner=owner)
    optimizer = torch.optim.SGD(secret.parameters(), lr=0.01)

    secret(tacit.share(x, owner="bob")).square().sum().backward()
    optimizer.step()

    got = tacit.reveal(secret.weight, to="all")
    assert plain.weight.grad is not None
    assert (got - (plain.weight - 0.01 * plain.weight.grad)).abs().max() < 1e-3
