"""The native kernels of the two-party scheme: what `reference` computes, in C++ under `cpp/`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.protocols.two_party.kernels.reference import DIGITS, Reference
from tacit.ring import _native
from tacit.ring.kernels import native
from tacit.ring.kernels.native import NONE, memory
from tacit.ring.memory import space
from tacit.ring.ring import RING

__all__ = ["Native"]

UNSIGNED = (1 << RING.bits) - 1


class Native(Reference, native.Native):
    """The kernels of the scheme in C++, on top of the ring's."""

    def masked_numbers(self, v: Tensor, zero: Tensor, one: Tensor, width: int) -> Tensor:
        """The top bytes of e: see `Reference`."""
        v, out = v.contiguous(), space(v.shape, RING.dtype)
        _native.masked_numbers(memory(v), memory(zero), memory(one), width, memory(out), torch.get_num_threads())
        if width == RING.bytes:
            return out.view(-1).view(torch.uint8)
        words = space((width * v.numel(),), torch.uint8)
        self.narrow(out, width, words)
        return words

    def sender_share(self, d: Tensor, v: Tensor, zero: Tensor, width: int) -> Tensor:
        """The sender's share of a product: see `Reference`."""
        v, out = v.contiguous(), space(v.shape, RING.dtype)
        bits = memory(d, torch.uint8)
        _native.sender_share(bits, memory(v), memory(zero), width, memory(out), torch.get_num_threads())
        return out

    def receiver_share(self, d: Tensor, beta: Tensor, pad: Tensor, e: Tensor, width: int) -> Tensor:
        """The receiver's share of a product: see `Reference`."""
        opened = e.view(RING.dtype) if width == RING.bytes else self.widen(e, width)
        out = space(pad.shape, RING.dtype)
        bits = memory(d, torch.uint8), memory(beta, torch.uint8)
        _native.receiver_share(*bits, memory(pad), memory(opened), width, memory(out), torch.get_num_threads())
        return out

    def quotient(self, x: Tensor, m: int, wrap: Tensor | None, constant: int, *, up: bool) -> Tensor:
        """x m / 2^64 + wrap + constant: see `Reference`."""
        out = space(x.shape, RING.dtype)
        carried = NONE if wrap is None else memory(wrap)
        _native.quotient(memory(x), m, carried, constant & UNSIGNED, up, memory(out), torch.get_num_threads())
        return out

    def joined_pad(self, pad: Tensor) -> Tensor:
        """Words of 32 messages of two bits: see `Reference`."""
        out = space((pad.shape[1],), RING.dtype)
        _native.joined_pad(memory(pad, torch.uint8), memory(out), torch.get_num_threads())
        return out

    def joined_pads(self, pads: Tensor) -> Tensor:
        """Words of 32 messages of two bits, for 16 entries: see `Reference`."""
        out = space((DIGITS, pads.shape[1]), RING.dtype)
        _native.joined_pads(memory(pads, torch.int32), memory(out), torch.get_num_threads())
        return out

    def open_digits(self, x: Tensor, choice: Tensor) -> tuple[Tensor, Tensor]:
        """R's digits and what it opens of them: see `Reference`."""
        u, d = space((DIGITS * x.numel(),), torch.uint8), space((DIGITS * x.numel() // 2,), torch.uint8)
        out = memory(u, torch.uint8), memory(d, torch.uint8)
        _native.open_digits(memory(x), memory(choice, torch.uint8), *out, torch.get_num_threads())
        return u, d

    def send_tables(self, x: Tensor, thresholds: Sequence[int], d: Tensor, pads: Tensor) -> tuple[Tensor, Tensor]:
        """S's message and its shares: see `Reference`."""
        count, n = len(thresholds), x.numel()
        messages = torch.empty(count, DIGITS * n, dtype=torch.int32)
        planes = space((2, DIGITS, count, n // 8), torch.uint8)
        opened, out = memory(d, torch.uint8), memory(planes, torch.uint8)
        for k, t in enumerate(thresholds):
            words = memory(pads[k], torch.int32), memory(messages[k], torch.int32)
            _native.send_tables(memory(x), t & UNSIGNED, opened, *words, out, count, k, torch.get_num_threads())
        return messages, planes

    def read_tables(self, message: Tensor, u: Tensor, pad: Tensor) -> Tensor:
        """R's shares: see `Reference`."""
        count, n = message.shape[0], u.numel() // DIGITS
        planes = space((2, DIGITS, count, n // 8), torch.uint8)
        digits, out = memory(u, torch.uint8), memory(planes, torch.uint8)
        for k in range(count):
            words = memory(message[k], torch.int32), digits, memory(pad[k], torch.uint8)
            _native.read_tables(*words, out, count, k, torch.get_num_threads())
        return planes
