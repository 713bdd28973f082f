"""No compilation while a session is open: `torch.compile` would trace into Tacit itself, so what it made runs eagerly.

PyTorch calls this a stance, which holds for the whole process. Importing its compiler takes a second, so the stance is
taken once a program has loaded it: before the session, or by `torch.compile` in it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import wraps
from typing import Any

import torch

from tacit.session.changes import while_open

EAGERLY = (
    "torch.compile does nothing in a session of Tacit: what it made runs eagerly, as without it, because an operator "
    "on secrets is a protocol among the roles"
)

_told = False
_before: Any = None
"""The stance to go back to, where it has been changed."""


@while_open
def eagerly() -> Iterator[None]:
    """Take the stance, now or as soon as `torch.compile` is called."""
    global _before
    compiler = torch.compile

    @wraps(compiler)
    def compile_eagerly(*args: Any, **kwargs: Any) -> Any:
        global _told
        compiled = compiler(*args, **kwargs)
        if torch.compile is compile_eagerly:  # and not one that a program has kept for after the session
            _take()
            if not _told:
                _told = True
                warnings.warn(EAGERLY, stacklevel=2)
        return compiled

    _take()
    torch.compile = compile_eagerly
    yield
    torch.compile = compiler
    if _before is not None:
        torch.compiler.set_stance(
            _before.stance, skip_guard_eval_unsafe=_before.skip_guard_eval_unsafe, force_backend=_before.backend
        )
        _before = None


def _take() -> None:
    global _before
    if _before is None and "torch._dynamo" in sys.modules:
        _before = sys.modules["torch._dynamo.eval_frame"]._stance
        torch.compiler.set_stance("force_eager")
