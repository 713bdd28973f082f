"""The portable kernels, in PyTorch alone: for every device, and what every other backend is tested against.

Tensors are ring elements, or uint8: bits one to a byte, or eight to a byte, the first one lowest, called planes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from tacit.ring.ring import RING
from tacit.ring.short import SHORT, widened

__all__ = ["RUN_BYTES", "KeyStream", "Places", "Reference"]

CPU = torch.device("cpu")

RUN_BYTES = 1 << 16
"""Key stream made ahead for small requests. Larger: fewer calls of the cipher for tiny tensors; smaller: less memory
pinned by a long-lived slice. At 64 KiB a call costs 15 µs and serves 64 requests of 1 KiB."""

_ZEROS = bytes(1 << 20)

# Eight bytes of 0 and 1, read as one integer, times _GATHER have their bits in the top byte. A byte times _SPREAD is in
# all eight; of each, _EACH leaves one bit, _CARRY takes it to the top, and _SPREAD leaves it at the bottom.
_GATHER, _SPREAD = 0x0102040810204080, 0x0101010101010101
_EACH, _CARRY = RING.signed(0x8040201008040201), 0x00406070787C7E7F


class Places(NamedTuple):
    """Where matrices lie in a contiguous tensor: element (i, j) of matrix b is at first[b] + rows[i] + columns[j]."""

    first: Tensor
    rows: Tensor
    columns: Tensor

    def all(self) -> Tensor:
        """The position of every element: [matrices, rows, columns]."""
        return self.first.view(-1, 1, 1) + self.rows.view(-1, 1) + self.columns


class Reference:
    """The kernels of the ring. A backend for a device overrides those that it has a faster way for."""

    gathers = False
    """Whether `contract` reads matrices where they lie; here it copies them first."""

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """Matrix product in the ring, with torch.matmul's shapes and broadcasting. Of floats it is torch.matmul."""
        return torch.matmul(x, y)

    def matmul_short(self, x: Tensor, y: Tensor) -> Tensor:
        """Product of two matrices, the second one as `shortened` has made it."""
        if y.dtype is not SHORT:
            raise TypeError(f"a short matrix is of {SHORT}, not of {y.dtype}")
        return self.matmul(x, widened(y))

    def contract(
        self, x: Tensor, x_at: Places, y: Tensor, y_at: Places, z: Tensor, z_at: Places, shared: int = 0
    ) -> None:
        """z[i, j] = Σ_k x[i, k] y[k, j] in the ring, for matrices that lie anywhere in contiguous tensors.

        With `shared`, sums are added to z, where elements of one product may have the same place whose columns are in
        the same run of so many.
        """
        product = torch.matmul(x.view(-1)[x_at.all()], y.view(-1)[y_at.all()])
        if shared:
            z.view(-1).index_add_(0, z_at.all().reshape(-1).to(z.device), product.reshape(-1))
        else:
            z.view(-1)[z_at.all()] = product

    def bin_sums(self, codes: Tensor, w: Tensor, bins: int) -> Tensor:
        """Sums of rows by their bins: of w [rows, n] for uint8 [columns, rows] -> [columns, bins, n]."""
        out = torch.zeros(len(codes), bins, w.shape[1], dtype=RING.dtype, device=w.device)
        for column, sums in zip(codes, out, strict=True):
            sums.index_add_(0, column.to(torch.int64), w)
        return out

    def parities(self, x: Tensor, y: Tensor) -> Tensor:
        """The parity of the bits that both have set: [words, rows] and [words, columns] -> uint8 [rows, columns]."""
        total = torch.zeros(x.shape[1], y.shape[1], dtype=RING.dtype, device=x.device)
        for left, right in zip(x, y, strict=True):
            total ^= left.unsqueeze(1) & right
        for shift in (32, 16, 8, 4, 2, 1):
            total ^= total >> shift
        return (total & 1).to(torch.uint8)

    def logical_shift(self, x: Tensor, bits: int) -> Tensor:
        """x >> bits with zeros moving in, for 1 <= bits < those of the ring."""
        return (x >> bits).bitwise_and_((1 << (RING.bits - bits)) - 1)

    def encode(self, x: Tensor, scale: float) -> tuple[Tensor, bool]:
        """round(x scale), halves to even, and whether all of it are values; elsewhere the result says nothing."""
        scaled = x.to(torch.float64) * scale
        fits = not scaled.numel() or bool(scaled.abs().max() < 2.0**RING.value_bits)  # False for NaN, too
        return scaled.round_().to(RING.dtype), fits

    def decode(self, v: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """v scale, in a floating-point type."""
        return (v.to(torch.float64) * scale).to(dtype)

    def pack_bits(self, bits: Tensor) -> Tensor:
        """Bits, one to a byte, any shape -> a plane, eight to a byte."""
        return packed(bits.reshape(-1))

    def unpack_bits(self, plane: Tensor, count: int) -> Tensor:
        """A plane -> `count` bits, one to a byte."""
        if plane.numel() != (count + 7) // 8:
            raise ValueError(f"a plane of {plane.numel()} bytes does not hold {count} bits")
        spread = plane.reshape(-1).to(torch.int64).mul_(_SPREAD).bitwise_and_(_EACH).add_(_CARRY)
        return spread.bitwise_right_shift_(7).bitwise_and_(_SPREAD).view(torch.uint8)[:count]

    def widen(self, words: Tensor, width: int) -> Tensor:
        """Words of `width` bytes -> ring elements with them at the top and zeros below: uint8 [width n] -> [n].

        A word lies in one plane for each power of two in its width, the low bytes first.
        """
        out = torch.zeros(words.numel() // width, dtype=RING.dtype, device=words.device)
        for plane, size, shift in _planes(words.reshape(-1), width):
            part = plane.clone().view(_INTEGERS[size]).to(RING.dtype)
            if shift + 8 * size < RING.bits:  # the sign of a shorter integer went into the bytes above it
                part.bitwise_and_((1 << 8 * size) - 1)
            out |= part.bitwise_left_shift_(shift)
        return out

    def narrow(self, x: Tensor, width: int, out: Tensor) -> None:
        """Write the top `width` bytes of each ring element as words, to uint8 [width n]."""
        values = x.reshape(-1)
        for plane, size, shift in _planes(out, width):
            plane.copy_((values >> shift).to(_INTEGERS[size]).view(torch.uint8))  # the higher bytes fall away

    def subtract_words(self, words: Tensor, others: Tensor, width: int) -> None:
        """words -= others, modulo 2^(8 width)."""
        self.narrow(self.widen(words, width) - self.widen(others, width), width, words)

    def key_stream(self, key: bytes, device: torch.device = CPU) -> KeyStream:
        """The key stream of a key of 16 bytes, for tensors on a device."""
        return KeyStream(key, device)


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def packed(bits: Tensor) -> Tensor:
    """Rows of bits, one to a byte, as planes: [..., n] -> [..., ceil(n / 8)]."""
    *rows, count = bits.shape
    whole = torch.empty(*rows, (count + 7) // 8 * 8, dtype=torch.uint8, device=bits.device)
    whole[..., :count] = bits
    whole[..., count:] = 0
    return (whole.view(torch.int64) * _GATHER).bitwise_right_shift_(56).to(torch.uint8)


def _planes(words: Tensor, width: int) -> Iterator[tuple[Tensor, int, int]]:
    """The planes of words, the bytes of an integer in each, and how far up in the ring they stand."""
    if width < 1 or width > RING.bytes or words.numel() % width:
        raise ValueError(f"{words.numel()} bytes are not words of {width}")
    count, at = words.numel() // width, 0
    for size in (8, 4, 2, 1):
        if width & size:
            yield words[at * count : (at + size) * count], size, RING.bits - 8 * (width - at)
            at += size


class KeyStream:
    """The key stream of AES-128 in counter mode, the counter from zero on: taken, or combined with a contiguous tensor.

    To add, the tensor holds ring elements; to subtract, any integers; to XOR, bytes.
    """

    __slots__ = ("_at", "_block", "_cipher", "_device")

    def __init__(self, key: bytes, device: torch.device = CPU) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        self._device = device
        self._block, self._at = torch.empty(0, dtype=torch.uint8), 0

    def next(self, count: int) -> Tensor:
        """The next `count` bytes."""
        out = torch.empty(count, dtype=torch.uint8)
        view = out.numpy().data
        for at in range(0, count, len(_ZEROS)):
            size = min(len(_ZEROS), count - at)
            self._cipher.update_into(memoryview(_ZEROS)[:size], view[at : at + size])
        return out.to(self._device)

    def few(self, count: int) -> Tensor:
        """`count` bytes, a slice of a run of `RUN_BYTES`: the next multiple of 8 in it on, or of the next such run."""
        end = self._at + count
        if end > self._block.numel():
            with torch.inference_mode(False):  # a run outlives such a mode, and is written to
                self._block, self._at, end = self.next(RUN_BYTES), 0, count
        out = self._block[self._at : end]
        self._at = (end + 7) & ~7
        return out

    def add_to(self, out: Tensor) -> None:
        """out += the next ring elements."""
        out += self.next(out.nbytes).view(RING.dtype).view(out.shape)

    def subtract_from(self, out: Tensor) -> None:
        """out -= the next integers of its type."""
        out -= self.next(out.nbytes).view(out.dtype).view(out.shape)

    def xor_into(self, out: Tensor) -> None:
        """out ^= the next bytes."""
        out ^= self.next(out.nbytes).view(out.shape)
