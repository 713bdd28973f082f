"""The native kernels of oblivious functions: what `reference` computes, in C++."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.two_party.oblivious.kernels.reference import Reference
from tacit.ring import _native
from tacit.ring.kernels.native import NONE, has_aes, memory

__all__ = ["Native"]


class Native(Reference):
    """The kernels in C++; what takes a cipher only where the processor has AES instructions."""

    def encode(self, keys: Tensor, values: Tensor, length: int, starts: int, out: Tensor) -> bool:
        """Fill a table: see `Reference`."""
        filled: bool = _native.oblivious_encode(memory(keys), memory(values), length, starts, out.shape[1], memory(out))
        return filled

    def decode(self, keys: Tensor, length: int, starts: int, cells: Tensor) -> Tensor:
        """Look keys up: see `Reference`."""
        out = torch.empty((keys.shape[0], cells.shape[1]), dtype=torch.int64)
        threads = torch.get_num_threads()
        _native.oblivious_decode(memory(keys), length, starts, cells.shape[1], memory(cells), memory(out), threads)
        return out

    def matches(self, low: Tensor, high: Tensor, their_low: Tensor, their_high: Tensor) -> Tensor | None:
        """Find words among others: see `Reference`."""
        out = torch.empty_like(low)
        halves = memory(low), memory(high, torch.int16), memory(their_low), memory(their_high, torch.int16)
        return out if _native.oblivious_matches(*halves, memory(out)) else None

    def add_scaled(self, x: Tensor, delta: bytes, out: Tensor) -> None:
        """Add x Δ: see `Reference`."""
        _native.oblivious_scaled(memory(x), delta, memory(out), torch.get_num_threads())

    def packed(self, x: Tensor) -> Tensor:
        """Make one of 64 blocks: see `Reference`."""
        out = torch.empty((x.shape[0] // 64, 2), dtype=torch.int64)
        _native.oblivious_packed(memory(x), memory(out))
        return out

    def mixed(self, key: bytes, number: int, x: Tensor, tweaks: Tensor, width: int = 2) -> Tensor:
        """Hash blocks: see `Reference`."""
        if not has_aes():
            return super().mixed(key, number, x, tweaks, width)
        out = torch.empty((x.shape[0], width), dtype=torch.int64)
        _native.oblivious_mixed(key, number, memory(x), memory(tweaks), memory(out), torch.get_num_threads())
        return out

    def grown(self, key: bytes, roots: Tensor, levels: int, leaves: Tensor) -> Tensor:
        """Grow trees: see `Reference`."""
        if not has_aes():
            return super().grown(key, roots, levels, leaves)
        sums = torch.empty((roots.shape[0], levels, 2, 2), dtype=torch.int64)
        places = memory(roots), levels, memory(leaves), memory(sums)
        _native.oblivious_grown(key, *places, torch.get_num_threads())
        return sums

    def regrown(self, key: bytes, paths: Tensor, away: Tensor, levels: int, leaves: Tensor) -> Tensor:
        """Grow trees that lack a leaf: see `Reference`."""
        if not has_aes():
            return super().regrown(key, paths, away, levels, leaves)
        totals = torch.empty((paths.shape[0], 2), dtype=torch.int64)
        places = memory(paths), memory(away), levels, memory(leaves), memory(totals)
        _native.oblivious_regrown(key, *places, torch.get_num_threads())
        return totals

    def add_coded(
        self, key: bytes, seeds: Tensor, out: Tensor, words: Tensor | None = None, words_out: Tensor | None = None
    ) -> None:
        """Add sums of ten seeds: see `Reference`."""
        if not has_aes():
            return super().add_coded(key, seeds, out, words, words_out)
        beside = [(0, 0) if t is None else memory(t) for t in (words, words_out)]
        _native.oblivious_coded(key, memory(seeds), memory(out), *beside, torch.get_num_threads())

    def placed(self, places: Tensor, bins: int) -> Tensor | None:
        """Put keys into bins: see `Reference`."""
        choice = torch.empty(len(places), dtype=torch.uint8)
        return choice if _native.oblivious_placed(memory(places), bins, memory(choice, torch.uint8)) else None

    def routed(self, order: Tensor, switches: int) -> Tensor:
        """Set switches: see `Reference`."""
        bits = torch.empty(switches, dtype=torch.uint8)
        _native.oblivious_routed(memory(order), memory(bits, torch.uint8))
        return bits

    def gaps(self, x: Tensor, depth: int, count: int, *, behind: bool) -> Tensor:
        """The differences at switches: see `Reference`."""
        out = torch.empty((count, x.shape[1]), dtype=torch.int64)
        _native.oblivious_gaps(memory(x), x.shape[0], depth, behind, memory(out))
        return out

    def switched(self, x: Tensor, depth: int, swaps: Tensor | None, t: Tensor, *, behind: bool) -> Tensor:
        """Pass a stage: see `Reference`."""
        out = torch.empty_like(x)
        bits = NONE if swaps is None else memory(swaps, torch.uint8)
        _native.oblivious_switched(memory(x), x.shape[0], depth, behind, bits, memory(t), memory(out))
        return out
