"""No compilation while a session is open: `torch.compile` would trace into Tacit itself, so what it made runs eagerly.

PyTorch calls this a stance, which holds for the whole process. Importing its compiler takes a second, so the stance is
taken once a program has loaded it.
"""

from __future__ import annotations

import sys
import warnings
from functools import wraps
from typing import Any

import torch

__all__ = ["begin", "end"]

EAGERLY = (
    "torch.compile does nothing in a session of Tacit: what it made runs eagerly, as without it, because an operator "
    "on secrets is a protocol among the roles"
)

_compile = torch.compile
_open = 0
_told = False
_before: Any = None
"""The stance to go back to, where it has been changed."""


def begin() -> None:
    """A session opens."""
    global _open
    _open += 1
    _take()


def end() -> None:
    """A session has ended; with the last one, compilation comes back."""
    global _open, _before
    _open -= 1
    if not _open and _before is not None:
        torch.compiler.set_stance(
            _before.stance, skip_guard_eval_unsafe=_before.skip_guard_eval_unsafe, force_backend=_before.backend
        )
        _before = None


def _take() -> None:
    global _before
    if _before is None and "torch._dynamo" in sys.modules:
        _before = sys.modules["torch._dynamo.eval_frame"]._stance
        torch.compiler.set_stance("force_eager")


@wraps(_compile)
def _compile_outside(*args: Any, **kwargs: Any) -> Any:
    global _told
    compiled = _compile(*args, **kwargs)
    if _open:
        _take()
        if not _told:
            _told = True
            warnings.warn(EAGERLY, stacklevel=2)
    return compiled


torch.compile = _compile_outside
