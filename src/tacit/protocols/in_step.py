"""Primitives that break off: both ends of a key stream have to draw alike, and what is sent has to be received.

Ctrl-C in the middle of a primitive may leave one end ahead of the other, in a notebook's session, too, where both are
in one process. Whatever came after would be wrong and look right. So the session is of no use from then on, and says
so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["in_step"]


def in_step(primitive: Callable[..., Any]) -> Callable[..., Any]:
    """A primitive of a protocol, or of a match, that ends the use of its session if it breaks off.

    What is refused before anything has been drawn or sent leaves a session as it was.
    """

    @wraps(primitive)
    def stepping(owner: Any, *args: Any, **kwargs: Any) -> Any:
        session = owner.session
        before = session.steps
        try:
            return primitive(owner, *args, **kwargs)
        except Exception:
            if session.steps != before:
                session.fall_out_of_step()
            raise
        except BaseException:
            session.fall_out_of_step()
            raise

    return stepping
