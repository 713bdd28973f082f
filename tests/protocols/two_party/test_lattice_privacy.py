"""What the parties see of each other in products by ring-LWE, with leaks planted to show that they would be found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from tacit.errors import ConfigError, DivergenceError
from tacit.protocols.two_party.lattice import Held, kernels
from tacit.protocols.two_party.lattice import cipher as ciphers
from tacit.protocols.two_party.lattice.parameters import (
    DEGREE,
    LEVEL,
    LIMITS,
    MATRIX,
    MATRIX_EXACT,
    PRIMES,
    SLOT_PRIMES,
    SLOTS,
    Parameters,
    check,
    slot_primes,
)
from tacit.ring.kernels import matmul

from .lattice import Pair, composed, ring

N = DEGREE


@pytest.fixture
def pair() -> Pair:
    return Pair()


class Tapped:
    """Every call of a kernel, with what it was given and what it made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.calls: list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]] = []
        whole: Callable[..., tuple[Tensor, ...]] = getattr(kernels, name)

        def tapped(*given: Tensor) -> tuple[Tensor, ...]:
            made = whole(*given)
            self.calls.append((given, made))
            return made

        monkeypatch.setattr(kernels, name, tapped)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Tapped:
    return Tapped(monkeypatch, "answer")


def products(pair: Pair, times: int) -> None:
    """The same product again and again."""
    x, y = (Held([ring(*shape), ring(*shape)], None, {}) for shape in ((3, 20), (20, 4)))
    for _ in range(times):
        pair.lattice.bilinear(Held(x.parts, None, {}), Held(y.parts, None, {}), matmul, exact=False)


def hides(answers: Tapped) -> bool:
    """Whether second components are far from those of the sums, which the owner of the key could compute."""
    for (_, sums, *_), (data, *_) in answers.calls:
        parts = sums[0, 1].clone()
        kernels.transform(PRIMES[: len(parts)], parts, back=True)
        c1 = composed(parts, PRIMES[: len(parts)])
        bare = [int(v) * 2**64 // math.prod(PRIMES[: len(parts)]) for v in c1[:64]]
        low = data[0, : 8 * 64].view(torch.int64).tolist()
        high = data[0, 8 * N : 8 * N + 32].tolist()
        sent = [(lo % 2**64 | (high[k // 2] >> 4 * (k % 2) & 15) << 64) >> 4 for k, lo in enumerate(low)]
        near = sum(min((a - b) % 2**64, (b - a) % 2**64) < 2**60 for a, b in zip(bare, sent, strict=True))
        if near > 40:  # of 64: by chance, 8
            return False
    return True


def fresh(answers: Tapped) -> bool:
    """Whether no number of u and no word of an encryption of zero comes twice."""
    masks = torch.cat([given[3].reshape(-1) for given, _ in answers.calls])
    words = torch.cat([given[2].reshape(-1) for given, _ in answers.calls])
    return all(t.unique().numel() == t.numel() for t in (masks, words))


def test_answers_hide_what_they_were_multiplied_by(pair: Pair, answers: Tapped) -> None:
    products(pair, 2)

    assert hides(answers)
    assert fresh(answers)


def test_a_missing_encryption_of_zero_would_be_found(
    pair: Pair, answers: Tapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ciphers.Ciphers, "_zero", lambda self, evaluator, primes: torch.zeros(2, primes, N).long())

    products(pair, 1)

    assert not hides(answers)


def test_a_mask_that_is_used_again_would_be_found(pair: Pair, answers: Tapped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ciphers.Ciphers, "_mask", lambda self, here, peer, owner, shape: torch.zeros(*shape, 2).long())

    products(pair, 2)

    assert not fresh(answers)


def test_randomness_of_an_encryption_that_is_used_again_would_be_found(
    pair: Pair, answers: Tapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = ring(N)
    monkeypatch.setattr(ciphers._Party, "words", lambda self, count: once.repeat(count))

    products(pair, 2)

    assert not fresh(answers)


def test_nothing_that_is_sent_comes_twice_or_looks_biased(pair: Pair) -> None:
    products(pair, 3)
    x, y = Held([ring(100), ring(100)], None, {}), Held([ring(100), ring(100)], None, {})
    for _ in range(2):
        pair.lattice.cross(x, y)

    for received in pair.transport.received.values():
        words = torch.cat([data[: data.numel() // 8 * 8].clone().view(torch.int64) for data in received])
        assert words.unique().numel() == words.numel()
    for received in pair.transport.received.values():
        for data in received:
            low = data[16:9016].view(-1, 6)[:, :5].to(torch.float64)  # the sixth byte of a residue has 7 bits
            assert abs(float(low.mean()) - 127.5) < 8 * 74 / math.sqrt(low.numel())


def test_shares_are_uniform_on_their_own(pair: Pair) -> None:
    """Zero times zero, of which a share without a mask would be small."""
    zero = Held([torch.zeros(64, 64, dtype=torch.int64)] * 2, None, {})
    for shares in (
        pair.lattice.bilinear(zero, Held(zero.parts, None, {}), matmul, exact=False),
        pair.lattice.bilinear(zero, Held(zero.parts, None, {}), matmul, exact=True),
        pair.lattice.cross(zero, Held(zero.parts, None, {})),
    ):
        for share in shares:
            unit = share.to(torch.float64) / 2.0**63
            assert abs(float(unit.mean())) < 8 / math.sqrt(3 * unit.numel())
            assert abs(float(unit.square().mean()) - 1 / 3) < 8 * 0.3 / math.sqrt(unit.numel())


def test_doubtful_answers_are_answered_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a margin that fails some of them, under an encryption of zero of their own, and the mask as it was."""
    monkeypatch.setattr(Parameters, "margin", lambda self, terms, bits, t: 1 << 51)
    answers = Tapped(monkeypatch, "slots_answer")
    x, y = (Held([ring(3 * N), ring(3 * N)], None, {}) for _ in range(2))

    shares = pair.lattice.cross(x, y)

    assert torch.equal(shares[0] + shares[1], x.parts[0] * y.parts[1] + x.parts[1] * y.parts[0])
    assert len(answers.calls) > 6  # one for each prime and direction, were there no doubts
    words = torch.cat([given[3].reshape(-1) for given, _ in answers.calls])
    assert words.unique().numel() == words.numel()


def hides_slots(answers: Tapped) -> bool:
    """The same of products in slots: what came times what it was multiplied by, which its owner could compute."""
    q, t = math.prod(PRIMES[:3]), SLOT_PRIMES[0]
    for (_, packed, uniform, _, _, _, rows, prime, *_), (data, *_) in answers.calls:
        if prime != t:
            continue
        ciphertexts, _ = kernels.expand(3, packed, uniform)
        factors = kernels.into_slots(t, torch.stack([pad(row[:N], (0, N - row[:N].numel())) for row in rows]))
        sums = torch.zeros(1, 2, 3, N, dtype=torch.int64)
        kernels.dot(ciphertexts[None, : len(rows)].contiguous(), kernels.plain(3, factors), sums)
        kernels.transform(PRIMES[:3], sums, back=True)
        bare = [int(v) * 2**64 // q for v in composed(sums[0, 1], PRIMES[:3])[:64]]
        above = data[0, 8 * N : 8 * N + 256].view(torch.int32).tolist()
        low = data[0, : 8 * 64].view(torch.int64).tolist()
        sent = [(a % 2**32 << 32) + (b % 2**64 >> 32) for a, b in zip(above, low, strict=True)]
        near = sum(min((a - b) % 2**64, (b - a) % 2**64) < 2**60 for a, b in zip(bare, sent, strict=True))
        if near > 40:  # of 64: by chance, 8
            return False
    return True


def test_answers_in_slots_hide_what_they_were_multiplied_by(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Tapped(monkeypatch, "slots_answer")
    x, y = (Held([ring(99), ring(99)], None, {}) for _ in range(2))
    for _ in range(2):
        pair.lattice.cross(x, y)

    assert len(answers.calls) == 6
    assert hides_slots(answers)
    for place in (3, 4):  # randomness of encryptions of zero, and masks
        drawn = torch.cat([given[place].reshape(-1) for given, _ in answers.calls])
        assert drawn.unique().numel() == drawn.numel()
    monkeypatch.setattr(ciphers.Ciphers, "_zero", lambda self, evaluator, primes: torch.zeros(2, primes, N).long())
    pair.lattice.cross(x, y)
    assert not hides_slots(answers)


@pytest.fixture
def spoiled(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A pair whose links put 255 in the place of bytes that are not a seed."""
    receive = pair.transport.receive

    def receive_spoiled(parcel) -> None:  # type: ignore[no-untyped-def]
        receive(parcel)
        parcel.tensor.view(-1)[ciphers.SEED_BYTES + 6 * 77 : ciphers.SEED_BYTES + 6 * 78] = 255

    monkeypatch.setattr(pair.transport, "receive", receive_spoiled)
    return pair


def test_ciphertexts_that_are_none_are_refused(spoiled: Pair) -> None:
    with pytest.raises(DivergenceError, match="has sent ciphertexts that are none"):
        products(spoiled, 1)


def test_ciphertexts_of_another_size_are_refused(pair: Pair) -> None:
    products(pair, 1)
    for size in (0, 15, 16 + 6 * N, 16 + 6 * 3 * N - 1):
        with pytest.raises(DivergenceError, match="which are no ciphertexts"):
            pair.lattice._ciphers.received(0, 3, torch.zeros(size, dtype=torch.uint8))


# --- parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [MATRIX, MATRIX_EXACT, SLOTS], ids=lambda p: p.name)
def test_parameter_sets_stay_in_the_table(parameters: Parameters) -> None:
    check(parameters)

    assert parameters.modulus_bits <= LIMITS[parameters.degree][LEVEL]
    assert parameters.security >= 128


@pytest.mark.parametrize("parameters", [MATRIX, MATRIX_EXACT, SLOTS], ids=lambda p: p.name)
def test_a_set_that_leaves_the_table_is_refused(parameters: Parameters) -> None:
    for worse in (replace(parameters, degree=4096), replace(parameters, degree=2048), replace(parameters, sigma=1.0)):
        with pytest.raises(ConfigError, match="beyond the table"):
            check(worse)


def test_the_table_is_that_of_the_standard() -> None:
    assert LIMITS[4096] == {128: 109, 192: 75, 256: 58}
    assert LIMITS[8192] == {128: 218, 192: 152, 256: 118}
    assert LIMITS[16384] == {128: 438, 192: 305, 256: 237}


def test_primes_are_prime_and_have_transforms() -> None:
    for p in (*PRIMES, *SLOT_PRIMES):
        assert p % (2 * N) == 1
        assert all(pow(a, p - 1, p) == 1 for a in (2, 3, 5, 7, 11, 13))
        odd, twos = p - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for a in (2, 3, 5, 7, 11, 13, 17):  # enough below 3.4e14 [Miller and Rabin]
            x = pow(a, odd, p)
            assert x in (1, p - 1) or any(pow(x, 2**k, p) == p - 1 for k in range(1, twos))
    assert len(set(PRIMES)) == len(PRIMES)


def test_noise_leaves_room_in_every_set() -> None:
    """At the longest sums there are, a product is right up to its units, and one in 2^30 is to be answered again."""
    assert 6 * MATRIX.noise(2**20, 64) < 12
    assert MATRIX_EXACT.margin(2**20, 64, 0) < 2**64 / 2**31
    for primes in (slot_primes(2**40), slot_primes(2**127)):
        assert all(SLOTS.margin(16 * N, 44, p) < 2**64 / 2**31 for p in primes)


def test_slots_hold_what_they_are_chosen_for() -> None:
    for bits in range(10, 130):
        assert math.prod(slot_primes(2**bits)) > 4 * 2**bits
    with pytest.raises(ValueError, match="split the terms"):
        slot_primes(2**131)
