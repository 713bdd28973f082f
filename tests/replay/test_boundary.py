"""What passes in and out of a compiled step shares no mask with anything, replayed or not: no secret is opened twice
under one mask, whatever is done with arguments, results, gradients and parameters afterwards."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.protocols.relations import Seen, watching
from torch import Tensor, nn

import tacit
from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel
from tacit.protocols.additive import recorded
from tacit.protocols.additive.content import Shares
from tacit.protocols.additive.masks import Draw, MaskValue, Premask
from tacit.replay import Compiled

SEED = int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)

Use = Callable[..., None]


@contextmanager
def looking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Look at what is opened in replays, too: at sums of what two parties send each other."""
    exchange = InProcess.exchange

    def both(self: InProcess, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        by = {(p.source, p.destination): p.tensor.contiguous().view(-1).view(torch.uint8) for p in sends}
        one, other = by.get(("alice", "bob")), by.get(("bob", "alice"))
        if len(sends) == 2 and one is not None and other is not None and len(one) == len(other) and len(one) % 8 == 0:
            seen.add("opened in a round", one.clone().view(torch.int64) + other.clone().view(torch.int64))
        exchange(self, sends, receives)

    with watching(monkeypatch) as seen, monkeypatch.context() as patch:
        patch.setattr(InProcess, "exchange", both)
        yield seen


def secret(owner: str | None, *shape: int, draws: torch.Generator | None = None) -> Tensor:
    return tacit.share(torch.randn(shape or (4, 4), generator=draws).clamp(-2, 2), owner=owner)


def use(*secrets: Tensor) -> None:
    """Have each of them opened under a mask."""
    for x in secrets:
        x * x


def one_argument_twice(compiler: Any) -> None:
    add = compiler(lambda h, y: h + y)
    x, one, other = secret("alice"), secret("bob"), secret("bob")
    for _ in range(5):
        h = x * x
        use(add(h, one), add(h, other), h, h + one)


def results_that_share(compiler: Any) -> None:
    @compiler
    def step(x: Tensor, y: Tensor) -> Any:
        h = x * y
        return h, h + y, h - y, h * 2

    x, y = secret("alice"), secret("bob")
    for _ in range(5):
        one, *others = step(x, y)
        use(one, *others, one + others[0], one - others[2])


def what_it_reads(compiler: Any) -> None:
    x, y, key = secret("alice"), secret("bob"), secret("alice") * secret("bob")
    add = compiler(lambda x: x + key)
    for k in range(6):
        one, other = add(x), add(y)
        use(one, other)
        if k == 4:
            use(key, key - one, key + x)


def gradients(compiler: Any) -> None:
    one, other = nn.Parameter(secret("alice")), nn.Parameter(secret("alice"))
    optimizer = torch.optim.SGD([one, other], lr=0.1, weight_decay=0.01)

    @compiler
    def step(z: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        out = (one + other) * z - y
        (out.square().sum() + other.square().sum()).backward()
        optimizer.step()

    z, y = secret("alice"), secret("bob")
    for k in range(8):
        before = one.detach().clone(), other.detach().clone()
        step(z, y)
        use(one.grad, other.grad, one.grad - other.grad)
        if k > 6:
            use(one.detach(), other.detach(), one - before[0], other - before[1], one - one.grad)


PROGRAMS = [one_argument_twice, results_that_share, what_it_reads, gradients]


def run(
    monkeypatch: pytest.MonkeyPatch, program: Use, *, replays: bool = True, steady: bool = True
) -> tuple[Seen, int]:
    """What is seen of a program, and how many calls were replayed. All its steps can be, if they are `steady`."""
    compiled: list[Compiled] = []

    def compiler(function: Any) -> Compiled:
        compiled.append(tacit.compile(function))
        compiled[-1]._replays = replays
        return compiled[-1]

    with looking(monkeypatch) as seen, warnings.catch_warnings(), tacit.session():
        warnings.simplefilter("ignore")
        program(compiler)
    given_up = [c.why_not for c in compiled if c.why_not]
    assert not [why for why in given_up if steady or "recordings in a row" not in why]
    return seen, sum(c.replayed for c in compiled)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_opened_after_a_replay_is_masked_anew(monkeypatch: pytest.MonkeyPatch, program: Use) -> None:
    seen, replayed = run(monkeypatch, program)

    assert replayed
    assert not seen.suspicious()


def fresh(content: Shares, plain: Tensor | None) -> None:
    """A mask that is left as if nobody else had it."""
    content._miss(Premask(MaskValue.withheld(plain, content.shape), frozenset((Draw(),))), content)


@pytest.mark.parametrize("program", [results_that_share, gradients])
@pytest.mark.parametrize("replays", [pytest.param(True, marks=pytest.mark.slow), False])
def test_masks_that_two_results_take_for_theirs_are_found(
    monkeypatch: pytest.MonkeyPatch, program: Use, replays: bool
) -> None:
    monkeypatch.setattr(recorded, "_miss", fresh)

    seen, _ = run(monkeypatch, program, replays=replays)

    assert seen.suspicious()


def mixed(draws: random.Random) -> Use:
    """A random program of compiled and plain steps, on what they leave to one another."""

    def program(compiler: Any) -> None:
        scale = draws.choice((0.5, 2.0, 1.0))
        weight = secret("alice") * secret("bob") if draws.random() < 0.5 else secret("alice")
        parameter = nn.Parameter(secret("bob"))
        optimizer = torch.optim.SGD([parameter], lr=0.05, weight_decay=0.01)

        def train(x: Tensor, y: Tensor) -> Any:
            optimizer.zero_grad()
            out = x @ parameter - y
            out.square().mean().backward()
            optimizer.step()

        functions = [
            lambda x, y: (x + y, x - y),
            lambda x, y: x * y + weight,
            lambda x, y: (x * scale, weight + y),
            lambda x, y: torch.relu(x @ y),
            train,
        ]
        steps = [compiler(f) for f in draws.sample(functions, 3)]
        rows = secret("alice", 32, 4), secret("bob", 32, 4)
        pool = [secret(owner) for owner in ("alice", "bob", None, None)]
        for k in range(48):
            step = steps[k % 3]
            at = draws.randrange(28)
            x, y = (r[at : at + 4] for r in rows) if k < 36 else (draws.choice(pool), draws.choice(pool))
            found = step(x, y)
            left = found if isinstance(found, tuple) else () if found is None else (found,)
            if found is None and parameter.grad is not None:
                left = (parameter.grad, parameter.detach())
            use(*(z for z in left if draws.random() < 0.5))
            pool[draws.randrange(4)] = draws.choice([*left, x, y]).clamp(-2, 2) if draws.random() < 0.5 else x - y
            pool[draws.randrange(4)] = draws.choice([*left, x]).detach() * 0.25

    return program


@pytest.mark.slow
@pytest.mark.parametrize("at", range(20))
def test_no_mask_is_used_twice_by_random_steps(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    torch.manual_seed(SEED + at)

    seen, replayed = run(monkeypatch, mixed(random.Random(SEED + at)), steady=False)

    assert replayed, SEED + at
    assert not seen.suspicious(), SEED + at
