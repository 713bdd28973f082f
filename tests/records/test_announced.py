"""What an owner tells the others of its table is checked: a role may say anything."""

from __future__ import annotations

import json

import pytest

import tacit
from tacit.errors import DataError
from tacit.session.session import Session

TABLE = {"id": [1, 2, 2], "x": [1.0, 2.0, 3.0], "y": [0, 1, 0]}


@pytest.fixture
def forge(monkeypatch):
    """Have the owner's next announcement replaced."""
    true = Session.promise

    def forged(content):
        def promise(self, source, message):
            monkeypatch.setattr(Session, "promise", true)
            return lambda: content if isinstance(content, bytes) else json.dumps(content).encode()

        monkeypatch.setattr(Session, "promise", promise)

    return forged


def told(rows=3, columns=("x",), classes=2):
    return {"public": {"rows": rows, "columns": list(columns), "classes": classes}}


def read(**options):
    return tacit.read_table(TABLE, "alice", key="id", label="y", **options)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[" * 100_000,
        {"rows": 3},
        [],
        {"public": []},
        *(told(rows=rows) for rows in (0, -1, 1 << 50, True, 3.0, None, "3")),
        *(told(columns=names) for names in (["x", "x"], [1], ["id"], ["y"])),
        *(told(classes=classes) for classes in (0, -2, 1 << 40, 2.0, "2")),
    ],
    ids=lambda content: str(content)[:40],
)
def test_what_no_table_is(session, forge, content):
    forge(content)

    with pytest.raises(DataError, match="alice announced"):
        read()


def test_columns_that_were_not_asked_for_and_rows_that_were_not_there(session, forge):
    tables = read(), tacit.read_table({"id": [1], "z": [1.0]}, "bob", key="id")

    forge(told(columns=["x", "z"]))
    with pytest.raises(DataError, match="alice announced"):
        read(columns=["x"])
    forge({"public": 4})
    with pytest.raises(DataError, match="alice announced"):
        tacit.join(*tables, duplicates="first")


@pytest.mark.parametrize(("names", "public"), [("shown", [3]), ("shown", {}), ("hidden", 2.5), ("hidden", -1)])
def test_prepared_columns(session, forge, names, public):
    table, prepared = read(), tacit.prepare.Table()

    forge({"public": public})
    with pytest.raises(DataError, match="alice announced"):
        table.prepared(prepared, train=[0, 1], names=names)
    forge({"public": {"rows": 3, "columns": public}})
    with pytest.raises(DataError, match="alice announced"):
        prepared.share(table.held.frame, "alice", names=names)


@pytest.mark.parametrize("told", [{"name": "a", "rows": 1}, {"name": "a", "rows": -1, "columns": [["x"]]}, [], "x"])
def test_files_of_numbers(session, forge, tmp_path, told):
    (tmp_path / "a.csv").write_text("x\n1\n")
    forge(told)

    with pytest.raises(DataError, match="alice announced"):
        tacit.read_csv(tmp_path / "a.csv", "alice")
