"""What is different about PyTorch while a session is open: importing Tacit changes nothing, and the end undoes it.

PyTorch is one for the whole process, so the first session that opens makes the changes, and the last one that ends
takes them back. Each is a function that makes it, yields, and takes it back, registered where its reason is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

__all__ = ["begin", "end", "replaced", "while_open"]

Change = Callable[[], Iterator[None]]

_changes: list[Change] = []
_lock = Lock()
_made: ExitStack | None = None
_open = 0


def while_open(change: Change) -> Change:
    """Register a change, and make it if a session is open already."""
    with _lock:
        _changes.append(change)
        if _made is not None:
            _made.enter_context(contextmanager(change)())
    return change


def replaced(owner: type, changes: Mapping[str, Callable[[Any], Any]]) -> Iterator[None]:
    """A change: methods of a class are, while a session is open, what functions make of them."""
    before = {name: vars(owner)[name] for name in changes}  # and not what it becomes when it is asked for
    for name, change in changes.items():
        setattr(owner, name, change(before[name]))
    yield
    for name, method in before.items():
        setattr(owner, name, method)


def begin() -> None:
    """A session opens."""
    global _open, _made
    with _lock:
        if not _open:
            made = ExitStack()
            try:
                for change in _changes:
                    made.enter_context(contextmanager(change)())
            except BaseException:
                made.close()
                raise
            _made = made
        _open += 1


def end() -> None:
    """A session has ended."""
    global _open, _made
    with _lock:
        _open -= 1
        if not _open and _made is not None:
            made, _made = _made, None
            made.close()
