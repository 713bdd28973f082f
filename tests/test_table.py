"""Strict reading of tables: what is accepted, and the one sentence that says where a file is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit.data.table import Reading, read_table
from tacit.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "people.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "age,income\n31,2.5\n47,-1e3\n",
        "\ufeffage,income\r\n31,2.5\r\n47,-1e3\r\n",
        '"age" , "income"\n"31", 2.5 \n47,"-1e3"\n\n\n'.replace(" , ", ","),
        "age,income\n31,2.5\n47,-1000",
    ],
    ids=["plain", "byte order mark and CRLF", "quotes, spaces, empty lines at the end", "no last line break"],
)
def test_reads_what_spreadsheets_write(write, content):
    path = write(content)

    table = read_table(path)

    assert table.columns == ("age", "income")
    assert torch.equal(table.values, torch.tensor([[31, 2.5], [47, -1000]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: its first line must name the columns"),
        ("1,2\n3,4\n", "has no header: its first line holds numbers and must name the columns"),
        ("a,b\n", "has a header but no rows"),
        ("a,,c\n1,2,3\n", ": column 2 has no name in the header"),
        ("a,b,a\n1,2,3\n", "has two columns named 'a'"),
        ("a;b\n1;2\n", ": cells must be separated by commas"),
        ("a,b\n1,2\n3\n", ", row 2 has 1 cells, but the header names 2 columns"),
        ("a,b\n1,2\n3,4,5\n", ", row 2 has 3 cells, but the header names 2 columns"),
        ("a,b\n1,2\n\n3,4\n", ", line 3 is empty"),
        ("a,b\n1,2\n3,secret\n", ", row 2, column 'b': the cell is not a number"),
        ("a,b\n1,2\n3,1_000\n", ", row 2, column 'b': the cell is not a number"),
        ("a,b\n1,2\n ,4\n", ", row 2, column 'a': the cell is empty"),
        ("a,b\nnan,2\n", ", row 1, column 'a': the cell is NaN"),
        ("a,b\n1,-inf\n", ", row 1, column 'b': the cell is infinite"),
        ("a,b\n1,1e999\n", ", row 1, column 'b': the cell is infinite"),
        ('a,b\n1,"2\n', ", line 2: unexpected end of data"),
        (b"a,b\n1,\xff\n", "is not UTF-8 text (byte "),
    ],
)
def test_says_where_a_file_is_wrong(write, content, message):
    path = write(content)

    with pytest.raises(DataError) as caught:
        read_table(path)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(path), "")


def test_names_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*missing\.csv"):
        read_table(tmp_path / "missing.csv")
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_table(tmp_path)


def test_splits_off_a_label(write):
    table = read_table(write("a,label,b\n1,0,2\n3,1,4\n"))

    features, label = table.split("label")

    assert features.columns == ("a", "b")
    assert features.values.tolist() == [[1, 2], [3, 4]]
    assert label.values.tolist() == [[0], [1]]


def test_lists_the_columns_when_the_label_is_not_there(write):
    table = read_table(write("a,b\n1,0\n"))

    with pytest.raises(DataError, match=r"has no column 'label'; its columns are a, b"):
        table.split("label")


def test_standardizes_columns_and_makes_constant_ones_zero(write):
    table = read_table(write("a,b\n1,0.1\n3,0.1\n8,0.1\n"))

    values = table.standardized().values

    assert torch.allclose(values[:, 0].mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(values[:, 0].square().mean(), torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(values[:, 1], torch.zeros(3, dtype=torch.float64))


def test_names_the_first_number_that_is_too_large_or_not_whole(write):
    table = read_table(write("a,b\n1,2\n3.5,1e15\n"))

    with pytest.raises(DataError, match=r"row 2, column 'b': the number is too large"):
        table.check_below(2.0**46)
    with pytest.raises(DataError, match=r"row 2, column 'a': not a whole number"):
        read_table(write("a,b\n1,2\n3.5,1e15\n"), Reading(whole=True))


def test_whole_numbers_are_read_to_the_last_digit(write):
    path = write("a,b\n9007199254740993,-4611686018427387903\n1e3,2.0\n")

    assert read_table(path, Reading(whole=True)).values.tolist() == [[2**53 + 1, 1 - 2**62], [1000, 2]]
    with pytest.raises(DataError, match=r"row 1, column 'a': the number is too large"):
        read_table(write("a\n4611686018427387904\n"), Reading(whole=True))


def test_words_gaps_and_columns_are_read_as_is_said(write):
    path = write("id,sex,age\n7,male,31\n8, female ,NULL\n9,male,\n")
    reading = Reading(["age", "sex"], {"sex": ["female", "male"]}, {"age": -1.5})

    assert read_table(path, reading).columns == ("age", "sex")
    assert read_table(path, reading).values.tolist() == [[31, 1], [-1.5, 0], [-1.5, 1]]
    for wrong, message in (
        (Reading(["weight"]), "has no column 'weight'"),
        (Reading(categories={"sex": ["female"]}), "row 1, column 'sex': the cell is none of the categories"),
        (Reading(categories={"sex": ["female", "male"]}), "row 2, column 'age': the cell is not a number"),
        (Reading(["age"]), "row 2, column 'age': the cell is not a number"),
    ):
        with pytest.raises(DataError, match=message):
            read_table(path, wrong)
    with pytest.raises(DataError, match="separated by commas"):
        read_table(write("a\tb\n1\t2\n"))


@given(content=st.one_of(st.text(max_size=60), st.text(alphabet='a1,."\n\r -e', max_size=60)))
def test_any_text_is_a_table_or_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x.csv"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))

    try:
        table, message = read_table(path), ""
    except DataError as error:
        table, message = None, str(error).replace(str(path), "")

    assert "\n" not in message
    assert table is None or (torch.isfinite(table.values).all() and table.values.shape[1] == len(table.columns))
