"""Convolutions packed without windows: every geometry, exactly, and what they cost."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tacit.protocols.two_party.lattice import Held, engine
from tacit.protocols.two_party.lattice.forms import Form, Products
from tacit.protocols.two_party.lattice.packing import grouping
from tacit.protocols.two_party.lattice.parameters import DEGREE, MATRIX
from tacit.protocols.two_party.lattice.sliding import sliding, way
from tacit.ring.convolution import Convolve, InputGradient, Sliding, WeightGradient
from tacit.ring.geometry import Geometry

from .lattice import Pair, ring

Shape = tuple[int, ...]


def drawn() -> random.Random:
    """As PyTorch is seeded."""
    return random.Random(int(torch.randint(2**31, ())))


@pytest.fixture
def pair() -> Pair:
    return Pair()


def held(shape: Shape, fill: int | None = None, alone: int | None = None) -> Held:
    parts = [ring(*shape) if fill is None else torch.full(shape, fill) for _ in range(2)]
    if alone is not None:
        parts[1 - alone].zero_()
    return Held(parts, alone, {})


def off(shares: list[torch.Tensor], op: Sliding, x: Held, y: Held) -> int:
    want = op(x.parts[0], y.parts[1]) + op(x.parts[1], y.parts[0])
    assert all(share.shape == want.shape and share.is_contiguous() for share in shares)
    return int((shares[0] + shares[1] - want).abs().max())


def forms(op: Sliding, x: Shape, y: Shape) -> list[Form]:
    found = sliding(op, x, y)
    assert found
    return found


def only(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine go this way."""

    def one(op: Callable[..., Any], x: Shape, y: Shape, parameters: Any) -> tuple[Form, int]:
        return form, grouping(*form.sizes, parameters, form.spread.area)

    monkeypatch.setattr(engine, "way", one)


def gradient(g: Geometry, x: Shape, w: Shape) -> tuple[Sliding, Shape, Shape]:
    return InputGradient(g, x[2:]), Convolve(g).result(x, w), w


CASES = [
    (Geometry((3, 3), (1, 1), (1, 1), (1, 1)), (2, 3, 6, 5), (4, 3, 3, 3)),
    (Geometry((3, 2), (2, 1), (1, 0), (1, 2), 2), (2, 4, 7, 6), (6, 2, 3, 2)),
    (Geometry((2, 5), (3, 2), (4, 7), (3, 2)), (1, 2, 9, 8), (3, 2, 2, 5)),  # more padding than there is image
    (Geometry((4,), (4,), (0,), (1,), 3), (2, 6, 23), (9, 2, 4)),
    (Geometry((1, 1), (2, 3), (0, 0), (1, 1)), (2, 3, 5, 7), (2, 3, 1, 1)),  # places that no tap reaches
    (Geometry((2, 3, 2), (1, 2, 2), (0, 1, 1), (2, 1, 1)), (1, 2, 5, 4, 6), (2, 2, 2, 3, 2)),
    (Geometry((3,), (2,), (0,), (4,), 4), (1, 4, 31), (4, 1, 3)),
    (Geometry((5, 5), (1, 1), (2, 2), (1, 1)), (3, 1, 28, 28), (6, 1, 5, 5)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_every_way_to_a_convolution_and_its_gradient_is_exact(
    case: int, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    g, x, w = CASES[case]
    for op, left, right in ((Convolve(g), x, w), gradient(g, x, w)):
        for form in drawn().sample(every := forms(op, left, right), min(len(every), 2)):
            only(form, monkeypatch)
            a, b = held(left), held(right)
            assert off(pair.lattice.bilinear(a, b, op, exact=True), op, a, b) == 0


def test_the_ends_of_the_range(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    g = Geometry((5, 5), (2, 1), (2, 2), (1, 1))
    x, w = (1, 12, 20, 20), (6, 12, 5, 5)
    for op, left, right in ((Convolve(g), x, w), gradient(g, x, w)):
        only(forms(op, left, right)[0], monkeypatch)
        for low in (-(2**63), 2**63 - 1):
            for exact in (False, True):
                a, b = held(left, low), held(right, low)
                assert off(pair.lattice.bilinear(a, b, op, exact=exact), op, a, b) <= (0 if exact else 20)


def test_the_first_places_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for places in ((2, 3), (1, 1), (4, 1)):
        op = Convolve(Geometry((3, 2), (1, 2), (6, 6), (1, 1)), places)
        x, w = (2, 2, 3, 4), (3, 2, 3, 2)
        only(forms(op, x, w)[0], monkeypatch)
        a, b = held(x), held(w)
        assert off(pair.lattice.bilinear(a, b, op, exact=True), op, a, b) == 0


def test_images_that_fill_no_polynomial_are_cut_into_tiles(pair: Pair) -> None:
    g = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
    x, w = (1, 1, 120, 90), (2, 1, 3, 3)
    for op, left, right in ((Convolve(g), x, w), gradient(g, x, w)):
        found = forms(op, left, right)
        assert all(form.sizes[1] > 1 and form.spread.area <= DEGREE for form in found)
        a, b = held(left), held(right, alone=1)
        assert off(pair.lattice.bilinear(a, b, op, exact=False), op, a, b) <= 80
    wide = Convolve(g)
    assert not sliding(wide, (1, 1, 5, 4000), w)  # three rows of them are too long: windows do it
    assert isinstance(way(wide, (1, 1, 5, 4000), w, MATRIX)[0], Products)


def test_what_is_better_done_by_windows() -> None:
    g = Geometry((3, 3), (1, 1), (1, 1), (1, 1))

    assert not sliding(WeightGradient(g), (2, 4, 6, 5), (2, 3, 6, 5))
    assert isinstance(
        way(Convolve(Geometry.of((1, 1), (1,), (0,), (1,))), (1, 64, 1, 1), (64, 64, 1, 1), MATRIX)[0], Products
    )


def test_channels_are_added_up_inside_of_answers(pair: Pair) -> None:
    """The second convolution of a LeNet: by windows, an image takes 25 answers."""
    op = Convolve(Geometry.of((5, 5), (1,), (0,), (1,)))
    weight = held((16, 6, 5, 5), alone=1)
    spent = []
    for _ in range(3):
        before, x = pair.spent, held((1, 6, 14, 14), alone=0)
        assert off(pair.lattice.bilinear(x, weight, op, exact=False), op, x, weight) <= 20
        spent.append(tuple(now - then for now, then in zip(pair.spent, before, strict=True)))

    assert spent[2] == (1, MATRIX.answer_bytes)


def test_sums_of_many_taps_have_the_margin_that_they_need(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever results are exact, an evaluator looks out for noise of all coefficients of its plaintexts."""
    op, seen = Convolve(Geometry.of((5, 5), (1,), (0,), (1,))), []
    x, w = held((1, 3, 14, 14), alone=0), held((2, 3, 5, 5), alone=1)
    margin = type(MATRIX).margin
    monkeypatch.setattr(
        type(MATRIX), "margin", lambda self, terms, *rest: seen.append(terms) or margin(self, terms, *rest)
    )

    assert off(pair.lattice.bilinear(x, w, op, exact=True), op, x, w) == 0

    assert seen
    assert min(seen) >= 3 * min(5 * 5, 14 * 14)


@pytest.mark.slow
def test_any_geometry(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = drawn()
    for _ in range(150):
        dims, groups = rng.choice([1, 2, 2, 2, 3]), rng.choice([1, 1, 2, 3])
        along = [
            tuple(rng.choice(numbers) for _ in range(dims))
            for numbers in ((1, 2, 3, 4), (1, 1, 2, 3), (0, 1, 2, 5), (1, 1, 2, 3))
        ]
        g = Geometry(*along, groups)  # type: ignore[arg-type]
        reach = [d * (k - 1) + 1 for k, d in zip(g.kernel, g.dilation, strict=True)]
        size = tuple(max(r - 2 * p, 1) + rng.randrange(9) for r, p in zip(reach, g.padding, strict=True))
        channels = groups * rng.randint(1, 3)
        x, w = (rng.randint(1, 3), channels, *size), (groups * rng.randint(1, 3), channels // groups, *g.kernel)
        for op, left, right in ((Convolve(g), x, w), gradient(g, x, w)):
            form = rng.choice(forms(op, left, right))
            only(form, monkeypatch)
            exact = rng.random() < 0.5
            a, b = held(left, alone=rng.choice([None, 0])), held(right)
            worst = off(pair.lattice.bilinear(a, b, op, exact=exact), op, a, b)
            assert worst <= (0 if exact else 20 * math.prod(g.kernel)), (g, x, w)
