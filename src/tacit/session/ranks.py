"""The ranks of a role: the processes of a job that plays it, as `torchrun` starts them, each with a part of the work.

Rank i of a role talks to rank i of every other role over links of its own, whose keys nobody else has; the ranks of one
role talk to each other by `torch.distributed`. Ranks are told apart by the variables RANK and WORLD_SIZE, which
torchrun, Ray and what starts jobs on clusters set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tacit.errors import ConfigError

__all__ = ["ONLY", "Rank", "here"]

RANK, WORLD = "RANK", "WORLD_SIZE"

MOST = 4096
"""Ranks a role may have. More would need other ways of finding each other than a port a rank."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Which process of a role this one is, and how many there are."""

    index: int = 0
    count: int = 1

    def of(self, role: str) -> str:
        """A role's process of this rank, as messages and ledgers call it: `alice[1]`, or `alice` where it is all."""
        return f"{role}[{self.index}]" if self.count > 1 else role

    def file(self, role: str) -> str:
        """The name of this rank's files: of the first one, that of a role without ranks."""
        return f"{role}[{self.index}]" if self.index else role


ONLY = Rank()
"""That of a role which is one process."""


def here() -> Rank:
    """The rank of this process, as whoever started the job says; `ONLY` outside of one."""
    index, count = os.environ.get(RANK), os.environ.get(WORLD)
    if index is None or count is None:
        return ONLY
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) <= MOST):
        raise ConfigError(
            f"the variables {RANK} and {WORLD} say that this is process {index[:40]!r} of {count[:40]!r} of its role: "
            f"set them as torchrun does, up to {MOST} processes, or neither"
        )
    return Rank(int(index), int(count))
