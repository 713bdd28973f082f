"""Views, writes in place and remembered facts: random programs leave a secret and its plain twin equal."""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from torch import Tensor

import tacit
from tacit import SecretTensor

TOLERANCE = 2**-9
"""Relative to the largest number so far. A wrong element is wrong by a multiple of 1/4."""


class Twins(NamedTuple):
    """A secret and the plain tensor that has gone through the same."""

    plain: Tensor
    secret: SecretTensor


grid = st.integers(-16, 16).map(lambda k: k / 4)
rows = st.integers(0, 2)

VIEWS = {
    "[0]": lambda x: x[0],
    "[-1]": lambda x: x[-1],
    "[1:]": lambda x: x[1:],
    "[::2]": lambda x: x[::2],
    "[..., 1:]": lambda x: x[..., 1:],
    "t": lambda x: x.transpose(0, -1),
    "unsqueeze": lambda x: x.unsqueeze(0),
    "squeeze": lambda x: x.squeeze(),
    "flat": lambda x: x.view(-1),
    "detach": lambda x: x.detach(),
    "diagonal": lambda x: x.diagonal(),
    "unfold": lambda x: x.unfold(0, 2, 1),
    "as_strided": lambda x: x.as_strided((2,), (1,), x.storage_offset()),
    "unbind": lambda x: x.unbind(-1)[-1],
    "split": lambda x: x.split(2)[0],
    "expand": lambda x: x.expand(2, *x.shape),
}
COPIES = {
    "clone": lambda x: x.clone(),
    "flip": lambda x: x.flip(0),
    "cat": lambda x: torch.cat([x, x]),
    "stack": lambda x: torch.stack([x, -x]),
    "rows": lambda x: x[[0, 0]],
    "tril": lambda x: x.tril(),
    "pad": lambda x: torch.nn.functional.pad(x, (1, 1)),
    "negate": lambda x: -x,
    "shift": lambda x: x + 0.25,
    "halve": lambda x: x * 0.5,
    "times 3": lambda x: x * 3,
    "relu": lambda x: x.relu(),
    "clamp": lambda x: x.clamp(-1, 1),
    "largest": lambda x: x.amax(-1),
    "largest of all": lambda x: x.max(),
    "largest of rows": lambda x: x.max(-1).values,
    "sum": lambda x: x.sum(0),
    "same": lambda x: x + x,
}
WRITES = {
    "add_": lambda x, v: x.add_(v),
    "mul_": lambda x, v: x.mul_(-1),
    "halve_": lambda x, v: x.mul_(0.5),
    "zero_": lambda x, v: x.zero_(),
    "fill_": lambda x, v: x.fill_(v),
    "relu_": lambda x, v: x.relu_(),
    "neg_": lambda x, v: x.neg_(),
    "[0] =": lambda x, v: x.__setitem__(0, v),
    "[-1] +=": lambda x, v: x[-1].add_(v),
    "[..., 1:] =": lambda x, v: x[..., 1:].fill_(v),
    "[mask] =": lambda x, v: x.masked_fill_(torch.arange(x.shape[-1]) % 2 == 0, v),
    "[index] =": lambda x, v: x.__setitem__([0], v),
}


def overlaps(x: Tensor) -> bool:
    """Whether elements share memory (`expand`, `unfold`): what a write to them does is undefined in PyTorch."""
    places = torch.arange(x.untyped_storage().size()).as_strided(x.shape, x.stride(), x.storage_offset())
    return places.unique().numel() < x.numel()


class Programs(RuleBasedStateMachine):
    """Two runs of one program, side by side."""

    tensors = Bundle("tensors")

    def __init__(self) -> None:
        super().__init__()
        self.session = tacit.session(seed=1)
        self.all: list[Twins] = []
        self.largest = 4.0

    def teardown(self) -> None:
        self.session.close()

    def keep(self, plain: Any, secret: Any) -> Any:
        assert isinstance(secret, SecretTensor)
        assert plain.shape == secret.shape
        if not plain.numel():
            return multiple()
        self.all.append(Twins(plain, secret))
        return self.all[-1]

    @initialize(target=tensors, values=st.lists(grid, min_size=12, max_size=12))
    def first(self, values: list[float]) -> Any:
        plain = torch.tensor(values).view(3, 4)
        return self.keep(plain, tacit.share(plain.clone()))

    @rule(target=tensors, x=tensors, name=st.sampled_from(sorted(VIEWS)))
    def view(self, x: Twins, name: str) -> Any:
        try:
            plain = VIEWS[name](x.plain)
        except (RuntimeError, IndexError, ValueError):  # a shape that this view does not fit
            return multiple()
        if plain.stride() != VIEWS[name](x.secret).stride():
            return multiple()  # results of arithmetic are contiguous on secrets, in PyTorch as their operands
        return self.keep(plain, VIEWS[name](x.secret))

    @rule(target=tensors, x=tensors, name=st.sampled_from(sorted(COPIES)))
    def copy(self, x: Twins, name: str) -> Any:
        if x.plain.numel() > 50:
            return multiple()
        try:
            plain = COPIES[name](x.plain)
        except (RuntimeError, IndexError, ValueError):
            return multiple()
        return self.keep(plain, COPIES[name](x.secret))

    @rule(x=tensors, name=st.sampled_from(sorted(WRITES)), value=grid)
    def write(self, x: Twins, name: str, value: float) -> None:
        if overlaps(x.plain):
            return
        try:
            WRITES[name](x.plain, value)
        except (RuntimeError, IndexError):  # a write to an expanded tensor, or a row that is not there
            with pytest.raises((RuntimeError, IndexError)):
                WRITES[name](x.secret, value)
            return
        WRITES[name](x.secret, value)

    @rule(x=tensors, y=tensors, how=st.sampled_from(["add_", "copy_", "mul_"]))
    def write_secret(self, x: Twins, y: Twins, how: str) -> None:
        if overlaps(x.plain):
            return
        source = Twins(y.plain.clone(), y.secret.clone())  # an overlap of both is undefined in PyTorch
        if how == "mul_":
            source = Twins(source.plain.clamp(-1, 1), source.secret.clamp(-1, 1))
        try:
            getattr(x.plain, how)(source.plain)
        except RuntimeError:
            with pytest.raises((RuntimeError, ValueError)):
                getattr(x.secret, how)(source.secret)
            return
        getattr(x.secret, how)(source.secret)

    @rule(x=tensors)
    def open(self, x: Twins) -> None:
        """Learn facts about the content: a mask, its truncation, comparisons."""
        x.secret * x.secret
        x.secret.relu()

    @rule(x=tensors, value=grid)
    def compare(self, x: Twins, value: float) -> None:
        got = tacit.reveal(x.secret < value)
        far = (x.plain - value).abs() > self.tolerance
        assert torch.equal(got[far], (x.plain < value)[far])

    @property
    def tolerance(self) -> float:
        self.largest = max([self.largest, *(float(t.plain.abs().max()) for t in self.all)])
        return TOLERANCE * self.largest

    @invariant()
    def equal(self) -> None:
        tolerance = self.tolerance
        for plain, secret in self.all:
            torch.testing.assert_close(tacit.reveal(secret), plain, atol=tolerance, rtol=0)


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(
    max_examples=60, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_write_to_a_row_is_seen_through_views_made_before(session):
    x = torch.arange(12.0).view(3, 4)
    s = tacit.share(x.clone())
    plain_view, view = x.t()[1:], s.t()[1:]

    x[0].add_(torch.full((4,), 2.5))
    s[0].add_(tacit.share(torch.full((4,), 2.5)))

    assert torch.equal(tacit.reveal(view), plain_view)
    assert torch.equal(tacit.reveal(s), x)


def test_comparisons_are_forgotten_after_a_write(session):
    s = tacit.share(torch.tensor([-1.0, 1.0]))
    row = s[0]
    before = tacit.reveal(s > 0)

    row.fill_(3.0)

    assert before.tolist() == [False, True]
    assert tacit.reveal(s > 0).tolist() == [True, True]


def test_public_content_is_forgotten_after_a_write(session):
    zeros = torch.zeros_like(tacit.share(torch.ones(3)))
    zeros[1] = tacit.share(torch.tensor(2.0))

    doubled = zeros * tacit.share(torch.tensor([5.0, 5.0, 5.0]))

    assert tacit.reveal(doubled).tolist() == [0, 10, 0]


def test_a_loss_keeps_the_operands_it_was_computed_from(session):
    x, y = tacit.share(torch.tensor([3.0])), torch.tensor([1.0])
    loss = torch.nn.functional.mse_loss(x, y)

    x.zero_()
    y.zero_()

    assert tacit.reveal(loss).item() == 4


def test_a_detached_loss_is_the_same_loss(session):
    x = tacit.share(torch.tensor([3.0]))
    loss = torch.nn.functional.mse_loss(x, torch.zeros(1))
    before = session.meter.cost

    detached = loss.detach()
    detached.add_(1)
    cost = session.meter.cost - before

    assert tacit.reveal(loss).item() == 10
    assert cost.rounds <= 2


# --- strides and offsets count from the beginning of a secret's own storage ------------------------------------------


STRIDED = {
    "from the beginning": lambda x: x.as_strided((2, 2), (3, 1), 0),
    "from where it is": lambda x: x.as_strided((2,), (2,)),
    "from an offset": lambda x: x.as_strided((2, 2), (1, 1), 1),
    "of a row": lambda x: x[1].as_strided((2,), (1,)),
    "of a row, from the beginning": lambda x: x[1].as_strided((2,), (1,), 0),
    "in place": lambda x: x.clone().as_strided_((2, 2), (1, 1), 1),
    "as a copy": lambda x: torch.as_strided_copy(x, (2, 2), (1, 1), 1),
    "of a result": lambda x: (x + 1).as_strided((2,), (1,), 4),
    "of a stack": lambda x: torch.stack([x[1], x[0]]).as_strided((6,), (1,), 0),
}


@pytest.mark.parametrize("what", STRIDED)
def test_strides_stay_in_a_secrets_own_memory(what, session):
    call, plain = STRIDED[what], torch.arange(6.0).reshape(2, 3)
    secrets = [tacit.share(plain + 10 * k, owner="alice" if k < 3 else "bob") for k in range(4)]

    for k, x in enumerate(secrets):
        assert x.storage_offset() == 0
        assert x[1].storage_offset() == 3
        assert torch.equal(tacit.reveal(call(x)), call(plain + 10 * k))


@pytest.mark.parametrize(("size", "offset"), [((7,), 0), ((2,), 5), ((2,), -1), ((3, 3), 0)])
def test_what_is_beyond_it_is_refused(size, offset, session):
    first, second = (tacit.share(torch.arange(6.0), owner="alice") for _ in range(2))
    strides = (1,) if len(size) == 1 else (3, 1)

    with pytest.raises(RuntimeError) as plain:
        torch.arange(6.0).as_strided(size, strides, offset)
    for x in (first, second, first + second, first > second):
        with pytest.raises(RuntimeError) as error:
            x.as_strided(size, strides, offset)
        if x.dtype == torch.float32:
            assert str(error.value) == str(plain.value)


def test_writes_by_strides_reach_the_secret_and_no_other(session):
    first, second = (tacit.share(torch.arange(6.0), owner="alice") for _ in range(2))

    second.as_strided((2,), (1,), 1).zero_()

    assert tacit.reveal(first).tolist() == [0, 1, 2, 3, 4, 5]
    assert tacit.reveal(second).tolist() == [0, 0, 0, 3, 4, 5]
