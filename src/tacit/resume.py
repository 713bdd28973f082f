"""Loops that outlive their run: every so many steps each role keeps its shares, and a later run goes on from there.

A checkpoint is a folder of a loop's, with one file a role, as `tacit.save` writes it. Its identity is drawn for it, and
stands in each file beside the step, the seed and the run that began it all; shares of different runs, or of different
steps, have different identities, and are never put together. A role lets go of a checkpoint when all roles have written
the next; when they go on they tell each other what they have, and take the newest that all have. The ranks of a role do
the same among themselves: all of them have a checkpoint before any lets go of the one before.

Keys are never stored: a run that goes on has fresh ones, so no key stream is used twice, and what was sent before the
end of the run before says nothing about the masks after it.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tacit import private_files
from tacit.api import active_protocol
from tacit.checkpoint import load_files, save_files
from tacit.errors import ConfigError, DataError
from tacit.functions.collective import Collective
from tacit.session.kept import Kept, folder_of, kept

__all__ = ["Checkpoint", "checkpoint"]

T = TypeVar("T")
MOST_DRAWS = 1000
"""Times that the steps may draw from PyTorch's generator, as an order for each epoch does. 5 kB each, in each file."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)


def checkpoint(name: str = "training", *, every: int, **state: Any) -> Checkpoint:
    """Keep the state of a loop every so many steps, so that `tacit run --resume` goes on from the last of them.

    ::

        saved = tacit.checkpoint(every=100, model=model, optimizer=optimizer)
        for x, y in saved(tacit.batches(rows, labels, size=128, epochs=5)):
            ...

    Each role writes its file below the folder that its config names under "checkpoints". A run that was ended, however,
    and is started again by all roles with `--resume` computes again what stands before the loop, and passes over the
    steps that are done; what the loop leaves behind beside the state, it has to compute from it.

    Args:
        name: of the loop, where a program has several.
        every: after how many steps the state is kept.
        state: what has `state_dict` and `load_state_dict`: modules, optimizers, schedulers.

    Raises:
        ConfigError: if there are checkpoints already and nobody said `--resume`, or not all roles said so.
        DataError: if there is no checkpoint that all roles have.
    """
    if type(every) is not int or every < 1:
        raise ConfigError(f"tacit.checkpoint(every=…) is a whole number of steps, not {every!r}")
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name[:80]!r} cannot name a loop: use up to 63 letters, digits, '-', '_' and '.'")
    if not state:
        raise ConfigError("tacit.checkpoint needs the state to keep: tacit.checkpoint(every=…, model=…, optimizer=…)")
    for key, value in state.items():
        if not callable(getattr(value, "state_dict", None)) or not callable(getattr(value, "load_state_dict", None)):
            raise ConfigError(f"tacit.checkpoint({key}=…) has no state_dict and load_state_dict that could be kept")
    return Checkpoint(name, every, state)


class Checkpoint:
    """The checkpoints of one loop; call it with the steps. See `checkpoint`."""

    def __init__(self, name: str, every: int, state: dict[str, Any]) -> None:
        self._protocol = active_protocol()
        self._session = session = self._protocol.session
        if session.rank.count > 1 and not (dist.is_initialized() and dist.get_world_size() == session.rank.count):
            raise ConfigError(
                "the ranks of a role agree on checkpoints by torch.distributed: call "
                'torch.distributed.init_process_group("gloo") before tacit.checkpoint'
            )
        if session.supply is not None:
            raise ConfigError("tacit.checkpoint is for runs with all roles: a store serves one run, from its beginning")
        self.name, self.every = name, every
        self.step = 0
        """Steps done, those of runs before included."""
        self._state = state
        self._folder = Path(session.config.checkpoints) / name
        self._roles = [role for role in session.transport.roles if session.hosts(role)]
        self._draws: list[tuple[int, Tensor]] = []
        """Before which steps the iterable of steps drew, and the generator's state before that."""
        self._public: Tensor | None = None
        """The generator's state after the last step done, in a run that goes on."""
        self._job = session.identity
        self._started = False
        self._had = False
        """Whether all roles have had a checkpoint."""
        self._begin()

    def __repr__(self) -> str:
        return f"Checkpoint({self.name!r}, every={self.every}, step={self.step})"

    # --- the loop --------------------------------------------------------------------------------------------------

    def __call__(self, steps: Iterable[T]) -> Iterator[T]:
        """The steps that are still to be done, with the state kept between them and after the last."""
        if self._started:
            raise ConfigError(f"the loop {self.name!r} has run: give another loop a name, tacit.checkpoint(…, name)")
        self._started = True
        return self._steps(steps)

    def _steps(self, steps: Iterable[T]) -> Iterator[T]:
        done, replay = self.step, dict(self._draws)
        iterator = self._drawing(-1, lambda: iter(steps), replay)
        nothing = object()
        step = 0
        while True:
            if step == done and self._public is not None:
                torch.set_rng_state(self._public)
            item: Any = self._drawing(step, lambda: next(iterator, nothing), replay if step < done else {})
            if item is nothing:
                break
            step += 1
            if step <= done:
                continue
            yield item
            self.step = step
            if step % self.every == 0:
                self.save()
        if step < done:
            raise DataError(f"{done} steps of {self.name} are done, and there are only {step}: is it another program?")
        if step > done and step % self.every:
            self.save()

    def _drawing(self, step: int, act: Callable[[], T], replay: dict[int, Tensor]) -> T:
        """Do what may draw from the public generator: as it was then, or as it is now, which is noted."""
        if step in replay:
            torch.set_rng_state(replay[step])
            return act()
        before = torch.get_rng_state()
        out = act()
        if (step >= self.step or not self.step) and not torch.equal(before, torch.get_rng_state()):
            self._draws.append((step, before))
        return out

    # --- keeping ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Keep the state now. All roles have written it before anybody lets go of the one before."""
        if len(self._draws) > MOST_DRAWS:
            raise ConfigError(
                f"the steps of {self.name} draw from PyTorch's generator at each turn: draw an order for each epoch, "
                f"as tacit.batches does, and the rest inside of the loop"
            )
        session = self._session
        first = session.parties[0]
        drawn = os.urandom(16) if session.hosts(first) else None
        drawn = self._among_ranks(f"step {self.step}", drawn or b"")[0] or None  # all ranks have that of the first
        identity = _identity(first, session.announce(first, drawn))
        obj = {
            "state": {key: value.state_dict() for key, value in self._state.items()},
            "draws": [[step, state] for step, state in self._draws],
            "public": torch.get_rng_state(),
        }
        told = {"step": str(self.step), "job": self._job, "seed": str(session.seed), "loop": self.name}
        told["first"] = "no" if self._had else "yes"
        before = {role: kept(self._folder, role, session.rank) for role in self._roles}
        save_files(self._protocol, obj, self._folder / folder_of(self.step, identity), identity, told)
        for role in session.transport.roles:  # all have written it, and so it is what all will find
            session.announce(role, b"kept" if session.hosts(role) else None)
        self._among_ranks(f"step {self.step}, kept", identity.encode())
        for older in before.values():
            for each in older:
                _forget(each)
        for role in self._roles:
            _mark(self._whole(role))
        self._had = True
        session.ledger.note("checkpoint", {"loop": self.name, "step": self.step, "checkpoint": identity})

    def _whole(self, role: str) -> Path:
        """The file that says that all roles have had a checkpoint: until it is there, the first may lack some."""
        return self._folder.with_name(f".{self.name}:{self._session.rank.file(role)}.whole")

    def _among_ranks(self, what: str, message: bytes) -> list[bytes]:
        """What each rank of this role says at this point, which no rank is past before all have come to it."""
        if self._session.rank.count == 1:
            return [message]
        return Collective(self._protocol, dist.group.WORLD, f"tacit.checkpoint({self.name}), {what}").tell(message)

    # --- going on --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Agree on what is there, and go on from it if that is what all have been told to do."""
        session = self._session
        for role in self._roles:
            name = glob.escape(session.rank.file(role))
            for partial in list(self._folder.glob(f"*/.{name}.safetensors.*")):  # of a process killed while it wrote
                private_files.remove(partial)
                with suppress(OSError):  # where there is something else
                    partial.parent.rmdir()
        own = {role: kept(self._folder, role, session.rank) for role in self._roles}
        told: dict[str, list[_Told]] = {}
        had = False
        for role in session.transport.roles:
            message = None
            if role in own:
                entries = [[e.identity, e.step, e.job, e.first] for e in own[role]]
                message = json.dumps([session.resume, self._whole(role).exists(), entries]).encode()
            resume, whole, told[role] = _told(role, session.announce(role, message))
            had = had or whole
            if resume != session.resume:
                raise ConfigError(
                    f"{role} was {'told' if resume else 'not told'} to --resume, and {self._roles[0]} was"
                    f"{'' if session.resume else ' not'}: start all roles alike"
                )
        ranks = self._told_by_ranks(told, had)
        if not session.resume:
            having = [name for rank in ranks for name in rank.having]
            if having:
                raise ConfigError(
                    f"{' and '.join(having)} {'has' if len(having) == 1 else 'have'} checkpoints of {self.name} from a "
                    f"run before: go on with `tacit run --resume`, or take the folder away that 'checkpoints' names"
                )
        if not any(rank.having for rank in ranks):  # a new run, or one that ended before its first checkpoint
            for role in self._roles:
                self._whole(role).unlink(missing_ok=True)
            return
        common = set.intersection(*(rank.common for rank in ranks))
        if common:
            self._go_on(max(common)[1], own)
        elif not any(rank.had for rank in ranks) and len({one for rank in ranks for one in rank.begun}) == 1:
            for each in (each for those in own.values() for each in those):
                _forget(each)
            session.ledger.note("resume", {"loop": self.name, "step": 0, "job": self._job})
        else:
            held = "; ".join(f"{name}: {steps}" for rank in ranks for name, steps in rank.held.items())
            raise DataError(f"there is no checkpoint of {self.name} that all roles have (steps {held})")

    def _told_by_ranks(self, told: dict[str, list[_Told]], had: bool) -> list[_Ranks]:
        """What is there at each rank, of which the roles have told each other; all of them come to the same."""
        session = self._session
        common = set.intersection(*(set(those) for those in told.values()))
        there = [each for those in told.values() for each in those]
        begun = sorted({each.identity for each in there}) if all(each.first for each in there) else ["", "another"]
        names = {role: session.rank.of(role) for role in told}
        mine: list[Any] = [
            session.resume,
            had,
            [names[role] for role, those in told.items() if those],
            [[each.step, each.identity] for each in common],
            begun,
            {names[r]: ", ".join(str(each.step) for each in those) or "none" for r, those in told.items()},
        ]
        ranks = [_Ranks(*json.loads(row)) for row in self._among_ranks("what is there", json.dumps(mine).encode())]
        if any(rank.resume != session.resume for rank in ranks):
            raise ConfigError("some ranks were told to --resume, and others were not: start all of them alike")
        return ranks

    def _go_on(self, identity: str, own: dict[str, list[Kept]]) -> None:
        """Take the state of one checkpoint, and let go of all others."""
        session = self._session
        chosen = {role: next(each for each in those if each.identity == identity) for role, those in own.items()}
        one = next(iter(chosen.values()))
        if one.seed != session.seed:
            raise DataError(
                f"the checkpoint of {self.name} is of a run with another seed than this one has: is another run's "
                f"checkpoint in the folder?"
            )
        obj = load_files(self._protocol, {role: each.path for role, each in chosen.items()}, identity)
        if obj["state"].keys() != self._state.keys():
            raise DataError(
                f"the checkpoint of {self.name} holds {', '.join(obj['state'])}, and not {', '.join(self._state)}"
            )
        for key, value in self._state.items():
            value.load_state_dict(obj["state"][key])
        self.step, self._job, self._had = one.step, one.job, True
        self._draws = [(step, state) for step, state in obj["draws"]]
        self._public = obj["public"]
        for those in own.values():
            for each in those:
                if each.identity != identity:
                    _forget(each)
        session.ledger.note("resume", {"loop": self.name, "step": self.step, "checkpoint": identity, "job": self._job})


def _identity(source: str, drawn: bytes) -> str:
    if len(drawn) != 16:
        raise DataError(f"{source} announced an identity of a checkpoint that is none")
    return drawn.hex()


class _Told(NamedTuple):
    """What a role says of a checkpoint."""

    identity: str
    step: int
    job: str
    first: bool

    def sound(self) -> bool:
        """Whether it is of these types."""
        return tuple(map(type, self)) == (str, int, str, bool)


class _Ranks:
    """What the roles of one rank have."""

    def __init__(self, resume: bool, had: bool, having: list[str], common: Any, begun: list[str], held: Any) -> None:
        self.resume, self.had = resume, had
        """Whether they were told to go on, and whether all roles have had a checkpoint."""
        self.having: list[str] = having
        """Those that have any."""
        self.common: set[tuple[int, str]] = {(int(step), str(identity)) for step, identity in common}
        """Checkpoints that all of them have, by step and identity."""
        self.begun = begun
        """Of a run that ended while it wrote its first checkpoint: its identity, if some have written it."""
        self.held: dict[str, str] = held
        """The steps of each, in words."""


def _told(role: str, message: bytes) -> tuple[bool, bool, list[_Told]]:
    """What a role says that it has: it may be anything."""
    try:
        resume, whole, rows = json.loads(message)
        entries = [_Told(*row) for row in rows]
        if not (type(resume) is type(whole) is bool) or not all(each.sound() for each in entries):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{role} announced checkpoints in a form that is none") from None
    return resume, whole, entries


def _mark(path: Path) -> None:
    try:
        if not path.exists():
            private_files.write(path, b"")
    except OSError as error:
        raise DataError(f"the checkpoint is whole, which cannot be noted at {path}: {error.strerror}") from None


def _forget(each: Kept) -> None:
    try:
        each.path.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # others of this machine may be at it, too
            if not any(each.path.parent.iterdir()):
                each.path.parent.rmdir()
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            return
        warnings.warn(f"the old checkpoint {each.path} cannot be removed: {error.strerror}", stacklevel=4)
