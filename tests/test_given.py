"""What owners pass to `tacit.share`: arrays and tables as people have them, or a sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.errors import DataError
from tacit.session.session import Session

pd = pytest.importorskip("pandas")


@pytest.fixture
def session() -> Iterator[Session]:
    with tacit.session(seed=1) as opened:
        yield opened


def table() -> Any:
    return pd.DataFrame({"age": [30, 40, 50], "income": [1.5, 2.5, 3.5], "city": ["a", "b", "a"]})


def read_only() -> Any:
    array = np.arange(3.0)
    array.flags.writeable = False
    return array


GIVEN: dict[str, tuple[Callable[[], Any], torch.dtype, Any]] = {
    "flipped": (lambda: np.arange(6.0).reshape(2, 3)[::-1], torch.float64, [[3, 4, 5], [0, 1, 2]]),
    "transposed": (lambda: np.arange(6).reshape(2, 3).T, torch.int64, [[0, 3], [1, 4], [2, 5]]),
    "big-endian": (lambda: np.arange(3, dtype=">f4"), torch.float32, [0, 1, 2]),
    "big-endian integers": (lambda: np.array([1, 2**40], dtype=">i8"), torch.int64, [1, 2**40]),
    "read-only": (read_only, torch.float64, [0, 1, 2]),
    "bits": (lambda: np.array([True, False]), torch.bool, [True, False]),
    "unsigned": (lambda: np.array([65535], dtype=np.uint16), torch.uint16, [65535]),
    "a number of NumPy": (lambda: np.float32(2.5), torch.float32, 2.5),
    "no rows": (lambda: np.zeros((0, 3)), torch.float64, []),
    "objects": (lambda: np.array([1, 2.5, True], dtype=object), torch.float64, [1, 2.5, 1]),
    "objects that are integers": (lambda: np.array([2**53 + 1, 3], dtype=object), torch.int64, [2**53 + 1, 3]),
    "a data frame": (lambda: table()[["age", "income"]], torch.float64, [[30, 1.5], [40, 2.5], [50, 3.5]]),
    "columns of several types": (
        lambda: pd.get_dummies(table()).drop(columns="income"), torch.int64, [[30, 1, 0], [40, 0, 1], [50, 1, 0]],
    ),
    "a series": (lambda: table().age, torch.int64, [30, 40, 50]),
    "a series without its first row": (lambda: table().age[1:], torch.int64, [40, 50]),
    "nullable integers": (lambda: pd.Series([1, 2], dtype="Int64"), torch.int64, [1, 2]),
    "tensors in a list": (lambda: [torch.ones(2), torch.zeros(2)], torch.float32, [[1, 1], [0, 0]]),
    "tensors of no dimension": (lambda: (torch.tensor(1), torch.tensor(2)), torch.int64, [1, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_arrays_and_tables_are_shared_as_they_come(name, session):
    make, dtype, want = GIVEN[name]

    secret = tacit.share(make(), owner="alice")

    assert secret.dtype == dtype
    assert tacit.reveal(secret).tolist() == want


MISFITS: dict[str, tuple[Callable[[], Any], str]] = {
    "text": (lambda: table(), r"holds a str at index \(0, 2\)"),
    "none": (lambda: np.array([1, None], dtype=object), "holds a NoneType at index 1"),
    "missing": (lambda: pd.Series([1, 2, None], dtype="Int64"), "index 2"),
    "times": (lambda: pd.Series(pd.to_datetime(["2020-01-01"])), "datetime64.*encode categories and times"),
    "categories": (lambda: pd.Series(["a", "b"], dtype="category"), "holds a str at index 0"),
    "too large, unsigned": (lambda: np.array([2**63], dtype=np.uint64), "2\\^63"),
    "records": (lambda: np.zeros(2, dtype=[("a", int)]), "not numbers"),
    "complex": (lambda: np.ones(2, dtype=complex), "real numbers"),
    "sparse": (lambda: torch.eye(2).to_sparse(), "sparse: write .*to_dense"),
    "meta": (lambda: torch.ones(2, device="meta"), "meta device"),
    "ragged": (lambda: [[1, 2], [3]], "of one length"),
    "tensors of several shapes": (lambda: [torch.ones(2), torch.zeros(3)], r"several shapes \(\(2,\), \(3,\)"),
    "one string": (lambda: "abc", "not a str"),
    "a generator": (lambda: (i for i in range(3)), "not a generator"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_holds_no_numbers_says_where(name, session):
    make, message = MISFITS[name]

    with pytest.raises(DataError, match=message):
        tacit.share(make(), owner="alice", name="the table")


def test_secrets_among_what_is_shared_are_named(session):
    x = tacit.share(torch.ones(2), owner="alice")

    with pytest.raises(DataError, match=r"torch\.stack"):
        tacit.share([x, torch.ones(2)])


def test_extended_precision_is_refused(session):
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(DataError, match="make it float64"):
            tacit.share(np.ones(2, dtype=np.longdouble))
