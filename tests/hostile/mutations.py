"""Bytes that somebody hostile might send: what is right, changed in one place or several, and what never was right."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 63,
)
"""Lengths and counts at which programs break."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1 << 31, 1 << 63, 1 << 64, 10**400, -(1 << 80), 0.5, 1e308, float("inf"),
    [1e400] * 3, float("nan"), "", "a", "\0", "\ud800", "../../x", "x" * 3000, "ff", "ü", [], {}, [[]], {"": {}},
)  # fmt: skip
"""What may stand in JSON where something else should."""

TEXTS = (
    b"\x00" * 9,
    b"\xff" * 9,
    b"\n\r\n",
    b'"',
    b"{",
    b"[" * 2000,
    b",,",
    b"1e999",
    b"NaN",
    b"\xf0\x9f\x98\x80",
    b"%s",
)


def mutated(draws: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples, changed."""
    data = bytearray(draws.choice(samples))
    if draws.random() < 0.4:
        changed = _literal(draws, bytes(data))
        if changed is not None:
            return changed
    for _ in range(1 + draws.randrange(3)):
        draws.choice(STEPS)(draws, data, samples)
    return bytes(data)


def _flip(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)


def _cut(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    del data[draws.randrange(len(data) + 1) :]


def _remove(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = draws.randrange(len(data) + 1)
    del data[at : at + 1 + draws.randrange(40)]


def _repeat(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = draws.randrange(len(data) + 1)
    data[at:at] = data[at : at + draws.randrange(60)] * draws.choice((1, 2, 50))


def _number(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    size, order = draws.choice((1, 2, 4, 8)), draws.choice(("little", "big"))
    at = draws.randrange(min(len(data), draws.choice((16, 64, 1 << 20))) + 1)
    data[at : at + size] = (draws.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, order)


def _text(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = draws.randrange(len(data) + 1)
    data[at:at] = draws.choice(TEXTS)


def _random(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = draws.randrange(len(data) + 1)
    data[at : at + 30] = draws.randbytes(draws.randrange(60))


def _spliced(draws: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    other = draws.choice(samples)
    data[draws.randrange(len(data) + 1) :] = other[draws.randrange(len(other) + 1) :]


STEPS: tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _flip, _cut, _remove, _repeat, _number, _number, _text, _random, _spliced,
)  # fmt: skip


def _literal(draws: random.Random, data: bytes) -> bytes | None:
    """JSON of the same shape with something else in one of its places; None for what is no JSON."""
    start = data.find(b"{")
    try:
        tree, end = json.JSONDecoder().raw_decode(data[start:].decode()) if start >= 0 else (None, 0)
    except (ValueError, RecursionError):
        return None
    if tree is None:
        return None
    for _ in range(1 + draws.randrange(2)):
        tree = _changed(draws, tree)
    text = json.dumps(tree).encode()
    head = data[:start]
    if len(head) in (4, 8):  # the length stands before it
        head = len(text).to_bytes(len(head), "little")
    return head + text + data[start:].decode()[end:].encode()


def _changed(draws: random.Random, tree: Any) -> Any:
    if isinstance(tree, dict) and tree and draws.random() < 0.85:
        key = draws.choice(list(tree))
        if draws.random() < 0.15:
            return {k: v for k, v in tree.items() if k != key}
        return tree | {key: _changed(draws, tree[key])}
    if isinstance(tree, list) and tree and draws.random() < 0.8:
        at = draws.randrange(len(tree))
        if draws.random() < 0.15:
            return tree[:at] + tree[at + 1 :]
        return [*tree[:at], _changed(draws, tree[at]), *tree[at + 1 :]]
    if isinstance(tree, str) and draws.random() < 0.3:  # perhaps a number in hexadecimal, perhaps JSON in JSON
        inner = _literal(draws, tree.encode(errors="replace"))
        return tree[:-1] if inner is None else inner.decode()
    return draws.choice(VALUES)
