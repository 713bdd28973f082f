"""Base transfers: who chooses gets what it chose, the other side cannot tell, and hostile bytes are refused."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from tacit.errors import DivergenceError
from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel
from tacit.protocols.two_party.transfers import Transfers, base, leaves
from tacit.protocols.two_party.transfers.base import ANSWER_BYTES, KEY_BYTES, Chooser, Q, answer, drawn_keys
from tacit.protocols.two_party.transfers.kernels import QUICK, SHORT, Form
from tacit.session.config import Config
from tacit.session.session import Session


def choices(count: int) -> list[int]:
    return [random.getrandbits(1) for _ in range(count)]


def test_a_key_opens_what_was_encapsulated_to_it() -> None:
    secret = MLKEM768PrivateKey.generate()
    raw = secret.public_key().public_bytes_raw()
    shared, text = MLKEM768PublicKey.from_public_bytes(raw).encapsulate()

    assert (len(raw), len(text)) == (KEY_BYTES, ANSWER_BYTES)
    assert secret.decapsulate(text) == shared


def test_the_secret_that_was_chosen_is_opened_and_the_other_is_another() -> None:
    chosen = choices(40)
    chooser = Chooser(chosen)

    texts, pairs = answer(chooser.keys.tobytes(), "bob")
    opened = chooser.open(texts)

    assert [pair[c] for pair, c in zip(pairs, chosen, strict=True)] == opened
    assert len({*opened, *(secret for pair in pairs for secret in pair)}) == 80
    assert "hidden" in repr(chooser)


def test_keys_do_not_tell_which_of_them_was_drawn() -> None:
    keys = Chooser([0] * 40).keys.reshape(40, 2, KEY_BYTES)
    numbers = [base._coefficients(np.ascontiguousarray(keys[:, side])) for side in (0, 1)]

    for coefficients in numbers:  # uniform below Q: 30,720 of them
        assert coefficients.max() < Q
        assert abs(coefficients.mean() - (Q - 1) / 2) < 7 * Q / 12**0.5 / coefficients.size**0.5
        halves, _ = np.histogram(coefficients, bins=8, range=(0, Q))
        assert (abs(halves - coefficients.size / 8) < 7 * (coefficients.size / 8) ** 0.5).all()


def test_drawn_keys_are_keys_and_no_two_are_alike() -> None:
    keys = drawn_keys(50)

    assert keys.shape == (50, KEY_BYTES)
    assert len({key.tobytes() for key in keys}) == 50
    for key in keys:
        MLKEM768PublicKey.from_public_bytes(key.tobytes()).encapsulate()


def test_numbers_stand_in_a_key_as_the_standard_says() -> None:
    raw = b"".join(
        (first | second << 12).to_bytes(3, "little")
        for first, second in zip(range(0, 768, 2), range(1, 768, 2), strict=True)
    )

    numbers = base._coefficients(np.frombuffer(raw + bytes(32), np.uint8).reshape(1, -1))

    assert numbers[0].tolist() == list(range(768))


def set_coefficient(keys: np.ndarray, key: int, place: int, value: int) -> np.ndarray:
    spoiled = keys.copy()
    at = key * KEY_BYTES + place // 2 * 3
    pair = int.from_bytes(spoiled[at : at + 3].tobytes(), "little")
    shift = 12 * (place % 2)
    pair = pair & ~(0xFFF << shift) | value << shift
    spoiled[at : at + 3] = np.frombuffer(pair.to_bytes(3, "little"), np.uint8)
    return spoiled


def test_encodings_that_stand_for_nothing_are_refused_wherever_they_are() -> None:
    keys = Chooser(choices(3)).keys
    answer(set_coefficient(keys, 2, 100, Q - 1).tobytes(), "bob")

    for key, place in ((0, 0), (0, 767), (5, 0), (5, 767), (random.randrange(6), random.randrange(768))):
        for value in (Q, Q + 1, 4095):
            with pytest.raises(DivergenceError, match="from bob are none"):
                answer(set_coefficient(keys, key, place, value).tobytes(), "bob")


def test_bytes_of_any_kind_are_refused_or_answered() -> None:
    for fill in (bytes(2 * KEY_BYTES), os.urandom(2 * KEY_BYTES), b"\xff" * 2 * KEY_BYTES):
        try:
            texts, pairs = answer(fill, "bob")
        except DivergenceError:
            assert any(fill)
        else:
            assert (len(texts), len(pairs)) == (2 * ANSWER_BYTES, 1)


def test_answers_of_any_bytes_open_to_something_else() -> None:
    chosen = choices(3)
    chooser = Chooser(chosen)
    texts, pairs = answer(chooser.keys.tobytes(), "bob")

    opened = chooser.open(os.urandom(len(texts)))

    assert len(opened) == 3
    assert not {*opened} & {secret for pair in pairs for secret in pair}


@pytest.mark.parametrize("form", [QUICK, SHORT])
def test_all_leaves_but_one_are_known(form: Form) -> None:
    for delta in (os.urandom(16), bytes(16), b"\xff" * 16):
        secrets = [(os.urandom(32), os.urandom(32)) for _ in range(128)]
        everything, sums = leaves.grown(form, secrets)
        chosen = [secrets[place][c] for place, c in enumerate(leaves.choices(form, delta))]

        known = leaves.all_but_one(form, delta, chosen, sums)

        assert (len(everything), len(sums)) == (16 * form.leaves * form.trees, leaves.SUMS_BYTES)
        for tree in range(form.trees):
            place = int.from_bytes(delta, "little") >> form.levels * tree & form.leaves - 1
            for x in range(form.leaves):
                there, here = (16 * (form.leaves * tree + leaf) for leaf in (x ^ place, x))
                leaf = known[here : here + 16]
                assert leaf == (everything[there : there + 16] if x else bytes(16))
        assert len(pieces(everything)) == form.leaves * form.trees


def pieces(leaves: bytes) -> set[bytes]:
    return {leaves[at : at + 16] for at in range(0, len(leaves), 16)}


def test_a_leaf_follows_from_no_sum_that_was_not_chosen() -> None:
    secrets = [(os.urandom(32), os.urandom(32)) for _ in range(128)]
    delta = os.urandom(16)
    everything, sums = leaves.grown(QUICK, secrets)
    others = [secrets[place][1 - c] for place, c in enumerate(leaves.choices(QUICK, delta))]

    guessed = leaves.all_but_one(QUICK, delta, others, sums)

    assert not pieces(guessed) & pieces(everything)


class Spoiling(InProcess):
    """A transport on which the first keys that bob sends are spoiled."""

    def send(self, parcel: Parcel) -> None:
        if parcel.source == "bob" and parcel.tensor.numel() == 256 * KEY_BYTES:
            spoiled = set_coefficient(parcel.tensor.numpy(), 17, 500, Q)
            parcel = parcel._replace(tensor=torch.from_numpy(spoiled))
        super().send(parcel)


def test_a_session_stops_at_keys_that_are_none() -> None:
    config = Config.embedded(("alice", "bob"))
    session = Session(Spoiling(config.roles), config)

    with pytest.raises(DivergenceError, match="keys for oblivious transfers that came from bob"):
        Transfers(session).words(0, 1)
