"""No bytes that others send or leave in a file crash or hang a role, or take its memory: they are read, or refused.

A refusal is one of Tacit's errors. `make fuzz` tries millions, as long as TACIT_FUZZ_SECONDS says for each way in.
"""

from __future__ import annotations

import os
import random
import resource
import time
import warnings
from pathlib import Path

import pytest

from tacit.errors import TacitError

from .mutations import mutated
from .targets import TARGETS

SEED = int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
SECONDS = float(os.environ.get("TACIT_FUZZ_SECONDS", "20"))

MEMORY = 1 << 29
"""Bytes by which a process may grow while one way in is tried; the longest samples have 4 MB."""

PATIENCE = 5.0
"""Seconds of a processor for one input. What waits for ever is ended by the test's own time limit."""


def tried(name: str, folder: Path, *, count: int | None = None, seconds: float | None = None) -> int:
    """Feed one way in; return how many inputs it took. Anything but a result and an error of Tacit is a failure."""
    samples, take, _ = TARGETS[name]
    rows = samples(folder)
    for sample in rows:
        try:
            take(folder, sample)
        except TacitError:
            continue
    draws = random.Random(f"{SEED} {name}")
    before, began, done = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while done < count if count is not None else time.monotonic() - began < (seconds or 0):
            data = mutated(draws, rows)
            since = time.process_time()
            try:
                take(folder, data)
            except TacitError:
                pass
            except BaseException as error:
                text = f"{name}, seed {SEED}, input {done}: {type(error).__name__}: {error}; {data[:300]!r}"
                raise AssertionError(text) from error
            assert time.process_time() - since < PATIENCE, f"{name}, seed {SEED}, input {done}: {data[:300]!r}"
            done += 1
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY, f"{name}, seed {SEED}: {grown} bytes"
    return done


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.slow])
def test_hostile_bytes_are_refused(name: str, tmp_path: Path) -> None:
    assert tried(name, tmp_path, count=60) == 60


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TARGETS)
def test_many_hostile_bytes_are_refused(name: str, tmp_path: Path) -> None:
    assert tried(name, tmp_path, seconds=SECONDS) > 50
