"""The kernels of ring-LWE against Python's integers, and with IFMA against without."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tacit.protocols.two_party.lattice import kernels
from tacit.protocols.two_party.lattice.parameters import PRIMES, SLOT_PRIMES
from tacit.ring.kernels.native import use_isa
from tacit.ring.prg import Stream

from .lattice import N, centred, composed, integers, residues, ring, small_times, times, unsigned

Q = math.prod(PRIMES[:3])


@pytest.fixture(autouse=True)
def best() -> Iterator[None]:
    """The instruction set that a test leaves is the best there is."""
    yield
    use_isa("best")


def key(primes: int = 3) -> tuple[Tensor, np.ndarray]:
    """A secret as kernels have it, and its coefficients."""
    secret = kernels.secret(primes, ring(N))
    plain = secret.clone()
    kernels.transform(PRIMES[:primes], plain, back=True)
    return secret, centred(integers(plain[0]), PRIMES[0])


def decrypted(ciphertext: Tensor, s: np.ndarray) -> np.ndarray:
    """c0 + c1 s modulo q, of [2, primes, N]."""
    primes = ciphertext.shape[1]
    parts = ciphertext.clone()
    kernels.transform(PRIMES[:primes], parts, back=True)
    c0, c1 = (composed(part, PRIMES[:primes]) for part in parts)
    modulus = math.prod(PRIMES[:primes])
    return (c0 + _times(c1, s)) % modulus


def _times(x: np.ndarray, s: np.ndarray) -> np.ndarray:
    return centred(small_times(x, s, 208), 2**208)


def encrypted(secret: Tensor, message: Tensor | None, t: int = 0, count: int = 1) -> Tensor:
    primes = len(secret)
    uniform = torch.randint(0, 256, (kernels.stream_bytes(primes, count),), dtype=torch.uint8)
    packed = kernels.encrypt(secret, uniform, ring(count * N), message, t)
    out, valid = kernels.expand(primes, packed, uniform)
    assert valid
    return out


@pytest.mark.parametrize("p", [PRIMES[0], PRIMES[3], SLOT_PRIMES[2]])
def test_products_of_transforms_are_transforms_of_products(p: int) -> None:
    x, y = torch.randint(0, p, (1, 1, N)), torch.zeros(1, 1, N, dtype=torch.int64)
    y[0, 0, torch.randint(0, N, (12,))] = p - 1
    y[0, 0, torch.randint(0, N, (12,))] = torch.randint(0, p, (12,))
    want = times(integers(x.view(-1)), integers(y.view(-1))) % p
    kernels.transform((p,), x)
    kernels.transform((p,), y)

    z = torch.tensor([a * b % p for a, b in zip(x.view(-1).tolist(), y.view(-1).tolist(), strict=True)]).view(1, 1, N)
    kernels.transform((p,), z, back=True)

    assert (integers(z.view(-1)) == want).all()


def test_transforms_are_alike_and_undone_at_the_ends_of_the_range() -> None:
    for p in (*PRIMES, *SLOT_PRIMES):
        for x in (
            torch.full((1, 1, N), p - 1),
            torch.zeros(1, 1, N, dtype=torch.int64),
            torch.randint(0, p, (2, 1, N)),
        ):
            results = []
            for name in ("portable", "best"):
                use_isa(name)
                y = x.clone()
                kernels.transform((p,), y)
                results.append(y.clone())
                assert bool((y < p).all())
                assert bool((y >= 0).all())
                kernels.transform((p,), y, back=True)
                assert torch.equal(y, x)
            assert torch.equal(*results)


def test_a_secret_is_ternary_and_balanced() -> None:
    _, s = key()

    values, counts = np.unique(s.astype(np.int64), return_counts=True)

    assert values.tolist() == [-1, 0, 1]
    assert (abs(counts - N / 3) < 8 * math.sqrt(N * 2 / 9)).all()


@pytest.mark.parametrize(("primes", "t"), [(4, 0), (3, SLOT_PRIMES[0])])
def test_decryption_gives_the_message_and_noise(primes: int, t: int) -> None:
    secret, s = key(primes)
    top = t if t else 2**63
    message = torch.randint(-(top - 1), top - 1, (1, N))
    message[0, :4] = torch.tensor([-(top - 1), top - 1, 0, 1])
    q, modulus = math.prod(PRIMES[:primes]), t or 2**64

    found = decrypted(encrypted(secret, message, t)[0], s)

    want = (2 * q * (integers(message[0]) % modulus) + modulus) // (2 * modulus)
    noise = centred(found - want, q)
    assert abs(noise).max() <= 22
    assert 2.9 < np.std(noise.astype(float)) < 3.6


def test_an_encryption_of_zero_has_noise_only() -> None:
    secret, s = key()

    noise = centred(decrypted(encrypted(secret, None)[0], s), Q)

    assert abs(noise).max() <= 21


def test_what_is_no_residue_is_refused() -> None:
    secret, _ = key()
    uniform = torch.randint(0, 256, (kernels.stream_bytes(3, 1),), dtype=torch.uint8)
    packed = kernels.encrypt(secret, uniform, ring(N), None)
    for row in range(3):
        for value in (PRIMES[row], 2**48 - 1):
            bad = packed.clone()
            bad[0, 6 * (row * N + 77) : 6 * (row * N + 78)] = torch.tensor(
                list(value.to_bytes(6, "little")), dtype=torch.uint8
            )

            assert not kernels.expand(3, bad, uniform)[1]


def test_uniform_draws_that_are_no_residues_are_drawn_again() -> None:
    uniform = torch.randint(0, 256, (kernels.stream_bytes(3, 1),), dtype=torch.uint8)
    uniform[6 * 5 : 6 * 6] = 255
    spare = int.from_bytes(bytes(uniform[6 * 3 * N :][:8].tolist()), "little") % 2**47

    out, valid = kernels.expand(3, torch.zeros(1, 6 * 3 * N, dtype=torch.uint8), uniform)

    assert valid
    assert out[0, 1, 0, 5] == spare
    uniform[:] = 255
    assert not kernels.expand(3, torch.zeros(1, 6 * 3 * N, dtype=torch.uint8), uniform)[1]


def test_plaintexts_are_signed_integers() -> None:
    values = ring(1, N)
    values[0, :4] = torch.tensor([-(2**63), 2**63 - 1, -1, 0])

    out = kernels.plain(3, values)

    kernels.transform(PRIMES[:3], out, back=True)
    for row, p in zip(out[0], PRIMES, strict=False):
        assert (integers(row) == integers(values[0]) % p).all()


@pytest.mark.parametrize(("primes", "rows", "terms"), [(3, 2, 1), (4, 2, 5), (1, 1, 513)])
def test_sums_of_products(primes: int, rows: int, terms: int) -> None:
    """Also of the largest residues there are, and of more of them than are summed before a reduction."""
    if terms < 10:
        ciphertexts, plaintexts = residues(primes, rows, terms, 2), residues(primes, terms)
    else:
        ciphertexts, plaintexts = (torch.full((*shape, 1, N), PRIMES[0] - 1) for shape in ((1, terms, 2), (terms,)))
    sums = residues(primes, rows, 2)
    before = sums.clone()

    kernels.dot(ciphertexts, plaintexts, sums)

    at = torch.randint(0, N, (40,))
    products = integers(ciphertexts[..., at]) * integers(plaintexts[..., at])[None, :, None]
    want = integers(before[..., at]) + products.sum(1)
    for row, p in enumerate(PRIMES[:primes]):
        assert (integers(sums[:, :, row, at]) == want[:, :, row] % p).all()


@pytest.mark.parametrize(
    ("rows", "terms", "width", "outputs", "across"), [(1, 3, 1, 1, 128), (2, 2, 3, 5, 8), (1, 64, 8, 2, 1)]
)
def test_strided_sums_equal_those_of_whole_plaintexts(
    rows: int, terms: int, width: int, outputs: int, across: int
) -> None:
    ciphertexts, y = residues(3, rows, terms, 2), ring(terms, width, outputs, across)
    sums = residues(3, rows, outputs, 2)
    want = sums.clone()
    run = N // across
    for o in range(outputs):
        whole = torch.zeros(terms, across, run, dtype=torch.int64)
        whole[..., :width] = y[:, :, o].transpose(1, 2)
        into = want[:, o].contiguous()
        kernels.dot(ciphertexts, kernels.plain(3, whole.view(terms, N)), into)
        want[:, o] = into

    kernels.dot_strided(ciphertexts, y, sums)

    assert torch.equal(sums, want)


def unpacked(data: Tensor, bits: int) -> np.ndarray:
    """The numbers of an answer."""
    low = unsigned(data[: 8 * N].view(torch.int64))
    above = data[8 * N :]
    if bits == 68:
        high = torch.stack([above & 15, above >> 4], 1).view(-1)
        return low + integers(high) * 2**64
    width = (bits - 64) // 8
    parts = integers(above.view(N, width))
    return low + sum(parts[:, k] * 2 ** (64 + 8 * k) for k in range(width))


@pytest.mark.parametrize(("primes", "bits", "t"), [(3, 68, 0), (4, 112, 0), (3, 96, SLOT_PRIMES[1])])
def test_answers_and_what_they_are_finished_to(primes: int, bits: int, t: int) -> None:
    """Every number of both halves, from the definition."""
    secret, s = key(4)
    q = math.prod(PRIMES[:primes])
    zero, sums = residues(primes, 2), residues(primes, 1, 2)
    words, positions = ring(1, N), torch.randperm(N)[:500].contiguous()
    mask = ring(1, 500, 2)

    data, share, _ = kernels.answer(zero, sums, words.view(-1), mask, positions, t, bits, 0)
    finishing = next(k for k in range(1, 5) if math.prod(PRIMES[:k]).bit_length() > bits + 14)
    finished = kernels.finish(secret[:finishing].contiguous(), data, mask, positions, t, bits)

    drawn = unsigned(words[0])
    u = (drawn >> 42) * 3 // 2**22 - 1
    ones = np.frompyfunc(int.bit_count, 1, 1)
    e = ones(drawn % 2**21) - ones((drawn >> 21) % 2**21)
    parts = [sums[0].clone(), zero.clone()]
    for part in parts:
        kernels.transform(PRIMES[:primes], part, back=True)
    c = [composed(part, PRIMES[:primes]) for part in parts[0]]
    z = [composed(part, PRIMES[:primes]) for part in parts[1]]
    c0, c1 = (c[0] + _times(z[0], u)) % q, (c[1] + _times(z[1], u) + e) % q
    v1 = (2 * c1 * 2**bits + q) // (2 * q) % 2**bits
    off = (unpacked(data[0], bits) - v1) % 2**bits  # fractions have 124 bits that are right
    assert set(off) <= {0, 1, 2**bits - 1}
    assert (off == 0).mean() > 0.99
    v1 = v1 + centred(off, 2**bits)
    masks = unsigned(mask[0])
    masks = masks[:, 0] + masks[:, 1] * 2**64
    modulus = t or 2**64
    kept = (c0[positions.numpy()] * 2**128 // q - masks) % 2**128
    want = (kept * modulus + 2**127) // 2**128 % modulus
    assert (abs(centred(unsigned(share[0]) - want, modulus)) <= 1).all()
    assert (unsigned(share[0]) == want).mean() > 0.99
    turned = small_times(v1, s, bits)[positions.numpy()] << 128 - bits
    want = ((turned + masks) % 2**128 * modulus + 2**127) // 2**128 % modulus
    assert (unsigned(finished[0]) == want).all()


def everything(primes: int, bits: int, t: int) -> list[Tensor]:
    """What all kernels make of the same numbers, drawn from one seed."""
    torch.manual_seed(primes)
    secret = kernels.secret(4, ring(N))
    count, places = 9, torch.randperm(N)[:99].contiguous()
    message = kernels.into_slots(t, ring(count, N)) if t else ring(count, N)
    uniform = torch.randint(0, 256, (kernels.stream_bytes(primes, count),), dtype=torch.uint8)
    packed = kernels.encrypt(secret[:primes], uniform, ring(count * N), message, t)
    ciphertexts, valid = kernels.expand(primes, packed, uniform)
    sums = residues(primes, 1, 2)
    kernels.dot(ciphertexts[None], kernels.plain(primes, ring(count, N)), sums)
    kernels.dot_strided(ciphertexts[None], ring(count, 3, 1, 16), sums)
    mask = ring(1, 99, 2)
    answer = kernels.answer(residues(primes, 2), sums, ring(N), mask, places, t, bits, 1 << 55)
    finished = kernels.finish(secret[: 3 if bits < 112 else 4], answer[0], mask, places, t, bits)
    back = sums.clone()
    kernels.transform(PRIMES[:primes], back, back=True)
    return [secret, message, packed, ciphertexts, torch.tensor(valid), sums, *answer, finished, back]


@pytest.mark.parametrize(("primes", "bits", "t"), [(3, 68, 0), (4, 112, 0), (3, 96, SLOT_PRIMES[1])])
def test_results_are_the_same_with_ifma_and_without_and_on_more_threads(
    primes: int, bits: int, t: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for name, threads in (("portable", 1), ("best", 1), ("best", 3)):
        use_isa(name)
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(everything(primes, bits, t))

    for one, *others in zip(*results, strict=True):
        assert all(torch.equal(one, other) for other in others)


def test_doubtful_rounding_is_marked() -> None:
    zero, sums, positions = residues(3, 2), residues(3, 8, 2), torch.arange(N)

    def doubtful(margin: int) -> int:
        return int(
            kernels.answer(zero, sums, ring(8 * N), ring(8, N, 2), positions, SLOT_PRIMES[0], 96, margin)[2].sum()
        )

    assert doubtful(0) == 0
    assert doubtful(1 << 20) == 0  # but once in 2^27 times
    assert doubtful(1 << 62) == 8


@pytest.mark.parametrize("t", SLOT_PRIMES)
def test_slots_hold_what_is_put_into_them(t: int) -> None:
    values = ring(2, N)
    values[0, :2] = torch.tensor([-(2**63), 2**63 - 1])

    out = kernels.into_slots(t, values)

    assert int(out.abs().max()) <= t // 2
    back = (out + (out < 0) * t).view(2, 1, N)
    kernels.transform((t,), back)
    assert (integers(back.view(2, N)) == integers(values) % t).all()


def stepwise(
    rows: list[Tensor], others: list[Tensor], uniform: Tensor, given: dict[str, Tensor], t: int
) -> list[Tensor]:
    """Products in slots by one kernel after the other, with all that lies between them in memory."""
    terms, blocks = len(rows), -(-rows[0].numel() // N)

    def messages(some: list[Tensor]) -> Tensor:
        values = torch.zeros(terms, blocks * N, dtype=torch.int64)
        values[:, : some[0].numel()] = torch.stack(some)
        return kernels.into_slots(t, values.view(terms, blocks, N).transpose(0, 1).reshape(-1, N).contiguous())

    packed = kernels.encrypt(given["secret"][:3], uniform, given["noise"], messages(rows), t)
    ciphertexts, _ = kernels.expand(3, packed, uniform)
    sums = torch.zeros(blocks, 1, 2, 3, N, dtype=torch.int64)
    for b, factors in enumerate(messages(others).view(blocks, terms, N)):
        kernels.dot(ciphertexts.view(blocks, 1, terms, 2, 3, N)[b], kernels.plain(3, factors), sums[b])
    where = torch.arange(N), t, 96
    zero, words, mask = (given[name] for name in ("zero", "words", "mask"))
    data, share, doubtful = kernels.answer(zero, sums.flatten(0, 1), words, mask, *where, 1 << 20)
    finished = kernels.finish(given["secret"][:3].contiguous(), data, mask, *where)
    for one in (share, finished):
        kernels.transform((t,), one.view(-1, 1, N))
    return [packed, data, share, doubtful, finished]


@pytest.mark.parametrize(
    ("count", "terms", "again"), [(3 * N - 5, 2, False), (70, 6, False), (N, 1, True), (N, 6, True)]
)
@pytest.mark.parametrize("isa", ["best", "portable"])
def test_products_in_slots_are_those_of_their_steps(count: int, terms: int, again: bool, isa: str) -> None:
    """Of a seed, and of a stream of which some draws are no residues and are drawn again."""
    use_isa(isa)
    blocks, t = -(-count // N), SLOT_PRIMES[1]
    rows, others = ([ring(count) for _ in range(terms)] for _ in range(2))
    seed = torch.randint(0, 256, (16,), dtype=torch.uint8)
    given = {"secret": kernels.secret(4, ring(N)), "noise": ring(terms * blocks * N), "zero": residues(3, 2)}
    given |= {"words": ring(blocks * N), "mask": ring(blocks, N, 2)}
    uniform = Stream(bytes(seed.tolist())).bytes(kernels.stream_bytes(3, terms * blocks))
    if again:
        each = kernels.stream_bytes(3, 1)
        for place in (5, N + 6, 2 * N - 1, 2 * N):
            uniform[(terms - 1) * each + 6 * place :][:6] = 255
    want = stepwise(rows, others, uniform, given, t)

    uniform = seed if kernels.draws_itself() and not again else uniform
    packed, share, finished = torch.empty_like(want[0]), torch.empty_like(want[2]), torch.empty_like(want[4])
    kernels.slots_encrypt(given["secret"][:3], uniform, given["noise"], rows, t, 0, packed)
    answered, keys = [], (given["zero"], packed, uniform)
    for at in range(blocks):  # one by one, as what is in doubt is answered again
        words, mask = given["words"][at * N : (at + 1) * N], given["mask"][at : at + 1]
        answered.append(kernels.slots_answer(*keys, words, mask, share[at], others, t, 0, at, 96, 1 << 20))
    data, doubtful, valid = kernels.slots_answer(
        *keys, given["words"], given["mask"], share, others, t, 0, 0, 96, 1 << 20
    )
    kernels.slots_finish(given["secret"][:3], data, given["mask"], t, 96, finished)

    assert valid
    assert all(torch.equal(a, b) for a, b in zip((packed, data, share, doubtful, finished), want, strict=True))
    assert torch.equal(torch.cat([out for out, _, _ in answered]), data)


def test_blocks_that_are_not_there_are_refused() -> None:
    secret, rows, t = kernels.secret(3, ring(N)), [ring(N + 1)], SLOT_PRIMES[0]
    uniform = torch.zeros(kernels.stream_bytes(3, 1), dtype=torch.uint8)
    packed, out = torch.zeros(1, 6 * 3 * N, dtype=torch.uint8), torch.zeros(N, dtype=torch.int64)

    def answer(first: int, at: int, some: list[Tensor]) -> None:
        kernels.slots_answer(residues(3, 2), packed, uniform, ring(N), ring(N, 2), out, some, t, first, at, 96, 0)

    for first, at, some in ((0, 1, rows), (3, 0, rows), (0, 0, []), (0, 0, [*rows, rows[0]]), (0, 0, [*rows, ring(3)])):
        with pytest.raises(ValueError, match="a kernel was called with"):
            answer(first, at, some)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.slots_encrypt(secret, uniform, ring(N), rows, t, 2, packed)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.slots_encrypt(secret, uniform[:-8], ring(N), rows, t, 0, packed)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.slots_finish(secret, packed[:, :-1], ring(N, 2), t, 96, out)
    packed[0, :6] = 255
    assert not kernels.slots_answer(residues(3, 2), packed, uniform, ring(N), ring(N, 2), out, rows, t, 0, 0, 96, 0)[2]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shift", [False, True])
def test_residues_are_combined(count: int, shift: bool) -> None:
    primes = SLOT_PRIMES[:count]
    T = math.prod(primes)  # noqa: N806 - the letter of the formula
    edges = [0, 1, T // 4, T // 4 + 1, T // 2 - 1, T // 2, T // 2 + 1, T - T // 4 - 1, T - T // 4, T - 1]
    numbers = np.array(edges + [int(v) % T for v in unsigned(ring(500)) * unsigned(ring(500)) * 5], dtype=object)
    given = torch.tensor([[int(v % p) for v in numbers] for p in primes])

    out, upper = kernels.combine(primes, given, shift=shift)

    want = (numbers + (T // 4 if shift else 0)) % T
    assert (unsigned(out) == want % 2**64).all()
    assert (integers(upper) == (2 * want > T)).all()
    few, bits = kernels.combine(primes, given, shift=shift, count=101)
    assert torch.equal(few, out[:101])
    assert torch.equal(bits, upper[:101])
    with pytest.raises(ValueError, match="not below their prime"):
        kernels.combine(primes, given + (torch.arange(given.shape[1]) == 77) * 2**45, shift=shift)


def test_other_sizes_are_refused() -> None:
    secret, _ = key()
    some = residues(3, 2)
    good = torch.arange(4)
    uniform = torch.zeros(kernels.stream_bytes(3, 1), dtype=torch.uint8)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.transform(PRIMES[:3], some[:, :2, :100].contiguous())
    with pytest.raises(ValueError, match="not below their prime"):
        kernels.transform(PRIMES[:3], torch.full((3, N), 2**50))
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.encrypt(secret, uniform[:-1], ring(N), None)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.encrypt(secret, uniform, ring(N), ring(1, N - 1))
    with pytest.raises(ValueError, match="beyond its modulus"):
        kernels.encrypt(secret, uniform, ring(N), torch.full((1, N), 2**44), SLOT_PRIMES[0])
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.expand(3, torch.zeros(1, 6 * 3 * N, dtype=torch.uint8), uniform[:-8])
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.dot(residues(3, 2, 2, 2), residues(3, 3), residues(3, 2, 2))
    for y in (ring(2, 1, 1, 3), ring(2, 1, 1, 256), ring(3, 1, 1, 8), ring(2, 1, 2, 8)):
        with pytest.raises(ValueError, match="a kernel was called with"):
            kernels.dot_strided(residues(3, 1, 2, 2), y, residues(3, 1, 1, 2))
    for positions in (torch.tensor([N]), torch.tensor([-1])):
        with pytest.raises(ValueError, match="a coefficient that is not there"):
            kernels.answer(some, residues(3, 1, 2), ring(N), ring(1, 1, 2), positions, 0, 68, 0)
    with pytest.raises(ValueError, match="a kernel was called with"):
        kernels.answer(some, residues(3, 1, 2), ring(N), ring(1, 3, 2), good, 0, 68, 0)
    with pytest.raises(ValueError, match="another width"):
        kernels.answer(some, residues(3, 1, 2), ring(N), ring(1, 4, 2), good, 0, 72, 0)
    with pytest.raises(ValueError, match="too few primes"):
        kernels.finish(secret[:2], torch.zeros(1, 12 * N, dtype=torch.uint8), ring(1, 4, 2), good, 0, 96)
    with pytest.raises(ValueError, match="not below their prime"):
        kernels.combine(SLOT_PRIMES, torch.full((3, 2), 2**45), shift=False)
