"""Shamir's secret sharing: any t shares give the secret, fewer say nothing, wrong ones are refused."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.federated.errors import ForgeryError, ThresholdError
from tacit.federated.masks.shamir import PRIME, SHARE_BYTES, combine, correct, split


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, os.urandom(32)], ids=["zeros", "ones", "random"])
def test_any_threshold_of_shares_gives_the_secret(secret):
    shares = split(secret, range(1, 6), threshold=3)

    subsets = [dict(some) for k in (3, 4, 5) for some in itertools.combinations(shares.items(), k)]

    assert all(combine(some, 3) == secret for some in subsets)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 20), st.integers(0, 19))
def test_points_need_not_be_consecutive(secret, threshold, more):
    points = [3 * i + 7 for i in range(threshold + more)]

    shares = split(secret, points, threshold)

    assert combine(dict(list(shares.items())[more:]), threshold) == secret


def test_fewer_shares_than_the_threshold_fit_every_secret():
    shares = split(os.urandom(32), [1, 2, 3], threshold=3)

    claims = [bytes(32), b"\x01" * 32, os.urandom(32)]

    for claim in claims:  # one line through (0, claim) and the two shares: each claim has its third share
        y0, y1, y2 = int.from_bytes(claim, "big"), *(int.from_bytes(shares[x], "big") for x in (1, 2))
        third = (y0 - 3 * y1 + 3 * y2) % PRIME
        known = {1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}
        assert combine(known, 3) == claim
    with pytest.raises(ThresholdError, match="2 shares came, 3 are needed"):
        combine({1: shares[1], 2: shares[2]}, 3)


def test_shares_are_fresh_each_time():
    secret = os.urandom(32)

    first, second = (split(secret, [1, 2, 3], threshold=2) for _ in range(2))

    assert all(first[x] != second[x] for x in first)


def test_what_is_no_share_is_refused():
    shares = split(os.urandom(32), [1, 2], threshold=2)

    wrong = [b"\xff" * SHARE_BYTES, bytes(SHARE_BYTES - 1)]

    for share in wrong:
        with pytest.raises(ForgeryError):
            combine({**shares, 2: share}, 2)


@pytest.mark.parametrize("points", [[0, 1], [1, 1], [-1, 2]])
def test_bad_points_are_refused(points):
    with pytest.raises(ValueError, match="points must be"):
        split(bytes(32), points, 2)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.integers(0, 5), st.integers(0, 1), st.randoms())
def test_as_many_wrong_shares_as_there_is_room_for_are_found(secret, threshold, errors, spare, random):
    n = threshold + 2 * errors + spare
    shares = split(secret, random.sample(range(1, 1000), n), threshold)
    lies = random.sample(sorted(shares), errors)
    spoilt = shares | {x: os.urandom(32).rjust(SHARE_BYTES, b"\0") for x in lies}

    assert correct(spoilt, threshold) == (secret, set(lies))


def test_more_wrong_shares_than_that_are_refused_and_never_give_another_secret():
    secret = os.urandom(32)
    shares = split(secret, range(1, 11), 7)

    for lies in (2, 3, 4):
        with pytest.raises(ForgeryError, match="more than 1 of 10 shares are wrong"):
            correct(shares | {x: os.urandom(32).rjust(SHARE_BYTES, b"\0") for x in range(1, lies + 1)}, 7)
