"""Whoever gives a plain tensor to a secret may overwrite it afterwards, and so may who gets one by a reveal."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit import SecretTensor

from .rows import ACTIVATION, CREATION, IN_PLACE, LOSSES, TABLE, Row
from .test_operators import agree, draw, secretly

EVERY = [row for row in chain(TABLE, IN_PLACE, ACTIVATION, LOSSES, CREATION) if len(row.draws) > 1]
ROWS = {
    row.overload: row for row in sorted(EVERY, key=lambda row: sum(math.prod(row.args[i].shape) for i in row.draws))
}
"""For each overload its largest call that takes a public tensor beside a secret."""


def spoil(x: Any) -> None:
    """Overwrite a plain tensor, or those in a list, by something else."""
    if isinstance(x, list):
        for y in x:
            spoil(y)
    elif isinstance(x, Tensor) and not isinstance(x, SecretTensor):
        x.logical_not_() if x.dtype == torch.bool else x.copy_(x.flip(0) + 77 if x.is_floating_point() else x * 0)


def public_mixes(row: Row) -> list[frozenset[int]]:
    """All operands public but one, for each one that may stay secret."""
    may = [i for i in row.draws if row.public is None or i in row.public]
    mixes = [frozenset(i for i in may if i != secret) for secret in row.draws]
    return [mix for mix in mixes if mix]


@pytest.mark.parametrize("row", ROWS.values(), ids=str)
def test_what_is_public_may_be_overwritten_after_an_operator(row, session, random):
    for public in public_mixes(row):
        if row in IN_PLACE and 0 in public:
            continue
        args = draw(row, random)
        secrets = secretly(row, args, public)
        got = row.overload(*secrets, **row.kwargs)
        want = row.overload(*args, **row.kwargs)

        for x in secrets:
            spoil(x)
        for x in secrets:  # what is opened of an operand is open in all that came from it
            if isinstance(x, SecretTensor) and x.dtype != torch.bool:
                _ = x * x, x > 0.5

        agree(got, want, row.tolerance)
        for g, w in zip(*((r,) if isinstance(r, Tensor) else tuple(r) for r in (got, want)), strict=True):
            if isinstance(g, SecretTensor) and g.dtype.is_floating_point:
                one = tacit.share(torch.ones(()))
                agree((g * one, g + 0.25, (g > 77).float()), (w * 1, w + 0.25, (w > 77).float()), 4 * row.tolerance)


GIVEN = {
    "float32": torch.tensor([1.5, -2.0, 3.0]),
    "float64": torch.tensor([1.5, -2.0, 3.0], dtype=torch.float64),
    "int64": torch.tensor([1, -2, 3]),
    "int32": torch.tensor([1, -2, 3], dtype=torch.int32),
    "bool": torch.tensor([True, False, True]),
    "numpy": np.array([1, -2, 3]),
    "a view": torch.arange(6)[::2],
}


@pytest.mark.parametrize("owner", ["alice", None])
@pytest.mark.parametrize("name", GIVEN)
def test_what_was_shared_may_be_overwritten_on_every_path(name, owner, session):
    given = GIVEN[name].clone() if isinstance(GIVEN[name], Tensor) else GIVEN[name].copy()
    want = torch.as_tensor(given).clone()
    secret = tacit.share(given, owner=owner)

    given[:] = 0

    assert torch.equal(tacit.reveal(secret), want)
    if want.dtype != torch.bool:
        two = tacit.share(torch.tensor(2, dtype=want.dtype), owner="bob")
        assert torch.equal(tacit.reveal(secret * two), 2 * want)  # by what was opened of it
        assert torch.equal(tacit.reveal(secret * two - secret), want)
        assert torch.equal(tacit.reveal(secret > 0), want > 0)
        assert torch.equal(tacit.reveal(secret[1:] * two), 2 * want[1:])


def test_a_file_mapped_into_memory_may_be_overwritten(session, tmp_path):
    file = np.memmap(tmp_path / "labels", dtype=np.int64, mode="w+", shape=(3,))
    file[:] = [1, 2, 3]
    secret = tacit.share(file, owner="alice")

    file[:] = 9

    assert tacit.reveal(secret * tacit.share(torch.tensor(2), owner="bob")).tolist() == [2, 4, 6]


@pytest.mark.parametrize("value", [torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), torch.tensor([True, False])])
def test_what_was_revealed_may_be_overwritten(value, session):
    secret = tacit.share(value, owner="alice")
    module = tacit.share(nn.Linear(2, 1))
    weight = tacit.reveal(module).weight

    tacit.reveal(secret).zero_()
    weight.data.zero_()

    assert torch.equal(tacit.reveal(secret), value)
    assert bool(tacit.reveal(module.weight.detach()).any())


INTO = {
    "copy_": lambda x, p: x.copy_(p),
    "[:] =": lambda x, p: x.__setitem__(slice(None), p),
    "[1:] =": lambda x, p: x.__setitem__(slice(1, None), p[1:]),
    "fill_": lambda x, p: x.fill_(p[1]),
    "masked_fill_": lambda x, p: x.masked_fill_(p > 1, p[0]),
    "index_put_": lambda x, p: x.index_put_((torch.tensor([0]),), p[:1]),
    "add_": lambda x, p: x.add_(p),
}


@pytest.mark.parametrize("name", INTO)
def test_what_was_written_into_a_secret_may_be_overwritten(name, session):
    public, mine = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)
    secret = tacit.share(torch.zeros(3), owner="alice")
    INTO[name](mine, public)
    INTO[name](secret, public)

    public.fill_(100.0)

    for path in (lambda x: x, lambda x: x + 1, lambda x: x[1:], lambda x: (x > 50).float()):
        assert torch.equal(tacit.reveal(path(secret)), path(mine))


def test_positions_may_be_used_again(session):
    rows, x = torch.tensor([0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    secret = tacit.share(x, owner="alice")
    taken = [secret[rows], secret.index_select(0, rows), secret.gather(0, rows[:, None]), secret.flip(0)[rows]]
    want = [x[rows], x.index_select(0, rows), x.gather(0, rows[:, None]), x.flip(0)[rows]]

    rows.fill_(1)
    _ = secret * secret

    for got, plain in zip(taken, want, strict=True):
        torch.testing.assert_close(tacit.reveal(got * got), plain * plain)


def test_a_plain_and_a_secret_model_of_the_same_weights_train_apart(session):
    model, private = nn.Linear(3, 2), tacit.share(nn.Linear(3, 2))
    private.load_state_dict(model.state_dict())
    for m, x in [(model, torch.ones(4, 3)), (private, tacit.share(torch.ones(4, 3), owner="alice"))]:
        optimizer = torch.optim.SGD(m.parameters(), lr=0.1)

        m(x).sum().backward()
        optimizer.step()

    torch.testing.assert_close(tacit.reveal(private.weight.detach()), model.weight.detach(), atol=1e-4, rtol=0)


def test_a_loaded_checkpoint_keeps_nothing_of_its_file(session, tmp_path):
    tacit.save({"secret": tacit.share(torch.tensor([1, 2, 3])), "public": torch.arange(3)}, tmp_path)
    state = tacit.load(tmp_path)

    for path in tmp_path.iterdir():
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(0)
            file.write(b"\xff" * size)

    assert tacit.reveal(state["secret"]).tolist() == [1, 2, 3]
    assert state["public"].tolist() == [0, 1, 2]
