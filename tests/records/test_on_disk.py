"""Tables that are larger than memory: what stays in files is what would be in memory, and is shared when it is used."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import StandardScaler

import tacit
from tacit.errors import DataError, UnusableTable
from tacit.records import stored

ROWS = 500
ALL = {"impute": "median", "categories": "one-hot", "dates": "days", "scale": "standard", "clip": 5}


@pytest.fixture
def random():
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return np.random.default_rng(seed)


@pytest.fixture
def chunks(monkeypatch):
    """Pieces so small that a table has several."""
    monkeypatch.setattr(stored, "CHUNK", 64)
    monkeypatch.setattr("tacit.records.columns.CHUNK", 64)


@pytest.fixture
def path(tmp_path, random):
    """A table with gaps in columns of every kind."""
    frame = pd.DataFrame(
        {
            "id": random.permutation(ROWS),
            "income": random.normal(50, 9, ROWS),
            "children": random.integers(0, 5, ROWS),
            "rooms": pd.array(random.integers(1, 9, ROWS), dtype="Int64"),
            "member": random.random(ROWS) < 0.5,
            "job": random.choice(["smith", "clerk", "Köhler", None], ROWS),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, ROWS), unit="D"),
            "repaid": random.choice(["yes", "no"], ROWS),
        }
    )
    for name in ("income", "rooms", "since"):
        frame.loc[random.random(ROWS) < 0.1, name] = None
    frame.to_parquet(tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def read(path, disk=None, owner="alice"):
    return tacit.read_table(path, owner, key="id", label="repaid", on_disk=disk)


def revealed(tensors):
    return [tacit.reveal(each) for each in tensors]


def test_columns_in_files_are_those_in_memory(session, path, chunks, tmp_path):
    one, two = read(path), read(path, tmp_path)

    assert two.types == one.types
    assert repr(two) == repr(one)
    for name, column in one.held.frame.items():
        kept = two.held.frame[name]
        assert kept.dtype == column.dtype
        assert pd.Series(kept[:]).equals(pd.Series(column))
    assert torch.equal(one.held.digests, two.held.digests)
    assert torch.equal(tacit.reveal(one.y), tacit.reveal(two.y))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # files have no names


def test_preparations_are_the_same_and_rows_are_shared_when_they_are_used(session, path, chunks, tmp_path, random):
    train = torch.from_numpy(random.permutation(ROWS)[:300])
    one, two = read(path).prepared(tacit.prepare.Table(**ALL), train=train), read(path, tmp_path)
    two = two.prepared(tacit.prepare.Table(**ALL), train=train)
    rows = torch.from_numpy(random.permutation(ROWS)[:70])

    found = revealed(two[rows])

    assert two.columns == one.columns
    assert all(map(torch.equal, found, revealed(one[rows])))
    assert torch.equal(found[0], tacit.reveal(one.x)[rows])
    assert torch.equal(found[0], tacit.reveal(two.x)[rows])
    assert torch.equal(found[1], tacit.reveal(one.y)[rows])


def test_joined_rows_come_in_batches(session, path, chunks, tmp_path):
    other = {"no": np.arange(0, ROWS, 2)[::-1], "debt": np.arange(0, ROWS, 2)[::-1] / 8}
    people = tacit.join(read(path, tmp_path), tacit.read_table(other, "bob", key="no", on_disk=tmp_path))
    preparations = {"alice": tacit.prepare.Table(**ALL), "bob": tacit.prepare.Table()}
    train, test = tacit.train_test_split(torch.arange(len(people)), test_size=0.2)

    people = people.prepared(preparations, train=train)
    part = torch.cat([tacit.reveal(x) for x, _ in people.batches(60, rows=test, shuffle=False, progress=False)])
    labels = torch.cat([tacit.reveal(y) for _, y in people.batches(60, rows=test, shuffle=False, progress=False)])
    sizes = [len(y) for _, y in people.batches(60, epochs=2, progress=False, drop_last=True)]

    assert torch.equal(part, tacit.reveal(people.x)[test])
    assert torch.equal(labels, tacit.reveal(people.y)[test])
    assert sizes == [60] * 8
    assert set(tacit.reveal(people.x)[:, -1].tolist()) == set(other["debt"].tolist())


@pytest.mark.parametrize("how", ["members", "size", "left"])
def test_rows_of_a_join_are_those_of_its_tensors(session, how):
    a = {"id": [1, 2, 3, 4], "x": [1.0, 2.0, 3.0, 4.0], "y": [0, 1, 0, 1]}
    b = {"id": [4, 3, 9], "z": [40.0, 30.0, 90.0]}
    tables = tacit.read_table(a, "alice", key="id", label="y"), tacit.read_table(b, "bob", key="id")
    options = {"how": "left"} if how == "left" else {"reveal": how}

    people = tacit.join(*tables, **options)
    found = revealed(people[[1, 0]])

    assert torch.equal(found[0], tacit.reveal(people.x)[[1, 0]])
    assert torch.equal(found[1], tacit.reveal(people.y)[[1, 0]])
    assert all(map(torch.equal, revealed(people[[1, 0]]), found))  # now of what has been shared
    with pytest.raises(DataError, match="rows are a mask of"):
        people[[9]]
    with pytest.raises(DataError, match="one row at least"):
        people.batches(2, rows=[])


def test_transformers_of_scikit_learn_are_fitted_on_what_is_in_files(session, path, chunks, tmp_path):
    def prepared():
        return tacit.prepare.Table(transform=make_column_transformer((StandardScaler(), ["children", "member"])))

    one, two = (
        read(path).prepared(prepared(), train=range(99)),
        read(path, tmp_path).prepared(prepared(), train=range(99)),
    )

    assert torch.equal(tacit.reveal(one.x), tacit.reveal(two.x))


def test_all_that_is_no_number_is_told_at_once(session, path, tmp_path):
    with pytest.raises(UnusableTable) as told:
        read(path, tmp_path).batches(9).__next__()
    with pytest.raises(UnusableTable) as expected:
        _ = read(path).x

    assert str(told.value) == str(expected.value)
    assert "column 'job' holds words" in str(told.value)
    assert "column 'income' has no value in" in str(told.value)


def test_what_cannot_be_kept(session, path, tmp_path, monkeypatch):
    with pytest.raises(UnusableTable, match=r"no table can be kept in .*none: No such file"):
        read(path, tmp_path / "none")
    monkeypatch.setattr(stored, "MOST_WORDS", 2)
    with pytest.raises(UnusableTable, match="column 'job' has more than 2 different texts: is it a key"):
        read(path, tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UnusableTable, match=r"there is no room for the table in .*: No space left"):
        read(path, tmp_path)


def full(*_):
    raise OSError(28, os.strerror(28))


PROGRAM = """
import resource, sys, tacit, torch
from torch.nn.functional import binary_cross_entropy_with_logits

path, disk, megabytes = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])
torch.set_num_threads(1)
usual = {"impute": "median", "categories": "one-hot", "scale": "standard"}
with tacit.session():  # what Tacit, DuckDB and pandas take by themselves is there before
    warm = tacit.read_table({"id": [1, 2], "a": [1.0, 2.0]}, "alice", key="id", on_disk=disk)
    next(warm.prepared(tacit.prepare.Table(scale="standard"), train=[0, 1]).batches(1))
own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (own * 1024 + megabytes * 2**20,) * 2)
with tacit.session():
    table = tacit.read_table(path, "alice", key="id", label="repaid", on_disk=disk)
    table = table.prepared(tacit.prepare.Table(**usual), train=slice(0, len(table) // 2))
    model, rows = tacit.share(torch.nn.Linear(len(table.columns), 1)), 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = table.batches(1 << 16) if disk else tacit.batches(table.x, table.y, size=1 << 16)
    for x, y in batches:
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(x).squeeze(1), y.float()).backward()
        optimizer.step()
        rows += len(y)
    print(rows, "rows")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_million_rows_of_twenty_columns_are_trained_on_in_a_gigabyte(tmp_path, random):
    """All roles in one process, which may take a gigabyte beside what it has with nothing read: 3.2 in memory."""
    (tmp_path / "program.py").write_text(PROGRAM)
    writer = None
    for start in range(0, 2_000_000, 250_000):
        columns = {"id": np.arange(start, start + 250_000), "repaid": random.choice(["yes", "no"], 250_000)}
        columns |= {f"c{k}": random.normal(size=250_000).round(3) for k in range(19)}
        columns["job"] = random.choice(["smith", "clerk", None], 250_000)
        table = pa.table(columns)
        writer = writer or parquet.ParquetWriter(tmp_path / "people.parquet", table.schema)
        writer.write_table(table)
    writer.close()

    def run(disk):
        command = [sys.executable, tmp_path / "program.py", tmp_path / "people.parquet", disk, "1000"]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=one_thread, timeout=800)

    on_disk, in_memory = run(tmp_path), run("")

    assert on_disk.returncode == 0, on_disk.stderr
    assert on_disk.stdout == "2000000 rows\n"
    assert in_memory.returncode != 0  # so the limit is one
