"""The native kernels of the additive scheme: what `reference` computes, in C++ under `cpp/`."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.reference import CHUNKS, Reference, cut
from tacit.protocols.additive.kernels.waves import Waves
from tacit.ring import _native
from tacit.ring.kernels import native
from tacit.ring.kernels.native import NONE, integer, memory
from tacit.ring.memory import space
from tacit.ring.ring import RING

__all__ = ["Native"]


class Native(Reference, native.Native):
    """The kernels of the scheme in C++, on top of the ring's."""

    def multiply_add(
        self,
        out: Tensor,
        x: Tensor,
        b: Tensor | None,
        y: Tensor,
        a: Tensor | None,
        *,
        leader: bool,
        minus: bool = False,
    ) -> None:
        """out = x b + y a (+ x y at the leader) + out, or - out; None is zero. `out` is contiguous."""
        shape = out.shape
        if not all(t is None or (t.shape == shape and t.is_contiguous()) for t in (x, b, y, a)):
            super().multiply_add(out, x, b, y, a, leader=leader, minus=minus)
            return
        b_at, a_at = (NONE if t is None else memory(t) for t in (b, a))
        _native.multiply_add(memory(x), b_at, memory(y), a_at, leader, minus, memory(out), torch.get_num_threads())

    def scaled_parts(self, a: Tensor, m: int, high: Tensor, wrap: Tensor, bit: Tensor | None = None) -> None:
        """Write floor(a m / 2^64), a unsigned, and the top bytes of msb(a) m, times a bit: see `Reference`."""
        a, bit = a.contiguous(), None if bit is None else bit.contiguous()
        bit_at = NONE if bit is None else memory(bit, torch.uint8)
        out = memory(high), memory(wrap, integer(wrap)), wrap.itemsize
        _native.scaled_parts(memory(a), m, bit_at, *out, torch.get_num_threads())

    def scaled_share(self, opened: Tensor, m: int, high: Tensor, wrap: Tensor, *, leader: bool) -> Tensor:
        """A share of z m 2^-64, from the opened E of z = E + a and shares of what `scaled_parts` makes of a."""
        opened, high, wrap = opened.contiguous(), high.contiguous(), wrap.contiguous()
        out = space(opened.shape, RING.dtype)
        dealt = memory(high), memory(wrap, integer(wrap)), wrap.itemsize
        _native.scaled_share(memory(opened), m, *dealt, leader, memory(out), torch.get_num_threads())
        return out

    def scaled_public(self, opened: Tensor, m: int) -> Tensor:
        """What the leader adds: its share where nothing was dealt."""
        nothing = torch.zeros_like(opened, memory_format=torch.contiguous_format)
        return self.scaled_share(opened, m, nothing, nothing, leader=True)

    def selected(
        self, opened: Tensor, c: Tensor, x: Tensor, beta: Tensor, high: Tensor, m: int = 0, wrap: Tensor | None = None
    ) -> Tensor:
        """A share of b x, b = c ^ beta, from the masked form of x and what is dealt for it: see `Reference`."""
        opened, c, x, beta, high = (t.contiguous() for t in (opened, c, x, beta, high))
        out = space(opened.shape, RING.dtype)
        kept = None if wrap is None else wrap.contiguous()
        wrap_at = (NONE, 0) if kept is None else (memory(kept, integer(kept)), kept.itemsize)
        places = memory(opened), m, memory(c, torch.uint8), memory(x), memory(beta), memory(high)
        _native.selected(*places, *wrap_at, memory(out), torch.get_num_threads())
        return out

    def thermometer(self, a: Tensor, out: Tensor | None = None) -> Tensor:
        """Tables T_k[j] = [j < digit k of a], j = 0..14, below the top bit of a: see `Reference`."""
        a = a.contiguous()
        out = space((CHUNKS, a.numel()), torch.int16) if out is None else out
        _native.thermometer(memory(a), memory(out, torch.int16), len(out), torch.get_num_threads())
        return out

    def lookup(self, tables: Tensor, public: Tensor, *, leader: bool) -> tuple[Tensor, Tensor]:
        """Look public digits up in shared tables: see `Reference`."""
        tables, public = tables.contiguous(), public.contiguous()
        less, equal = space((2, 4, len(tables) // 4, (public.numel() + 7) // 8), torch.uint8)
        out = memory(less, torch.uint8), memory(equal, torch.uint8)
        places = memory(tables, torch.int16), len(tables), memory(public)
        _native.lookup(*places, leader, *out, torch.get_num_threads())
        return less, equal

    def node_expand(self, masks: Tensor, *, top: bool, out: Tensor | None = None) -> Tensor:
        """Monomials of mask bits: [7 | 6, nodes, bytes] -> [22 | 15, nodes, bytes], contiguous."""
        masks = masks.contiguous()
        out = space((15 if top else 22, *masks.shape[1:]), torch.uint8) if out is None else out
        _native.node_expand(memory(masks, torch.uint8), top, memory(out, torch.uint8), torch.get_num_threads())
        return out

    def node_evaluate(
        self, opened: Tensor, masks: Tensor, monomials: Tensor, less3: Tensor, *, top: bool, leader: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Shares of a level's outputs (less, equal), [nodes, bytes] each; no `equal` at the top."""
        opened, masks, monomials, less3 = (t.contiguous() for t in (opened, masks, monomials, less3))
        opened_at, masks_at, monomials_at, less3_at = (
            memory(t, torch.uint8) for t in (opened, masks, monomials, less3)
        )
        less = torch.empty(less3.shape, dtype=torch.uint8)
        equal = None if top else torch.empty_like(less)
        out = memory(less, torch.uint8), NONE if equal is None else memory(equal, torch.uint8)
        _native.node_evaluate(opened_at, masks_at, monomials_at, less3_at, top, leader, *out, torch.get_num_threads())
        return less, equal

    def wide_tables(self, a: Tensor, out: Tensor) -> None:
        """Write tables T_k[j] = [j < digit k of a] of wide digits: see `Reference`."""
        a = a.contiguous()
        _native.wide_tables(memory(a), *cut(out), memory(out, torch.uint8), torch.get_num_threads())

    def wide_lookup(self, tables: Tensor, public: Tensor, *, leader: bool) -> Tensor:
        """Look public digits up in shared tables: see `Reference`."""
        tables, public = tables.contiguous(), public.contiguous()
        out = space((public.numel(),), torch.int16)
        places = memory(tables, torch.uint8), *cut(tables), memory(public), leader, memory(out, torch.int16)
        _native.wide_lookup(*places, torch.get_num_threads())
        return out

    def wide_expand(self, masks: Tensor, out: Tensor) -> None:
        """Write products of mask bits: see `Reference`."""
        masks = masks.contiguous()
        _native.wide_expand(memory(masks, torch.int16), memory(out), torch.get_num_threads())

    def wide_evaluate(self, opened: Tensor, words: Tensor, dealt: Tensor, *, leader: bool) -> Tensor:
        """A share of the comparison of numbers, from those of their digits: see `Reference`."""
        opened, words, dealt = (t.contiguous() for t in (opened, words, dealt))
        out = space((opened.numel(),), torch.uint8)
        places = memory(opened, torch.int16), memory(words, torch.int16), memory(dealt)
        _native.wide_evaluate(*places, leader, memory(out, torch.uint8), torch.get_num_threads())
        return out

    def wave_table(self, waves: Waves, a: Tensor, words: Tensor) -> None:
        """Write the words that are dealt for a mask: see `Reference`."""
        a = a.contiguous()
        places = memory(a), memory(words, torch.uint8)
        _native.wave_table(waves.turn, waves.odd, waves.scaled, *places, torch.get_num_threads())

    def wave_sum(self, waves: Waves, e: Tensor, words: Tensor) -> Tensor:
        """A share of the sum of all terms, from public E and a share of the words of its mask: [n], uint8 -> [n]."""
        e, words = e.contiguous(), words.contiguous()
        out = space((e.numel(),), RING.dtype)
        places = memory(e), memory(words, torch.uint8), memory(out)
        _native.wave_sum(waves.turn, waves.odd, waves.scaled, *places, torch.get_num_threads())
        return out

    def octave_table(self, table: Octaves, a: Tensor, frac_bits: int) -> Tensor:
        """What is dealt for masks of exponents: see `Reference`."""
        a = a.contiguous()
        out = space((table.entries, *a.shape), RING.dtype)
        scales = table.dealt_scale, table.apart, table.zeros
        _native.octave_table(*_cut(table, frac_bits), *scales, memory(a), memory(out), torch.get_num_threads())
        return out

    def octave_share(self, table: Octaves, e: Tensor, frac_bits: int, part: Tensor) -> Tensor:
        """A share of 2^(e + a), from public e and a share of the table of its mask: see `Reference`."""
        e, part = e.contiguous(), part.contiguous()
        out = space(e.shape, RING.dtype)
        offset, scale = (table.offset << frac_bits) % RING.size, table.public_scale
        places = memory(e), memory(part), memory(out)
        _native.octave_share(offset, *_cut(table, frac_bits), scale, *places, torch.get_num_threads())
        return out


def _cut(table: Octaves, frac_bits: int) -> tuple[int, int, float, float]:
    """Where the digits of a number lie: the bits that count, where the high one begins, and the units of the rest."""
    period, digit = table.period << frac_bits, table.digit << frac_bits
    return (period - 1) % RING.size, digit.bit_length() - 1, 2.0**-frac_bits, table.step
