"""Trainings that are killed again and again, at moments drawn at random, and go on as if they had not been. Slow."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tacit
from tacit.api import embedded
from tacit.session.config import Config
from tacit.session.kept import kept
from tacit.session.session import Session

EVERY = 2
EPOCHS = 900
PAIR = ("alice", "bob")


class Job:
    """One training, in processes one after the other, each of which plays all roles."""

    def __init__(self, folder: Path, protocol: str, life: float) -> None:
        self.folder, self.life = folder, life
        self.config = Config.embedded(PAIR, protocol=protocol, seed=11, checkpoints=str(folder / "kept"))
        self.x, self.y = torch.randn(32, 4), torch.randn(32, 1)
        torch.manual_seed(3)
        self.plain = nn.Linear(4, 1)

    @property
    def weights(self) -> Path:
        return self.folder / "weights.pt"

    @property
    def begun(self) -> list[int]:
        """The steps after which processes have begun."""
        file = self.folder / "begun"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.005)

    def steps(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]
    ) -> Iterator[None]:
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
            yield

    def play(self, *, resume: bool) -> None:
        """What one process does, until it is killed or done."""
        before = {role: kept(self.folder / "kept" / "training", role) for role in PAIR}
        with embedded(self.config, resume=resume) as session:
            self.note_keys(session)
            x, y = tacit.share(self.x, owner="alice"), tacit.share(self.y, owner="bob")
            model = tacit.share(self.plain)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
            saved = tacit.checkpoint(every=EVERY, model=model, optimizer=optimizer)
            if saved.step:
                self.compare(model, before, saved.step)
            with open(self.folder / "begun", "a") as file:
                file.write(f"{saved.step}\n")
            batches = saved(tacit.batches(x, y, size=8, epochs=EPOCHS, progress=False))
            for _ in self.steps(model, optimizer, batches):
                if (self.folder / "enough").exists() and saved.step > self.begun[-1] + 4 * EVERY:
                    break
            torch.save((saved.step + 1, tacit.reveal(model.weight)), self.weights)

    def note_keys(self, session: Session) -> None:
        """Write down a digest of each key, for no stream may ever begin anew."""
        roles = session.transport.roles
        keys = [session.transport.pair_key(a, b) for k, a in enumerate(roles) for b in roles[k + 1 :]]
        with open(self.folder / "keys", "a") as file:
            file.writelines(hashlib.sha256(key).hexdigest() + "\n" for key in keys)

    def compare(self, model: nn.Module, before: dict[str, list], step: int) -> None:
        """Look whether the shares are those of the files, bit by bit."""
        for place, role in enumerate(PAIR):
            file = load_file(next(each.path for each in before[role] if each.step == step))
            for name, p in model.named_parameters():
                assert torch.equal(p.share.content.parts()[place], file[f"/state/model/{name}"])

    def run(self, *, kill: bool) -> bool:
        """Have a process play, and kill it at some moment; return whether it was."""
        resume = (self.folder / "begun").exists() or (self.folder / "keys").exists()
        begun, child = len(self.begun), os.fork()
        if not child:
            code = 1
            try:
                self.play(resume=resume)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if kill:
            if random.random() < 0.7:  # the others may die before they have begun
                self.until(lambda: len(self.begun) > begun)
            time.sleep(random.uniform(0, self.life))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, -signal.SIGKILL)
        return code != 0

    def in_the_plain(self, steps: int) -> Tensor:
        """The weights that PyTorch alone has after so many steps."""
        model = copy.deepcopy(self.plain)
        torch.manual_seed(11)
        orders = (torch.randperm(32).split(8) for _ in range(EPOCHS))
        batches = ((self.x[rows], self.y[rows]) for rows in islice(chain.from_iterable(orders), steps))
        for _ in self.steps(model, torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9), batches):
            pass
        return model.weight.detach()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("protocol", "kills", "life"), [("additive", 100, 0.4), ("two-party", 30, 2.0)])
def test_a_training_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    protocol: str, kills: int, life: float, tmp_path: Path
) -> None:
    job = Job(tmp_path, protocol, life)
    job.in_the_plain(1)  # PyTorch imports what an optimizer needs: once, and not in each process

    for _ in range(kills):
        assert job.run(kill=True)
    (tmp_path / "enough").touch()
    assert not job.run(kill=False)

    keys = (tmp_path / "keys").read_text().split()
    steps, weights = torch.load(job.weights)
    assert job.begun == sorted(job.begun)
    assert all(step % EVERY == 0 for step in job.begun)
    assert len(set(job.begun)) > 3
    assert len(set(keys)) == len(keys)
    assert not list(tmp_path.glob("kept/*/*/.*"))
    assert (weights - job.in_the_plain(steps)).abs().max() < 2e-3
