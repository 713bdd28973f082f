"""The native kernels: what `reference` computes, in C++ under `cpp/`, for tensors in the memory of this machine.

The C++ side sees addresses and numbers of elements, and refuses what is not as long as it will read or write. What a
tensor is, and where it lies, gets checked by `memory`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tacit.ring import _native
from tacit.ring.kernels import reference
from tacit.ring.kernels.reference import CPU, RUN_BYTES, Places, Reference
from tacit.ring.memory import space
from tacit.ring.ring import RING
from tacit.ring.shapes import broadcast
from tacit.ring.short import SHORT

__all__ = ["NONE", "KeyStream", "Memory", "Native", "Step", "has_aes", "integer", "isa", "memory", "use_isa"]

SMALL = 1 << 13
"""Up to this many products, PyTorch's loops are done before the checks here are: a call takes 6 µs, against 2."""

isa, use_isa, has_aes = _native.isa, _native.use_isa, _native.KeyStream.available
"""The instruction set in use: amx, avx512, avx2 or portable; how to choose it, or the "best"; whether it has AES."""

Step = Callable[[], None]
"""A kernel with all that it is called with."""

Memory = tuple[int, int]
"""An address, and how many elements lie there."""

NONE: Memory = 0, 0
"""No tensor, where a kernel takes one or none."""


def memory(t: Tensor, dtype: torch.dtype = RING.dtype) -> Memory:
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


class Native(Reference):
    """The kernels of the ring in C++."""

    gathers = True

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """Matrix product in the ring: see `Reference`."""
        if not (_is_ring(x) and _is_ring(y) and x.dim() and y.dim()):
            return super().matmul(x, y)
        left = x.unsqueeze(0) if x.dim() == 1 else x
        right = y.unsqueeze(1) if y.dim() == 1 else y
        (rows, inner), columns = left.shape[-2:], right.shape[-1]
        if inner != right.shape[-2]:
            return super().matmul(x, y)  # whose error says what is wrong
        if left.dim() == 2 and right.dim() == 2:
            if rows * inner * columns <= SMALL:
                return super().matmul(x, y)
            z = space((rows, columns), RING.dtype)
            _fill(z, left.unsqueeze(0), right.unsqueeze(0))
        elif right.dim() == 2:
            z = space((*left.shape[:-1], columns), RING.dtype)
            _fill(z, left.flatten(0, -2).unsqueeze(0), right.unsqueeze(0))
        else:
            batch = broadcast(left.shape[:-2], right.shape[:-2])
            z = space((*batch, rows, columns), RING.dtype)
            _fill(z, *(t.expand(*batch, *t.shape[-2:]).reshape(batch.numel(), *t.shape[-2:]) for t in (left, right)))
        if x.dim() == 1:
            z = z.squeeze(-2)
        return z.squeeze(-1) if y.dim() == 1 else z

    def matmul_short(self, x: Tensor, y: Tensor) -> Tensor:
        """Product of two matrices, the second one as `shortened` has made it: see `Reference`."""
        (rows, inner), columns = x.shape, y.shape[1]
        small = rows * inner * columns <= SMALL
        if small or not (_is_ring(x) and y.dtype is SHORT and y.is_cpu and 1 in y.stride() and len(y) == inner):
            return super().matmul_short(x, y)
        z = space((rows, columns), RING.dtype)
        left, right = (x.data_ptr(), 0, *x.stride()), (y.data_ptr(), 0, *y.stride())
        out = (z.data_ptr(), 0, columns, 1)
        _native.matmul_short(left, right, out, rows, inner, columns, torch.get_num_threads())
        return z

    def contract(
        self, x: Tensor, x_at: Places, y: Tensor, y_at: Places, z: Tensor, z_at: Places, shared: int = 0
    ) -> None:
        """z[i, j] = Σ_k x[i, k] y[k, j] in the ring, read where they lie: see `Reference` and `Places`."""
        if not (z_at.rows.numel() and z_at.columns.numel() and x_at.columns.numel()):
            super().contract(x, x_at, y, y_at, z, z_at, shared)
            return
        left, right, out = ((memory(t), _tables(at)) for t, at in ((x, x_at), (y, y_at), (z, z_at)))
        if shared:
            _native.contract_shared(*left, *right, *out, shared, torch.get_num_threads())
        else:
            _native.contract(*left, *right, *out, torch.get_num_threads())

    def bin_sums(self, codes: Tensor, w: Tensor, bins: int) -> Tensor:
        """Sums of rows by their bins: see `Reference`."""
        codes, w = codes.contiguous(), w.contiguous()
        out = space((len(codes), bins, w.shape[1]), RING.dtype)
        places = memory(codes, torch.uint8), memory(w), memory(out)
        _native.bin_sums(*places, len(codes), len(w), bins, w.shape[1], torch.get_num_threads())
        return out

    def parities(self, x: Tensor, y: Tensor) -> Tensor:
        """The parity of the bits that both have set: see `Reference`."""
        x, y = x.contiguous(), y.contiguous()
        out = space((x.shape[1], y.shape[1]), torch.uint8)
        places = memory(x), memory(y), memory(out, torch.uint8)
        _native.parities(*places, len(x), x.shape[1], y.shape[1], torch.get_num_threads())
        return out

    def encode(self, x: Tensor, scale: float) -> tuple[Tensor, bool]:
        """round(x scale), halves to even, and whether all of it are values; elsewhere the result says nothing."""
        x = (x.to(torch.float32) if x.itemsize < 4 else x).contiguous()
        out = space(x.shape, RING.dtype)
        wide = x.dtype is torch.float64
        numbers = memory(x, torch.float64 if wide else torch.float32)
        return out, _native.encode(numbers, wide, scale, memory(out), torch.get_num_threads())

    def decode(self, v: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        """v scale, in a floating-point type."""
        if dtype not in (torch.float32, torch.float64):
            return super().decode(v, scale, dtype)
        v = v.contiguous()
        out = space(v.shape, dtype)
        _native.decode(memory(v), scale, memory(out, dtype), dtype is torch.float64, torch.get_num_threads())
        return out

    def pack_bits(self, bits: Tensor) -> Tensor:
        """Bits, one to a byte, any shape -> a plane, eight to a byte."""
        bits = bits.contiguous()
        plane = torch.empty((bits.numel() + 7) // 8, dtype=torch.uint8)
        _native.pack_bits(memory(bits, torch.uint8), memory(plane, torch.uint8), torch.get_num_threads())
        return plane

    def unpack_bits(self, plane: Tensor, count: int) -> Tensor:
        """A plane -> `count` bits, one to a byte."""
        plane = plane.contiguous()
        bits = space((count,), torch.uint8)
        _native.unpack_bits(memory(plane, torch.uint8), memory(bits, torch.uint8), torch.get_num_threads())
        return bits

    def widen(self, words: Tensor, width: int) -> Tensor:
        """Words of `width` bytes -> ring elements with them at the top and zeros below: uint8 [width n] -> [n]."""
        words = words.contiguous()
        out = space((words.numel() // width,), RING.dtype)
        _native.widen(memory(words, torch.uint8), width, memory(out), torch.get_num_threads())
        return out

    def narrow(self, x: Tensor, width: int, out: Tensor) -> None:
        """Write the top `width` bytes of each ring element as words, to uint8 [width n]."""
        x = x.contiguous()
        _native.narrow(memory(x), width, memory(out, torch.uint8), torch.get_num_threads())

    def subtract_words(self, words: Tensor, others: Tensor, width: int) -> None:
        """words -= others, modulo 2^(8 width)."""
        here, there = memory(words, torch.uint8), memory(others, torch.uint8)
        _native.subtract_words(here, there, width, torch.get_num_threads())

    def key_stream(self, key: bytes, device: torch.device = CPU) -> reference.KeyStream:
        """The key stream of a key of 16 bytes, by the processor's instructions if it has them."""
        return KeyStream(key) if has_aes() else super().key_stream(key, device)


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


def _is_ring(t: Tensor) -> bool:
    return t.dtype is RING.dtype and t.is_cpu


def _tables(at: Places) -> tuple[Memory, Memory, Memory]:
    first, rows, columns = (memory(t, torch.int64) for t in at)
    return first, rows, columns


class KeyStream(reference.KeyStream):
    """The key stream of AES-128 in counter mode, by the processor's own instructions."""

    __slots__ = ("_first", "_size", "_stream")

    def __init__(self, key: bytes) -> None:
        self._stream = _native.KeyStream(key)
        self._block = torch.empty(0, dtype=torch.uint8)
        self._first = self._size = 0  # where in the stream what is in the block begins, and how much it is

    def next(self, count: int) -> Tensor:
        """The next `count` bytes."""
        out = space((count,), torch.uint8)
        self._write(out, torch.uint8, _STORE)
        return out

    def few(self, count: int) -> Tensor:
        """`count` bytes of the run that small requests are slices of: see `reference`. A step may have taken some."""
        at = self._stream.few(count, RUN_BYTES) - self._first
        if at + count > self._size or at & 7:
            with torch.inference_mode(False):
                self._block = torch.empty(RUN_BYTES, dtype=torch.uint8)
            self._first, self._size, at = self._first + at, RUN_BYTES, 0
            self._stream.read(self._first, memory(self._block, torch.uint8))
        return self._block[at : at + count]

    def add_to(self, out: Tensor) -> None:
        """out += the next ring elements."""
        self._write(out, RING.dtype, _ADD)

    def subtract_from(self, out: Tensor) -> None:
        """out -= the next integers of its type."""
        self._write(out, integer(out), _SUBTRACT[out.itemsize])

    def xor_into(self, out: Tensor) -> None:
        """out ^= the next bytes."""
        self._write(out, torch.uint8, _XOR)

    def _write(self, out: Tensor, dtype: torch.dtype, how: int) -> None:
        self._stream.write(memory(out, dtype), out.itemsize, how, torch.get_num_threads())

    def step(self, out: Tensor, dtype: torch.dtype, how: int) -> Step:
        """What `_write` does, as a step: see `tacit.replay.steps`. Whoever runs it keeps the tensor."""
        made: Step = self._stream.step(memory(out, dtype), out.itemsize, how, torch.get_num_threads())
        return made

    def few_step(self, out: Tensor) -> Step:
        """What writes `few` of as many bytes as a tensor has to it."""
        made: Step = self._stream.few_step(memory(out, torch.uint8), RUN_BYTES)
        return made

    def pass_over(self, count: int, *, few: bool) -> Step:
        """What takes so many bytes, by `few` or by `next`, and has no use for them."""
        made: Step = self._stream.pass_over(count, RUN_BYTES if few else 0)
        return made


_STORE, _ADD, _XOR = 0, 1, 3  # keystream.hpp
_SUBTRACT = {8: 2, 1: 4, 2: 5, 4: 6}  # by the bytes of a word


def integer(t: Tensor) -> torch.dtype:
    """The dtype of integers that stand for words of as many bytes: that of the tensor, or what `memory` will refuse."""
    return t.dtype if t.dtype in _WORDS else RING.dtype


_WORDS = (torch.uint8, torch.int16, torch.int32, torch.int64)
