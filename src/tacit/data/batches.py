"""Batches of rows for a training loop, in a public order that all roles agree on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from tacit.errors import DataError
from tacit.tensor import SecretTensor

__all__ = ["batches", "common_length", "leads", "progress_bar"]

PROGRESS = "TACIT_PROGRESS"
"""Environment variable: `bar` draws the bar even if no terminal is there, `lines` writes one line per percent for
another program to read, `off` shows nothing. Without it, a bar is drawn where there is a terminal."""

REFRESH_SECONDS = 0.1
"""Between two drawings of the bar. Shorter: smoother; longer: less work in the loop that is being watched."""


def batches(
    *tensors: Tensor,
    size: int,
    epochs: int = 1,
    shuffle: bool = True,
    progress: bool = True,
    drop_last: bool = False,
) -> Iterator[tuple[Tensor, ...]]:
    """Iterate over batches of rows of tensors that have the same number of rows, secret or plain.

    Each epoch visits all rows once, in an order drawn from PyTorch's public generator (`torch.randperm`), which a
    session seeds alike at every role; the order is public. `drop_last` leaves out a last batch that is not full. The
    first party, or the process that hosts all roles, shows a progress bar.
    """
    rows = common_length(tensors)
    if size < 1 or epochs < 0:
        raise DataError(f"batches need a size of at least 1 and no fewer than 0 epochs, not {size} and {epochs}")
    per_epoch = rows // size if drop_last else -(-rows // size)
    shown = progress and leads(tensors)
    return _iterate(tensors, rows, size, epochs, shuffle, per_epoch, shown)


def _iterate(
    tensors: tuple[Tensor, ...], rows: int, size: int, epochs: int, shuffle: bool, per_epoch: int, shown: bool
) -> Iterator[tuple[Tensor, ...]]:
    with progress_bar(per_epoch * epochs, shown) as advance:
        for epoch in range(epochs):
            order = torch.randperm(rows) if shuffle else None
            for start in range(0, per_epoch * size, size):
                if order is None:
                    yield tuple(tensor[start : start + size] for tensor in tensors)
                else:
                    chosen = order[start : start + size]
                    yield tuple(tensor[chosen] for tensor in tensors)
                advance(f"epoch {epoch + 1}/{epochs}")


def common_length(tensors: Sequence[Tensor], what: str = "batches") -> int:
    """The number of rows that all the tensors have. Raises `DataError` where there is none, or no row."""
    need = "need" if what == "batches" else "needs"
    if not tensors:
        raise DataError(f"{what} {need} at least one tensor")
    if any(tensor.ndim == 0 for tensor in tensors):
        raise DataError(f"{what} {need} tensors with rows, not scalars")
    lengths = [len(tensor) for tensor in tensors]
    if len(set(lengths)) > 1:
        raise DataError(f"{what} {need} tensors with the same number of rows, not {' and '.join(map(str, lengths))}")
    if not lengths[0]:
        raise DataError(f"{what} {need} tensors with at least one row")
    return lengths[0]


def leads(tensors: Sequence[Tensor]) -> bool:
    """Whether this process is the one that shows progress."""
    for tensor in tensors:
        if isinstance(tensor, SecretTensor):
            session = tensor._protocol.session
            return session.embedded or session.role == session.parties[0]
    return True


@contextmanager
def progress_bar(total: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that counts one step and shows how far the loop is."""
    how = os.environ.get(PROGRESS, "")
    console = Console(stderr=True, force_terminal=True if how == "bar" else None)
    if not shown or how == "off" or (how != "lines" and not console.is_terminal):
        yield lambda description: None
    elif how == "lines":
        yield _lines(total)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, auto_refresh=False) as bar:
            yield _bar(bar, total)


def _bar(bar: Progress, total: int) -> Callable[[str], None]:
    task, drawn = bar.add_task("epoch 1", total=total), 0.0

    def advance(description: str) -> None:
        nonlocal drawn
        bar.update(task, advance=1, description=description)
        if time.monotonic() - drawn > REFRESH_SECONDS:
            bar.refresh()
            drawn = time.monotonic()

    return advance


def _lines(total: int) -> Callable[[str], None]:
    done = 0

    def advance(description: str) -> None:
        nonlocal done
        done += 1
        if done * 100 // total != (done - 1) * 100 // total:
            print(f"{description}, step {done}/{total}", file=sys.stderr, flush=True)

    return advance
