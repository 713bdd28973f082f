"""Which checkpoints of a loop a role keeps: read from the heads of its files, before anything is loaded.

::

    CHECKPOINTS/training/00000020-1f3c…/alice.safetensors       after 20 steps, by the checkpoint's identity
    CHECKPOINTS/training/00000020-1f3c…/alice[1].safetensors    of rank 1
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tacit.session.ranks import ONLY, Rank

__all__ = ["FOLDER", "Kept", "folder_of", "kept", "newest_seed"]

FOLDER = re.compile(r"([0-9]{8,15})-([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint of a loop, as its file at one role says."""

    path: Path
    identity: str
    step: int
    job: str
    """The identity of the run that began it all."""
    seed: int
    first: bool
    """Whether its loop had none before that all roles have had."""


def folder_of(step: int, identity: str) -> str:
    """The name of a checkpoint's folder."""
    return f"{step:08d}-{identity}"


def kept(folder: Path, role: str, rank: Rank = ONLY) -> list[Kept]:
    """The checkpoints of a loop that a role's rank has whole, oldest first; what cannot be read is none."""
    found = []
    for path in folder.glob(f"*/{glob.escape(rank.file(role))}.safetensors"):
        named = FOLDER.fullmatch(path.parent.name)
        if named is None:
            continue
        try:
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
            step, first = int(told["step"]), told.get("first") == "yes"  # older versions do not say so
            each = Kept(path, told["identity"], step, told["job"], int(told["seed"]), first)
        except (SafetensorError, OSError, KeyError, ValueError):
            continue
        if (each.step, each.identity, told.get("role")) == (int(named[1]), named[2], role):
            found.append(each)
    return sorted(found, key=lambda each: (each.step, each.path.stat().st_mtime_ns))


def newest_seed(folder: Path, roles: Sequence[str], rank: Rank = ONLY) -> int | None:
    """The seed of the run that a role's checkpoints are of, whatever the loop; None where there are none."""
    loops = [path for path in folder.glob("*") if path.is_dir()]
    found = [each for loop in loops for role in roles for each in kept(loop, role, rank)]
    return max(found, key=lambda each: each.path.stat().st_mtime_ns).seed if found else None
