"""The key stream: AES-128 in counter mode, the same at both ends, never twice."""

from __future__ import annotations

import copy
import pickle
import sys
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit.ring.prg import SMALL_BYTES, Stream, derive_key


def test_the_stream_is_aes_128_ctr() -> None:
    # AES-128 of the all-zero block under the all-zero key [FIPS197, as in NIST's known-answer tests]
    first = Stream(bytes(16)).bytes(SMALL_BYTES + 1)[:16]

    assert bytes(first.tolist()).hex() == "66e94bd4ef8a2c3b884cfa59ca342b2e"


@given(st.lists(st.integers(0, 3 * SMALL_BYTES), max_size=20))
def test_equal_requests_give_equal_values_at_both_ends(sizes: list[int]) -> None:
    one, other = Stream(b"k" * 16), Stream(b"k" * 16)

    for size in sizes:
        assert torch.equal(one.bytes(size), other.bytes(size))
        assert torch.equal(one.ring((size // 8,)), other.ring((size // 8,)))


@given(st.lists(st.integers(16, 3 * SMALL_BYTES), min_size=2, max_size=12))
def test_no_part_of_the_stream_is_used_twice(sizes: list[int]) -> None:
    stream = Stream(b"q" * 16)

    drawn = [bytes(stream.bytes(size).numpy()[:16]) for size in sizes]

    assert len(set(drawn)) == len(drawn)


def test_values_do_not_change_when_more_are_drawn() -> None:
    stream = Stream(b"z" * 16)
    first = stream.ring((5,))
    kept = first.clone()

    for _ in range(20_000):
        stream.ring((5,))

    assert torch.equal(first, kept)


def test_shapes() -> None:
    stream = Stream(b"s" * 16)

    assert stream.ring(()).shape == ()
    assert stream.ring((0, 3)).shape == (0, 3)
    assert stream.ring((2, 3)).dtype == torch.int64


def test_keys_differ_by_purpose_and_secret() -> None:
    keys = {derive_key(secret, purpose) for secret in (b"a" * 32, b"b" * 32) for purpose in ("deal", "zero", "input")}

    assert len(keys) == 6
    assert all(len(key) == 16 for key in keys)


def test_a_stream_cannot_be_copied_and_hides_its_key() -> None:
    stream = Stream(b"0123456789abcdef")

    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="never be used twice"):
            use(stream)
    assert "0123" not in repr(stream)


@pytest.mark.parametrize("size", [5, SMALL_BYTES // 8, SMALL_BYTES])
def test_a_stream_is_combined_with_what_is_there(size: int) -> None:
    drawn, combined = Stream(b"c" * 16), Stream(b"c" * 16)
    values = torch.arange(size) << 40
    data = torch.arange(size).to(torch.uint8)
    want = [values + drawn.ring((size,)), values - drawn.ring((size,)), data ^ drawn.bytes(size)]

    total, difference, masked = values.clone(), values.clone(), data.clone()
    combined.add_to(total)
    combined.subtract_from(difference)
    combined.xor_into(masked)

    assert all(torch.equal(x, y) for x, y in zip((total, difference, masked), want, strict=True))


def test_two_threads_never_get_the_same_bytes() -> None:
    stream, drawn = Stream(b"t" * 16), [[], []]  # type: tuple[Stream, list[list[bytes]]]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def draw(mine: list[bytes]) -> None:
        mine += [bytes(stream.bytes(16).numpy()) for _ in range(20_000)]

    threads = [threading.Thread(target=draw, args=(mine,)) for mine in drawn]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)

    assert len({*drawn[0], *drawn[1]}) == 40_000
