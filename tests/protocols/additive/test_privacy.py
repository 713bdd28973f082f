"""What each role sees is distributed independently of the secrets: every byte that arrives is uniform.

Whatever the secrets are, and whoever holds them, each message is masked by fresh randomness of full width. So all bytes
that a role receives, and all values that it opens, must be uniform. Two extreme choices of secrets are tried for every
primitive; histograms of bytes are compared with the uniform one by a chi-square statistic. Sizes and order of messages
must not depend on the secrets at all. That the test has teeth is shown by protocols broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tacit.functions.exponential import exp_nonpositive
from tacit.functions.softmax import open_difference
from tacit.functions.whole import rounded
from tacit.protocols import leaving
from tacit.protocols.additive.masks import Premask
from tacit.protocols.additive.source import dealing
from tacit.protocols.additive.source.base import Dealt
from tacit.protocols.additive.source.dealing import Dealing
from tacit.protocols.additive.source.produced import Produced
from tacit.protocols.binned import Binned
from tacit.protocols.series import COARSE, Harmonics, Polynomial
from tacit.ring import kernels

from .watched import WatchedWorld as World

N = 20_000
CHI_SQUARE = 450.0
"""Of 255 degrees of freedom: exceeded by uniform bytes with probability 1e-12."""

SECRETS = {
    "zeros": (torch.zeros(N), torch.zeros(N)),
    "extremes": (torch.full((N,), 4096.0), torch.full((N,), -4096.0)),
    "typical": (torch.randn(N) * 3, torch.randn(N)),
}

Primitive = Callable[[World, torch.Tensor, torch.Tensor], object]


def _shares(w: World, x: torch.Tensor, y: torch.Tensor) -> tuple:
    return w.share(x, owner=0), w.share(y, owner=1)


def _reveal_sum(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = _shares(w, x, y)
    return w.protocol.reveal(a + b, [w.parties[0]])


def _reveal_bits(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    bits = w.protocol.share_bits((x > 0).to(torch.uint8).repeat(8), w.parties[1], (8 * N,))
    return w.protocol.reveal(bits, [w.parties[0]])


def _product(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = _shares(w, x, y)
    return w.protocol.multiply(a, b)


def _own_product(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = w.share(x, owner=0, known=True), w.share(y, owner=1, known=True)
    return w.protocol.multiply(a, b)


def _matrix_product(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = _shares(w, x.view(-1, 100), y.view(100, -1))
    return w.protocol.bilinear(a, b, torch.matmul)


def _product_of_products(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = _shares(w, x, y)
    z = w.protocol.multiply(a, b).settle()
    return w.protocol.multiply(z, z).settle()


def _sums_of_products(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """All that a premask goes through, with values that share one: each must be opened under a mask of its own."""
    a, b = _shares(w, x, y)
    z, other = w.protocol.multiply(a, b), w.protocol.multiply(a, a)
    bias = w.share(y, 32)
    sums = [z, z + bias, z - other, z.times_integer(2) + bias, z.times_integer(3).plus(torch.tensor(5)), z + z]
    rows = z.move(lambda t: t.view(100, -1), view=True)
    halves = [rows.move(lambda t, k=k: t[k : k + 50], view=True) + w.share(y.view(100, -1)[:50], 32) for k in (0, 50)]
    repeated = z.move(lambda t: t[:2].expand(N // 2, 2).reshape(-1), view=False) + bias
    sums += [*halves, rows.sum([0]), repeated, (z.lifted(40) + bias.lifted(40)).rescaled(32)]
    return [s.settle() for s in sums]


def _truncation(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    z = w.share(x, 32).settle(16)
    return w.protocol.multiply(z, z).settle(16)


def _rounding(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    z = w.share(x, 32)
    return rounded(z, 16), rounded(w.protocol.multiply(z.rescaled(16).settle(8), w.share(y)), 8)


def _scaling(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    scaled = [w.protocol.scale(w.share(x, 32), factor) for factor in (0.1, 21 / 2**14)]
    return [w.protocol.multiply(z, z).settle(16) for z in scaled if z is not None]


def _comparison(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.less(w.share(x), [0, 1, 65536])


def _comparison_of_few(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """Many of few."""
    return [w.protocol.less(w.share(part), [0, 1, 65536]) for part in x.split(250)]


def _relu(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    z = w.share(x, 32)
    return w.protocol.select([(w.protocol.less(z, [1])[0].invert(), z)])


def _logic(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    low, high = w.protocol.less(w.share(x.repeat(4)), [0, 65536])
    return (low & high).arithmetic()


def _conjunction_of_many(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    bits = w.protocol.less(w.share(x.repeat(2)), range(-3, 4))
    return [(w.protocol.all_of(bits[:count]) & bits[0]).arithmetic() for count in (3, 7)]


def _harmonics(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.harmonics(w.share(x), Harmonics(32, sine=(1.0, 0.5), cosine=(0.25,))).settle()


def _chosen_powers(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """Many of few."""
    pairs = zip(x[:8000].split(2000), y[:8000].clamp(-40, 0.9).split(2000), strict=True)
    rows = [((u > 0).to(torch.uint8), v) for u, v in pairs]
    chosen = [
        w.protocol.chosen_powers_of_two(w.protocol.share_bits(b, w.parties[1], b.shape), w.share(v)) for b, v in rows
    ]
    return [z.settle() for z in chosen]


def _polynomial(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    (z,) = w.protocol.polynomials(w.share(x), [Polynomial(16, (0.5, 1.0, 0.0, -0.25))])
    return z.settle()


def _parts(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    data = w.share(x.view(-1, 10))
    data.storage.lasting = True
    for rows in (slice(0, 1200), slice(600, 2000)):
        batch = data.move(lambda t, rows=rows: t[rows], view=True)
        w.protocol.multiply(batch, batch)
    return data


def _bins(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    codes = [((v.view(8, -1) > 0).to(torch.uint8)) for v in (x, y)]
    tables = [Binned(k, c, columns=8, rows=c.shape[1], bins=3, spilled=k == 1) for k, c in enumerate(codes)]
    a = w.share(x[: 8 * codes[0].shape[1]].view(-1, 8))
    sums = w.protocol.sums_below(tables, a)
    again = w.protocol.sums_below(tables, w.protocol.multiply(a, a).settle())
    odd = w.protocol.odd(w.protocol.share_bits(torch.ones(16, 2, dtype=torch.uint8), w.parties[0], (16, 2)))
    return [*(z.settle(0) for z in (*sums, *again)), w.protocol.rows_below(tables[0], odd)]


def _shuffle(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    a, b = _shares(w, x, y)
    bits = w.protocol.share_bits((x > 0).to(torch.uint8).repeat(8).view(N, 8), w.parties[1], (N, 8))
    return w.protocol.shuffled([a, w.protocol.multiply(a, b), bits])


def _comparison_of_digits(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """With three nodes and with two, of secrets of which that tells enough."""
    a, b = _shares(w, x, y)
    return [w.protocol.less(a, [0, 65536], near=1 << 17), w.protocol.less(b, [0, 1], most=30)]


def _comparison_of_digits_at_once(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """By digits of six bits, eight of them and six."""
    w.protocol.prices = w.protocol.prices._replace(round=1 << 30)
    return _comparison_of_digits(w, x, y)


def _power_of_two(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    return w.protocol.powers_of_two(w.share(x), COARSE).settle()


def _exponential_of_a_difference(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
    """Of a product and of what was found among products, each opened once, and their difference never."""
    z = w.protocol.multiply(*_shares(w, x, y))
    top = z.settle().move(lambda t: t.flip(0), view=False)
    again = w.protocol.multiply(top, top).settle()
    return [exp_nonpositive(open_difference(z, again)).settle(), z, again]


PRIMITIVES: dict[str, Primitive] = {
    "reveal of a sum": _reveal_sum,
    "reveal of bits": _reveal_bits,
    "product": _product,
    "product of own values": _own_product,
    "product of products": _product_of_products,
    "sums of products": _sums_of_products,
    "matrix product": _matrix_product,
    "truncation": _truncation,
    "rounding": _rounding,
    "scaling": _scaling,
    "comparison": _comparison,
    "comparison of few": _comparison_of_few,
    "comparison of digits": _comparison_of_digits,
    "comparison of digits at once": _comparison_of_digits_at_once,
    "power of two": _power_of_two,
    "exponential of a difference": _exponential_of_a_difference,
    "relu": _relu,
    "logic": _logic,
    "conjunction of many": _conjunction_of_many,
    "harmonics": _harmonics,
    "chosen powers": _chosen_powers,
    "polynomial": _polynomial,
    "parts of a data set": _parts,
    "bins": _bins,
    "shuffle": _shuffle,
}


def run(primitive: Primitive, secrets: tuple[torch.Tensor, torch.Tensor], parties: int) -> World:
    """A world in which the primitive has run on these secrets."""
    world = World(parties)
    primitive(world, *secrets)
    return world


def chi_square(data: torch.Tensor) -> float:
    """How far the histogram of bytes is from uniform."""
    counts = torch.bincount(data, minlength=256).double()
    expected = data.numel() / 256
    return float(((counts - expected) ** 2 / expected).sum())


def differences(world: World) -> list[torch.Tensor]:
    """All differences of two opened values of one length: uniform, too, unless they had a mask in common."""
    words = [
        w for v in world.watched.opened.get("opened", []) if v.numel() >= 8 * N // 2 for w in [v.view(torch.int64)]
    ]
    pairs = [(a, b) for k, a in enumerate(words) for b in words[:k] if a.numel() == b.numel()]
    return [(a - b).view(torch.uint8) for a, b in pairs]


def worst(world: World) -> float:
    """The largest deviation of anything that anybody saw: whole, and in each of the eight byte positions of a word."""
    statistics = []
    apart = [[d] for d in differences(world)]
    for seen in [*world.transport.received.values(), *world.watched.opened.values(), *apart]:
        data = torch.cat(seen)[:1_000_000]
        if data.numel() < 20_000:
            continue
        statistics.append(chi_square(data))
        words = data[: data.numel() // 8 * 8].view(-1, 8)
        statistics += [chi_square(words[:, k]) for k in (0, 3, 7) if len(words) > 5000]
    return max(statistics)


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_what_anybody_sees_is_uniform(name: str, parties: int) -> None:
    worlds = {label: run(PRIMITIVES[name], secrets, parties) for label, secrets in SECRETS.items()}

    for label, world in worlds.items():
        assert worst(world) < CHI_SQUARE, label


@pytest.mark.parametrize("name", PRIMITIVES)
def test_sizes_and_order_do_not_depend_on_the_secrets(name: str) -> None:
    shapes = []
    for secrets in SECRETS.values():
        received = run(PRIMITIVES[name], secrets, 3).transport.received
        shapes.append({pair: [m.numel() for m in messages] for pair, messages in received.items()})

    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_producer_receives_nothing(name: str) -> None:
    received = run(PRIMITIVES[name], SECRETS["typical"], 2).transport.received

    assert not [pair for pair in received if pair[1] == "crypto-producer"]


@pytest.mark.parametrize(
    "name", ["product", "matrix product", "truncation", "relu", "polynomial", "parts of a data set"]
)
def test_a_protocol_without_masks_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(self: Dealing, shape: torch.Size) -> Dealt:
        zero = torch.zeros(tuple(shape), dtype=torch.int64)
        return Dealt([zero] * 2, zero)

    monkeypatch.setattr(Dealing, "random_ring", unmasked)

    assert worst(run(PRIMITIVES[name], SECRETS["zeros"], 2)) > CHI_SQUARE


def test_a_premask_that_is_used_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Premask, "spend", lambda self: None)

    assert worst(run(_sums_of_products, SECRETS["zeros"], 2)) > CHI_SQUARE


def test_a_premask_with_too_few_values_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
        a, b = _shares(w, x, y)
        return (w.protocol.multiply(a, b).times_integer(2) + w.share(y, 32)).settle()

    assert worst(run(doubled, SECRETS["zeros"], 2)) < CHI_SQUARE
    monkeypatch.setattr(Premask, "fresh", property(lambda self: not any(draw.spent for draw in self.draws)))

    assert worst(run(doubled, SECRETS["zeros"], 2)) > CHI_SQUARE


def test_elements_of_a_premask_that_are_repeated_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeated(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
        a, b = _shares(w, x, y)
        z = w.protocol.multiply(a, b).move(lambda t: t[:1].expand(N).contiguous(), view=False)
        return (z + w.share(y, 32)).settle()

    assert worst(run(repeated, SECRETS["zeros"], 2)) < CHI_SQUARE
    monkeypatch.setattr(Premask, "fresh", property(lambda self: not any(draw.spent for draw in self.draws)))

    assert worst(run(repeated, SECRETS["zeros"], 2)) > CHI_SQUARE


def test_words_that_are_dealt_unmasked_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.at("cpu"), "subtract_words", lambda words, others, width: None)

    assert worst(run(PRIMITIVES["harmonics"], SECRETS["zeros"], 2)) > CHI_SQUARE


@pytest.mark.parametrize("name", ["product of products", "sums of products"])
def test_products_without_premasks_are_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def undrawn(self: Produced, shape: torch.Size) -> Dealt:
        t = self.random_ring(shape)
        return t.map(torch.zeros_like)

    monkeypatch.setattr(Produced, "_draw", undrawn)

    assert worst(run(PRIMITIVES[name], SECRETS["zeros"], 2)) > CHI_SQUARE


def test_a_protocol_that_opens_bits_unmasked_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(self: Dealing, shape: tuple[int, ...]) -> Dealt:
        zero = torch.zeros(tuple(shape), dtype=torch.uint8)
        return Dealt([zero] * 2, zero)

    monkeypatch.setattr(Dealing, "random_bits", unmasked)

    assert worst(run(PRIMITIVES["logic"], SECRETS["zeros"], 2)) > CHI_SQUARE


def test_a_reveal_without_fresh_zeros_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def trivial(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
        return w.protocol.reveal(w.protocol.public((y * 65536).long(), 16), [w.parties[1]])

    assert worst(run(trivial, SECRETS["typical"], 2)) < CHI_SQUARE
    monkeypatch.setattr(leaving, "_fresh", lambda session, index, part, binary: part)

    assert worst(run(trivial, SECRETS["typical"], 2)) > CHI_SQUARE


def test_a_shuffle_without_masks_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(stream: object, shapes: list[torch.Size], kinds: list[torch.dtype]) -> list[torch.Tensor]:
        return [torch.zeros(s, dtype=kind) for s, kind in zip(shapes, kinds, strict=True)]

    def places(w: World, x: torch.Tensor, y: torch.Tensor) -> object:
        return w.protocol.shuffled([w.protocol.public(torch.arange(N), 0)])

    assert worst(run(places, SECRETS["zeros"], 2)) < CHI_SQUARE
    monkeypatch.setattr(dealing, "_drawn", unmasked)

    assert worst(run(places, SECRETS["zeros"], 2)) > CHI_SQUARE


@pytest.mark.parametrize("descending", [False, True])
def test_secret_places_are_opened_in_an_order_that_is_uniform(descending: bool) -> None:
    """All but the sum of what is opened is uniform; and the sum is any permutation, whatever the places are."""
    w = World(2)
    places = torch.arange(N).flip(0) if descending else torch.arange(N)
    w.protocol.arranged(w.share(places, 0), [w.share(torch.zeros(N))])
    (seen,) = (v.view(torch.int64) for v in w.watched.opened.pop("opened") if v.numel() == 8 * N)

    assert worst(w) < CHI_SQUARE
    assert torch.equal(seen.sort().values, torch.arange(N))
    cells = torch.bincount(seen[: N // 2] // (N // 16), minlength=16).double()  # of each sixteenth half is here
    assert float(((cells - N / 32) ** 2 / (N / 64)).sum()) < 110  # of 15 degrees of freedom: by chance 1e-16
