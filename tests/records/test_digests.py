"""Digests of keys: those of C++ are those of Python, which are those that a client makes of one key."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tacit
from tacit.records.digests import Digests, Texts
from tacit.records.keys import digest_of, normal_text
from tacit.records.native import Native
from tacit.records.read import _of_batch

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
