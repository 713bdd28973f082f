"""What would be read without a word and be something else: it is refused, named or warned of, and no value shown."""

from __future__ import annotations

import sqlite3

import numpy as np
import openpyxl
import pandas as pd
import pytest

import tacit
from tacit.errors import ConfigError, UnusableTable
from tacit.prepare import Table

HIDDEN = 987.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"A1,5,{HIDDEN}\nA2,6,1.5\nA3,7,2.5\n", "in columns 2, 3 a value stands there"),
        ("A1,2020-01-02,x\nA2,2020-01-03,y\n", "in column 2"),
        (f"A1,{HIDDEN},{HIDDEN}\nA2,1.5,2.5\n", "in columns 2, 3"),
        ("Ann,car,north\nBen,car,south\nCem,van,north\n", "see column 2"),
        (",a,b\n0,1,2\n1,2,3\n", "column 1 has no name (pandas"),
    ],
    ids=["numbers", "dates", "alike", "words", "index"],
)
def test_a_row_is_not_taken_for_names(session, write, text, said):
    with pytest.raises(UnusableTable) as raised:
        tacit.read_table(write(text), "alice", key="id")

    assert said in str(raised.value)
    assert str(HIDDEN) not in str(raised.value)


@pytest.mark.parametrize(
    "header",
    ["id,2019,2020", "id,9,3", "id,a,5", "true,a,b", "0,1,2,x"],
    ids=["years", "codes", "mixed", "key", "places"],
)
def test_names_that_count_or_stand_beside_words_are_names(session, write, header):
    cells = ",".join(["7"] * header.count(","))
    table = tacit.read_table(write(f"{header}\nA1,{cells}\nA2,{cells}\n"), "alice", key=header.split(",")[0])

    assert list(table.columns) == header.split(",")[1:]


def test_names_that_the_program_says_are_names(session, write):
    sample = tacit.read_table(write("id,250,401\nA1,1.5,7\nA2,2.5,8\n"), "alice", key="id", columns=["250", "401"])
    words = tacit.read_table(write("id,smoker\nA1,smoker\nA2,no\n", "w.csv"), "alice", key="id", label="smoker")
    empty = tacit.read_table(write("id,score\na,\nb,\n", "e.csv"), "alice", key="id", dtype={"score": "float"})

    assert (list(sample.columns), words.classes, list(empty.columns)) == (["250", "401"], 2, ["score"])
    with pytest.raises(UnusableTable, match=r"if these are names, say so, columns=\[…\]"):
        tacit.read_table(write("id,250,401\nA1,1.5,7\n", "x.csv"), "alice")


def test_a_row_of_a_sheet_is_not_taken_for_names(session, tmp_path):
    book = openpyxl.Workbook()
    for row in (("A1", HIDDEN, "x"), ("A2", 1.5, "y")):
        book.active.append(row)
    book.save(tmp_path / "people.xlsx")

    with pytest.raises(UnusableTable, match="looks like a row") as raised:
        tacit.read_table(tmp_path / "people.xlsx", "alice")

    assert str(HIDDEN) not in str(raised.value)


def test_points_of_thousands_are_not_those_of_decimals(session, write):
    path = write("id;amount;rate\na;1.000;1,5\nb;12.500;2,5\n")

    with pytest.raises(UnusableTable, match=r"column 'amount' holds numbers with points beside decimal=','"):
        tacit.read_table(path, "alice", key="id", decimal=",")

    table = tacit.read_table(path, "alice", key="id", decimal=",", thousands=".")
    assert tacit.reveal(table.x).tolist() == [[1000, 1.5], [12500, 2.5]]


def test_numbers_with_commas_are_no_words(session, write):
    table = tacit.read_table(write("id;amount\na;1,5\nb;2,5\n"), "alice", key="id")

    with pytest.raises(UnusableTable, match="that look like numbers: say how they are written, decimal=…"):
        _ = table.x
    with pytest.raises(UnusableTable, match="column 'amount' holds texts that look like numbers"):
        table.prepared(Table(categories="one-hot"), train=[0, 1])

    kept = table.prepared(Table(categories="one-hot", keep=["amount"]), train=[0, 1])
    assert kept.columns == ("amount=1,5", "amount=2,5")
    codes = tacit.read_table({"id": ["a", "b"], "zip": ["01067", "80331"]}, "alice", key="id")
    assert codes.prepared(Table(categories="one-hot"), train="own").columns == ("zip=01067", "zip=80331")


def test_empty_texts_are_no_values(session, tmp_path):
    with sqlite3.connect(tmp_path / "people.db") as base:
        base.execute("CREATE TABLE t (id TEXT, job TEXT, kind TEXT)")
        base.executemany("INSERT INTO t VALUES (?, ?, ?)", [("a", "clerk", "x"), ("b", "", "y"), ("c", "  ", "x")])
    base.close()

    table = tacit.read_table(tmp_path / "people.db", "alice", key="id")
    assert table.prepared(Table(categories="one-hot"), train="own").columns == ("job=clerk", "kind=x", "kind=y")
    with pytest.raises(UnusableTable, match="the label 'job' has no value in 2 of 3 rows"):
        tacit.read_table(tmp_path / "people.db", "alice", key="id", label="job")


def test_all_that_is_wrong_with_a_column_is_told(session):
    table = tacit.read_table({"k": [1, 2, 3], "v": ["1", None, "x"], "w": [None, float("inf"), 1.0]}, "alice", key="k")

    with pytest.raises(UnusableTable) as raised:
        _ = table.x

    for said in ("'v' holds words in row 3", "'v' has no value in row 2", "'w' has no value in row 1", "in row 2"):
        assert said in str(raised.value)


@pytest.mark.parametrize("values", [[1, 2, 1], [-1.0, 1.0, -1.0]], ids=["one-two", "signs"])
def test_a_label_of_two_numbers_is_taken_for_classes_by_its_owner(session, values):
    with pytest.warns(UserWarning, match="the label 'l' has two different numbers"):
        tacit.read_table({"k": ["a", "b", "c"], "x": [1, 2, 3], "l": values}, "alice", key="k", label="l")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"skip": -1}, "skip is how many lines"),
        ({"skip": "2"}, "skip is how many lines"),
        ({"decimal": ";"}, "none of the marks"),
        ({"thousands": "."}, "needs another decimal mark"),
        ({"thousands": ",", "decimal": ","}, "needs another decimal mark"),
        ({"date_format": "dd.mm.yyyy"}, "has no %"),
    ],
    ids=["skip", "skip-text", "decimal", "thousands", "both", "format"],
)
def test_options_that_say_nothing_are_refused(session, write, options, said):
    with pytest.raises(ConfigError, match=said):
        tacit.read_table(write("id,a\nx,1\n"), "alice", key="id", **options)


def test_names_that_are_not_there_are_refused(session, write):
    path = write("id,a\nx,1\ny,2\n")

    with pytest.raises(UnusableTable, match="dtype says what there is no column for, 'aa'"):
        tacit.read_table(path, "alice", key="id", dtype={"aa": "str"})
    with pytest.raises(UnusableTable, match="drop names 'aa', and it has no such column"):
        tacit.read_table(path, "alice", key="id").prepared(Table(drop=["aa"]), train=[0, 1])


@pytest.mark.parametrize("ending", [".bz2", ".xz"])
def test_files_compressed_in_other_ways_are_named(session, write, ending):
    with pytest.raises(UnusableTable, match="gzip and zstd are"):
        tacit.read_table(write("id,a\nx,1\n", f"people.csv{ending}"), "alice", key="id")


def test_periods_are_no_numbers(session):
    months = pd.period_range("2020-01", periods=2, freq="M")

    with pytest.raises(UnusableTable, match="periods or intervals"):
        tacit.read_table(pd.DataFrame({"k": ["a", "b"], "month": months}), "alice", key="k")
    with pytest.raises(UnusableTable, match="'c' holds words"):
        _ = tacit.read_table({"k": ["a", "b"], "c": np.array([1j, 2j])}, "alice", key="k").x
