"""Digests of keys: those of C++ are those of Python, which are those that a client makes of one key."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import tacit
from tacit.errors import ConfigError, DataError
from tacit.records.columns import _of_batch
from tacit.records.digests import Digests, Texts
from tacit.records.keys import digest_of, normal_text
from tacit.records.native import Native
from tacit.records.own import Wanted
from tacit.records.read import _read
from tacit.records.sources import Reading
from tacit.session.ranks import Rank

MAKERS = [Digests(), Native(), Native(instructions=False)]
FORMS = st.text(st.sampled_from(" \t\n\x0b\x1c\x1f\x00.-+0017aAzZ@[`{\xe9\xdf\uff21\u2003"), max_size=9)


def columns_of(rows, raw):
    """Rows of texts as the reader has them, the first ones of what lies there left out."""
    table = [pyarrow.array(["left out", *column])[1:] for column in zip(*rows, strict=True)]
    out = []
    for column, each in zip(table, raw, strict=True):
        _, offsets, data = column.buffers()
        places = np.frombuffer(offsets, dtype=np.int32, count=len(column) + 1, offset=4)
        letters = np.frombuffer(b"" if data is None else data, dtype=np.uint8)
        out.append(Texts(torch.tensor(letters), torch.tensor(places), each))
    return out


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(FORMS, FORMS), min_size=1, max_size=6), st.tuples(st.booleans(), st.booleans()))
@example([("-12.00", " .0 "), ("-.0", "A.0"), ("\x00", "7"), ("", "x")], (True, True))
def test_keys_are_what_is_documented_whoever_makes_their_digests(rows, raw):
    for maker in MAKERS:
        digests, keyless = maker.make(columns_of(rows, raw))

        for row, digest, none in zip(rows, digests, keyless.tolist(), strict=True):
            parts = [normal_text(text) if each else text for text, each in zip(row, raw, strict=True)]
            assert none == (not all(parts))
            text = "".join(f"{len(part.encode())}:{part}" for part in parts)
            assert none or bytes(digest.tolist()) == sha256(text.encode()).digest()[:16]


@pytest.mark.parametrize("maker", MAKERS)
def test_keys_of_any_length_fill_blocks_of_the_digest(maker):
    texts = ["x" * length for length in range(1, 300)]

    digests, keyless = maker.make(columns_of([(text,) for text in texts], [False]))

    assert not keyless.any()
    expected = [sha256(f"{len(text)}:{text}".encode()).digest()[:16] for text in texts]
    assert [bytes(row.tolist()) for row in digests] == expected


def test_a_client_makes_the_same_digest_of_one_key():
    keys = [" Ann\u00c9 ", "007", "12.0", "7"]
    batch = pyarrow.record_batch([pyarrow.array(keys)], names=["key"])

    digests, _ = _of_batch(batch, [True])

    assert [bytes(row.numpy().tobytes()) for row in digests] == [digest_of([key]) for key in keys]


MOMENTS = ["2020-01-01T10:00:00.500000", "2020-01-01T10:00:00.120000", "1969-12-31T23:59:59.999999", "2020-01-01T10:00"]
DAYS = ["2020-01-01", "1969-12-31"]
FINER = ["2020-01-01T10:00:00.123456789", "1969-12-31T23:59:59.999999500"]


def sources_of(texts, units, folder):
    """Times as tables have them: with a column `k` of each of NumPy's units, in Arrow, Parquet, pandas and CSV."""
    pandas = pytest.importorskip("pandas")
    for unit in units:
        times = np.array(texts, dtype=f"M8[{unit}]")
        table = pyarrow.table({"k": times, "x": np.ones(len(times))})
        parquet.write_table(table, folder / f"{unit}.parquet", store_schema=False)
        yield from (table, folder / f"{unit}.parquet", pandas.DataFrame({"k": times, "x": 1.0}))
    for form in (texts, [text.replace("T", " ") for text in texts]):
        name = folder / f"{len(list(folder.iterdir()))}.csv"
        name.write_text("\n".join(["k,x", *(f"{text},1" for text in form)]))
        yield name


@pytest.mark.parametrize(
    ("texts", "units"),
    [(MOMENTS, ("us", "ns")), (MOMENTS[3:], ("s", "ms")), (DAYS, ("D", "s", "us", "ns")), (FINER, ("ns",))],
)
def test_a_moment_is_one_key_whoever_gives_it(session, texts, units, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    of_python = [datetime.fromisoformat(text) for text in texts]
    of_numpy = [[np.datetime64(text, unit) for text in texts] for unit in units]
    given = [of_python, *of_numpy, [pandas.Timestamp(text) for text in texts]]
    if texts == DAYS:
        given.append([time.date() for time in of_python])
    expected = [digest_of([time]) for time in of_python]

    for values in given:
        assert [digest_of([value]) for value in values] == expected
    for maker in (Digests(), Native()):
        monkeypatch.setattr("tacit.records.columns.at_hand", lambda maker=maker: maker)
        for source in sources_of(texts, units, tmp_path):
            table = tacit.read_table(source, "alice", key="k")
            assert [row.numpy().tobytes() for row in table.held.digests] == expected, source


@pytest.mark.parametrize("value", [np.datetime64("NaT"), np.datetime64("NaT", "ns"), np.datetime64("20000", "Y")])
def test_times_that_are_none_are_no_keys(value):
    with pytest.raises(DataError, match="a key is a date"):
        digest_of([value])


def test_pandas_time_that_is_none_is_no_key():
    with pytest.raises(DataError, match="a key is"):
        digest_of([pytest.importorskip("pandas").NaT])


@pytest.mark.parametrize("offsets", [[0, 5], [3, 1], [-1, 2], [0, 2**31 - 1]])
def test_texts_that_lie_elsewhere_are_refused(offsets):
    texts = Texts(torch.zeros(4, dtype=torch.uint8), torch.tensor(offsets, dtype=torch.int32), True)

    with pytest.raises(ValueError, match="a kernel was called with texts"):
        Native().make([texts])


def test_rows_without_a_key_match_nobody_not_even_each_other():
    with tacit.session():
        none = {"k": [None, "", "  ", "a"], "x": [1.0, 2.0, 3.0, 4.0]}
        a, b = (tacit.read_table(none, owner, key="k") for owner in ("alice", "bob"))

        assert len(tacit.join(a, b)) == 1


def test_ranks_whose_rows_come_in_another_order_lose_none(session):
    rows = [
        (key, place % 5, word) for place, key in enumerate(["a", None, "", "b", None, None, "c", None]) for word in "xy"
    ]
    orders = [rows, rows[::-1], rows[5:] + rows[:5]]

    found = []
    for index, listed in enumerate(orders):
        table = dict(zip(("k", "place", "a b"), map(list, zip(*listed, strict=True)), strict=True))
        wanted = Wanted(("k",), (("k",),), None, None, None, "key", Rank(index, len(orders)))
        held, _ = _read(table, wanted, Reading(keys=("k",)), None)
        found += [listed[place] for place in held.origin.tolist()]

    assert sorted(found, key=str) == sorted(rows, key=str)


def test_places_of_rows_that_a_query_finds_are_no_shards(session):
    with pytest.raises(ConfigError, match=r"in another order at each rank.* write shard=.key."):
        tacit.read_table({"x": [1.0, 2.0]}, "alice", query="SELECT x FROM data", shard="rows")
