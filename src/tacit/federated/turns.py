"""A node answers one message of a run after another, whatever its server does.

Flower keeps a node's state, and gives it to each message's process as it was when that process began. A server that
sends two messages at once would have both answered from one state: a client would reveal the share of a key to one and
the share of a seed to the other, or mask two vectors alike. So it would if a server could make a node lose its last
state. A file, which one process at a time can write, counts the messages that were answered: state with another count
is old. It lies beside the identity's file, or in the folder that the node's config names `sessions`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ConfigRecord, Context

from tacit.federated import records
from tacit.federated.errors import RosterError, RoundError

__all__ = ["FOLDER", "locked", "place", "take"]

FOLDER = "sessions"
"""The key of a node's config that names the folder."""


def place(context: Context, suffix: str) -> Path | None:
    """Return the path of a file of this node and run; none where its config names no files, as in a simulation."""
    identity, folder = context.node_config.get("identity"), context.node_config.get(FOLDER)
    if folder is not None:
        name = Path(str(identity)).stem if identity is not None else f"node-{context.node_id}"
        return Path(str(folder)) / f"{name}.{context.run_id}.{suffix}"
    if identity is None:
        return None
    return Path(str(identity)).with_suffix(f".{context.run_id}.{suffix}")


def take(context: Context, number: int, *, begins: bool) -> None:
    """Let this message be answered next, or raise `RoundError`; `number` is the highest session it makes keys for.

    A message that begins a session needs no state: all keys are fresh, and the session's number is above all that were
    taken. So a node that has lost its state takes part again.
    """
    path = place(context, "turn")
    if path is None:
        return
    name = f"{records.kept(context)}-turn"
    record = context.state.config_records.get(name)
    known = -1 if record is None else int(record["turn"])  # type: ignore[arg-type]
    with locked(path) as file:
        data = os.read(file, 1 << 10)
        try:
            turn, highest = (0, -1) if not data else (int(n) for n in json.loads(data))
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise RosterError(f"{path} is damaged: remove it once this run is over") from None
        if begins and number <= highest:
            raise RoundError(f"session {number} is over, or another message has begun it")
        if not begins and known != turn:
            raise RoundError(
                "this node answers another message of this run, or has lost what it kept since the last one"
            )
        os.lseek(file, 0, os.SEEK_SET)
        os.ftruncate(file, 0)
        os.write(file, json.dumps([turn + 1, max(number, highest)]).encode())
    context.state[name] = ConfigRecord({"turn": turn + 1})


@contextlib.contextmanager
def locked(path: Path) -> Iterator[int]:
    """Open a file that only its owner may read, made if it is not there, and that nobody else has open in this way."""
    import fcntl

    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RosterError(
            f"{path} cannot be written ({error.strerror}): a node counts there which messages it has answered; name "
            f"a folder that it may write as {FOLDER!r} in the node's config"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)
