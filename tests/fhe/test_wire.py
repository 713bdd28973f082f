"""Messages: every bit that changes is noticed, and every misuse is named."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import FheError, KeyMismatchError, MessageError
from tacit.fhe import Client, Server, wire
from tacit.fhe.ensemble import GradientBoostingClassifier
from tacit.fhe.linear_model import LogisticRegression

ROW = np.zeros((1, 30))


@pytest.fixture
def client(linear: LogisticRegression) -> Client:
    return linear.client()


@pytest.fixture
def server(linear: LogisticRegression, client: Client) -> Server:
    server = linear.server()
    server.register(client.public_key)
    return server


def resealed(message: bytes, at: int, new: bytes) -> bytes:
    """Return a message with some bytes replaced and its digest made right again: what an attacker would send."""
    body = message[:at] + new + message[at + len(new) : -32]
    return body + hashlib.sha256(body).digest()


@given(bits=st.integers(1, 48), data=st.data())
@settings(max_examples=50, deadline=None)
def test_packing_is_tight_and_exact(bits: int, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=40)), dtype=np.uint64)

    raw = wire.pack_bits(values, bits)

    assert len(raw) == -(-bits * len(values) // 8)
    assert (wire.unpack_bits(raw, len(values), bits) == values).all()


def test_any_changed_or_missing_byte_is_noticed(client: Client, server: Server, rng: np.random.Generator) -> None:
    query = client.encrypt(ROW)

    for at in [*range(0, 76, 5), *rng.integers(76, len(query), 20)]:
        changed = bytearray(query)
        changed[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(MessageError):
            server.answer(bytes(changed))
    for cut in (0, 10, 100, len(query) - 1):
        with pytest.raises(MessageError):
            server.answer(query[:cut])


@pytest.mark.parametrize(
    ("at", "new", "error", "says"),
    [
        (8, struct.pack("<H", 2), MessageError, "format version 2"),
        (10, b"\x03", MessageError, "expected query"),
        (12, bytes(16), KeyMismatchError, "another model"),
        (28, bytes(16), KeyMismatchError, "not registered"),
        (76, struct.pack("<I", 500), MessageError, "that its rows need"),
        (76, struct.pack("<I", 1 << 31), MessageError, "at most"),
        (80, struct.pack("<I", 2), MessageError, "that its rows need"),
        (84, b"\xff" * 6, MessageError, "out of range"),
    ],
)
def test_forged_queries_are_named(
    client: Client, server: Server, at: int, new: bytes, error: type[FheError], says: str
) -> None:
    query = client.encrypt(ROW)

    with pytest.raises(error, match=says):
        server.answer(resealed(query, at, new))


def test_what_is_left_over_is_refused(client: Client, server: Server) -> None:
    query = client.encrypt(ROW)

    longer = query[:-32] + bytes(5)

    with pytest.raises(MessageError, match="longer"):
        server.answer(longer + hashlib.sha256(longer).digest())


def test_keys_and_answers_are_bound_to_their_model_client_and_query(
    client: Client, server: Server, linear: LogisticRegression, boosted: GradientBoostingClassifier
) -> None:
    stranger, elsewhere = linear.client(), boosted.client()
    query, other = client.encrypt(ROW), client.encrypt(ROW)
    answer = server.answer(query)

    with pytest.raises(KeyMismatchError, match="another model"):
        server.register(elsewhere.public_key)
    with pytest.raises(KeyMismatchError, match="not registered"):
        server.answer(stranger.encrypt(ROW))
    with pytest.raises(KeyMismatchError, match="another client"):
        stranger.decrypt(answer, query)
    with pytest.raises(KeyMismatchError, match="another query"):
        client.decrypt(answer, other)
    with pytest.raises(MessageError, match="expected answer"):
        client.decrypt(query, query)
    with pytest.raises(MessageError, match="identifier"):
        server.register(resealed(client.public_key, 28, bytes(16)))


def test_a_forged_answer_of_a_forest_does_not_add_up(boosted: GradientBoostingClassifier) -> None:
    client, server = boosted.client(), boosted.server()
    server.register(client.public_key)
    query = client.encrypt(ROW)
    answer = server.answer(query)

    with pytest.raises(MessageError, match="one leaf for each tree"):
        client.decrypt(resealed(answer, 84, bytes(4000)), query)


def test_a_secret_key_survives_saving_and_only_the_owner_may_read_it(
    client: Client, server: Server, linear: LogisticRegression, boosted: GradientBoostingClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    client.save_key(path)
    later = linear.client()
    later.load_key(path)
    server.register(later.public_key)
    query = later.encrypt(ROW)

    values = later.decrypt(server.answer(query), query)

    assert (values == linear._values(ROW, "simulate")[0]).all()
    assert path.stat().st_mode & 0o077 == 0
    assert later.public_key != client.public_key
    path.chmod(0o644)
    with pytest.raises(MessageError, match="can be read by other users of this machine"):
        later.load_key(path)
    path.chmod(0o600)
    with pytest.raises(KeyMismatchError, match="another model"):
        boosted.client().load_key(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(MessageError, match="damaged"):
        later.load_key(path)
    path.write_bytes(b"something else")
    with pytest.raises(MessageError, match=r"not a tacit\.fhe key"):
        later.load_key(path)


def test_no_key_is_printed(client: Client) -> None:
    assert client._secret.secret_bytes().hex()[:16] not in repr(client) + repr(vars(client))
    assert "LogisticRegression" in repr(client)
