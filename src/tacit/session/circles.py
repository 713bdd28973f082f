"""How often Python looks for circles of objects while a session is open.

An operator on secrets makes some hundred small objects, which live as long as the values that they tell of, and it
makes no circles. Python looks for these whenever 700 objects more than before are there, and now and then among all
objects of the process, of which PyTorch and a library of models have nearly a million: that takes 0.25 s, as long as
many operators. So it looks less often.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

from tacit.session.changes import while_open

__all__ = ["OBJECTS"]

OBJECTS = 10_000
"""New objects after which Python looks for circles among them. More: a program's own circles, and tensors that they
hold, stay longer; fewer: with 700, an LSTM of 160 steps and its gradients took a quarter longer."""


@while_open
def seldom() -> Iterator[None]:
    """Look for circles less often, unless a program has said when, or that nobody shall look."""
    before = gc.get_threshold()
    mine = (OBJECTS, *before[1:])
    if not 0 < before[0] < OBJECTS:
        yield
        return
    gc.set_threshold(*mine)
    yield
    if gc.get_threshold() == mine:
        gc.set_threshold(*before)
