"""The three messages: a public key, a query, an answer. Flat binary, fixed sizes, nothing executable.

::

    magic "TACITFHE" | version u16 | kind u8 | 0 u8 | model 16 B | key 16 B | reference 32 B | rows u32 | parts u32
    payload: `parts` times [residues, tightly packed, little-endian bits | seed (64 B) or c0 coefficients]
    SHA-256 of all of the above

`model` is a random number drawn when the model was compiled, `key` a digest of the public key, `reference` in an
answer the SHA-256 of its query. So a message for another model, key or query is refused by name. The digest finds
damage, not malice: integrity against an attacker on the way is the business of TLS.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tacit.errors import KeyMismatchError, MessageError

Word = npt.NDArray[np.uint64]

MAGIC = b"TACITFHE"
VERSION = 1
NO_REFERENCE = bytes(32)
MAX_ROWS = 1 << 20
MESSAGE_BYTES = 32 << 20
"""What a client puts into one query (or one ciphertext's worth, if that is more), and so the most a service need
take. Larger saves nothing but headers; smaller would rule out bulk queries of several hundred columns."""
_HEAD = struct.Struct("<8sHBB16s16s32sII")
_DIGEST = 32


class Kind(IntEnum):
    """What a message is."""

    PUBLIC_KEY = 1
    QUERY = 2
    ANSWER = 3
    BULK_QUERY = 4
    BULK_ANSWER = 5


@dataclass(frozen=True)
class Message:
    """A checked envelope; `payload` is still to be cut by whoever knows the parameters."""

    kind: Kind
    model: bytes
    key: bytes
    reference: bytes
    rows: int
    parts: int
    payload: bytes

    def pack(self) -> bytes:
        """Return the message as bytes."""
        head = _HEAD.pack(
            MAGIC, VERSION, self.kind, 0, self.model, self.key, self.reference, self.rows, self.parts
        )  # fmt: skip
        body = head + self.payload
        return body + hashlib.sha256(body).digest()


def unpack(raw: bytes, expected: tuple[Kind, ...], model: bytes) -> Message:
    """Return the message in `raw`, or say what is wrong with it."""
    if len(raw) < _HEAD.size + _DIGEST or raw[:8] != MAGIC:
        raise MessageError("this is not a tacit.fhe message (or it was cut short)")
    _, version, kind, _, model_id, key, reference, rows, parts = _HEAD.unpack_from(raw)
    if version != VERSION:
        raise MessageError(f"this message is of format version {version}; this program speaks version {VERSION}")
    if not hmac.compare_digest(hashlib.sha256(raw[:-_DIGEST]).digest(), raw[-_DIGEST:]):
        raise MessageError("this message was damaged or changed on its way: its digest does not match")
    if kind not in [int(k) for k in expected]:
        names = " or ".join(k.name.lower().replace("_", " ") for k in expected)
        raise MessageError(f"expected {names} here, not a message of kind {kind}")
    if model_id != model:
        raise KeyMismatchError("this message was made for another model (or for another compilation of this one)")
    if not 0 <= rows <= MAX_ROWS:
        raise MessageError(f"a message holds at most {MAX_ROWS} rows")
    return Message(Kind(kind), model_id, key, reference, rows, parts, raw[_HEAD.size : -_DIGEST])


def key_of(raw: bytes) -> bytes:
    """Return the key identifier that a message names, checked or not."""
    return raw[28:44]


def size_of(raw: bytes) -> tuple[bool, int]:
    """Return whether a message says that it is a bulk query, and of how many rows, checked or not."""
    if len(raw) < _HEAD.size:
        return False, 0
    head = _HEAD.unpack_from(raw)
    return head[2] == Kind.BULK_QUERY, int(head[7])


def digest(raw: bytes) -> bytes:
    """Return what an answer quotes as its reference."""
    return hashlib.sha256(raw).digest()


def packed_size(count: int, bits: int) -> int:
    """Return the bytes that `count` values of `bits` bits take."""
    return -(-count * bits // 8)


def pack_bits(values: Word, bits: int) -> bytes:
    """Return integers below 2^bits, `bits` bits each."""
    octets = np.ascontiguousarray(values.astype("<u8")).view(np.uint8).reshape(-1, 8)
    return np.packbits(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits], bitorder="little").tobytes()


def unpack_bits(raw: bytes, count: int, bits: int) -> Word:
    """Return what `pack_bits` packed."""
    if len(raw) != packed_size(count, bits):
        raise MessageError("this message has the wrong length for its parameters")
    table = np.zeros((count, 64), dtype=np.uint8)
    flat = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=count * bits, bitorder="little")
    table[:, :bits] = flat.reshape(count, bits)
    return np.packbits(table, axis=1, bitorder="little").view("<u8").ravel().astype(np.uint64)


class Cutter:
    """Cuts a payload into pieces of known sizes, and insists that nothing is missing or left over."""

    def __init__(self, payload: bytes) -> None:
        self._payload = memoryview(payload)
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        piece = self._payload[self._at : self._at + size]
        if len(piece) != size:
            raise MessageError("this message is shorter than its header says")
        self._at += size
        return bytes(piece)

    def finish(self) -> None:
        """Refuse what is left over."""
        if self._at != len(self._payload):
            raise MessageError("this message is longer than its header says")


def pack_fresh(c0: Word, seed: bytes, primes: tuple[int, ...]) -> bytes:
    """Return a seeded ciphertext: c0 under each prime, then the seed."""
    rows = [pack_bits(row, q.bit_length()) for row, q in zip(c0, primes, strict=True)]
    return b"".join(rows) + seed


def cut_fresh(cutter: Cutter, degree: int, primes: tuple[int, ...]) -> tuple[Word, bytes]:
    """Return the next seeded ciphertext of a payload."""
    c0 = np.empty((len(primes), degree), dtype=np.uint64)
    for row, q in enumerate(primes):
        bits = q.bit_length()
        c0[row] = unpack_bits(cutter.take(packed_size(degree, bits)), degree, bits)
        if (c0[row] >= q).any():
            raise MessageError("this message holds a ciphertext that is out of range")
    return c0, cutter.take(64)


def pack_answer(residues: Word, positions: npt.NDArray[np.intp], q: int, trim: int) -> bytes:
    """Return an answer: c1 without its `trim` low bits, and c0 at `positions` only."""
    bits = q.bit_length()
    return pack_bits(residues[1, 0] >> np.uint64(trim), bits - trim) + pack_bits(residues[0, 0, positions], bits)


def cut_answer(cutter: Cutter, degree: int, positions: npt.NDArray[np.intp], q: int, trim: int) -> Word:
    """Return the next answer of a payload as residues (2, 1, n); low bits come back as half their range."""
    bits = q.bit_length()
    out = np.zeros((2, 1, degree), dtype=np.uint64)
    high = unpack_bits(cutter.take(packed_size(degree, bits - trim)), degree, bits - trim) << np.uint64(trim)
    out[1, 0] = np.minimum(high + np.uint64((1 << trim) >> 1), np.uint64(q - 1))
    out[0, 0, positions] = unpack_bits(cutter.take(packed_size(positions.size, bits)), positions.size, bits)
    if (high >= q).any() or (out[0] >= q).any():
        raise MessageError("this message holds a ciphertext that is out of range")
    return out
