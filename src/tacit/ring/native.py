"""The native kernels: what `reference` computes, in C++ under `native/`, for tensors in the memory of this machine.

The C++ side sees addresses and numbers of elements, and refuses what is not as long as it will read or write. What a
tensor is, and where it lies, gets checked by `memory`, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tacit.ring import _native, reference
from tacit.ring.reference import CHUNKS, Places
from tacit.ring.shapes import broadcast
from tacit.ring.waves import Waves

__all__ = [
    "KeyStream",
    "contract",
    "decode",
    "encode",
    "has_aes",
    "isa",
    "key_stream",
    "lookup",
    "matmul",
    "memory",
    "multiply_add",
    "narrow",
    "node_evaluate",
    "node_expand",
    "pack_bits",
    "scaled_parts",
    "scaled_share",
    "selected",
    "space",
    "subtract_words",
    "thermometer",
    "unpack_bits",
    "use_isa",
    "wave_sum",
    "wave_table",
    "widen",
]

SMALL = 1 << 13
"""Up to this many products, PyTorch's loops are done before the checks here are: a call takes 6 µs, against 2."""

isa, use_isa, has_aes = _native.isa, _native.use_isa, _native.KeyStream.available
"""The instruction set in use, "avx512", "avx2" or "portable"; how to choose one, or the "best"; whether it has AES."""

HUGE_BYTES = 1 << 22
"""From this size on, NumPy asks the system for huge pages. Smaller ones come out of memory used before, anyway."""


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """Matrix product modulo 2^64, with torch.matmul's shapes and broadcasting."""
    if not (_is_ring(x) and _is_ring(y) and x.dim() and y.dim()):
        return reference.matmul(x, y)
    left = x.unsqueeze(0) if x.dim() == 1 else x
    right = y.unsqueeze(1) if y.dim() == 1 else y
    (rows, inner), columns = left.shape[-2:], right.shape[-1]
    if inner != right.shape[-2]:
        return reference.matmul(x, y)  # whose error says what is wrong
    if left.dim() == 2 and right.dim() == 2:
        if rows * inner * columns <= SMALL:
            return reference.matmul(x, y)
        z = space((rows, columns), torch.int64)
        _fill(z, left.unsqueeze(0), right.unsqueeze(0))
    elif right.dim() == 2:
        z = space((*left.shape[:-1], columns), torch.int64)
        _fill(z, left.flatten(0, -2).unsqueeze(0), right.unsqueeze(0))
    else:
        batch = broadcast(left.shape[:-2], right.shape[:-2])
        z = space((*batch, rows, columns), torch.int64)
        _fill(z, *(t.expand(*batch, *t.shape[-2:]).reshape(batch.numel(), *t.shape[-2:]) for t in (left, right)))
    if x.dim() == 1:
        z = z.squeeze(-2)
    return z.squeeze(-1) if y.dim() == 1 else z


def _fill(z: Tensor, x: Tensor, y: Tensor) -> None:
    """Write the products of [batch, rows, inner] and [batch, inner, columns] to a contiguous z."""
    (batch, rows, inner), columns = x.shape, y.shape[2]
    if y.shape != (batch, inner, columns) or z.numel() != batch * rows * columns:
        raise ValueError(f"a product of {tuple(x.shape)} and {tuple(y.shape)} does not have shape {tuple(z.shape)}")
    if not inner or not z.numel():
        z.zero_()
        return
    left, right = (x.data_ptr(), *x.stride()), (y.data_ptr(), *y.stride())
    out = (z.data_ptr(), rows * columns, columns, 1)
    _native.matmul(left, right, out, batch, rows, inner, columns, torch.get_num_threads())


def memory(t: Tensor, dtype: torch.dtype) -> _native.Memory:
    """Where the elements of a tensor begin, and how many there are: the only way in which a kernel gets one.

    The caller has a name for the tensor until the kernel is done: an address keeps nothing alive.

    Raises:
        TypeError: for a tensor that is not contiguous, of another dtype, or elsewhere than in this machine's memory.
    """
    if t.dtype is not dtype or not t.is_cpu or not t.is_contiguous():
        raise TypeError(
            f"a kernel needs a contiguous tensor of {dtype} on the CPU, not one of {t.dtype} and steps {t.stride()} on "
            f"{t.device}"
        )
    return t.data_ptr(), t.numel()


NONE = 0, 0
"""No tensor, where a kernel takes one or none."""


def contract(x: Tensor, x_at: Places, y: Tensor, y_at: Places, z: Tensor, z_at: Places) -> None:
    """z[i, j] = Σ_k x[i, k] y[k, j] modulo 2^64, for matrices that lie anywhere in contiguous tensors: see `Places`."""
    if not (z_at.rows.numel() and z_at.columns.numel() and x_at.columns.numel()):
        reference.contract(x, x_at, y, y_at, z, z_at)
        return
    left, right = (memory(x, torch.int64), _tables(x_at)), (memory(y, torch.int64), _tables(y_at))
    _native.contract(*left, *right, memory(z, torch.int64), _tables(z_at), torch.get_num_threads())


def _tables(at: Places) -> _native.Tables:
    first, rows, columns = (memory(t, torch.int64) for t in at)
    return first, rows, columns


def encode(x: Tensor, scale: float) -> tuple[Tensor, bool]:
    """round(x scale), halves to even, and whether |x scale| < 2^62 for all of x; elsewhere the result says nothing."""
    if x.device.type != "cpu":
        return reference.encode(x, scale)
    x = (x.to(torch.float32) if x.itemsize < 4 else x).contiguous()
    out = space(x.shape, torch.int64)
    wide = x.dtype is torch.float64
    numbers = memory(x, torch.float64 if wide else torch.float32)
    return out, _native.encode(numbers, wide, scale, memory(out, torch.int64), torch.get_num_threads())


def decode(v: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """v scale, in a floating-point type."""
    if dtype not in (torch.float32, torch.float64) or not _is_ring(v):
        return reference.decode(v, scale, dtype)
    v = v.contiguous()
    out = space(v.shape, dtype)
    wide = dtype is torch.float64
    _native.decode(memory(v, torch.int64), scale, memory(out, dtype), wide, torch.get_num_threads())
    return out


def multiply_add(
    out: Tensor, x: Tensor, b: Tensor | None, y: Tensor, a: Tensor | None, *, leader: bool, minus: bool = False
) -> None:
    """out = x b + y a (+ x y at the leader) + out, or - out; None is zero. `out` is contiguous."""
    shape = out.shape
    if not all(t is None or (t.shape == shape and t.is_contiguous()) for t in (x, b, y, a)):
        reference.multiply_add(out, x, b, y, a, leader=leader, minus=minus)
        return
    b_at, a_at = (NONE if t is None else memory(t, torch.int64) for t in (b, a))
    x_at, y_at = memory(x, torch.int64), memory(y, torch.int64)
    _native.multiply_add(x_at, b_at, y_at, a_at, leader, minus, memory(out, torch.int64), torch.get_num_threads())


def scaled_parts(a: Tensor, m: int, high: Tensor, wrap: Tensor, bit: Tensor | None = None) -> None:
    """Write floor(a m / 2^64), a unsigned, and the top bytes of msb(a) m, times a bit: see `reference`."""
    a, bit = a.contiguous(), None if bit is None else bit.contiguous()
    bit_at = NONE if bit is None else memory(bit, torch.uint8)
    out = memory(high, torch.int64), memory(wrap, _integer(wrap)), wrap.itemsize
    _native.scaled_parts(memory(a, torch.int64), m, bit_at, *out, torch.get_num_threads())


def scaled_share(opened: Tensor, m: int, high: Tensor, wrap: Tensor, *, leader: bool) -> Tensor:
    """A share of z m 2^-64, from the opened E of z = E + a and shares of what `scaled_parts` makes of a."""
    opened, high, wrap = opened.contiguous(), high.contiguous(), wrap.contiguous()
    out = space(opened.shape, torch.int64)
    dealt = memory(high, torch.int64), memory(wrap, _integer(wrap)), wrap.itemsize
    _native.scaled_share(
        memory(opened, torch.int64), m, *dealt, leader, memory(out, torch.int64), torch.get_num_threads()
    )
    return out


def selected(
    opened: Tensor, c: Tensor, x: Tensor, beta: Tensor, high: Tensor, m: int = 0, wrap: Tensor | None = None
) -> Tensor:
    """A share of b x, b = c ^ beta, from the masked form of x, what is dealt for it, and its share: see `reference`."""
    opened, c, x, beta, high = (t.contiguous() for t in (opened, c, x, beta, high))
    out = space(opened.shape, torch.int64)
    x_at, beta_at, high_at, out_at = (memory(t, torch.int64) for t in (x, beta, high, out))
    kept = None if wrap is None else wrap.contiguous()
    wrap_at = (NONE, 0) if kept is None else (memory(kept, _integer(kept)), kept.itemsize)
    places = memory(opened, torch.int64), m, memory(c, torch.uint8), x_at, beta_at, high_at
    _native.selected(*places, *wrap_at, out_at, torch.get_num_threads())
    return out


def thermometer(a: Tensor, out: Tensor | None = None) -> Tensor:
    """Tables T_k[j] = [j < digit k of a], j = 0..14, over the low 63 bits of a: [n] -> int16 [16, n], contiguous."""
    a = a.contiguous()
    out = space((CHUNKS, a.numel()), torch.int16) if out is None else out
    _native.thermometer(memory(a, torch.int64), memory(out, torch.int16), torch.get_num_threads())
    return out


def lookup(tables: Tensor, public: Tensor, *, leader: bool) -> tuple[Tensor, Tensor]:
    """Look public digits up in shared tables: shares of [u_k < a_k] and [u_k = a_k] for every digit k, as planes.

    `tables` int16 [16, n], `public` int64 [..., n] -> two uint8 [4 digits, 4 nodes, ceil(numel / 8)], where digit p of
    node q is digit 4 q + p of the number.
    """
    tables, public = tables.contiguous(), public.contiguous()
    less, equal = space((2, 4, 4, (public.numel() + 7) // 8), torch.uint8)
    out = memory(less, torch.uint8), memory(equal, torch.uint8)
    _native.lookup(memory(tables, torch.int16), memory(public, torch.int64), leader, *out, torch.get_num_threads())
    return less, equal


def node_expand(masks: Tensor, *, top: bool, out: Tensor | None = None) -> Tensor:
    """Monomials of mask bits: [7 | 6, nodes, bytes] -> [22 | 15, nodes, bytes], contiguous."""
    masks = masks.contiguous()
    out = space((15 if top else 22, *masks.shape[1:]), torch.uint8) if out is None else out
    _native.node_expand(memory(masks, torch.uint8), top, memory(out, torch.uint8), torch.get_num_threads())
    return out


def node_evaluate(
    opened: Tensor, masks: Tensor, monomials: Tensor, less3: Tensor, *, top: bool, leader: bool
) -> tuple[Tensor, Tensor | None]:
    """Shares of a level's outputs (less, equal), [nodes, bytes] each; no `equal` at the top."""
    opened, masks, monomials, less3 = (t.contiguous() for t in (opened, masks, monomials, less3))
    opened_at, masks_at, monomials_at, less3_at = (memory(t, torch.uint8) for t in (opened, masks, monomials, less3))
    less = torch.empty(less3.shape, dtype=torch.uint8)
    equal = None if top else torch.empty_like(less)
    equal_at = NONE if equal is None else memory(equal, torch.uint8)
    out = memory(less, torch.uint8), equal_at
    _native.node_evaluate(opened_at, masks_at, monomials_at, less3_at, top, leader, *out, torch.get_num_threads())
    return less, equal


def pack_bits(bits: Tensor) -> Tensor:
    """Bits, one to a byte, any shape -> a plane, eight to a byte."""
    bits = bits.contiguous()
    plane = torch.empty((bits.numel() + 7) // 8, dtype=torch.uint8)
    _native.pack_bits(memory(bits, torch.uint8), memory(plane, torch.uint8), torch.get_num_threads())
    return plane


def unpack_bits(plane: Tensor, count: int) -> Tensor:
    """A plane -> `count` bits, one to a byte."""
    plane = plane.contiguous()
    bits = space((count,), torch.uint8)
    _native.unpack_bits(memory(plane, torch.uint8), memory(bits, torch.uint8), torch.get_num_threads())
    return bits


def widen(words: Tensor, width: int) -> Tensor:
    """Words of `width` bytes -> ring elements with them at the top and zeros below: uint8 [width n] -> [n]."""
    words = words.contiguous()
    out = space((words.numel() // width,), torch.int64)
    _native.widen(memory(words, torch.uint8), width, memory(out, torch.int64), torch.get_num_threads())
    return out


def narrow(x: Tensor, width: int, out: Tensor) -> None:
    """Write the top `width` bytes of each ring element as words, to uint8 [width n]."""
    x = x.contiguous()
    _native.narrow(memory(x, torch.int64), width, memory(out, torch.uint8), torch.get_num_threads())


def subtract_words(words: Tensor, others: Tensor, width: int) -> None:
    """words -= others, modulo 2^(8 width)."""
    _native.subtract_words(memory(words, torch.uint8), memory(others, torch.uint8), width, torch.get_num_threads())


def wave_table(waves: Waves, a: Tensor, words: Tensor) -> None:
    """Write the words that are dealt for a mask [n], one run of them for neighbouring terms of one width, to uint8."""
    a = a.contiguous()
    places = memory(a, torch.int64), memory(words, torch.uint8)
    _native.wave_table(waves.turn, waves.odd, waves.scaled, *places, torch.get_num_threads())


def wave_sum(waves: Waves, e: Tensor, words: Tensor) -> Tensor:
    """A share of the sum of all terms, from public E and a share of the words of its mask: [n], uint8 -> [n]."""
    e, words = e.contiguous(), words.contiguous()
    out = space((e.numel(),), torch.int64)
    places = memory(e, torch.int64), memory(words, torch.uint8), memory(out, torch.int64)
    _native.wave_sum(waves.turn, waves.odd, waves.scaled, *places, torch.get_num_threads())
    return out


class KeyStream:
    """The key stream of AES-128 in counter mode, by the processor's own instructions: see `reference.KeyStream`."""

    __slots__ = ("_stream",)

    def __init__(self, key: bytes) -> None:
        self._stream = _native.KeyStream(key)

    def next(self, count: int) -> Tensor:
        """The next `count` bytes."""
        out = space((count,), torch.uint8)
        self._write(out, torch.uint8, _STORE)
        return out

    def add_to(self, out: Tensor) -> None:
        """out += the next ring elements."""
        self._write(out, torch.int64, _ADD)

    def subtract_from(self, out: Tensor) -> None:
        """out -= the next integers of its type."""
        self._write(out, _integer(out), _SUBTRACT[out.itemsize])

    def xor_into(self, out: Tensor) -> None:
        """out ^= the next bytes."""
        self._write(out, torch.uint8, _XOR)

    def _write(self, out: Tensor, dtype: torch.dtype, how: int) -> None:
        self._stream.write(memory(out, dtype), out.itemsize, how, torch.get_num_threads())


def key_stream(key: bytes) -> KeyStream | reference.KeyStream:
    """The key stream of a key of 16 bytes, by the processor's instructions if it has them."""
    return KeyStream(key) if has_aes() else reference.key_stream(key)


_STORE, _ADD, _XOR = 0, 1, 3  # keystream.hpp
_SUBTRACT = {8: 2, 1: 4, 2: 5, 4: 6}  # by the bytes of a word


def space(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An empty tensor. NumPy asks for huge pages where they pay: filling fresh small ones takes three times as long."""
    if math.prod(shape) * dtype.itemsize < HUGE_BYTES:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(np.empty(shape, dtype=_NUMPY[dtype]))


_NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int64: np.int64,
    torch.int16: np.int16,
    torch.uint8: np.uint8,
}


def _integer(t: Tensor) -> torch.dtype:
    """The dtype of integers that stand for words of as many bytes."""
    return t.dtype if t.dtype in _WORDS else torch.int64


_WORDS = (torch.uint8, torch.int16, torch.int32, torch.int64)


def _is_ring(t: Tensor) -> bool:
    return t.dtype is torch.int64 and t.device.type == "cpu"
