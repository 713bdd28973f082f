"""What a rank reads of a table of which it has some rows, and what all ranks have to find alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from tacit.errors import UnusableTable
from tacit.records.alike import of_footer, of_table
from tacit.records.own import Wanted
from tacit.records.packages import TABLE
from tacit.records.read import _read
from tacit.records.sources import Reading, loaded
from tacit.session.ranks import Rank

COUNT = 3
ROWS = 100
KEYS = [None if i % 9 == 0 else f"k{i}" for i in range(ROWS)]
COLUMNS = {
    "no": KEYS,
    "x": np.arange(ROWS) / 4,
    "word": [None if i % 7 == 0 else "abc"[i % 3] for i in range(ROWS)],
    "good": np.where(np.arange(ROWS) < 90, "yes", "no"),  # of the first ranks' rows all are of one class
    "whole": [None if i == 50 else i for i in range(ROWS)],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A Parquet file of ten row groups."""
    parquet.write_table(pyarrow.table(COLUMNS), tmp_path / "rows.parquet", row_group_size=10)
    return tmp_path / "rows.parquet"


def read(source: object, shard: str, index: int, folder: Path | None = None, **how: object):
    wanted = Wanted(("no",), (("no",),), "good", None, None, shard, Rank(index, COUNT))
    return _read(source, wanted, Reading(keys=("no",), label="good", **how), folder)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("shard", ["rows", "key"])
def test_ranks_have_all_rows_of_a_parquet_file_once(session, file, tmp_path, shard, on_disk):
    parts = [read(file, shard, index, tmp_path if on_disk else None) for index in range(COUNT)]

    origin = torch.cat([held.origin for held, _ in parts])
    assert torch.equal(origin.sort().values, torch.arange(ROWS))
    assert sum(public["rows"] for _, public in parts) == ROWS
    for held, public in parts:
        places = held.origin.numpy()
        assert public["classes"] == 2
        assert np.array_equal(held.frame["x"][:], COLUMNS["x"][places])
        assert list(held.frame["word"][:]) == [COLUMNS["word"][p] for p in places]
        assert list(held.label.values) == [int(COLUMNS["good"][p] == "yes") for p in places]
    if shard == "key":
        table = [read(dict(COLUMNS), shard, index) for index in range(COUNT)]
        keyed = torch.tensor([key is not None for key in KEYS])
        for (one, _), (other, _) in zip(parts, table, strict=True):  # at one rank, whatever the table is read from
            assert torch.equal(one.origin[keyed[one.origin]], other.origin[keyed[other.origin]])


def test_a_rank_reads_the_row_groups_that_it_has_rows_of(session, file):
    first = parquet.ParquetFile(file).metadata.row_group(0)
    columns = [first.column(place) for place in range(first.num_columns)]
    broken = bytearray(file.read_bytes())
    for column in columns:
        if column.path_in_schema in ("x", "word", "whole"):
            start = column.dictionary_page_offset or column.data_page_offset
            broken[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    file.write_bytes(broken)

    with pytest.raises(UnusableTable):
        read(file, "rows", 0)
    for index in (1, 2):
        held, _ = read(file, "rows", index)
        assert np.array_equal(held.frame["x"], COLUMNS["x"][held.origin.numpy()])


def test_what_is_wrong_with_a_parquet_file_is_told_before_its_rows_are_read(session, file, tmp_path):
    parquet.write_table(pyarrow.table({"x": [1.0], "good": ["yes"]}), tmp_path / "lacking.parquet")
    parquet.write_table(pyarrow.table({"no": [], "good": []}), tmp_path / "empty.parquet")

    with pytest.raises(UnusableTable, match="it has no column 'no'"):
        read(tmp_path / "lacking.parquet", "rows", 0)
    with pytest.raises(UnusableTable, match="it has no rows"):
        read(tmp_path / "empty.parquet", "key", 0)
    with pytest.raises(UnusableTable, match="column 'whole' is not what dtype says in"):
        read(file, "rows", 1, dtype={"whole": "bool"})


def test_tables_that_ranks_compare_have_digests_of_their_own(session, tmp_path):
    def digest(rows: list[tuple[int, str]], in_order: bool) -> bytes:
        connection = loaded(dict(zip("ab", map(list, zip(*rows, strict=True)), strict=True)), Reading())
        names = [n for n, *_ in connection.execute(f"DESCRIBE {TABLE}").fetchall()]
        return of_table(connection, names, in_order=in_order)

    rows = [(1, "x"), (2, "y"), (2, "y")]
    assert digest(rows, True) == digest(rows, True) != digest(rows[::-1], True)
    assert digest(rows, False) == digest(rows[::-1], False)
    assert len({digest(r, False) for r in (rows, rows[1:], [*rows, (2, "y")], [(1, "y"), (2, "x"), (2, "y")])}) == 4

    files = [tmp_path / f"{k}.parquet" for k in range(3)]
    for file, values in zip(files, ([1, 2], [1, 2], [1, 3]), strict=True):
        parquet.write_table(pyarrow.table({"a": values}), file)
    one, same, other = map(of_footer, files)
    assert one == same != other
