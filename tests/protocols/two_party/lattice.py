"""Ring-LWE in Python's integers, slow and plain, and a session of two parties with the engine in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.protocols.two_party.lattice import Lattice
from tacit.protocols.two_party.lattice.parameters import DEGREE, PRIMES
from tacit.session.config import Config
from tacit.session.session import Session

from ..world import Recorder

N = DEGREE
Integers = np.ndarray[Any, np.dtype[np.object_]]


def ring(*shape: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def residues(primes: int, *shape: int) -> Tensor:
    """Uniform, [*shape, primes, N]."""
    return torch.stack([torch.randint(0, p, (*shape, N)) for p in PRIMES[:primes]], -2)


def integers(t: Tensor) -> Integers:
    return np.array(t.tolist(), dtype=object)


def unsigned(t: Tensor) -> Integers:
    return integers(t) % 2**64


def composed(polynomial: Tensor, moduli: Sequence[int]) -> Integers:
    """Residues [primes, N] as integers modulo the product."""
    whole = math.prod(moduli)
    total = np.zeros(polynomial.shape[1:], dtype=object)
    for row, p in zip(polynomial, moduli, strict=True):
        rest = whole // p
        total = total + integers(row) * (rest * pow(rest, -1, p))
    return total % whole


def centred(values: Integers, modulus: int) -> Integers:
    return (values + modulus // 2) % modulus - modulus // 2


def times(x: Integers, y: Integers) -> Integers:
    """x y modulo X^N + 1, for a y with few or small coefficients."""
    total = np.zeros(N, dtype=object)
    for k in np.flatnonzero(y):
        turned = np.roll(x, k)
        turned[:k] = -turned[:k]
        total = total + turned * y[k]
    return total


def small_times(x: Integers, s: Integers, bits: int) -> Integers:
    """x s modulo 2^bits and X^N + 1, for a ternary s: x (s + 1), by long integers, less x (1 + X + X² + …)."""
    step = (bits + 22) // 8  # bytes of a coefficient, with room for sums

    def packed(v: Integers) -> int:
        return int.from_bytes(b"".join(int(c).to_bytes(step, "little") for c in v), "little")

    x = x % 2**bits
    data = (packed(x) * packed(s + 1)).to_bytes(2 * N * step, "little")
    whole = np.array([int.from_bytes(data[k : k + step], "little") for k in range(0, len(data), step)], dtype=object)
    sums = np.cumsum(x)
    return (whole[:N] - whole[N:] - 2 * sums + sums[-1]) % 2**bits


def bit_product(session: Session) -> Any:
    """Shares of products of bits, made where both are known."""

    def of(a: Tensor | None, b: Tensor | None) -> list[Tensor]:
        assert a is not None
        assert b is not None
        session.meter.round(dict.fromkeys(session.parties, 0))
        share = ring(a.numel())
        return [a.to(torch.int64) * b.to(torch.int64) - share, share]

    return of


class Pair:
    """Two parties in one process, and what each of them receives."""

    def __init__(self) -> None:
        self.config = Config.embedded(["alice", "bob"], protocol="additive")
        self.transport = Recorder(self.config.roles)
        self.session = Session(self.transport, self.config)
        self.lattice = Lattice(self.session, bit_product(self.session))

    @property
    def spent(self) -> tuple[int, int]:
        """Rounds and bytes until now."""
        cost = self.session.meter.cost
        return cost.rounds, sum(cost.online.values())
