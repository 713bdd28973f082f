"""What processes hold in memory."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Book", "anonymous", "climbed", "descriptors"]


def _status(field: str, process: int | str = "self") -> int:
    """A size in bytes of /proc/…/status."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(field)


def anonymous(process: int | str = "self") -> int:
    """Bytes of memory that are no file's."""
    return _status("RssAnon", process)


def descriptors(process: int | str = "self") -> int:
    """How many files and sockets are open."""
    return len(os.listdir(f"/proc/{process}/fd"))


def climbed(seconds: Sequence[float], sizes: Sequence[int]) -> float:
    """By how many bytes memory has grown from the first to the last time, by the straight line that is closest."""
    slope, _ = statistics.linear_regression(seconds, sizes)
    return slope * (seconds[-1] - seconds[0])


class Book:
    """What this process has at most while it does something, in units of one tensor; Linux alone says that."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.began = anonymous()
        self.steps: dict[str, tuple[float, float]] = {}
        """By step: what was held at most, and what at its end."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note what one step takes."""
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        files = _status("VmRSS") - anonymous()
        yield
        most = _status("VmHWM") - files - self.began
        self.steps[name] = most / self.unit, (anonymous() - self.began) / self.unit
