"""Sorting by counting and by a network: values, places, gradients, ties and rounds."""

from __future__ import annotations

import math

import pytest
import torch

import tacit
from tacit.api import active_protocol
from tacit.aten import placement
from tacit.errors import UnsupportedOperator

from .rows import Draw, row, whole
from .test_operators import agree, agree_on_gradients, draw, secretly, variants

aten = torch.ops.aten


def real(*shape: int) -> Draw:
    """Numbers of which no two are equal: of equal ones PyTorch may return any index."""
    return Draw(shape, lambda s, g: (torch.randperm(math.prod(s), generator=g).view(s) - math.prod(s) // 2) / 8)


ROWS = [
    *(row(aten.sort.default, x, dim, descending) for descending in (False, True)
      for x, dim in ((real(3, 7), 1), (real(6, 2), 0), (real(2, 3, 4), -2), (real(), 0), (real(1), 0), (real(0), 0))),
    row(aten.sort.stable, whole(20), stable=True, dim=0),
    row(aten.sort.stable, whole(2, 20), stable=True, descending=True),
    *(row(aten.topk.default, real(3, 9), k, -1, largest) for k in (1, 4, 9) for largest in (False, True)),
    row(aten.topk.default, real(9, 2), 2, 0),
    *(row(aten.kthvalue.default, real(3, 8), k, 1, k == 3) for k in (1, 3, 8)),
    *(row(overload, real(*shape), dim, keepdim) for overload in (aten.median.dim, aten.nanmedian.dim)
      for shape, dim, keepdim in (((3, 8), 1, False), ((5, 2), 0, True))),
    *(row(overload, real(*shape)) for overload in (aten.median.default, aten.nanmedian.default)
      for shape in ((3, 3), (8,), ())),
]  # fmt: skip

BOUNDARIES = torch.tensor([-1.0, -0.5, 0.0, 0.5, 2.0])

COVERS = {*(r.overload for r in ROWS), aten.bucketize.Tensor, aten.searchsorted.Tensor}


@pytest.fixture(params=["counting", "network"])
def way(request, session, monkeypatch):
    """Each of the two ways of sorting, whatever the number of elements."""
    if request.param == "network":
        kind = type(active_protocol())
        monkeypatch.setattr(kind, "prices", kind.prices._replace(few=1))
    return request.param


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_sorting_agrees_with_pytorch(row, way, session, random):
    for public in variants(row):
        args = draw(row, random)
        secrets = secretly(row, args, public)

        got = row.overload(*secrets, **row.kwargs)

        agree(got, row.overload(*args, **row.kwargs), 2**-14)
        if args[0].is_floating_point():
            agree_on_gradients(row.overload, (args, row.kwargs), (secrets, row.kwargs), 2**-12)


@pytest.mark.parametrize("count", [2, 3, 31, 48, 49, 100])
@pytest.mark.parametrize("descending", [False, True])
def test_many_elements_are_sorted_and_ties_keep_their_order(count, descending, session, random):
    x = torch.randint(-3, 4, (2, count), generator=random) / 4

    values, indices = tacit.share(x).sort(1, descending=descending)

    expected = x.sort(dim=1, descending=descending, stable=True)
    assert torch.equal(tacit.reveal(values), expected.values)
    assert torch.equal(tacit.reveal(indices), expected.indices)


@pytest.mark.priced
def test_few_elements_take_seven_rounds_and_fewer_six(session, random):
    for count, rounds in ((3, 6), (48, 7)):
        x = tacit.share(torch.randn(count, generator=random))
        before = session.meter.cost

        x.sort()

        assert (session.meter.cost - before).rounds == rounds


@pytest.mark.parametrize("right", [False, True])
def test_places_among_boundaries_agree(right, session):
    x = torch.tensor([-2.0, -1.0, -0.75, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0])

    got = torch.bucketize(tacit.share(x), BOUNDARIES, right=right)
    found = torch.searchsorted(BOUNDARIES, tacit.share(x), right=right, out_int32=True)

    agree(got, torch.bucketize(x, BOUNDARIES, right=right), 0)
    agree(found, torch.searchsorted(BOUNDARIES, x, right=right, out_int32=True), 0)


def test_secret_boundaries_are_refused(session):
    with pytest.raises(UnsupportedOperator, match="secret boundaries"):
        torch.bucketize(torch.zeros(2), tacit.share(BOUNDARIES))


def test_quantiles_agree(session, random):
    x, q = torch.randn(4, 9, generator=random), torch.tensor([0.1, 0.5, 0.8])

    agree(tacit.share(x).quantile(q, dim=1), x.quantile(q, dim=1), 2**-12)
    agree(tacit.share(x).quantile(0.3), x.quantile(0.3), 2**-12)


def test_secret_places_of_a_row_are_read_and_written(session, random):
    x = torch.randn(3, 6, generator=random)
    index = torch.rand(3, 6, generator=random).argsort(1)[:, :4]
    part = torch.randn(3, 4, generator=random)
    sx, si, sp = tacit.share(x), tacit.share(index), tacit.share(part)

    agree(sx.gather(1, si), x.gather(1, index), 2**-14)
    agree(sx[:2].gather(1, si[:1]), x[:2].gather(1, index[:1]), 2**-14)
    agree(sx.scatter(1, si, sp), x.scatter(1, index, part), 2**-14)
    agree(sx.scatter(1, si, 0.5), x.scatter(1, index, 0.5), 2**-14)
    agree(sx.scatter_add(1, si, sp), x.scatter_add(1, index, part), 2**-14)


def test_of_secret_places_that_meet_the_last_is_written(session, random):
    x, part = (torch.randint(-4, 4, (2, 3, 5), generator=random) + 0.25 for _ in range(2))
    index = torch.tensor([[2, 2, 0], [1, 0, 1]]).unsqueeze(-1).repeat(1, 1, 5)
    sx, sp, si = tacit.share(x), tacit.share(part), tacit.share(index)

    for i in (si, index):
        agree(sx.scatter(1, i, sp), x.scatter(1, index, part), 2**-14)
        agree(sx.scatter(1, i, part), x.scatter(1, index, part), 2**-14)
        agree(sx.scatter(1, i, 5.0), x.scatter(1, index, 5.0), 2**-14)
        agree((sx > 0).scatter(1, i, sp > 0), (x > 0).scatter(1, index, part > 0), 0)
        agree(sx.long().scatter(1, i, part.long()), x.long().scatter(1, index, part.long()), 0)
        agree(
            sx[0, :, 0].scatter(0, i[0, :, 0], sp[0, :, 0]),
            x[0, :, 0].scatter(0, index[0, :, 0], part[0, :, 0]),
            2**-14,
        )


def test_places_of_a_sort_are_known_to_differ_until_they_are_written_to(session, random, monkeypatch):
    looked = []
    last = placement._last
    monkeypatch.setattr(placement, "_last", lambda index, dim: looked.append(dim) or last(index, dim))
    x = torch.rand(2, 5, generator=random).argsort(1) - 1.5
    sx = tacit.share(x).requires_grad_()

    (sx.sort(1).values ** 2).sum().backward()
    (sx.topk(3, 1).values ** 2).sum().backward()
    assert looked == []

    for change in (lambda i: i[:, 0].copy_(i[:, 1]), lambda i: i.t_(), lambda i: i.zero_()):
        places, secret = x.topk(2, 1).indices, sx.detach().topk(2, 1).indices
        change(places)
        change(secret)
        agree(sx.detach().scatter(1, secret, x), x.scatter(1, places, x), 2**-14)
    assert looked
