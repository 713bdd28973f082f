"""Sums of products of plaintexts and ciphertexts: nearly all of a server's work for a large model.

    c' = sum_g W_g c_g + u pk

Two ways to the same residues: SEAL's, and for the ring of Tacit's own kernels (n = 8192, primes of 47 bits), where
these are installed, theirs, which take a fifth of the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch

from tacit.fhe import randomness
from tacit.fhe.layout import Index, Int, Layout
from tacit.fhe.program import Forms
from tacit.fhe.seal import Scheme, Word
from tacit.fhe.spread import spread
from tacit.ring.kernels import BACKEND

KERNEL_RING = 8192, 47
"""Degree, and bits of the primes, of the native kernels (lattice.hpp)."""


class Sums(ABC):
    """Factors and inputs as they are multiplied, and their sums."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme

    @abstractmethod
    def inputs(self, ciphertexts: Sequence[Any]) -> Any:
        """Return SEAL's ciphertexts, in coefficient form, ready to multiply. They are not used again."""

    @abstractmethod
    def switches(self, parts: list[tuple[Word, bytes]]) -> Any:
        """Return the keys that spreading needs, from the seeded digits of each automorphism's."""

    @abstractmethod
    def spread(self, ciphertext: Any, switches: Any, pieces: int) -> Any:
        """Return the first `pieces` pieces of a ciphertext in coefficient form, ready to multiply."""

    @abstractmethod
    def joined(self, inputs: Sequence[Any]) -> Any:
        """Return inputs one after the other."""

    @abstractmethod
    def factors(self, polynomials: Int) -> Any:
        """Return integer polynomials (groups, degree), modulo t, ready to multiply."""

    @abstractmethod
    def total(self, factors: Any, inputs: Any, key: Any) -> Any:
        """Return sum W c + u pk in coefficient form, with a fresh ternary u that is not zero, so that the sum always
        has a second part. `key` is what `inputs` made of the public key alone."""

    def totals(self, layout: Layout, forms: Forms, inputs: Any, key: Any) -> Iterator[Any]:
        """Yield the sums of each answer ciphertext, for forms that are used once."""
        for polynomials in layout.place_weights(forms.row, forms.column, forms.value):
            yield self.total(self.factors(polynomials), inputs, key)

    def _ternary(self) -> Int:
        while not (u := randomness.ternary(self.scheme.parameters.degree)).any():
            pass
        return u


@final
class SealSums(Sums):
    """SEAL's products. A factor of zero is None: SEAL refuses that product."""

    def inputs(self, ciphertexts: Sequence[Any]) -> Any:
        """Return them in NTT form."""
        for ciphertext in ciphertexts:
            self.scheme.evaluator.transform_to_ntt_inplace(ciphertext)
        return list(ciphertexts)

    def switches(self, parts: list[tuple[Word, bytes]]) -> Any:
        """Return SEAL's keys."""
        return self.scheme.switching_keys(parts)

    def spread(self, ciphertext: Any, switches: Any, pieces: int) -> Any:
        """Return the pieces in NTT form."""
        return self.inputs(spread(self.scheme, ciphertext, switches, pieces))

    def joined(self, inputs: Sequence[Any]) -> Any:
        """Return one list."""
        return [one for some in inputs for one in some]

    def factors(self, polynomials: Int) -> Any:
        """Return plaintexts in NTT form."""
        return [self.scheme.weights(polynomial) for polynomial in polynomials]

    def total(self, factors: Any, inputs: Any, key: Any) -> Any:
        """Return the sum."""
        evaluator = self.scheme.evaluator
        total, term = self.scheme.empty(), self.scheme.empty()
        evaluator.multiply_plain(key[0], self.scheme.weights(self._ternary()), total)
        for factor, ciphertext in zip(factors, inputs, strict=True):
            if factor is not None:
                evaluator.multiply_plain(ciphertext, factor, term)
                evaluator.add_inplace(total, term)
        evaluator.transform_from_ntt_inplace(total)
        return total


@final
class KernelSums(Sums):
    """The native kernels' products, on arrays of residues (…, primes, degree)."""

    def __init__(self, scheme: Scheme) -> None:
        from tacit.ring import _native

        super().__init__(scheme)
        self._native = _native
        self._basis = _native.LatticeBasis(list(scheme.primes))
        self._spreading = _native.LatticeBasis(list(scheme.key_primes)) if scheme.parameters.elements else None

    def inputs(self, ciphertexts: Sequence[Any]) -> Any:
        """Return them (count, 2, primes, degree), transformed."""
        return self._transform(np.stack([self.scheme.residues(ciphertext) for ciphertext in ciphertexts]), back=False)

    def switches(self, parts: list[tuple[Word, bytes]]) -> Any:
        """Return keys (automorphisms, digits, 2, primes and the special one, degree), points in the kernels' order."""
        scheme = self.scheme
        keys = scheme.key_residues(scheme.switching_keys(parts))
        for row, p in enumerate(scheme.key_primes):
            keys[..., row, :] = keys[..., row, self._order(row, p)]
        return keys

    def _order(self, row: int, p: int) -> Index:
        """Return where SEAL has the value at each of the kernels' points: r has that at psi^(2 s + 1), where s is r
        with its bits reversed and psi the smallest primitive root."""
        n = self.scheme.parameters.degree
        x = np.zeros((1, n), dtype=np.int64)
        x[0, 1] = 1
        points = np.empty((len(self.scheme.key_primes), n), dtype=np.uint64)
        self._native.lattice_plain(self._spreading, _memory(x), _memory(points), 1)
        psi, power, powers = int(points[row].min()), 1, []
        for _ in range(2 * n):
            powers.append(power)
            power = power * psi % p
        bits = n.bit_length() - 1
        reversed_bits = [int(f"{r:0{bits}b}"[::-1], 2) for r in range(n)]
        theirs = np.array([powers[2 * r + 1] for r in reversed_bits], dtype=np.uint64)
        order = np.empty(n, dtype=np.intp)
        order[np.argsort(points[row])] = np.argsort(theirs)
        return order

    def spread(self, ciphertext: Any, switches: Any, pieces: int) -> Any:
        """Return the pieces, transformed."""
        current = self.scheme.residues(ciphertext)[None]
        for level, keys in enumerate(switches):
            following = np.empty((min(2 << level, pieces), *current.shape[1:]), dtype=np.uint64)
            where = _memory(keys), _memory(current), 1 << level, _memory(following)
            self._native.lattice_spread(self._spreading, *where, torch.get_num_threads())
            current = following
        return self._transform(current, back=False)

    def joined(self, inputs: Sequence[Any]) -> Any:
        """Return one array."""
        return np.concatenate(inputs) if len(inputs) > 1 else inputs[0]

    def factors(self, polynomials: Int) -> Any:
        """Return them (groups, primes, degree), transformed."""
        values = np.ascontiguousarray(polynomials, dtype=np.int64)
        out = np.empty((len(values), len(self.scheme.primes), values.shape[1]), dtype=np.uint64)
        self._native.lattice_plain(self._basis, _memory(values), _memory(out), torch.get_num_threads())
        return out

    def total(self, factors: Any, inputs: Any, key: Any) -> Any:
        """Return the sum."""
        sums = np.zeros((1, *inputs.shape[1:]), dtype=np.uint64)
        for plaintexts, ciphertexts in ((factors, inputs), (self.factors(self._ternary()[None]), key)):
            where = _memory(ciphertexts), _memory(plaintexts), _memory(sums)
            self._native.lattice_dot(self._basis, *where, torch.get_num_threads())
        return self.scheme.ciphertext(self._transform(sums, back=True)[0])

    def totals(self, layout: Layout, forms: Forms, inputs: Any, key: Any) -> Iterator[Any]:
        """Yield the sums of each answer ciphertext."""
        product, group, exponent = layout.places(forms.row, forms.column)
        number = product * layout.groups + group
        order = np.argsort(number, kind="stable")
        starts = np.searchsorted(number[order], np.arange(layout.products * layout.groups + 1)).astype(np.int64)
        places, values = exponent[order].astype(np.int64), forms.value[order]
        u = np.stack([self._ternary() for _ in range(layout.products)])
        out = np.empty((layout.products, *inputs.shape[1:]), dtype=np.uint64)
        arrays = [_memory(array) for array in (inputs, key, u, starts, places, values, out)]
        self._native.lattice_sparse(self._basis, *arrays, torch.get_num_threads())
        yield from map(self.scheme.ciphertext, out)

    def _transform(self, residues: Word, back: bool) -> Word:
        self._native.lattice_transform(self._basis, _memory(residues), back, torch.get_num_threads())
        return residues


def _memory(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the address of an array that has a name, and how many elements lie there."""
    assert array.flags.c_contiguous
    assert array.dtype.itemsize == 8
    return int(array.ctypes.data), array.size


def sums_of(scheme: Scheme) -> Sums:
    """Return the faster way that there is for a ring."""
    p = scheme.parameters
    bits = {*p.data_bits, *([p.special_bits] if p.elements else [])}
    ours = BACKEND == "native" and (p.degree, bits) == (KERNEL_RING[0], {KERNEL_RING[1]})
    return KernelSums(scheme) if ours else SealSums(scheme)
