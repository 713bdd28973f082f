"""What a run reveals, to whom and where: one line a reveal, checked against the role's policy before a share leaves.

In a file, the lines of a run stand between one that says what runs and one that says how it ended, and all are chained
and signed: see `chain`. `evidence` reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from tacit.errors import RevealError
from tacit.net.transcript import Transcript
from tacit.session.chain import Chained
from tacit.session.config import RevealRule
from tacit.session.registered import outsider_of

__all__ = ["Entry", "Ledger", "is_library", "source_line", "where"]

_LIBRARIES = (f"{Path(torch.__file__).parent}/", f"{Path(__file__).parents[1]}/")


@dataclass(frozen=True, slots=True)
class Entry:
    """One reveal: the name the program gave it, its shape, its receivers, the user's line, and the time (UTC)."""

    name: str
    shape: tuple[int, ...]
    receivers: tuple[str, ...]
    line: str
    time: str


class Ledger:
    """The reveals of a session, in memory and, where the config names a folder, in a file of JSON lines."""

    def __init__(
        self,
        role: str,
        policy: Sequence[RevealRule] | None,
        path: Path | None,
        key: EllipticCurvePrivateKey | None = None,
        *,
        name: str = "",
    ) -> None:
        self.entries: list[Entry] = []
        self._role, self._policy = role, policy
        self._name = name or role
        """With its rank, if the role has several."""
        self._file = None if path is None else Chained(path, key)
        self._run = ""
        self._transcript: Transcript | None = None

    @property
    def kept(self) -> bool:
        """Whether it is written to a file."""
        return self._file is not None

    def begin(self, run: str, transcript: Transcript, facts: Mapping[str, Any]) -> None:
        """Write what runs: its identity, which all roles have agreed on, and what else is known of it."""
        self._run, self._transcript = run, transcript
        self._append("run", facts, durably=True)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Write something else that became of the run."""
        self._append(kind, {**facts, "time": _now()})

    def end(self, how: str) -> None:
        """Write how the run ended, if one has begun."""
        if self._run:
            self._append("end", {"how": how, "time": _now()}, durably=True)
            self._run = ""

    def _append(self, kind: str, facts: Mapping[str, Any], *, durably: bool = False) -> None:
        if self._file is not None:
            place: dict[str, Any] = {}
            if self._transcript is not None:
                place = {"operator": self._transcript.count, "transcript": self._transcript.digest.hex()}
            self._file.append({"kind": kind, "role": self._role, "run": self._run, **place, **facts}, durably=durably)

    def write(self, name: str, shape: Sequence[int], receivers: Sequence[str]) -> Entry:
        """Record a reveal that is about to happen, or raise `RevealError` if this role's policy forbids it."""
        line = source_line()
        self.check(name, receivers, line)
        entry = Entry(name, tuple(shape), tuple(receivers), line, _now())
        self.entries.append(entry)
        self._append("reveal", asdict(entry))
        return entry

    def check(self, name: str, receivers: Sequence[str], line: str | None = None) -> None:
        """Raise `RevealError` if this role's policy forbids a reveal; `line` is where the program asks for it."""
        if self._policy is None:
            return
        for receiver in receivers:
            if not any(fnmatchcase(name, rule.name) and _includes(rule, receiver) for rule in self._policy):
                outsider = outsider_of(receiver)
                to = receiver if outsider is None else outsider.word
                where = line or source_line()
                raise RevealError(
                    f"{self._name} refuses to reveal {name!r} to {receiver} ({where}): its reveal policy does not "
                    f'allow it; add {{"name": {name!r}, "to": [{to!r}]}} to the policy if it should'
                )


def _includes(rule: RevealRule, receiver: str) -> bool:
    """Whether a rule allows this receiver: a role, or somebody who is none and not among "all"."""
    outsider = outsider_of(receiver)
    if outsider is not None:
        return outsider.word in rule.to
    return "all" in rule.to or receiver in rule.to


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def source_line() -> str:
    """The user's line that led here, `file:line`: the innermost frame outside of torch and tacit."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not is_library(name):
            return f"{name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "unknown line"


_OURS: dict[str, bool] = {}
"""By file name: whether its frames are a library's, not the user's."""


def where() -> tuple[CodeType, int] | None:
    """What `source_line` finds for the caller's caller, code and instruction, before anything is formatted.

    None where an operator on secrets called another: the place is that of the first.
    """
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        library = _OURS.get(code.co_filename)
        if library is None:
            library = _OURS[code.co_filename] = is_library(code.co_filename)
        if not library:
            return code, frame.f_lasti
        if code.co_name == "__torch_dispatch__":
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def is_library(file: str) -> bool:
    """Whether a frame's file is torch's, tacit's or the interpreter's own, and not the user's."""
    return file.startswith(_LIBRARIES) or file.startswith("<frozen")
