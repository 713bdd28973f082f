"""The native kernels of oblivious transfers: what `reference` computes, by the processor's AES instructions."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.two_party.transfers.kernels import reference
from tacit.protocols.two_party.transfers.kernels.reference import Form, Reference
from tacit.ring import _native
from tacit.ring.kernels.native import has_aes, memory

__all__ = ["Native", "Trees", "encrypt_blocks"]


class Trees(reference.Trees):
    """The leaves of all trees, by the processor's own instructions."""

    def __init__(self, form: Form, leaves: bytes) -> None:
        self.form = form
        self._trees = _native.TransferTrees(form.levels, leaves)

    def receive(self, block: int, t: Tensor, choice: Tensor, sent: Tensor) -> None:
        """Make transfers by whoever has all leaves: see `reference.Trees`."""
        places = memory(t), memory(choice, torch.uint8), memory(sent, torch.uint8)
        self._trees.receive(block, *places, torch.get_num_threads())

    def send(self, delta: bytes, block: int, sent: Tensor, q: Tensor) -> None:
        """Make transfers by whoever lacks a leaf of each tree: see `reference.Trees`."""
        self._trees.send(delta, block, memory(sent, torch.uint8), memory(q), torch.get_num_threads())


class Native(Reference):
    """The kernels in C++, where the processor has AES instructions; elsewhere those of `Reference`."""

    def trees(self, form: Form, leaves: bytes) -> reference.Trees:
        """The leaves of all trees, ready to make transfers."""
        return Trees(form, leaves) if has_aes() else super().trees(form, leaves)

    def words(self, key: bytes, number: int, x: Tensor, delta: bytes, out: Tensor, first: int = 0) -> None:
        """Write the low 64 bits of H(x + Δ): see `Reference`."""
        if not has_aes():
            return super().words(key, number, x, delta, out, first)
        _native.transfer_words(key, number, memory(x), delta, memory(out), first, torch.get_num_threads())

    def bits(self, key: bytes, number: int, x: Tensor, delta: bytes, width: int, out: Tensor, first: int = 0) -> None:
        """Write the low `width` bits of H(x + Δ) as planes: see `Reference`."""
        if not has_aes():
            return super().bits(key, number, x, delta, width, out, first)
        places = memory(x), delta, width, memory(out, torch.uint8), first
        _native.transfer_bits(key, number, *places, torch.get_num_threads())

    def tables(
        self, key: bytes, number: int, x: Tensor, delta: bytes, tables: int, out: Tensor, first: int = 0
    ) -> None:
        """Write tables of 16 entries of two bits: see `Reference`."""
        if not has_aes():
            return super().tables(key, number, x, delta, tables, out, first)
        places = memory(x), delta, tables, memory(out, torch.int32), first
        _native.transfer_tables(key, number, *places, torch.get_num_threads())

    def entries(self, key: bytes, number: int, x: Tensor, tables: int, out: Tensor, first: int = 0) -> None:
        """Write the receiver's entry of each table: see `Reference`."""
        if not has_aes():
            return super().entries(key, number, x, tables, out, first)
        places = memory(x), tables, memory(out, torch.uint8), first
        _native.transfer_entries(key, number, *places, torch.get_num_threads())


def encrypt_blocks(key: bytes, x: Tensor) -> Tensor:
    """AES(key, x) of each block, by the code of the hash: int64 [n, 2] -> [n, 2], for known answers."""
    out = torch.empty_like(x)
    _native.transfer_blocks(key, memory(x), memory(out))
    return out
