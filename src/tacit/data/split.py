"""Training and test rows: in a public order, or stratified by a secret label, which nobody learns anything of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tacit.data.batches import common_length
from tacit.errors import DataError
from tacit.functions.arrangement import by_class, shuffled
from tacit.functions.rows import row_weight, weigh
from tacit.protocols.number import Number
from tacit.protocols.remembered import within
from tacit.protocols.values import Bits, Value
from tacit.tensor import SecretTensor
from tacit.tensor.operands import as_secret, plain, secret

__all__ = ["KFold", "StratifiedKFold", "train_test_split"]

MOST_CLASSES = 100
"""To stratify by. Each takes a comparison and a product for every row."""


def train_test_split(
    *tensors: Tensor,
    test_size: float | int | None = None,
    train_size: float | int | None = None,
    random_state: int | None = None,
    shuffle: bool = True,
    stratify: Tensor | None = None,
    classes: Sequence[int] | None = None,
) -> list[Tensor]:
    """Split rows into training and test rows: [x_train, x_test, y_train, y_test, …], as scikit-learn does.

    Which rows are which is public, and drawn from PyTorch's public generator, which a session seeds alike at every
    role; with `random_state`, from that seed. It does not depend on secrets.

    With secret labels to `stratify` by, of public `classes` (0 and 1 unless they are known), rows move to places that
    nobody knows, and the parts have the same part of each class, up to one row. Nobody learns where
    in a part a row is, nor how many rows a class has; which part it is in, only who knows the labels can work out.

    Args:
        tensors: secret or plain, with the same number of rows.
        test_size: the part of the rows, or their number; by default a quarter, or what `train_size` leaves.
        train_size: likewise; by default what is left.
        random_state: a seed of its own.
        shuffle: whether rows are drawn at random; otherwise the last ones are the test rows.
        stratify: labels, one a row.
        classes: what labels there are. Others count with the first of them.
    """
    rows = common_length(tensors, "train_test_split")
    train, test = _sizes(rows, test_size, train_size)
    generator = _generator(random_state)
    if stratify is None:
        order = torch.randperm(rows, generator=generator) if shuffle else None
        if order is None:
            chosen = torch.arange(train), torch.arange(train, train + test)
        else:
            chosen = order[test : test + train], order[:test]
        return [_rows(t, part) for t in tensors for part in chosen]
    if not shuffle:
        raise DataError("stratified rows are drawn at random: leave out shuffle=False, or stratify")
    held, rest = _every(rows, test, generator)
    parts = [rest[_every(len(rest), train, generator)[0]], held]
    moved = _stratified(tensors, stratify, classes, parts, generator, "train_test_split")
    return [part for pair in moved for part in pair]


class KFold:
    """Split rows into k parts, each of which is once the test rows, as scikit-learn's class does. Indices are public.

    Args:
        n_splits: k.
        shuffle: whether rows are drawn at random, from PyTorch's public generator or, with `random_state`, that seed.
        random_state: see `shuffle`.
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: int | None = None) -> None:
        if type(n_splits) is not int or n_splits < 2:
            raise DataError(f"there are two folds at least, not {n_splits!r}")
        if random_state is not None and not shuffle:
            raise DataError("random_state is for shuffled rows: write shuffle=True")
        self.n_splits, self.shuffle, self.random_state = n_splits, shuffle, random_state

    def get_n_splits(self, X: Any = None, y: Any = None) -> int:  # noqa: N803 - scikit-learn's name
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Tensor, y: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: N803
        """Yield the places of training and of test rows, ascending, for each fold."""
        rows = common_length((X,) if y is None else (X, y), "KFold")
        sizes = _folds(rows, self.n_splits)
        order = torch.randperm(rows, generator=_generator(self.random_state)) if self.shuffle else torch.arange(rows)
        for test in order.split(sizes):
            held = torch.zeros(rows, dtype=torch.bool)
            held[test] = True
            yield (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


class StratifiedKFold:
    """Folds with the same part of each class, up to one row, of labels that may be secret.

    Rows move to places that nobody knows, so there are no indices: `split` takes all tensors and yields their parts.
    Nobody learns where in a fold a row is, nor how many rows a class has; which fold it is in, only who knows the
    labels can work out.

    Args:
        n_splits: the number of folds.
        random_state: a seed for the public choices; without, PyTorch's public generator makes them.
        classes: what labels there are, 0 and 1 unless they are known. Others count with the first.
    """

    def __init__(
        self, n_splits: int = 5, *, random_state: int | None = None, classes: Sequence[int] | None = None
    ) -> None:
        if type(n_splits) is not int or n_splits < 2:
            raise DataError(f"there are two folds at least, not {n_splits!r}")
        self.n_splits, self.random_state, self.classes = n_splits, random_state, classes

    def get_n_splits(self, X: Any = None, y: Any = None) -> int:  # noqa: N803 - scikit-learn's name
        """Return the number of folds."""
        return self.n_splits

    def split(self, *tensors: Tensor, by: Tensor | None = None) -> Iterator[list[Tensor]]:
        """Yield [x_train, x_test, y_train, y_test, …] for each fold, stratified `by` labels, by default the last."""
        rows = common_length(tensors, "StratifiedKFold")
        generator = _generator(self.random_state)
        labels = tensors[-1] if by is None else by
        ranks = torch.arange(rows)
        _folds(rows, self.n_splits)
        parts = [ranks[k :: self.n_splits] for k in range(self.n_splits)]
        moved = _stratified(tensors, labels, self.classes, parts, generator, "StratifiedKFold")
        for fold in range(self.n_splits):
            row = []
            for tensor in moved:
                row += [torch.cat([p for k, p in enumerate(tensor) if k != fold]), tensor[fold]]
            yield row


def _sizes(rows: int, test_size: float | int | None, train_size: float | int | None) -> tuple[int, int]:
    """The numbers of training and of test rows, by scikit-learn's rule: the test's is rounded up, the other down."""
    for name, size in (("test_size", test_size), ("train_size", train_size)):
        if size is None:
            continue
        whole = isinstance(size, int) and not isinstance(size, bool)
        if not isinstance(size, (int, float)) or isinstance(size, bool) or (not whole and not 0 < size < 1):
            raise DataError(f"{name} is a part between 0 and 1 or a number of rows, not {size!r}")
        if whole and not 0 < size < rows:
            raise DataError(f"{name} of {size} rows leaves nothing of {rows}, or takes nothing")
    if test_size is None and train_size is None:
        test_size = 0.25
    test = None if test_size is None else test_size if isinstance(test_size, int) else math.ceil(test_size * rows)
    train = None if train_size is None else train_size if isinstance(train_size, int) else int(train_size * rows)
    if train is None:
        assert test is not None
        train = rows - test
    test = rows - train if test is None else test
    if train < 1 or test < 1 or train + test > rows:
        raise DataError(f"{rows} rows cannot be split into {train} training and {test} test rows")
    return train, test


def _folds(rows: int, folds: int) -> list[int]:
    if folds > rows:
        raise DataError(f"{rows} rows are too few for {folds} folds")
    return [rows // folds + (k < rows % folds) for k in range(folds)]


def _generator(seed: int | None) -> torch.Generator | None:
    if seed is None:
        return None
    if type(seed) is not int:
        raise DataError(f"random_state is an integer that all roles have alike, not {seed!r}")
    return torch.Generator().manual_seed(seed)


def _rows(x: Any, places: Tensor) -> Any:
    return x[places] if isinstance(x, Tensor) else x[places.numpy()]


def _every(rows: int, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """So many ranks of all, evenly apart from a random beginning, and the others.

    A class is a run of ranks, and has the same part of it among them, up to one row.
    """
    start = torch.rand(1, generator=generator, dtype=torch.float64)
    chosen = ((torch.arange(count, dtype=torch.float64) + start) * rows / count).to(torch.int64).clamp(max=rows - 1)
    held = torch.zeros(rows, dtype=torch.bool)
    held[chosen] = True
    return chosen, (~held).nonzero().squeeze(1)


def _stratified(
    tensors: Sequence[Tensor],
    labels: Tensor,
    classes: Sequence[int] | None,
    parts: Sequence[Tensor],
    generator: torch.Generator | None,
    name: str,
) -> list[list[Tensor]]:
    """The parts of each tensor, of rows in the order of their labels, each part in an order of its own."""
    common_length((*tensors, labels), name)
    labels = labels.detach()
    if labels.dim() == 2 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.dim() != 1:
        raise DataError(f"{name} stratifies by one label a row, not by a tensor of shape {tuple(labels.shape)}")
    order = torch.randperm(len(labels), generator=generator)
    known = plain(labels)
    if known is not None:  # what is public may be seen
        ranks = order[known[order].argsort(stable=True)]
        drawn = [p[torch.randperm(len(p), generator=generator)] for p in parts]
        return [[_rows(t, ranks[p]) for p in drawn] for t in tensors]
    assert isinstance(labels, SecretTensor)
    hots = _hots(labels[order], _classes(labels, classes), name)  # type: ignore[arg-type]
    values: list[Value] = [_share(t, labels, order) for t in tensors]
    weights = {
        k: mark for k, v in enumerate(values) if (mark := row_weight(v)) is not None
    }  # which go with their labels
    moved = by_class(hots, [*values, *weights.values()])
    split = [[v.move(lambda t, p=p: t[p.to(t.device)], view=False) for v in moved] for p in parts]  # type: ignore[misc]
    hidden = [shuffled(values) for values in split]
    for part in hidden:
        for k, moved_mark in zip(weights, part[len(tensors) :], strict=True):
            weigh(part[k], moved_mark)  # type: ignore[arg-type]
    return [[secret(part[k], t.dtype) for part in hidden] for k, t in enumerate(tensors)]


def _share(x: Tensor, beside: SecretTensor, order: Tensor) -> Value:
    share = as_secret(x.detach(), beside).share
    return share.move(lambda t: t[order.to(t.device)], view=False)


def _classes(labels: SecretTensor, classes: Sequence[int] | None) -> list[int]:
    if classes is None:
        found = within(labels.share.facts)
        return list(range(2) if found is None or len(found) > MOST_CLASSES else found)
    if not classes or len(set(classes)) < len(classes) or len(classes) > MOST_CLASSES:
        raise DataError(f"classes name from 1 to {MOST_CLASSES} labels, each once")
    return list(classes)


def _hots(labels: SecretTensor, classes: Sequence[int], name: str) -> list[Number]:
    """[label = class] as integers for all classes but the first, to which what is left belongs."""
    found = []
    for label in classes[1:]:
        one = labels if labels.dtype == torch.bool and label == 1 else labels == label
        share = one.share  # type: ignore[attr-defined]
        assert isinstance(share, Bits)
        found.append(share.arithmetic())
    return found
