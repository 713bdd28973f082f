"""The portable kernels, in PyTorch and NumPy: what every other backend is tested against.

Tensors are int64 (ring elements) or uint8 (bits, eight to a byte, the first one lowest, called planes). Shapes
are those of the façade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

from tacit.ring.radix4 import Radix4
from tacit.ring.waves import Waves

__all__ = [
    "CHUNKS",
    "KeyStream",
    "Places",
    "contract",
    "decode",
    "encode",
    "key_stream",
    "logical_shift",
    "lookup",
    "matmul",
    "multiply_add",
    "narrow",
    "node_evaluate",
    "node_expand",
    "node_inputs",
    "pack_bits",
    "scaled_parts",
    "scaled_public",
    "scaled_share",
    "selected",
    "space",
    "subtract_words",
    "thermometer",
    "unpack_bits",
    "wave_sum",
    "wave_table",
    "widen",
    "wrap_factor",
    "wrap_words",
]

CHUNKS = 16
"""Digits of 4 bits in the low 63 bits. Wider digits: fewer tree levels, but tables of 2^w bits each (8 bits: 256 bytes
an element from the producer, against 32); narrower: a third tree level, so one more round."""

BLOCK = 8192
"""Elements that a pass over the tables works on at a time, a multiple of 8. More: fewer NumPy calls; fewer: the block,
32 bytes an element, stays in the cache of a core. Measured flat between 4096 and 32768."""

_ZEROS = bytes(1 << 20)
_LOW_63 = np.uint64((1 << 63) - 1)
_SHIFTS = np.arange(0, 4 * CHUNKS, 4, dtype=np.uint64)[:, None]
_ONE, _DIGIT = np.uint16(1), np.uint64(15)
_NODES = {True: Radix4(equal=True), False: Radix4(equal=False)}


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product modulo 2^64, with torch.matmul's shapes and broadcasting."""
    return torch.matmul(x, y)


class Places(NamedTuple):
    """Where matrices lie in a contiguous tensor: element (i, j) of matrix b is at first[b] + rows[i] + columns[j]."""

    first: Tensor
    rows: Tensor
    columns: Tensor

    def all(self) -> Tensor:
        """The position of every element: [matrices, rows, columns]."""
        return self.first.view(-1, 1, 1) + self.rows.view(-1, 1) + self.columns


def contract(x: Tensor, x_at: Places, y: Tensor, y_at: Places, z: Tensor, z_at: Places) -> None:
    """z[i, j] = Σ_k x[i, k] y[k, j] modulo 2^64, for matrices that lie anywhere in contiguous tensors."""
    z.view(-1)[z_at.all()] = torch.matmul(x.view(-1)[x_at.all()], y.view(-1)[y_at.all()])


def logical_shift(x: Tensor, bits: int) -> Tensor:
    """x >> bits with zeros moving in, for 1 <= bits <= 63."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def space(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An empty tensor."""
    return torch.empty(tuple(shape), dtype=dtype)


def encode(x: Tensor, scale: float) -> tuple[Tensor, bool]:
    """round(x scale), halves to even, and whether |x scale| < 2^62 for all of x; elsewhere the result says nothing."""
    scaled = x.to(torch.float64) * scale
    fits = not scaled.numel() or bool(scaled.abs().max() < 2.0**62)  # False for NaN, too
    return scaled.round_().to(torch.int64), fits


def decode(v: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """v scale, in a floating-point type."""
    return (v.to(torch.float64) * scale).to(dtype)


def multiply_add(
    out: Tensor, x: Tensor, b: Tensor | None, y: Tensor, a: Tensor | None, *, leader: bool, minus: bool = False
) -> None:
    """out = x b + y a (+ x y at the leader) + out, or - out; None is zero. `out` is contiguous."""
    if minus:
        out.neg_()
    if leader:
        out.addcmul_(x, y if b is None else y + b)
    elif b is not None:
        out.addcmul_(x, b)
    if a is not None:
        out.addcmul_(y, a)


def scaled_parts(a: Tensor, m: int, high: Tensor, wrap: Tensor, bit: Tensor | None = None) -> None:
    """Write floor(a m / 2^64), a unsigned, and the top bytes of msb(a) m, times a bit; see `scaled_share`.

    `high` is int64; `wrap` has as many bytes an element as its type; `bit` is uint8, 0 or 1. All are contiguous.
    """
    product, turn = _high_product(a, m), (a < 0) * _signed(m)
    if bit is not None:
        product, turn = product * bit, turn * bit
    high.copy_(product.view(high.shape))
    wrap.copy_((turn >> (64 - 8 * wrap.itemsize)).view(wrap.shape))


def scaled_share(opened: Tensor, m: int, high: Tensor, wrap: Tensor, *, leader: bool) -> Tensor:
    """A share of z m 2^-64, from the opened E of z = E + a and shares of what `scaled_parts` makes of a.

        high + (msb(E') - 1) wrap,  and at the leader  ceil(E' m / 2^64) - msb(E') m - m / 4        E' = E + 2^62

    with E' unsigned; `tacit.protocols.additive.truncation` says why. m is a multiple of 4 below 2^64.
    """
    share = high + wrap_factor(opened) * wrap_words(wrap)
    return share.add_(scaled_public(opened, m)) if leader else share


def scaled_public(opened: Tensor, m: int) -> Tensor:
    """What the leader adds: see `scaled_share`."""
    shifted_up = opened + (1 << 62)
    fraction = shifted_up * _signed(m) != 0
    return _high_product(shifted_up, m) - (shifted_up < 0) * _signed(m) + fraction - (m >> 2)


def wrap_factor(opened: Tensor) -> Tensor:
    """msb(E') - 1."""
    return ((opened + (1 << 62)) >> 63).bitwise_not_()


def wrap_words(wrap: Tensor) -> Tensor:
    """The top bytes of ring elements, one integer for each, as ring elements with zeros below."""
    return wrap if wrap.itemsize == 8 else wrap.to(torch.int64) << (64 - 8 * wrap.itemsize)


def selected(
    opened: Tensor, c: Tensor, x: Tensor, beta: Tensor, high: Tensor, m: int = 0, wrap: Tensor | None = None
) -> Tensor:
    """A share of b x, b = c ^ beta: c [x] + (1 - 2 c) (E [beta] + [beta a]), for x = E + a and c of bytes 0 and 1.

    For x = z m 2^-64, E is that of z, and `high` and `wrap` are shares of beta times what `scaled_parts` makes of a.
    """
    if wrap is None:
        inner = opened * beta + high
    else:
        inner = scaled_public(opened, m) * beta + high + wrap_factor(opened) * wrap_words(wrap)
    ones = c.to(torch.int64).neg_()  # all bits of an element are c, by which -v = (v ^ ones) - ones
    return inner.bitwise_xor_(ones).sub_(ones).add_(ones & x)


def _high_product(v: Tensor, m: int) -> Tensor:
    """floor(v m / 2^64), both unsigned: the upper half of a product of 128 bits, by halves of 32."""
    if m & (m - 1) == 0:
        return logical_shift(v, 65 - m.bit_length())
    mask = (1 << 32) - 1
    m_low, m_high = m & mask, m >> 32
    low, high = v & mask, logical_shift(v, 32)
    middle = high * m_low + logical_shift(low * m_low, 32)
    other = low * m_high + (middle & mask)
    return high * m_high + logical_shift(middle, 32) + logical_shift(other, 32)


def _signed(v: int) -> int:
    """What int64 holds for 0 <= v < 2^64."""
    return v - (v >> 63 << 64)


def thermometer(a: Tensor, out: Tensor | None = None) -> Tensor:
    """Tables T_k[j] = [j < digit k of a], j = 0..14, over the low 63 bits of a: [n] -> int16 [16, n]."""
    words = _unsigned(a) & _LOW_63
    out = space((CHUNKS, words.size), torch.int16) if out is None else out
    tables = out.numpy().view(np.uint16)
    for at in range(0, words.size, BLOCK):
        digits = _digits(words[at : at + BLOCK])
        np.left_shift(_ONE, digits, out=digits)
        np.subtract(digits, _ONE, out=tables[:, at : at + BLOCK])
    return out


def lookup(tables: Tensor, public: Tensor, *, leader: bool) -> tuple[Tensor, Tensor]:
    """Look public digits up in shared tables: shares of [u_k < a_k] and [u_k = a_k] for every digit k, as planes.

    `tables` int16 [16, n], `public` int64 [..., n] -> two uint8 [4 digits, 4 nodes, ceil(numel / 8)], where digit p of
    node q is digit 4 q + p of the number.
    """
    table = tables.numpy().view(np.uint16)
    u = _unsigned(public) & _LOW_63
    if u.size != table.shape[1]:
        table = np.tile(table, u.size // max(table.shape[1], 1))
    less, equal = np.empty((2, CHUNKS, (u.size + 7) // 8), dtype=np.uint8)
    for at in range(0, u.size, BLOCK):
        digits, part = _digits(u[at : at + BLOCK]), table[:, at : at + BLOCK]
        below = part >> digits & _ONE  # [u_k < a_k]
        upto = (part << _ONE | np.uint16(leader)) >> digits & _ONE  # [u_k <= a_k]
        planes = slice(at // 8, at // 8 + (digits.shape[1] + 7) // 8)
        less[:, planes] = np.packbits(below.astype(np.uint8), axis=1, bitorder="little")
        upto ^= below
        equal[:, planes] = np.packbits(upto.astype(np.uint8), axis=1, bitorder="little")
    return _by_digit(less), _by_digit(equal)


def _digits(words: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The 16 digits of each word: [n] -> [16, n]."""
    return (words >> _SHIFTS & _DIGIT).astype(np.uint16)


def _by_digit(planes: NDArray[np.uint8]) -> Tensor:
    """[16, bytes] in the order of the digits -> [4 digits, 4 nodes, bytes]."""
    return torch.from_numpy(planes.reshape(4, 4, -1).swapaxes(0, 1))


def node_inputs(less: Tensor, equal: Tensor, *, top: bool) -> Tensor:
    """The bits of tree nodes that are opened: [4, nodes, bytes] each -> [7, or 6 at the top, nodes, bytes]."""
    return torch.from_numpy(_NODES[not top].gather(less.numpy(), equal.numpy()))


def node_expand(masks: Tensor, *, top: bool, out: Tensor | None = None) -> Tensor:
    """Monomials of mask bits: [7 | 6, nodes, bytes] -> [22 | 15, nodes, bytes], contiguous."""
    monomials = torch.from_numpy(_NODES[not top].expand(masks.numpy()))
    return monomials if out is None else out.copy_(monomials)


def node_evaluate(
    opened: Tensor, masks: Tensor, monomials: Tensor, less3: Tensor, *, top: bool, leader: bool
) -> tuple[Tensor, Tensor | None]:
    """Shares of a level's outputs (less, equal), [nodes, bytes] each; no `equal` at the top."""
    less, equal = _NODES[not top].evaluate(
        opened.numpy(), masks.numpy(), monomials.numpy(), less3.numpy(), leader=leader
    )
    return torch.from_numpy(less), None if equal is None else torch.from_numpy(equal)


def pack_bits(bits: Tensor) -> Tensor:
    """Bits, one to a byte, any shape -> a plane, eight to a byte."""
    return torch.from_numpy(np.packbits(bits.contiguous().numpy().reshape(-1), bitorder="little"))


def unpack_bits(plane: Tensor, count: int) -> Tensor:
    """A plane -> `count` bits, one to a byte."""
    return torch.from_numpy(np.unpackbits(plane.contiguous().numpy().reshape(-1), count=count, bitorder="little"))


def widen(words: Tensor, width: int) -> Tensor:
    """Words of `width` bytes -> ring elements with them at the top and zeros below: uint8 [width n] -> [n].

    A word lies in one plane for each power of two in its width, the low bytes first.
    """
    data = words.numpy()
    out = np.zeros(data.size // width, dtype=np.uint64)
    for plane, shift in _planes(data, width):
        out |= plane.astype(np.uint64) << shift
    return torch.from_numpy(out.view(np.int64))


def narrow(x: Tensor, width: int, out: Tensor) -> None:
    """Write the top `width` bytes of each ring element as words, to uint8 [width n]."""
    values = _unsigned(x)
    for plane, shift in _planes(out.numpy(), width):
        plane[...] = values >> shift  # the higher bytes fall away


def subtract_words(words: Tensor, others: Tensor, width: int) -> None:
    """words -= others, modulo 2^(8 width)."""
    narrow(widen(words, width) - widen(others, width), width, words)


def _planes(words: NDArray[np.uint8], width: int) -> Iterator[tuple[NDArray[np.uint64], np.uint64]]:
    """The planes of words, and how far up in the ring each of them stands."""
    count, at = words.size // width, 0
    for size in (8, 4, 2, 1):
        if width & size:
            plane = words[at * count : (at + size) * count].view(f"u{size}")
            yield plane, np.uint64(64 - 8 * (width - at))
            at += size


def wave_table(waves: Waves, a: Tensor, words: Tensor) -> None:
    """Write the words that are dealt for a mask [n], one run of them for neighbouring terms of one width, to uint8."""
    table = waves.table(a.reshape(-1))
    at = 0
    for width, rows in waves.runs:
        values = torch.stack([wave for _ in range(rows // 2) for wave in next(table)])
        size = width * values.numel()
        narrow(values << 64 - 8 * width, width, words[at : at + size])
        at += size


def wave_sum(waves: Waves, e: Tensor, words: Tensor) -> Tensor:
    """A share of the sum of all terms, from public E and a share of the words of its mask: [n], uint8 -> [n]."""
    e = e.reshape(-1)
    out = torch.zeros_like(e)
    factors = waves.factors(e)
    at = 0
    for width, rows in waves.runs:
        size = width * rows * e.numel()
        values = widen(words[at : at + size], width).view(rows, -1)
        at += size
        for k in range(0, rows, 2):
            sine, cosine = next(factors)
            out += sine * values[k] + cosine * values[k + 1]
    return out


def _unsigned(a: Tensor) -> NDArray[np.uint64]:
    return np.ascontiguousarray(a.numpy()).reshape(-1).view(np.uint64)


class KeyStream:
    """The key stream of AES-128 in counter mode, the counter from zero on: taken, or combined with a contiguous tensor.

    To add, the tensor holds int64; to subtract, any integers; to XOR, bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def next(self, count: int) -> Tensor:
        """The next `count` bytes."""
        out = np.empty(count, dtype=np.uint8)
        view = memoryview(out.data)
        for at in range(0, count, len(_ZEROS)):
            size = min(len(_ZEROS), count - at)
            self._cipher.update_into(memoryview(_ZEROS)[:size], view[at : at + size])
        return torch.from_numpy(out)

    def add_to(self, out: Tensor) -> None:
        """out += the next ring elements."""
        out += self.next(out.nbytes).view(torch.int64).view(out.shape)

    def subtract_from(self, out: Tensor) -> None:
        """out -= the next integers of its type."""
        out -= self.next(out.nbytes).view(out.dtype).view(out.shape)

    def xor_into(self, out: Tensor) -> None:
        """out ^= the next bytes."""
        out ^= self.next(out.nbytes).view(out.shape)


def key_stream(key: bytes) -> KeyStream:
    """The key stream of a key of 16 bytes."""
    return KeyStream(key)
