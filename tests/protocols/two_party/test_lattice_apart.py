"""The engine with each party in a session of its own, which knows its own part only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tacit.protocols.two_party.lattice import Held, Lattice
from tacit.ring import kernels
from tacit.ring.convolution import Convolve
from tacit.ring.geometry import Geometry
from tacit.session.session import Session

from .apart import apart
from .lattice import ring


def test_parties_that_are_apart_get_shares_of_the_products() -> None:
    convolution = Convolve(Geometry.of((3, 3), (1,), (1,), (1,)))
    cases: list[tuple[Any, tuple[int, ...], tuple[int, ...], int | None, int | None]] = [
        (kernels.matmul, (4, 30), (30, 7), None, None),
        (kernels.matmul, (4, 30), (30, 7), 0, 1),
        (kernels.matmul, (4, 30), (30, 7), 0, None),
        (kernels.matmul, (2, 4, 5), (2, 5, 3), None, 1),
        (convolution, (2, 3, 6, 5), (4, 3, 3, 3), None, 1),
        (torch.mul, (50, 1), (1, 200), None, None),
        (torch.mul, (9000,), (9000,), None, 0),
    ]
    parts = [([ring(*x), ring(*x)], [ring(*y), ring(*y)]) for _, x, y, _, _ in cases]
    for (_, _, _, x_alone, y_alone), (x, y) in zip(cases, parts, strict=True):
        for pair, alone in ((x, x_alone), (y, y_alone)):
            if alone is not None:
                pair[1 - alone].zero_()
    bits = [ring(20000), ring(20000)]

    def body(session: Session, index: int) -> list[Any]:
        def bit_product(a: Tensor | None, b: Tensor | None) -> list[Tensor]:
            # each party learns the other's bit: good enough for a test of what is around it
            own, other = (a, b) if index == 0 else (b, a)
            assert own is not None
            assert other is None
            (pair,) = session.gather([own]).values()
            mask = bits[0][: own.numel()]
            return [pair[0].to(torch.int64) * pair[1] - mask if index == 0 else mask]

        lattice = Lattice(session, bit_product)
        shares = []
        for (op, _, _, x_alone, y_alone), (x, y) in zip(cases, parts, strict=True):
            held = Held([x[index]], x_alone, {}), Held([y[index]], y_alone, {})
            for _ in range(2):  # the second time with ciphertexts that are there
                if op is torch.mul:
                    shares += lattice.cross(*held)
                else:
                    shares += lattice.bilinear(*held, op, exact=True)
        left = x[0] if index == 0 else None
        right = y[1] if index == 1 else None
        shares += lattice.inner(*(t if t is None else t[None] for t in (left, right)), (9000,), 1, 64, 64)
        return [shares, session.meter.cost]

    (ours, cost), (theirs, other_cost) = apart(body)

    want = []
    for (op, *_), (x, y) in zip(cases, parts, strict=True):
        want += [op(x[0], y[1]) + op(x[1], y[0])] * 2
    want.append(x[0] * y[1])
    assert all(torch.equal(a + b, c) for a, b, c in zip(ours, theirs, want, strict=True))
    assert (cost.rounds, cost.sent, cost.prepared) == (other_cost.rounds, other_cost.sent, other_cost.prepared)
