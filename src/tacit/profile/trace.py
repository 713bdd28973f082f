"""A profile in the trace event format of Chrome and Perfetto."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tacit.session.meter import Cost
from tacit.watch.place import Place

__all__ = ["Event", "write_trace"]


class Event(NamedTuple):
    """A call of an operator, or of a module (which has no cost of its own), on the monotonic clock."""

    name: str
    place: Place
    began: float
    seconds: float
    cost: Cost | None


def write_trace(path: Path, events: Sequence[Event], role: str, number: int, clock: float, dropped: int) -> None:
    """Write the events; `clock` is what the monotonic clock lacks to the time of day."""
    named: dict[str, Any] = {"name": "process_name", "ph": "M", "pid": number, "tid": 0, "args": {"name": role}}
    drawn = [_event(event, number, clock) for event in sorted(events, key=lambda e: (e.began, -e.seconds))]
    content = {
        "displayTimeUnit": "ms",
        "otherData": {"role": role, "dropped_events": dropped},
        "traceEvents": [named, *drawn],
    }
    path.write_text(json.dumps(content), encoding="utf-8")


def _event(event: Event, number: int, clock: float) -> dict[str, Any]:
    args: dict[str, Any] = {"module": ".".join(filter(None, (event.place.root, event.place.module)))}
    if event.cost is not None:
        args |= {"rounds": event.cost.rounds, "online_bytes": event.cost.online}
        if any(event.cost.prepared.values()):
            args |= {"prepared_bytes": event.cost.prepared}
        args |= {f"{helper}_bytes": count for helper, count in event.cost.helped.items()}
    return {
        "name": event.name,
        "cat": event.place.phase if event.cost is not None else "module",
        "ph": "X",
        "ts": (event.began + clock) * 1e6,
        "dur": event.seconds * 1e6,
        "pid": number,
        "tid": 0,
        "args": args,
    }
