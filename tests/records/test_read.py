"""Tables as people have them: every form gives the same secrets, and what is wrong is told to the owner alone."""

from __future__ import annotations

import gzip
import re
import sqlite3
from datetime import date
from hashlib import sha256

import duckdb
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import feather

import tacit
from tacit.cli.local import launch_local
from tacit.errors import ConfigError, DataError, UnusableTable, tellable
from tacit.records.columns import _of_batch
from tacit.records.keys import digest_of

NAMES = ("id", "age", "income", "member", "city", "fraud")
ROWS = [
    ("007", 31, 2.5, True, "Köln", "no"),
    ("8", 47, -1.25, False, "Ulm", "yes"),
    ("9", 60, 0.5, True, "Ulm", "no"),
]
FEATURES = [[31, 2.5, 1], [47, -1.25, 0], [60, 0.5, 1]]


def csv_text(delimiter=",", newline="\n", quote="", point="."):
    lines = [NAMES, *ROWS]
    cells = [[f"{quote}{cell}{quote}".replace(".", point) for cell in map(str, line)] for line in lines]
    return newline.join(delimiter.join(line) for line in cells) + newline


def frame():
    return pd.DataFrame(ROWS, columns=NAMES)


class Stream:
    """Whatever hands Arrow's stream out, as polars' data frames do."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested=None):
        return self._table.__arrow_c_stream__(requested)


def made(form, folder):
    """The same table in some form, and options to read it with."""
    path = folder / "people"
    if form == "gzip":
        path = folder / "people.csv.gz"
        path.write_bytes(gzip.compress(csv_text().encode()))
    elif form == "latin-1":
        path.write_bytes(csv_text(";").encode("latin-1"))
        return path, {"encoding": "latin-1"}
    elif form == "decimal comma":
        path.write_text(csv_text(";", point=","))
        return path, {"decimal": ","}
    elif form == "lines above":
        path.write_text("made in spring\n\n" + csv_text())
        return path, {"skip": 2}
    elif form in CSV:
        path.write_bytes(CSV[form].encode())
    elif form == "parquet":
        duckdb.from_arrow(pa.Table.from_pandas(frame())).write_parquet(str(path))
    elif form == "json lines":
        path = folder / "people.jsonl"
        frame().to_json(path, orient="records", lines=True)
    elif form == "arrow":
        feather.write_feather(pa.Table.from_pandas(frame()), str(path))
    elif form == "excel":
        path = folder / "people.xlsx"
        book = openpyxl.Workbook()
        for row in (NAMES, *ROWS):
            book.active.append(row)
        book.save(path)
    elif form == "sqlite":
        base = sqlite3.connect(path)
        frame().to_sql("people", base, index=False)
        base.close()
    else:
        return {"pandas": frame, "arrow table": lambda: pa.Table.from_pandas(frame())}.get(form, other(form))(), {}
    return path, {}


def other(form):
    return {
        "stream": lambda: Stream(pa.Table.from_pandas(frame())),
        "dict": lambda: {name: list(column) for name, column in zip(NAMES, zip(*ROWS, strict=True), strict=True)},
    }.get(form)


CSV = {
    "commas": csv_text(),
    "semicolons": csv_text(";"),
    "tabs": csv_text("\t"),
    "bars": csv_text("|"),
    "quotes": csv_text(quote='"'),
    "carriage returns": csv_text(newline="\r\n"),
    "a byte order mark": "\ufeff" + csv_text(),
}
FORMS = [*CSV, "gzip", "latin-1", "decimal comma", "lines above", "parquet", "json lines", "arrow", "excel", "sqlite"]
FORMS += ["pandas", "arrow table", "stream", "dict"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_secrets(session, form, tmp_path):
    source, options = made(form, tmp_path)

    table = tacit.read_table(
        source, "bob", key="id", label="fraud", columns=["age", "income", "member"], name="people", **options
    )

    assert repr(table) == "Records('people', 3 rows, columns=('age', 'income', 'member'), label='fraud')"
    assert (len(table), table.classes, table.class_names) == (3, 2, ("no", "yes"))
    assert tacit.reveal(table.x).tolist() == FEATURES
    assert tacit.reveal(table.y).tolist() == [0, 1, 0]
    assert (table.y.dtype, table.y.shape) == (torch.int64, (3,))


def test_the_owner_is_told_of_types_and_gaps_become_nothing_else(session, write):
    path = write("a,b,c,d,e\n1,,x,31.01.2020,NA\n2,2.5,y,,yes\n")

    table = tacit.read_table(path, "alice")

    assert table.types == {"a": "whole number", "b": "number", "c": "text", "d": "date", "e": "number"}
    held = table.held.frame
    assert np.isnan(held["b"][0])
    assert held["c"].tolist() == ["x", "y"]
    assert held["d"][0] == np.datetime64(date(2020, 1, 31))
    assert np.isnat(held["d"][1])
    with pytest.raises(UnusableTable) as told:
        _ = table.x
    assert str(told.value) == (
        f"{path} cannot be used: column 'b' has no value in row 1; column 'c' holds words in 2 of 2 rows (the first is "
        "row 1); column 'd' holds dates; column 'e' has no value in row 1"
    )


def test_a_query_runs_at_the_owner(session, write, tmp_path):
    path = write("id,age,fraud\n1,31,0\n2,47,1\n3,60,0\n")
    base = sqlite3.connect(tmp_path / "two.db")
    base.executescript("create table a(x, y); create table b(x); insert into a values (1, 2.5), (2, 3.5)")
    base.close()

    older = tacit.read_table(
        path, "alice", query="select age * 2 as twice, fraud from data where age > 40;", label="fraud"
    )
    from_base = tacit.read_table(tmp_path / "two.db", "alice", query="select y from a where x = 2")

    assert tacit.reveal(older.x).tolist() == [[94], [120]]
    assert tacit.reveal(older.y).tolist() == [1, 0]
    assert tacit.reveal(from_base.x).tolist() == [[3.5]]
    with pytest.raises(UnusableTable, match=r"has 2 tables \(a, b\): say which rows"):
        tacit.read_table(tmp_path / "two.db", "alice")
    with pytest.raises(UnusableTable, match=r"the query on .* does not run: Binder Error"):
        tacit.read_table(path, "alice", query="select wages from data")
    with pytest.raises(UnusableTable, match="does not run"):
        tacit.read_table(path, "alice", query=f"select * from read_csv('{path}')")


@pytest.mark.parametrize(
    ("text", "options", "problems"),
    [
        ("", {}, "it is empty"),
        ("a,b\n", {}, "it has no rows"),
        ("1,2\n3,4\n", {}, "its first line holds numbers and must name the columns"),
        ("a,a,\n1,2,3\n", {}, "two columns are named 'a'; column 3 has no name"),
        (
            "a,b\n1,2\n3\n4,5,6\n7,8\n9,1\n2,2\n",
            {},
            "too few cells in line 3; too many cells in line 4",
        ),
        (
            "a,b\n1,secret\n2,3\n3,secret\n",
            {"dtype": {"b": "float"}},
            "column 'b' is not what dtype says in 2 lines (the first is line 2)",
        ),
        ("a,b\n1,2\n", {"columns": ["c", "a"], "key": "d"}, "it has no column 'd', 'c'; its columns are a, b"),
        ("a,b\n1,\n2,x\n", {"label": "b"}, "the label 'b' has no value in row 1"),
        ("a,b\n1,x\n2,x\n", {"label": "b"}, "the label 'b' has the same value in all rows: say which there are"),
        ("a,b\n1,x\n2,z\n", {"label": "b", "classes": ["x", "y"]}, "is none of the classes that are stated in row 2"),
        ("a,b\n1,2\n2,5\n", {"label": "b", "classes": 3}, "is none of the classes 0 to 2 in row 2"),
    ],
)
def test_all_that_is_wrong_is_told_to_the_owner_at_once_and_never_a_value(session, write, text, options, problems):
    path = write(text)

    with pytest.raises(UnusableTable) as told:
        tacit.read_table(path, "alice", **options)

    assert str(told.value).startswith(f"{path} cannot be used: ")
    assert problems in str(told.value)
    assert "secret" not in str(told.value)
    assert not tellable(told.value)


def test_numbers_that_fixed_point_does_not_hold_are_counted(session, write):
    table = tacit.read_table({"a": [1.0, 1e15, -1e15], "b": [float("inf"), 2.0, 3.0]}, "alice")

    with pytest.raises(UnusableTable) as told:
        _ = table.x

    assert "column 'a' holds numbers that are infinite, or not below 7.03687e+13, in 2 of 3 rows" in str(told.value)
    assert "column 'b' holds numbers that are infinite, or not below 7.03687e+13, in row 1" in str(told.value)
    with pytest.raises(UnusableTable, match=r"the label 'b' is infinite, or not below 7\.03687e\+13, in row 1"):
        tacit.read_table({"b": [float("inf"), 2.0, 3.0]}, "alice", label="b")


def test_text_that_is_no_utf_8_and_files_that_are_not_there(session, tmp_path, write):
    with pytest.raises(UnusableTable, match=r"UTF-8|cannot be read"):
        tacit.read_table(write("a,b\n1,Köln\n" * 3, encoding="latin-1"), "alice", columns=["a"])
    with pytest.raises(UnusableTable, match="there is no file"):
        tacit.read_table(tmp_path / "nothing.csv", "alice")
    with pytest.raises(UnusableTable, match="cannot be read: it is not there"):
        tacit.read_table(tmp_path / "nothing.parquet", "alice")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UnusableTable, match=r"cannot be read \("):
        tacit.read_table(tmp_path / "torn.parquet", "alice")


def test_what_stands_for_no_value(session, write):
    path = write("a,b\n-,1\nNA,2\n3,\n")

    table = tacit.read_table(path, "alice", na="-", dtype={"a": "str"})

    assert table.held.frame["a"].tolist() == [None, "NA", "3"]
    assert np.isnan(table.held.frame["b"][2])


def test_types_are_stated_for_every_source_and_dates_of_sqlite_are_found(session, tmp_path):
    base = sqlite3.connect(tmp_path / "one.db")
    base.executescript(
        "create table a(since text, zip text, mixed); insert into a values ('2020-01-31', '01', 1), (null, '2', 'x')"
    )
    base.close()

    found = tacit.read_table(tmp_path / "one.db", "alice", dtype={"zip": "int"})

    assert found.types == {"since": "date", "zip": "whole number", "mixed": "text"}
    assert found.held.frame["zip"].tolist() == [1, 2]
    with pytest.raises(UnusableTable, match=r"column 'mixed' is not what dtype says in 1 row\Z"):
        tacit.read_table(tmp_path / "one.db", "alice", dtype={"mixed": "float"})


def test_labels_of_numbers_and_of_stated_classes(session, write):
    path = write("n,kind,x,flag\n1.5,b,1,true\n2,a,2,false\n-3,c,3,true\n")

    numbers = tacit.read_table(path, "bob", label="n", columns=["x"])
    stated = tacit.read_table(path, "bob", label="kind", columns=["x"], classes={"A": 0, "b": 1, "c": 0})
    ordered = tacit.read_table(path, "bob", label="kind", columns=["x"])
    flags = tacit.read_table(path, "bob", label="flag", columns=["x"], classes=[False, True])

    assert (numbers.classes, numbers.y.shape, numbers.y.dtype) == (None, (3, 1), torch.float32)
    assert tacit.reveal(numbers.y).tolist() == [[1.5], [2], [-3]]
    assert (stated.classes, tacit.reveal(stated.y).tolist()) == (2, [1, 0, 0])
    assert (ordered.class_names, tacit.reveal(ordered.y).tolist()) == (("a", "b", "c"), [1, 0, 2])
    assert tacit.reveal(flags.y).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 2}, "say which column it is"),
        ({"label": "a", "key": "a"}, "cannot be the key and the label"),
        ({"key": "a", "columns": ["a", "b"]}, "are those beside key and label"),
        ({"columns": ["b", "b"]}, "names a column twice"),
        ({"label": "b", "classes": {"x": 0, "y": 2}}, "each at least once"),
        ({"label": "b", "classes": ["x", "X "]}, "the same but for case"),
        ({"label": "b", "classes": "xy"}, "a number of classes"),
        ({"label": "b", "classes": 1}, "at least 2"),
        ({"dtype": {"a": "complex"}}, "is one of int"),
        ({"owner": "carol"}, "cannot own data"),
    ],
)
def test_what_the_program_got_wrong_is_told_to_everybody(session, write, options, message):
    path = write("a,b\n1,x\n")

    with pytest.raises(ConfigError, match=message):
        tacit.read_table(path, **{"owner": "alice", **options})


def test_columns_that_look_like_keys_are_warned_of_unless_there_is_a_key(session, write):
    path = write("customer_id,note,age\n" + "".join(f"{k},n{k},{k % 3}\n" for k in range(30)))

    with pytest.warns(UserWarning, match=r"'customer_id' and 'note' looks like a key: say key='customer_id'"):
        tacit.read_table(path, "alice")

    assert tacit.read_table(path, "alice", key="customer_id").columns == ("note", "age")
    assert tacit.read_table(path, "alice", columns=["age"]).columns == ("age",)


def test_a_million_rows_in_seconds_whose_sources_are_not_read_by_others(session):
    columns = {f"c{k}": np.arange(100_000.0) for k in range(5)}

    table = tacit.read_table(columns, "alice")

    assert table.x.shape == (100_000, 5)
    assert tacit.reveal(table.x[-1]).tolist() == [99_999.0] * 5


PROGRAM = """
import sys, tacit
with tacit.session():
    a = tacit.read_table(sys.argv[1], "alice", key="id")
    b = tacit.read_table(sys.argv[2], "bob", key="id", label="fraud")
    people = tacit.join(a, b, reveal=sys.argv[3])
    print(tacit.reveal(people.x.sum(dim=0)).tolist(), tacit.reveal(people.y.sum()).item(), people.columns)
"""


def test_others_learn_that_a_table_is_unusable_and_not_why(tmp_path, write):
    script = write(PROGRAM, "program.py")
    a, b = write("id,age\n1,31\n2,47\n", "a.csv"), write("id,fraud\n1,no\n1,yes\n2,no\n", "b.csv")
    lines: dict[str, list[str]] = {}

    code = launch_local(
        script, args=[str(a), str(b), "members"], on_line=lambda role, line: lines.setdefault(role, []).append(line)
    )

    told = "error: the table of bob cannot be used as it is, and bob alone is told why"
    assert code == 1
    assert lines["alice"] == lines["crypto-producer"] == [told]
    assert len(lines["bob"]) == 1
    assert f"{b} has 1 row whose key an earlier one has" in lines["bob"][0]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"a": [1, 2], "b": [1]}, "different numbers of rows"),
        ({"a": np.ones((2, 2))}, "one dimension"),
        ({"a": [[1], [2]]}, "column 'a' holds BIGINT[], which is no number, text or date"),
        ({}, "it has no columns"),
        (pd.DataFrame([[1, 2]], columns=["A", "a"]), "two columns are named 'a'"),
    ],
)
def test_frames_that_are_no_tables(session, source, problem):
    with pytest.raises(UnusableTable, match=re.escape(problem)):
        tacit.read_table(source, "alice")


def test_columns_of_several_kinds_are_text_and_tensors_are_columns(session):
    table = tacit.read_table({"a": [1, "x", 2.5], "b": torch.tensor([1.0, 2.0, 3.0])}, "alice")

    assert table.types == {"a": "text", "b": "number"}
    assert table.held.frame["a"].tolist() == ["1", "x", "2.5"]


def test_a_table_needs_an_owner_who_gives_it(session):
    with pytest.raises(DataError, match="must give it"):
        tacit.read_table(None, "alice")
    with pytest.raises(ConfigError, match="not a int"):
        tacit.read_table(3, "alice")


@pytest.mark.parametrize(
    ("text", "options", "column"),
    [
        ("a;b\n1.234,56;1\n2.000,00;2\n", {"decimal": ",", "thousands": "."}, [1234.56, 2000.0]),
        ("sep=;\na;b\n1;2\n3;4\n", {"skip": 1}, [1, 3]),
        ("a,b\n03/04/2020,1\n05/06/2021,2\n", {"date_format": "%m/%d/%Y"}, [date(2020, 3, 4), date(2021, 5, 6)]),
        ("a,b\n03.04.2020,1\n05.06.2021,2\n", {}, [date(2020, 4, 3), date(2021, 6, 5)]),
        ("a,b\n03/04/2020,1\n25/06/2021,2\n", {}, [date(2020, 4, 3), date(2021, 6, 25)]),
        ("a,b\n“x”,1\n€,2\n", {"encoding": "cp1252"}, ["“x”", "€"]),
        ("a,b\n1,1\n2,2\n", {"encoding": "utf-16"}, [1, 2]),
    ],
    ids=["thousands", "sep", "month first", "dots", "day first", "cp1252", "utf-16"],
)
def test_files_that_must_be_told_about(session, write, text, options, column):
    table = tacit.read_table(write(text, encoding=options.get("encoding", "utf-8")), "alice", **options)

    found = table.held.frame["a"]
    assert [each.date() for each in found.tolist()] == column if found.dtype.kind == "M" else found.tolist() == column


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (
            "a,b\n03/04/2020,1\n05/06/2021,2\n",
            "a.csv",
            "column 'a' holds dates whose day may be the month: say date",
        ),
        ("sep=;\na;b\n1;2\n", "a.csv", "its first line says what separates cells, and names no columns: say skip=1"),
        ("# of 2020\na,b\n1,2\n", "a.csv", "lines above the names need skip="),
        ("PK\3\4", "a.zip", "is an archive: unpack the file that is in it"),
    ],
)
def test_files_that_say_too_little(session, write, text, name, problem):
    with pytest.raises(UnusableTable, match=re.escape(problem)):
        tacit.read_table(write(text, name), "alice")


@pytest.mark.parametrize("kind", ["file", "frame"])
def test_whole_numbers_are_never_rounded_from_others(session, write, kind):
    texts = ["7", " +5 ", "12.0", "9007199254740993"]

    def source(cells):
        return write("a,x\n1," + "\n1,".join(cells) + "\n") if kind == "file" else {"x": cells}

    whole = tacit.read_table(source(texts), "alice", columns=["x"], dtype={"x": "int"})

    assert whole.held.frame["x"].tolist() == [7, 5, 12, 9007199254740993]
    for torn in ("1.5", "1e3", "seven", "99999999999999999999"):
        with pytest.raises(UnusableTable, match=r"column 'x' is not what dtype says in 1 row$"):
            tacit.read_table(source([*texts, torn]), "alice", columns=["x"], dtype={"x": "int"})
    with pytest.raises(UnusableTable, match="column 'x' is not what dtype says in 2 rows"):
        tacit.read_table({"x": [1.0, 1.5, float("inf")]}, "alice", dtype={"x": "int"})
    grouped = tacit.read_table(write("x;y\n1.000;1\n"), "alice", dtype={"x": "int"}, thousands=".", decimal=",")
    assert grouped.held.frame["x"].tolist() == [1000]


@pytest.mark.parametrize("kind", ["file", "frame", "times"])
def test_dates_never_lose_what_they_say(session, write, kind):
    def source(*cells):
        if kind == "times":
            return {"x": np.array([cell.replace("Z", "") for cell in cells], dtype="M8[s]")}
        return write("a,x\n1," + "\n1,".join(cells) + "\n") if kind == "file" else {"x": list(cells)}

    plain = tacit.read_table(source("2020-01-02", "2021-02-03 00:00:00"), "alice", columns=["x"], dtype={"x": "date"})
    assert plain.held.frame["x"].astype("M8[D]").astype(str).tolist() == ["2020-01-02", "2021-02-03"]

    told = r"column 'x' is not what dtype says in 1 row, for it has times of day, which .* \(say 'datetime'\)"
    with pytest.raises(UnusableTable, match=told):
        tacit.read_table(source("2020-01-02", "2021-02-03 12:30:00"), "alice", columns=["x"], dtype={"x": "date"})
    timed = source("2020-01-02", "2021-02-03T12:30:00Z")
    times = tacit.read_table(timed, "alice", columns=["x"], dtype={"x": "datetime"}).held.frame["x"]
    assert times.astype("M8[s]").astype(str).tolist() == ["2020-01-02T00:00:00", "2021-02-03T12:30:00"]


def test_times_are_those_of_utc_where_they_say_how_far_they_are_from_it(session, write):
    cells = ["2020-01-02 12:00:00+02", "2020-01-02 12:00:00"]

    for source in (write("a,x\n1," + "\n1,".join(cells) + "\n"), {"x": cells}):
        for how in ({}, {"dtype": {"x": "datetime"}}):
            if isinstance(source, dict) and not how:
                continue
            found = tacit.read_table(source, "alice", columns=["x"], **how).held.frame["x"]
            assert found.astype("M8[h]").astype(str).tolist() == ["2020-01-02T10", "2020-01-02T12"]


def test_dates_are_read_as_their_format_says_whatever_else_is_stated(session, write):
    for kind in ("date", "datetime"):
        path = write("d;y\n03/04/2020;1\n05/04/2020;2\n")
        table = tacit.read_table(path, "alice", dtype={"d": kind}, date_format="%d/%m/%Y")
        assert table.held.frame["d"].astype("M8[D]").astype(str).tolist() == ["2020-04-03", "2020-04-05"]
    with pytest.raises(UnusableTable, match="not what dtype says in 1 row"):
        tacit.read_table({"d": ["03/04/2020", "soon"]}, "alice", dtype={"d": "date"}, date_format="%d/%m/%Y")


def test_a_format_with_times_keeps_them(session, write):
    path = write("d,y\n01/02/2024 10:00,1\n02/02/2024 11:30,2\n")
    how = {"columns": ["d"], "date_format": "%d/%m/%Y %H:%M"}

    for stated in ({}, {"dtype": {"d": "datetime"}}):
        found = tacit.read_table(path, "alice", **how, **stated).held.frame["d"]
        assert found.astype("M8[m]").astype(str).tolist() == ["2024-02-01T10:00", "2024-02-02T11:30"]
    with pytest.raises(UnusableTable, match="times of day, which a date would lose"):
        tacit.read_table(path, "alice", **how, dtype={"d": "date"})


@pytest.mark.parametrize("kind", ["file", "frame"])
def test_dates_without_end_are_none(session, write, kind):
    source = write("a,d\n1,2024-01-01\n1,infinity\n") if kind == "file" else {"d": ["2024-01-01", "-infinity"]}

    with pytest.raises(UnusableTable, match=r"column 'd' .*in (1 row|line)"):
        tacit.read_table(source, "alice", columns=["d"], dtype={"d": "date"})


def test_numbers_are_no_truth_values_but_for_0_and_1(session, write):
    assert tacit.read_table({"x": [1, 0]}, "alice", dtype={"x": "bool"}).held.frame["x"].tolist() == [True, False]
    assert tacit.read_table({"x": [1.0, 0.0]}, "alice", dtype={"x": "bool"}).held.frame["x"].tolist() == [True, False]
    for cells in ([2, 1], [0.5, 1.0], [-1, 0]):
        with pytest.raises(UnusableTable, match="column 'x' is not what dtype says in 1 row"):
            tacit.read_table({"x": cells}, "alice", dtype={"x": "bool"})
        with pytest.raises(UnusableTable, match=r"column 'x' is not what dtype says in (line 2|2 lines)"):
            tacit.read_table(write(f"a,x\n1,{cells[0]}\n1,{cells[1]}\n"), "alice", dtype={"x": "bool"})


def test_dates_of_two_forms_are_told_as_what_they_are(session, write):
    with pytest.raises(UnusableTable, match=r"column 'd' is not what the rest of it is taken for .* in line 2"):
        tacit.read_table(write("k,d\na,2020-01-02\nb,13/01/2020\n"), "alice", key="k")


def test_encodings_that_are_none_and_text_in_another_one(session, write):
    latin = write("a,b\nKöln,1\n", encoding="latin-1")

    with pytest.raises(UnusableTable, match="UTF-8"):
        tacit.read_table(latin, "alice")
    with pytest.raises(UnusableTable, match="no text in the encoding cp932"):
        tacit.read_table(write("a,b\n\x81\n", "b.csv", encoding="latin-1"), "alice", encoding="cp932")
    for encoding in ("klingon", "hex"):
        with pytest.raises(ConfigError, match=f"encoding='{encoding}' is none that Python knows"):
            tacit.read_table(latin, "alice", encoding=encoding)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_digests_are_read_where_arrow_has_their_texts(kind):
    keys = ["a", "Bee", "", "4", "5", "six"]
    moved = pa.concat_arrays([pa.array(["x"]), pa.array(keys)]).slice(1)

    for first, given in ((0, pa.array(keys)), (0, moved), (1, pa.array(keys)), (1, moved)):
        batch = pa.record_batch([given.cast(kind)], ["part0"]).slice(first)
        found = [row.numpy().tobytes() for row in _of_batch(batch, [True])[0]]
        assert [digest == digest_of([key]) for key, digest in zip(keys[first:], found, strict=True) if key] == [
            True
        ] * (5 - first)
        assert found[2 - first] != sha256(b"0:").digest()[:16]


def test_the_index_of_a_data_frame_is_a_column_where_it_is_the_key(session):
    frame = pd.DataFrame({"no": [1, 2], "x": [1.0, 2.0]}).set_index("no")

    assert tacit.read_table(frame, "alice", key="no").parts == 1
    assert tacit.read_table(frame, "alice").columns == ("x",)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"a": [object(), object()]}, "a column holds objects that are no numbers, texts or dates"),
        ("mysql://me:sesame@host/base", "the address is of no kind that is read; there are postgres://"),
    ],
)
def test_what_is_no_source(session, source, problem):
    with pytest.raises(UnusableTable, match=re.escape(problem)) as told:
        tacit.read_table(source, "alice")

    assert "sesame" not in str(told.value)


def test_a_column_of_identities_becomes_a_feature_on_purpose_only(session):
    people = {"no": [1, 2, 3], "account_id": [7, 9, 8], "x": [1.0, 2.0, 3.0]}

    table = tacit.read_table(people, "alice", key="no")

    for share in (lambda: table.x, lambda: table[[0]]):
        with pytest.raises(UnusableTable, match="column 'account_id' looks like a key: say key='account_id'"):
            share()
    named = tacit.read_table(people, "alice", key="no", columns=["account_id", "x"])
    assert tacit.reveal(named.x).tolist() == [[7, 1], [9, 2], [8, 3]]
    kept = table.prepared(tacit.prepare.Table(keep=["account_id"]), train=[0, 1, 2])
    assert tacit.reveal(kept.x).tolist() == [[7, 1], [9, 2], [8, 3]]
