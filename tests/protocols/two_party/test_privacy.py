"""What either party is sent on transfers is uniform, whatever the secrets are, and nothing is ever sent twice.

Everything that leaves a party in a hop is written down, for extreme choices of secrets, and bytes are compared with
uniform ones by a chi-square statistic. (Ciphertexts have tests of their own.) That this would find a fault is shown by
protocols that are broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tacit.protocols import leaving
from tacit.protocols.series import Polynomial
from tacit.protocols.two_party import bits, comparison, exchange, ole, powers
from tacit.protocols.two_party.transfers import Choice, Order, Pair, Tables, Transfers

from ..world import World

N = 6000
CHI_SQUARE = 450.0
"""Of 255 degrees of freedom: exceeded by uniform bytes with probability 1e-12."""

SECRETS = {
    "zeros": (torch.zeros(N), torch.zeros(N)),
    "extremes": (torch.full((N,), 4096.0), torch.full((N,), -4096.0)),
    "typical": (torch.randn(N) * 3, torch.randn(N)),
}
Primitive = Callable[[World, torch.Tensor, torch.Tensor], object]


def _few_products(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.multiply(w.share(x[:1000]), w.share(y[:1000]))


def _own_products(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.multiply(w.share(x[:1000], known=True), w.share(y[:1000], owner=0, known=True))


def _truncation(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return [w.share(v, 32).settle(16) for v in (x, y)]


def _scaling(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.scale(w.share(x, 32), 0.1)


def _relu(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    z = w.share(x, 32)
    return w.protocol.select([(w.protocol.less(z, [1])[0].invert(), z)])


def _comparison(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.less(w.share(x), [0, 1, 65536])


def _joined_columns(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """Of which each party has its own, and the other zeros."""
    a, b = w.share(x, owner=0, known=True), w.share(y, owner=1, known=True)
    z = a.combined(lambda *t: torch.stack(t, 1), b)
    return w.protocol.select([(w.protocol.less(z, [0])[0], z)])


def _logic(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    low, high = w.protocol.less(w.share(x.repeat(3)), [0, 65536])
    return (low & high).arithmetic(), w.protocol.all_of([low, high, low])


def _powers(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.powers_of_two(w.share(y.clamp(-20, 15)))


def _polynomial(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    p = Polynomial(8, (0.5, 1.0, 0.25))
    few = [w.protocol.polynomials(w.share(x[k : k + 50].clamp(-7, 7)), [p]) for k in range(0, 1000, 50)]
    return few, w.protocol.polynomials(w.share(x[:1000].clamp(-7, 7)), [p])


def _reveal(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    known, bits_ = w.share(x, known=True), w.protocol.less(w.share(y, known=True), [0])[0]
    return w.protocol.reveal(known, w.parties), w.protocol.reveal(bits_, w.parties)


PRIMITIVES: dict[str, Primitive] = {
    "few products": _few_products,
    "products of own values": _own_products,
    "truncation": _truncation,
    "scaling": _scaling,
    "relu": _relu,
    "comparison": _comparison,
    "joined columns": _joined_columns,
    "logic": _logic,
    "powers": _powers,
    "polynomial": _polynomial,
    "reveal": _reveal,
}


class Seen:
    """What is sent, by who sends it and what it looks like."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes: dict[tuple[int, torch.dtype, bool], list[torch.Tensor]] = {}
        for module in (ole, bits, comparison, powers):
            monkeypatch.setattr(module, "hop", self.hop)

    def hop(self, session: object, notes: Sequence[exchange.Note]) -> list[torch.Tensor | None]:
        for note in notes:
            assert note.tensor is not None
            key = (note.sender, note.dtype, note.tensor.dim() == 1)
            self.notes.setdefault(key, []).append(note.tensor.detach().clone().reshape(-1))
        return exchange.hop(session, notes)  # type: ignore[arg-type]


def unmask(dtype: torch.dtype, flat: torch.Tensor) -> torch.Tensor:
    """Bytes that must be uniform: of a table the entry of zero is none, so its last word of 8 bits has 6."""
    if dtype != torch.int32:
        return flat.view(torch.uint8)
    assert not (flat & 3).any()
    return ((flat >> 2).view(-1, 1) >> torch.tensor([0, 8, 16]) & 255).reshape(-1).to(torch.uint8)


def chi_square(data: torch.Tensor) -> float:
    counts = torch.bincount(data.to(torch.int64), minlength=256).double()
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())


def leaks(run: Primitive, secrets: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of the messages is not as random messages would be."""
    world = World(2, "two-party")
    seen = Seen(monkeypatch)
    x, y = SECRETS[secrets]
    run(world, x, y)
    faults = []
    for (sender, dtype, _), tensors in seen.notes.items():
        data = unmask(dtype, torch.cat(tensors))
        if data.numel() >= 2560 and chi_square(data) > CHI_SQUARE:
            faults.append(f"bytes of party {sender} in {dtype} are not uniform")
        words = data[: data.numel() // 8 * 8].view(-1, 8).contiguous().view(torch.int64)
        if words.numel() != words.unique().numel():
            faults.append(f"party {sender} sends 8 bytes twice")
    for receivers in world.transport.received.values():
        revealed = torch.cat([t for t in receivers if t.numel() == 8 * N]) if run is _reveal else torch.empty(0)
        if revealed.numel() and chi_square(revealed) > CHI_SQUARE:
            faults.append("what is revealed was not re-randomised")
    return faults


@pytest.mark.parametrize("secrets", SECRETS)
@pytest.mark.parametrize("name", PRIMITIVES)
def test_all_messages_are_uniform(name: str, secrets: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not leaks(PRIMITIVES[name], secrets, monkeypatch)


def test_sizes_do_not_depend_on_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for x, y in SECRETS.values():
        world = World(2, "two-party")
        _relu(world, x, y)
        sizes.append({pair: [t.numel() for t in seen] for pair, seen in world.transport.received.items()})

    assert sizes[0] == sizes[1] == sizes[2]


# --- teeth ------------------------------------------------------------------------------------------------------------


def breaking(each: int, spoil: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every entry spoiled, of items that take so many transfers each, when it is made."""
    make = Transfers.make

    def spoiled(self: Transfers, orders: Sequence[Order[Any]]) -> None:
        make(self, orders)
        for entry in [entry for order in orders if order.each == each for entry in order.entries]:
            spoil(entry)

    monkeypatch.setattr(Transfers, "make", spoiled)


@pytest.mark.parametrize("kind", ["no choice", "used twice", "no mask"])
def test_transfers_broken_on_purpose_are_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(entry: Any) -> None:
        if entry[-1].dtype is not torch.int64:
            return
        if kind == "no choice" and isinstance(entry, Choice):
            entry.choice.zero_()
        if kind == "used twice" and isinstance(entry, Pair):
            torch.manual_seed(1)
            for message in entry:
                message.copy_(torch.randint(-(2**63), 2**63 - 1, message.shape))
        if kind == "no mask" and isinstance(entry, Pair):
            entry.one.copy_(entry.zero)

    breaking(1, spoil, monkeypatch)

    assert leaks(_own_products, "zeros", monkeypatch)


@pytest.mark.parametrize("kind", ["no pads", "no choice"])
def test_tables_broken_on_purpose_are_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(entry: Any) -> None:
        if kind == "no pads" and isinstance(entry, Tables):
            entry.pads.zero_()
        if kind == "no choice" and isinstance(entry, Choice):
            entry.choice.zero_()

    def comparison_of_known(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
        z = w.share(x, owner=0, known=True).combined(torch.add, w.share(y, owner=1, known=True))
        return w.protocol.less(z, [0])

    breaking(4, spoil, monkeypatch)

    assert leaks(comparison_of_known, "extremes", monkeypatch)


def test_parts_that_are_revealed_as_they_are_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "refreshed", lambda session, parts, binary=False: [t.contiguous() for t in parts])

    assert leaks(_reveal, "extremes", monkeypatch)
