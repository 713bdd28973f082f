"""Tables that are elsewhere, in a PostgreSQL database or a store such as S3. No message shows a password."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import threading
import traceback
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import tacit
from tacit.errors import ConfigError, UnusableTable
from tacit.records import remote

PASSWORD = "sesame-42"


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def postgres():
    """The address of a server with a table, which runs for this file's tests only."""
    pytest.importorskip("adbc_driver_postgresql", reason="pip install tacit[data]")
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL server is installed here: apt-get install postgresql")
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    folder, port = f"/tmp/tacit-postgres-{os.getpid()}", free_port()
    os.mkdir(folder)
    try:
        if user:
            shutil.chown(folder, "postgres", "postgres")
        with open(f"{folder}/password", "w") as file:
            file.write(PASSWORD)
        control = [*user, f"{programs[-1]}/pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
        make = [*user, f"{programs[-1]}/initdb", "-D", f"{folder}/data", "-A", "scram-sha-256", "-U", "postgres"]
        subprocess.run([*make, f"--pwfile={folder}/password"], check=True, capture_output=True)
        subprocess.run([*control, "-o", f"-p {port} -k {folder}", "start"], check=True, stdout=subprocess.DEVNULL)
        address = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
        try:
            fill(address)
            yield address
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(address):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(
            "create table people(no text, amount numeric(12, 2), age int, member boolean, since date, at timestamptz, "
            "fee money, fraud text)"
        )
        cursor.execute(
            "insert into people values (' DE-1', 12.50, 31, true, '2020-01-31', '2020-01-31 10:00+02', '1.50', 'no'), "
            "('de-2', null, null, false, null, null, null, 'yes'), ('DE-3', -0.25, 60, true, '2021-05-01', "
            "'2021-05-01 00:00+00', '2.50', 'no')"
        )
        connection.commit()


@pytest.mark.slow
def test_a_query_runs_in_the_database_and_joins_with_other_tables(session, postgres):
    query = "select no, amount, age, member, since, at, fraud from people;"

    people = tacit.read_table(postgres, "bob", key="no", label="fraud", query=query)
    some = tacit.read_table(postgres, "bob", key="no", label="fraud", query=query, columns=["member"])
    joined = tacit.join(tacit.read_table({"id": ["De-3", "de-1"], "x": [3.0, 1.0]}, "alice", key="id"), some)

    assert people.types == {"amount": "number", "age": "number", "member": "truth value", "since": "date", "at": "date"}
    assert people.held.frame["amount"][[0, 2]].tolist() == [12.5, -0.25]
    assert people.held.frame["at"][0].astype("M8[us]").item() == datetime(2020, 1, 31, 8)  # in UTC, at every owner
    assert sorted(tacit.reveal(joined.x).tolist()) == [[1, 1], [3, 1]]
    assert tacit.reveal(joined.y).tolist() == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("select nope from people", 'the query does not run: column "nope" does not exist'),
        ("selec 1", "the query does not run: syntax error"),
        ("delete from people returning no", "the query writes, and it may only read"),
        ("select 1 as a; drop table people", "the query does not run: cannot insert multiple commands"),
        ("select 'secret'::int as a", "the query meets a value that it cannot compute with"),
        ("select (case when g < 200000 then '1' else 'secret' end)::int x from generate_series(1, 300000) g", ""),
        ("select fee from people", "type money (fee): cast them to numeric"),
        ("select 1 as a, 2 as a", "two columns are named 'a'"),
        ("select age from people where false", "it has no rows"),
        ("select array[1, 2] as a", "which is no number, text or date"),
    ],
)
def test_what_is_wrong_with_a_query_is_told_without_a_value(session, postgres, query, problem):
    with pytest.raises(UnusableTable) as told:
        tacit.read_table(postgres, "bob", query=query)

    assert problem in str(told.value)
    shown = "".join(traceback.format_exception(told.value))
    assert PASSWORD not in shown
    assert "secret" not in str(told.value)
    if "delete" in query:
        assert len(tacit.read_table(postgres, "bob", query="select age from people")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (PASSWORD, "guessed-1", "it does not let this user in with this password"),
        ("/postgres", "/nobase", "it has no such database"),
        ("postgres:", "nobody:", "it does not let this user in"),
    ],
)
def test_what_is_wrong_with_an_address_is_told_without_it(session, postgres, old, new, problem):
    address = new.join(postgres.rsplit(old, 1)) if old == "/postgres" else postgres.replace(old, new, 1)
    if old == "postgres:":
        address = f"postgresql://nobody:{postgres.split(':', 2)[2]}"

    with pytest.raises(UnusableTable, match=problem) as told:
        tacit.read_table(address, "bob", query="select 1 as a")

    shown = "".join(traceback.format_exception(told.value))
    assert PASSWORD not in shown
    assert "guessed" not in shown


def test_a_database_needs_a_query_and_an_address_that_works(session):
    pytest.importorskip("adbc_driver_postgresql", reason="pip install tacit[data]")
    address = f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/base"

    for query in (None, " ; "):
        with pytest.raises(ConfigError, match="a database has many tables: say which rows"):
            tacit.read_table(address, "bob", query=query)
    with pytest.raises(UnusableTable, match="the database cannot be read: nobody listens there") as told:
        tacit.read_table(address, "bob", query="select 1 as a")

    assert PASSWORD not in "".join(traceback.format_exception(told.value))


# --- S3 --------------------------------------------------------------------------------------------------------------

CONTENT = b"no;income\n1;2,5\n2;3,5\n"


class Bucket(BaseHTTPRequestHandler):
    """One object, as S3 hands it out; everything else is not there."""

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.answer(CONTENT)

    def answer(self, body):
        there = self.path.split("?")[0] == "/bucket/some/people.csv"
        first = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if there and "Range" in self.headers else 200 if there else 404)
        body = body[first:] if there else b""
        self.send_header("Content-Length", str(len(body) if body or not there else len(CONTENT)))
        self.send_header("Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def bucket():
    """The end of an address of objects at this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"scheme=http&region=eu-central-1&endpoint_override=127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_object_is_read_as_any_file(session, bucket):
    address = f"s3://me:{PASSWORD}@bucket/some/people.csv?{bucket}"

    table = tacit.read_table(address, "alice", key="no", decimal=",")

    assert tacit.reveal(table.x).tolist() == [[2.5], [3.5]]
    assert PASSWORD not in repr(table) + repr(table.held.source)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("some/nothing.csv", "there is no such object at the address"),
        ("some/*.csv", "the address may be several files: give one"),
        ("", "the address may be several files"),
        ("some/people.csv?nonsense=1", "cannot be fetched"),
    ],
)
def test_objects_that_cannot_be_read_are_told_of_without_the_address(session, bucket, path, problem):
    address = f"s3://me:{PASSWORD}@bucket/{path}{'&' if '?' in path else '?'}{bucket}"

    with pytest.raises(UnusableTable, match=problem) as told:
        tacit.read_table(address, "alice")

    assert PASSWORD not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize(
    "address",
    [
        f"https://me:{PASSWORD}@127.0.0.1:1/people.csv?token={PASSWORD}",
        f"HTTP://me:{PASSWORD}@127.0.0.1:1/people.csv",
        *(f"https://me:{PASSWORD}@127.0.0.1:1/a.{end}" for end in ("zip", "xlsx", "db", "arrow", "parquet", "csv.gz")),
        f"PostgreSQL://me:{PASSWORD}@127.0.0.1:1/base?sslmode=disable",
        f"hf://me:{PASSWORD}@host/people.csv?token={PASSWORD}",
        Path(f"s3://me:{PASSWORD}@bucket/people.csv"),
        Path(f"postgresql://me:{PASSWORD}@host/base"),
    ],
    ids=lambda address: f"{type(address).__name__} {str(address)[:8]} {str(address)[-5:]}",
)
def test_no_address_of_any_kind_is_shown(session, address):
    with pytest.raises((UnusableTable, ConfigError)) as told:
        tacit.read_table(address, "alice", query="select 1 as a")

    assert PASSWORD not in "".join(traceback.format_exception(told.value))


def test_a_copy_goes_to_the_folder_of_a_table_that_is_larger_than_memory(session, bucket, tmp_path, monkeypatch):
    seen = []
    fetch = remote.shutil.copyfileobj
    monkeypatch.setattr(remote.shutil, "copyfileobj", lambda *a: (seen.append(a[1].name), fetch(*a)))

    address = f"s3://me:{PASSWORD}@bucket/some/people.csv?{bucket}"
    table = tacit.read_table(address, "alice", key="no", decimal=",", on_disk=tmp_path)

    assert tacit.reveal(table.x).tolist() == [[2.5], [3.5]]
    assert seen[0].startswith(f"{tmp_path}/.tacit-")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(remote.shutil, "copyfileobj", full)
    with pytest.raises(UnusableTable, match="there is no room for a copy of the object at the address"):
        tacit.read_table(address, "alice", on_disk=tmp_path)


def full(*_):
    raise OSError(28, "No space left on device")
