"""The portable kernels of oblivious transfers, in NumPy and the AES of `cryptography`: what native ones must equal.

A transfer is a block of 128 bits, two int64, the low half first: q at the sender, who has a difference Δ for all of
them, and t at the receiver, who has a choice bit b, with

    q = t + b Δ                                                                                  (+ is XOR)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

__all__ = ["BATCH", "CHUNK", "QUICK", "SHORT", "SIDE_BY_SIDE", "Form", "Reference", "Trees"]


class Form(NamedTuple):
    """How the 128 bits of a transfer are divided among trees."""

    levels: int
    """The bits of Δ that a tree has. More: fewer bits are sent, `trees` - 1 a transfer, for more key streams."""

    @property
    def trees(self) -> int:
        """How many there are."""
        return 128 // self.levels

    @property
    def leaves(self) -> int:
        """Leaves of a tree."""
        return 1 << self.levels


QUICK, SHORT = Form(4), Form(8)
"""31 bits and 4 blocks of AES a transfer; or 15 bits and 32 blocks, which take some 25 ns more at either end: less time
in all below some 700 Mbit/s. [Roy22] section 1"""

CHUNK = 2048
"""Transfers are made in multiples of this: 16 blocks of each key stream, whose sums stay in registers."""

BATCH = 1024
"""Transfers that are hashed with one key. A guess at Δ by way of a key tries all of a batch at once, so it takes 2^118
guesses, and with 16 messages each 2^114. Larger batches: fewer; smaller ones: more keys, at 60 ns each."""

SIDE_BY_SIDE = 64
"""Tables whose entries, of two bits, come out of one hash of 128 bits."""

Octets = npt.NDArray[np.uint8]


class Trees:
    """The leaves of all trees, of 16 bytes each, one tree after the other, as one party has them.

    The key stream of leaf x of tree i is r_x; row L i + k, of L levels, is the sum of the r_x whose x has bit k, and
    the correction of a tree the sum of all its r_x. Bit r of transfer j is bit j of row r. [Roy22] section 3
    """

    def __init__(self, form: Form, leaves: bytes) -> None:
        if len(leaves) != 16 * form.trees * form.leaves:
            raise ValueError(f"{len(leaves)} bytes are not {form.trees} times {form.leaves} leaves")
        self.form = form
        self._keys = [leaves[at : at + 16] for at in range(0, len(leaves), 16)]

    def __repr__(self) -> str:
        return "Trees(<keys hidden>)"

    def receive(self, block: int, t: Tensor, choice: Tensor, sent: Tensor) -> None:
        """Make transfers from blocks `block` and on of the key streams, by whoever has all leaves.

        Written are t int64 [n, 2], the choices uint8 [n] of 0 and 1, which are the correction of tree 0, and what is
        sent, uint8 [n / 2048, trees - 1, 256]: for every other tree its correction plus that of tree 0.
        """
        rows, corrections = self._rows(block, _chunks(choice.numel()), 0)
        t.copy_(_turned(rows))
        choice.numpy()[:] = np.unpackbits(corrections[0], bitorder="little")
        others = (corrections[1:] ^ corrections[0]).reshape(self.form.trees - 1, -1, CHUNK // 8)
        sent.numpy()[:] = others.transpose(1, 0, 2)

    def send(self, delta: bytes, block: int, sent: Tensor, q: Tensor) -> None:
        """Make transfers q int64 [n, 2] from what the receiver has sent, by whoever lacks leaf 0 of each tree.

        Leaf x here is leaf x + Δ_i of the receiver's, Δ_i being the bits of Δ from L i on.
        """
        levels = self.form.levels
        rows, _ = self._rows(block, _chunks(q.shape[0]), 1)
        for row in range(levels, 128):
            if delta[row // 8] >> row % 8 & 1:
                rows[row] ^= sent[:, row // levels - 1].numpy().reshape(-1)
        q.copy_(_turned(rows))

    def _rows(self, block: int, count: int, first: int) -> tuple[Octets, Octets]:
        levels, trees, leaves = self.form.levels, self.form.trees, self.form.leaves
        rows, corrections = np.zeros((128, count // 8), np.uint8), np.zeros((trees, count // 8), np.uint8)
        for i in range(trees):
            for x in range(first, leaves):
                r = _stream(self._keys[leaves * i + x], block, count // 8)
                corrections[i] ^= r
                for k in range(levels):
                    if x >> k & 1:
                        rows[levels * i + k] ^= r
        return rows, corrections


class Reference:
    """The kernels of oblivious transfers."""

    def trees(self, form: Form, leaves: bytes) -> Trees:
        """The leaves of all trees, ready to make transfers."""
        return Trees(form, leaves)

    def words(self, key: bytes, number: int, x: Tensor, delta: bytes, out: Tensor, first: int = 0) -> None:
        """Write the low 64 bits of H(x + Δ), int64 [n, 2] -> int64 [all], to items `first` and up.

        H(x) = AES(k, x) + x, where batch i, of 1024 transfers, has k = AES(key, number + i). [GKWY20] section 7.2
        """
        out.numpy()[first : first + x.shape[0]] = _hashed(key, number, 1, 0, _blocks(x) ^ _words(delta))[:, 0]

    def bits(self, key: bytes, number: int, x: Tensor, delta: bytes, width: int, out: Tensor, first: int = 0) -> None:
        """Write the low `width` bits of H(x + Δ), int64 [n, 2], as planes uint8 [width, bytes], from bit `first` on."""
        low = _hashed(key, number, 1, 0, _blocks(x) ^ _words(delta))[:, 0]
        for w in range(width):
            plane = np.packbits((low >> w & 1).astype(np.uint8), bitorder="little")
            out.numpy()[w, first // 8 : first // 8 + plane.size] = plane

    def tables(
        self, key: bytes, number: int, x: Tensor, delta: bytes, tables: int, out: Tensor, first: int = 0
    ) -> None:
        """Write tables of 16 entries of two bits, each from four transfers: int64 [4, n, 2] -> int32 [tables, all].

        Entry j of table t, bits 2 j and 2 j + 1 of a word, is bits 2 t and 2 t + 1 of H(Σ γ^k x_k + f(j) Δ), with
        f(j) = Σ γ^k over the bits k of j, in GF(2^128). Each group of 64 tables has hash keys of its own.
        """
        base, d = _combined(_blocks(x.view(-1, 2)).reshape(4, -1, 2)), _multiples(_words(delta))
        words = np.zeros((tables, base.shape[0]), np.uint32)
        for j in range(16):
            for t, entry in enumerate(_entries(key, number, base ^ d[j], tables)):
                words[t] |= entry.astype(np.uint32) << np.uint32(2 * j)
        out.numpy()[:, first : first + base.shape[0]] = words.view(np.int32)

    def entries(self, key: bytes, number: int, x: Tensor, tables: int, out: Tensor, first: int = 0) -> None:
        """Write the receiver's entry of each table: int64 [4, n, 2] -> uint8 [tables, all] of two bits."""
        base = _combined(_blocks(x.view(-1, 2)).reshape(4, -1, 2))
        for t, entry in enumerate(_entries(key, number, base, tables)):
            out.numpy()[t, first : first + base.shape[0]] = entry


Blocks = npt.NDArray[np.uint64]


def _chunks(count: int) -> int:
    if count % CHUNK:
        raise ValueError(f"transfers are made in multiples of {CHUNK}, not {count}")
    return count


def _stream(key: bytes, block: int, count: int) -> Octets:
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()
    return np.frombuffer(cipher.update(bytes(count)), np.uint8)


def _turned(rows: Octets) -> Tensor:
    """128 rows of bits, eight to a byte -> a block of 128 bits for each column."""
    columns = np.unpackbits(rows, axis=1, bitorder="little").T
    blocks = np.ascontiguousarray(np.packbits(columns, axis=1, bitorder="little"))
    return torch.from_numpy(blocks.view(np.int64))


def _blocks(x: Tensor) -> Blocks:
    return x.numpy().view(np.uint64)


def _words(delta: bytes) -> Blocks:
    return np.frombuffer(delta, np.uint64)


def _hashed(key: bytes, number: int, groups: int, group: int, x: Blocks) -> Blocks:
    out = np.empty_like(x)
    for batch, at in enumerate(range(0, x.shape[0], BATCH)):
        index = number + batch * groups + group
        part = np.ascontiguousarray(x[at : at + BATCH])
        k = _stream(key, index, 16).tobytes()
        aes = Cipher(algorithms.AES(k), modes.ECB()).encryptor()  # noqa: S305 - a permutation, not a mode
        out[at : at + BATCH] = np.frombuffer(aes.update(part.tobytes()), np.uint64).reshape(-1, 2) ^ part
    return out


def _entries(key: bytes, number: int, x: Blocks, tables: int) -> list[Blocks]:
    groups = (tables + SIDE_BY_SIDE - 1) // SIDE_BY_SIDE
    hashed = [_hashed(key, number, groups, g, x) for g in range(groups)]
    places = [(hashed[t // SIDE_BY_SIDE][:, t % SIDE_BY_SIDE // 32], 2 * (t % 32)) for t in range(tables)]
    return [half >> np.uint64(shift) & np.uint64(3) for half, shift in places]


def _twice(x: Blocks) -> Blocks:
    """γ x, where γ is a root of X^128 + X^7 + X^2 + X + 1, and bit i of a block the coefficient of γ^i."""
    low, high = x[..., 0], x[..., 1]
    one, top = np.uint64(1), np.uint64(63)
    return np.stack([low << one ^ (high >> top) * np.uint64(0x87), high << one | low >> top], axis=-1)


def _combined(x: Blocks) -> Blocks:
    total: Blocks = x[0] ^ _twice(x[1] ^ _twice(x[2] ^ _twice(x[3])))
    return total


def _multiples(delta: Blocks) -> Blocks:
    powers = [delta]
    while len(powers) < 4:
        powers.append(_twice(powers[-1]))
    multiples: Blocks = np.zeros((16, 2), np.uint64)
    for j in range(16):
        for k in range(4):
            if j >> k & 1:
                multiples[j] ^= powers[k]
    return multiples
