"""Loops that outlive their run: ended anywhere, they go on from exactly what was kept."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import tacit
from tacit.api import embedded
from tacit.errors import ConfigError, DataError
from tacit.session.config import Config
from tacit.session.kept import kept

pytestmark = pytest.mark.unchecked

ROWS, EVERY, STEPS = 24, 3, 12


class Killed(BaseException):
    """A process that ends here."""


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))


class Job:
    """One program, run again and again until it ends."""

    def __init__(self, folder: Path) -> None:
        self.config = Config.embedded(checkpoints=str(folder / "kept"), ledger=str(folder / "ledger"))
        self.x, self.y = torch.randn(ROWS, 3), torch.randn(ROWS, 1)
        self.seen: list[tuple[int, list[float]]] = []
        self.begun: list[int] = []

    def run(self, *, resume: bool, die: Callable[[int], bool] = lambda step: False) -> Tensor:
        with embedded(self.config, resume=resume):
            x, y = tacit.share(self.x, "alice"), tacit.share(self.y, "bob")
            chosen = torch.randperm(ROWS)[: ROWS - 4]
            model = tacit.share(network())
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
            saved = tacit.checkpoint(every=EVERY, model=model, optimizer=optimizer)
            self.begun.append(saved.step)
            for xb, yb in saved(tacit.batches(x[chosen], y[chosen], size=8, epochs=4, progress=False)):
                optimizer.zero_grad()
                nn.functional.mse_loss(model(xb), yb).backward()
                optimizer.step()
                if die(saved.step):
                    raise Killed
                self.seen.append((saved.step, tacit.reveal(xb, "alice")[:, 0].tolist()))
            assert saved.step == STEPS
            return torch.cat([p.flatten() for p in tacit.reveal(model).parameters()]).detach()

    def until_it_ends(self, dying: list[int]) -> Tensor:
        for place, at in enumerate(dying):
            with pytest.raises(Killed):
                self.run(resume=place > 0, die=lambda step, at=at: step == at)
        return self.run(resume=bool(dying))


@pytest.mark.parametrize("dying", [[0], [7], [4, 4, 11]], ids=str)
def test_a_run_that_was_ended_goes_on_as_if_nothing_had_happened(tmp_path: Path, dying: list[int]) -> None:
    job = Job(tmp_path)

    weights = job.until_it_ends(dying)

    # the same seed, and so the same rows, batches and dropout masks, without an interruption
    whole = Job(tmp_path / "whole")
    seed = kept(tmp_path / "kept" / "training", "alice")[0].seed
    whole.config = Config.embedded(checkpoints=str(tmp_path / "whole" / "kept"), seed=seed)
    whole.x, whole.y = job.x, job.y
    want = whole.until_it_ends([])
    assert (weights - want).abs().max() < 2e-3
    assert job.begun == [0] + [EVERY * (at // EVERY) for at in dying]
    assert dict(job.seen) == dict(whole.seen)
    assert len(kept(tmp_path / "kept" / "training", "bob")) == 1


def test_what_is_loaded_is_what_was_kept_share_by_share(tmp_path: Path) -> None:
    job = Job(tmp_path)
    with pytest.raises(Killed):
        job.run(resume=False, die=lambda step: step == 7)

    with embedded(job.config, resume=True) as session:
        model = tacit.share(network())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        saved = tacit.checkpoint(every=EVERY, model=model, optimizer=optimizer)
        for place, party in enumerate(session.parties):
            (each,) = kept(tmp_path / "kept" / "training", party)
            file = load_file(each.path)
            for name, p in model.named_parameters():
                assert torch.equal(p.share.content.parts()[place], file[f"/state/model/{name}"])

    assert saved.step == 6
    notes = [json.loads(line) for line in (tmp_path / "ledger" / "embedded.jsonl").read_text().splitlines()]
    assert [(n["kind"], n["step"]) for n in notes if n["kind"] in ("checkpoint", "resume")] == [
        ("checkpoint", 3),
        ("checkpoint", 6),
        ("resume", 6),
    ]


def test_roles_take_the_newest_checkpoint_that_all_have(tmp_path: Path) -> None:
    job = Job(tmp_path)
    with pytest.raises(Killed):
        job.run(resume=False, die=lambda step: step == 4)
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "kept", before)
    with pytest.raises(Killed):
        job.run(resume=True, die=lambda step: step == 7)
    (three,) = (before / "training").iterdir()
    shutil.copytree(three, tmp_path / "kept" / "training" / three.name)
    (six,) = (each for each in kept(tmp_path / "kept" / "training", "bob") if each.step == 6)
    six.path.unlink()  # bob died while it wrote

    job.run(resume=True)

    assert job.begun == [0, 3, 3]
    assert [each.step for each in kept(tmp_path / "kept" / "training", "alice")] == [STEPS]


def test_shares_of_different_runs_are_never_put_together(tmp_path: Path) -> None:
    one, other = Job(tmp_path / "one"), Job(tmp_path / "other")
    for job in (one, other):
        with pytest.raises(Killed):
            job.run(resume=False, die=lambda step: step == 5)
    (mine,) = (tmp_path / "one" / "kept" / "training").iterdir()
    (theirs,) = (tmp_path / "other" / "kept" / "training").iterdir()

    shutil.copy(theirs / "bob.safetensors", mine / "bob.safetensors")
    with pytest.raises(DataError, match=r"no checkpoint of training that all roles have \(steps alice: 3; bob: none; "):
        one.run(resume=True)
    (mine / "bob.safetensors").unlink()
    with pytest.raises(DataError, match="no checkpoint of training that all roles have"):
        one.run(resume=True)


@pytest.mark.parametrize("lacking", ["alice", "bob"])
def test_a_run_that_ended_while_it_wrote_its_first_checkpoint_begins_anew(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path)
    write = sys.modules["tacit.checkpoint"]._write

    def ends(path: Path, data: dict[str, Tensor], metadata: dict[str, str]) -> None:
        if path.name == f"{lacking}.safetensors":
            raise Killed
        write(path, data, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["tacit.checkpoint"], "_write", ends)
        with pytest.raises(Killed):
            job.run(resume=False)
    job.run(resume=True)

    assert job.begun == [0, 0]
    assert [each.step for each in kept(tmp_path / "kept" / "training", "alice")] == [STEPS]
    notes = [json.loads(line) for line in (tmp_path / "ledger" / "embedded.jsonl").read_text().splitlines()]
    somebody_had_one = lacking != "alice"  # whose file is written first
    assert [n["step"] for n in notes if n["kind"] == "resume"] == [0] * somebody_had_one


def without_marks(folder: Path) -> list[Path]:
    """What is left of the checkpoints of a loop in a copy of their folder alone."""
    for mark in folder.glob(".*.whole"):
        mark.unlink()
    return sorted(folder.rglob("*.safetensors"))


def of_an_older_version(path: Path) -> None:
    """Take away what tells the first checkpoint of a loop."""
    with safe_open(path, framework="pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "first"}
    save_file(load_file(path), path, metadata)


def test_nothing_is_removed_where_a_role_may_have_got_further(tmp_path: Path) -> None:
    """Copies of `checkpoints/training`, and checkpoints of older versions, have none of the marks beside it."""
    runs = {"first": (4, 3), "later": (7, 6)}
    jobs = {name: Job(tmp_path / name) for name in runs}
    for name, (die, step) in runs.items():
        with pytest.raises(Killed):
            jobs[name].run(resume=False, die=lambda at, die=die: at == die)
        assert [each.step for each in kept(tmp_path / name / "kept" / "training", "bob")] == [step]
    first, later = (next((tmp_path / name / "kept" / "training").iterdir()) for name in runs)
    (later / "bob.safetensors").unlink()  # it has a backup that is older: none
    with pytest.raises(DataError, match="no checkpoint of training that all roles have"):
        jobs["later"].run(resume=True)
    left = without_marks(tmp_path / "later" / "kept")

    with pytest.raises(DataError, match=r"no checkpoint of training that all roles have \(steps alice: 6; bob: none; "):
        jobs["later"].run(resume=True)
    shutil.copytree(first, later.with_name(first.name), ignore=lambda _, names: {*names} - {"bob.safetensors"})
    with pytest.raises(DataError, match=r"\(steps alice: 6; bob: 3; "):
        jobs["later"].run(resume=True)
    assert set(left) < set((tmp_path / "later" / "kept").rglob("*.safetensors"))
    for path in first.iterdir():
        of_an_older_version(path)
    (first / "bob.safetensors").unlink()
    left = without_marks(tmp_path / "first" / "kept")
    with pytest.raises(DataError, match="no checkpoint of training that all roles have"):
        jobs["first"].run(resume=True)

    assert without_marks(tmp_path / "first" / "kept") == left


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    job = Job(tmp_path)
    with pytest.raises(Killed):
        job.run(resume=False, die=lambda step: step == 5)
    (each,) = kept(tmp_path / "kept" / "training", "alice")
    data = bytearray(each.path.read_bytes())
    data[-100] ^= 1
    each.path.write_bytes(data)

    with pytest.raises(DataError, match="is damaged"):
        job.run(resume=True)
    each.path.write_bytes(data[:-1000])
    with pytest.raises(DataError, match="no checkpoint of training that all roles have"):
        job.run(resume=True)


def test_what_a_killed_process_was_writing_is_cleared_away(tmp_path: Path) -> None:
    job = Job(tmp_path)
    with pytest.raises(Killed):
        job.run(resume=False, die=lambda step: step == 4)
    (three,) = (tmp_path / "kept" / "training").iterdir()
    half = tmp_path / "kept" / "training" / three.name.replace("3-", "6-") / ".bob.safetensors.0123456789abcdef"
    half.parent.mkdir()
    half.write_bytes(b"half of it")

    job.run(resume=True)

    assert not half.exists()


def test_a_full_disk_ends_the_run_and_leaves_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path)
    written = []

    def full(data: object, path: Path, metadata: dict[str, str]) -> None:
        written.append(path)
        if len(written) > 4:  # three roles keep step 3, and the second fails at step 6
            Path(path).write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        save_file(data, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["tacit.checkpoint"], "save_file", full)
        with pytest.raises(
            DataError, match=r"cannot be written, and what was there before is as it was: .*No space left"
        ):
            job.run(resume=False)
    assert not list(tmp_path.glob("kept/*/*/.*"))

    job.run(resume=True)
    assert job.begun == [0, 3]


WRONG: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "no state": (lambda model: tacit.checkpoint(every=1), "needs the state to keep"),
    "no steps": (lambda model: tacit.checkpoint(every=0, model=model), "a whole number of steps, not 0"),
    "a path": (lambda model: tacit.checkpoint("a/b", every=1, model=model), "cannot name a loop"),
    "a tensor": (lambda model: tacit.checkpoint(every=1, model=torch.ones(2)), "has no state_dict"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_kept_is_refused(what: str, tmp_path: Path) -> None:
    call, message = WRONG[what]
    with embedded(Config.embedded(checkpoints=str(tmp_path))):
        model = tacit.share(nn.Linear(2, 1))
        with pytest.raises(ConfigError, match=message):
            call(model)


def test_a_run_that_is_not_told_to_go_on_leaves_checkpoints_alone(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.until_it_ends([])

    with pytest.raises(ConfigError, match="go on with `tacit run --resume`, or take the folder away"):
        job.run(resume=False)
    again = job.run(resume=True)  # nothing is left to do

    assert job.begun == [0, STEPS]
    assert len(again) == len(job.run(resume=True))


def test_steps_that_draw_at_each_turn_are_refused_once_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit.resume.MOST_DRAWS", 4)
    with embedded(Config.embedded(checkpoints=str(tmp_path))):
        saved = tacit.checkpoint(every=1, model=tacit.share(nn.Linear(2, 1)))
        with pytest.raises(ConfigError, match="draw an order for each epoch"):
            for _ in saved(torch.randn(1) for _ in range(9)):
                pass


def test_another_program_is_found_out(tmp_path: Path) -> None:
    config = Config.embedded(checkpoints=str(tmp_path))
    with embedded(config):
        for _ in tacit.checkpoint(every=2, model=tacit.share(nn.Linear(2, 1)))(range(4)):
            pass

    with embedded(config, resume=True):
        with pytest.raises(DataError, match="holds model, and not net"):
            tacit.checkpoint(every=2, net=tacit.share(nn.Linear(2, 1)))
        saved = tacit.checkpoint(every=2, model=tacit.share(copy.deepcopy(nn.Linear(2, 1))))
        with pytest.raises(DataError, match="4 steps of training are done, and there are only 2"):
            list(saved(range(2)))
        with pytest.raises(ConfigError, match="has run"):
            saved(range(2))


def test_the_example_goes_on_from_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "long_runs" / "train.py"))

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        example["main"]()

    assert printed.getvalue() == "after 50 steps: [1.0, -2.0, 0.5]\n"
    assert [each.step for each in kept(tmp_path / "checkpoints" / "training", "alice")] == [50]
