"""The native kernels of ring-LWE, with what they are given checked. A polynomial is int64 residues [primes, N]."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit.protocols.two_party.lattice.parameters import DEGREE, PRIMES
from tacit.ring.kernels import BACKEND
from tacit.ring.memory import space

if BACKEND == "native":
    from tacit.ring import _native
    from tacit.ring.kernels.native import NONE, has_aes, memory

__all__ = [
    "STRIDED_TERMS",
    "answer",
    "combine",
    "dot",
    "dot_strided",
    "draws_itself",
    "encrypt",
    "expand",
    "finish",
    "into_slots",
    "plain",
    "require",
    "secret",
    "slots_answer",
    "slots_encrypt",
    "slots_finish",
    "stream_bytes",
    "transform",
]

STRIDED_TERMS = 512
"""The most terms that `dot_strided` sums: its products, of 94 bits, are reduced once at the end."""


def require() -> None:
    """Raise where there are no native kernels: in PyTorch alone a product would take minutes."""
    if BACKEND != "native":
        raise ConfigError(
            "two parties without a crypto-producer need the native kernels: install Tacit with a C++20 compiler on "
            "PATH, and leave TACIT_KERNELS out"
        )


@cache
def basis(primes: tuple[int, ...]) -> Any:
    """The tables of a modulus."""
    return _native.LatticeBasis(list(primes))


def modulus(count: int) -> Any:
    """That of the first primes."""
    return basis(PRIMES[:count])


def stream_bytes(primes: int, count: int) -> int:
    """Bytes of a key stream that so many uniform polynomials are drawn from."""
    each: int = 6 * primes * DEGREE + _native.LATTICE_RESERVE
    return count * each


def draws_itself() -> bool:
    """Whether a seed does for `stream_bytes` of it: the instruction set in use has AES."""
    return bool(has_aes())


def secret(primes: int, words: Tensor) -> Tensor:
    """A ternary secret from N random words."""
    out = torch.empty(primes, DEGREE, dtype=torch.int64)
    _native.lattice_secret(modulus(primes), memory(words), memory(out))
    return out


def transform(primes: Sequence[int], polynomials: Tensor, *, back: bool = False) -> None:
    """Transform [..., primes, N] in place."""
    _native.lattice_transform(basis(tuple(primes)), memory(polynomials), back, torch.get_num_threads())


def encrypt(
    secret: Tensor, uniform: Tensor, noise: Tensor, message: Tensor | None, t: int = 0, out: Tensor | None = None
) -> Tensor:
    """First halves of encryptions of messages modulo t (2^64 if 0), or of zeros: uint8 [count, bytes], or into `out`.

    `uniform` are `stream_bytes` of a seed that is public, or the seed itself, whose key stream is then made here;
    `noise` are N random words for each, of nobody else's.
    """
    primes, count = len(secret), noise.numel() // DEGREE
    out = space((count, 6 * primes * DEGREE), torch.uint8) if out is None else out
    places = memory(secret), memory(uniform, torch.uint8), memory(noise), NONE if message is None else memory(message)
    if not _native.lattice_encrypt(modulus(primes), *places, t, memory(out, torch.uint8), torch.get_num_threads()):
        raise RuntimeError("a key stream has no uniform residues")
    return out


def expand(primes: int, packed: Tensor, uniform: Tensor) -> tuple[Tensor, bool]:
    """Received ciphertexts, [count, 2, primes, N], and whether they are such."""
    count = packed.numel() // (6 * primes * DEGREE)
    out = space((count, 2, primes, DEGREE), torch.int64)
    places = memory(packed, torch.uint8), memory(uniform, torch.uint8), memory(out)
    return out, _native.lattice_expand(modulus(primes), *places, torch.get_num_threads())


def plain(primes: int, values: Tensor) -> Tensor:
    """Signed integers [count, N] as polynomials [count, primes, N]."""
    out = space((values.numel() // DEGREE, primes, DEGREE), torch.int64)
    _native.lattice_plain(modulus(primes), memory(values), memory(out), torch.get_num_threads())
    return out


def dot(ciphertexts: Tensor, plaintexts: Tensor, sums: Tensor) -> None:
    """sums[r] += Σ_b ciphertexts[r, b] plaintexts[b]: [rows, terms, 2, primes, N], [terms, primes, N]."""
    places = memory(ciphertexts), memory(plaintexts), memory(sums)
    _native.lattice_dot(modulus(plaintexts.shape[1]), *places, torch.get_num_threads())


@cache
def _powers(primes: int, count: int) -> Tensor:
    """1, X, X², …: [count, primes, N]."""
    return plain(primes, torch.eye(count, DEGREE, dtype=torch.int64))


def dot_strided(ciphertexts: Tensor, y: Tensor, sums: Tensor) -> None:
    """sums[r, o] += Σ_b Σ_j ciphertexts[r, b] X^j Σ_c y[b, j, o, c] X^(c N / nw): y is [terms, kw, outputs, nw]."""
    _, width, _, across = y.shape
    primes = ciphertexts.shape[-2]
    places = memory(ciphertexts), memory(_powers(primes, width)), memory(y), memory(sums)
    _native.lattice_dot_strided(modulus(primes), *places, len(ciphertexts), across, torch.get_num_threads())


def answer(
    zero: Tensor, sums: Tensor, words: Tensor, mask: Tensor, positions: Tensor, t: int, bits: int, margin: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What goes back, the evaluator's shares at these coefficients, and which of them to answer again.

    [2, primes, N], [count, 2, primes, N], [count, N] -> uint8 [count, bytes], [count, positions], uint8 [count]; `mask`
    are two uniform words for each share, which the owner draws, too.
    """
    count = len(sums)
    out = space((count, DEGREE * bits // 8), torch.uint8)
    share = space((count, positions.numel()), torch.int64)
    doubtful = torch.empty(count, dtype=torch.uint8)
    given = memory(zero), memory(sums), memory(words), memory(mask), memory(positions)
    results = memory(out, torch.uint8), memory(share), memory(doubtful, torch.uint8)
    _native.lattice_answer(modulus(zero.shape[1]), *given, t, bits, margin, *results, torch.get_num_threads())
    return out, share, doubtful


def finish(secret: Tensor, answers: Tensor, mask: Tensor, positions: Tensor, t: int, bits: int) -> Tensor:
    """The owner's shares at these coefficients: uint8 [count, bytes] -> [count, positions]."""
    share = space((len(answers), positions.numel()), torch.int64)
    given = memory(secret), memory(answers, torch.uint8), memory(mask), memory(positions)
    _native.lattice_finish(modulus(len(secret)), *given, t, bits, memory(share), torch.get_num_threads())
    return share


def into_slots(prime: int, values: Tensor) -> Tensor:
    """Signed integers [count, N] as the coefficients, between -t / 2 and t / 2, of what has them in its slots."""
    out = torch.empty_like(values)
    _native.lattice_into_slots(basis((prime,)), memory(values), memory(out), torch.get_num_threads())
    return out


def slots_encrypt(
    secret: Tensor, uniform: Tensor, noise: Tensor, rows: Sequence[Tensor], prime: int, first: int, out: Tensor
) -> None:
    """First halves of encryptions of rows [n] in slots, into uint8 [blocks, rows, bytes], from block `first` on.

    A block is N numbers of each row, signed integers; behind the last of them stand zeros.
    """
    places = memory(secret), memory(uniform, torch.uint8), memory(noise), [memory(row) for row in rows], first
    slots, threads = basis((prime,)), torch.get_num_threads()
    if not _native.lattice_slots_encrypt(modulus(len(secret)), slots, *places, memory(out, torch.uint8), threads):
        raise RuntimeError("a key stream has no uniform residues")


def slots_answer(
    zero: Tensor,
    packed: Tensor,
    uniform: Tensor,
    words: Tensor,
    mask: Tensor,
    share: Tensor,
    rows: Sequence[Tensor],
    prime: int,
    first: int,
    at: int,
    bits: int,
    margin: int,
) -> tuple[Tensor, Tensor, bool]:
    """Answers to the sums over rows of ciphertexts, as `slots_encrypt` makes them, times rows [n] of the evaluator's.

    What goes back, uint8 [blocks, bytes], which blocks to answer again, and whether what came are ciphertexts. The
    evaluator's shares modulo the prime are written to `share` [blocks N]. So many blocks are answered, the first of
    them number `at` of those that came, of which the first is number `first` of the rows.
    """
    count = share.numel() // DEGREE
    out = space((count, DEGREE * bits // 8), torch.uint8)
    doubtful = torch.empty(count, dtype=torch.uint8)
    given = memory(zero), memory(packed, torch.uint8), memory(uniform, torch.uint8), [memory(row) for row in rows]
    results = memory(out, torch.uint8), memory(share), memory(doubtful, torch.uint8), torch.get_num_threads()
    numbers = first, at, memory(words), memory(mask), bits, margin
    good = _native.lattice_slots_answer(modulus(zero.shape[1]), basis((prime,)), *given, *numbers, *results)
    return out, doubtful, good


def slots_finish(secret: Tensor, answers: Tensor, mask: Tensor, prime: int, bits: int, share: Tensor) -> None:
    """The owner's shares modulo the prime, from uint8 [blocks, bytes] to `share` [blocks N]."""
    given = memory(secret), memory(answers, torch.uint8), memory(mask), bits, memory(share)
    _native.lattice_slots_finish(modulus(len(secret)), basis((prime,)), *given, torch.get_num_threads())


def combine(primes: Sequence[int], residues: Tensor, *, shift: bool, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Shares modulo T = Π primes, plus T / 4 if `shift`: what they are modulo 2^64, and whether they are over T / 2.

    Of [primes, n] the first `count`.
    """
    count = residues.shape[1] if count is None else count
    out = space((count,), torch.int64)
    upper = torch.empty(count, dtype=torch.uint8)
    places = memory(residues), shift, memory(out), memory(upper, torch.uint8)
    _native.lattice_combine(basis(tuple(primes)), *places, torch.get_num_threads())
    return out, upper
