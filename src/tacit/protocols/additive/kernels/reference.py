"""The portable kernels of the additive scheme, in PyTorch alone: for every device, and what native ones must equal."""

from __future__ import annotations

import torch
from torch import Tensor

from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.radix4 import Radix4
from tacit.protocols.additive.kernels.waves import Waves
from tacit.ring.kernels import reference
from tacit.ring.kernels.reference import packed
from tacit.ring.ring import RING

__all__ = ["CHUNKS", "WIDE", "Reference"]

CHUNKS = (RING.sign_bit + 3) // 4
"""Digits of 4 bits below the top bit, 16. Wider digits: fewer tree levels, but tables of 2^w bits each (8 bits, by
which few elements are compared: 256 bytes an element from the producer, against 32); narrower: a third tree level, so
one more round."""

WIDE, FEW_WORDS = RING.bytes, 2
"""Digits for which one level does, and the words of what is dealt where two fewer are compared."""

BLOCK = 8192
"""Elements that a pass over the tables works on at a time, a multiple of 8. More: fewer calls; fewer: the block,
32 bytes an element, stays in the cache of a core. Measured flat between 4096 and 32768."""

_LOW = (1 << RING.sign_bit) - 1
_NODES = {True: Radix4(equal=True), False: Radix4(equal=False)}


class Reference(reference.Reference):
    """The kernels of the scheme, on top of the ring's."""

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
        for t in (x, b, y, a):
            if t is not None and t.shape != out.shape:
                t.expand(out.shape)  # raises before anything is written
        if minus:
            out.neg_()
        if leader:
            out.addcmul_(x, y if b is None else y + b)
        elif b is not None:
            out.addcmul_(x, b)
        if a is not None:
            out.addcmul_(y, a)

    def scaled_parts(self, a: Tensor, m: int, high: Tensor, wrap: Tensor, bit: Tensor | None = None) -> None:
        """Write floor(a m / 2^64), a unsigned, and the top bytes of msb(a) m, times a bit; see `scaled_share`.

        `high` holds ring elements; `wrap` has as many bytes an element as its type; `bit` is uint8, 0 or 1. All are
        contiguous.
        """
        product, turn = self._high_product(a, m), (a < 0) * RING.signed(m)
        if bit is not None:
            product, turn = product * bit, turn * bit
        high.copy_(product.view(high.shape))
        wrap.copy_((turn >> (RING.bits - 8 * wrap.itemsize)).view(wrap.shape))

    def scaled_share(self, opened: Tensor, m: int, high: Tensor, wrap: Tensor, *, leader: bool) -> Tensor:
        """A share of z m 2^-64, from the opened E of z = E + a and shares of what `scaled_parts` makes of a.

            high + (msb(E') - 1) wrap,  and at the leader  ceil(E' m / 2^64) - msb(E') m - m / 4        E' = E + 2^62

        with E' unsigned; `tacit.protocols.additive.truncation` says why. m is a multiple of 4 below 2^64.
        """
        share = high + self.wrap_factor(opened) * self.wrap_words(wrap)
        return share.add_(self.scaled_public(opened, m)) if leader else share

    def scaled_public(self, opened: Tensor, m: int) -> Tensor:
        """What the leader adds: see `scaled_share`."""
        up, factor = opened + (1 << RING.value_bits), RING.signed(m)
        fraction = up * factor != 0
        return self._high_product(up, m) - (up < 0) * factor + fraction - (m >> 2)

    def wrap_factor(self, opened: Tensor) -> Tensor:
        """msb(E') - 1."""
        return ((opened + (1 << RING.value_bits)) >> RING.sign_bit).bitwise_not_()

    def wrap_words(self, wrap: Tensor) -> Tensor:
        """The top bytes of ring elements, one integer for each, as ring elements with zeros below."""
        return wrap if wrap.itemsize == RING.bytes else wrap.to(RING.dtype) << (RING.bits - 8 * wrap.itemsize)

    def selected(
        self, opened: Tensor, c: Tensor, x: Tensor, beta: Tensor, high: Tensor, m: int = 0, wrap: Tensor | None = None
    ) -> Tensor:
        """A share of b x, b = c ^ beta: c [x] + (1 - 2 c) (E [beta] + [beta a]), for x = E + a and c of bytes 0 and 1.

        For x = z m 2^-64, E is that of z, and `high` and `wrap` are shares of what `scaled_parts` makes of a and beta.
        """
        if wrap is None:
            inner = opened * beta + high
        else:
            inner = self.scaled_public(opened, m) * beta + high + self.wrap_factor(opened) * self.wrap_words(wrap)
        ones = c.to(RING.dtype).neg_()  # all bits of an element are c, by which -v = (v ^ ones) - ones
        return inner.bitwise_xor_(ones).sub_(ones).add_(ones & x)

    def _high_product(self, v: Tensor, m: int) -> Tensor:
        """floor(v m / 2^64), both unsigned: the upper half of a product of 128 bits, by halves of 32."""
        if m & (m - 1) == 0:
            return self.logical_shift(v, RING.bits + 1 - m.bit_length())
        half = RING.bits // 2
        mask = (1 << half) - 1
        m_low, m_high = m & mask, m >> half
        low, high = v & mask, self.logical_shift(v, half)
        middle = high * m_low + self.logical_shift(low * m_low, half)
        other = low * m_high + (middle & mask)
        return high * m_high + self.logical_shift(middle, half) + self.logical_shift(other, half)

    def thermometer(self, a: Tensor, out: Tensor | None = None) -> Tensor:
        """Tables T_k[j] = [j < digit k of a], j = 0..14, below the top bit of a: [n] -> int16 [16, n], contiguous.

        An `out` of fewer rows, 4, 8 or 12, gets those of the top digits.
        """
        words = a.reshape(-1) & _LOW
        if out is None:
            out = torch.empty(CHUNKS, words.numel(), dtype=torch.int16, device=a.device)
        for at in range(0, words.numel(), BLOCK):
            digits = _digits(words[at : at + BLOCK])[CHUNKS - len(out) :]
            torch.sub(torch.ones_like(digits) << digits, 1, out=out[:, at : at + BLOCK])
        return out

    def lookup(self, tables: Tensor, public: Tensor, *, leader: bool) -> tuple[Tensor, Tensor]:
        """Look public digits up in shared tables: shares of [u_k < a_k] and [u_k = a_k] for every digit k, as planes.

        `tables` int16 [16, n], `public` [..., n] -> two uint8 [4 digits, 4 nodes, ceil(numel / 8)], where digit p of
        node q is digit 4 q + p of the number. Tables of the top digits only have fewer nodes.
        """
        u = public.reshape(-1) & _LOW
        rows = len(tables)
        if u.numel() != tables.shape[1]:
            tables = tables.repeat(1, u.numel() // max(tables.shape[1], 1))
        less, equal = torch.empty((2, rows, (u.numel() + 7) // 8), dtype=torch.uint8, device=u.device)
        for at in range(0, u.numel(), BLOCK):
            digits, part = _digits(u[at : at + BLOCK])[CHUNKS - rows :], tables[:, at : at + BLOCK]
            below = (part >> digits).bitwise_and_(1)  # [u_k < a_k]
            upto = (part << 1).bitwise_or_(int(leader)).bitwise_right_shift_(digits).bitwise_and_(1)  # [u_k <= a_k]
            planes = slice(at // 8, at // 8 + (digits.shape[1] + 7) // 8)
            less[:, planes] = packed(below)
            equal[:, planes] = packed(upto.bitwise_xor_(below))
        return _by_digit(less), _by_digit(equal)

    def node_inputs(self, less: Tensor, equal: Tensor, *, top: bool) -> Tensor:
        """The bits of tree nodes that are opened: [4, nodes, bytes] each -> [7, or 6 at the top, nodes, bytes]."""
        return _NODES[not top].gather(less, equal)

    def node_expand(self, masks: Tensor, *, top: bool, out: Tensor | None = None) -> Tensor:
        """Monomials of mask bits: [7 | 6, nodes, bytes] -> [22 | 15, nodes, bytes], contiguous."""
        return _NODES[not top].expand(masks, out)

    def node_evaluate(
        self, opened: Tensor, masks: Tensor, monomials: Tensor, less3: Tensor, *, top: bool, leader: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Shares of a level's outputs (less, equal), [nodes, bytes] each; no `equal` at the top."""
        return _NODES[not top].evaluate(opened, masks, monomials, less3, leader=leader)

    def wide_tables(self, a: Tensor, out: Tensor) -> None:
        """Write tables T_k[j] = [j < digit k of a] of the top digits of a, below its top bit; see `cut`.

        [n] -> uint8 [n, digits, 2^bits / 8], contiguous, with bit j mod 8 of byte j / 8 for j.
        """
        digits, places = _wide_digits(a, *cut(out)), torch.arange(8 * out.shape[-1], device=a.device)
        out.copy_(packed((places < digits.unsqueeze(-1)).to(torch.uint8)))

    def wide_lookup(self, tables: Tensor, public: Tensor, *, leader: bool) -> Tensor:
        """Look public digits up in shared tables: shares of [u_k < a_k] and [u_k = a_k], as bits k and 8 + k of a word.

        Of six digits k is 2 … 7. `tables` uint8 [n, digits, bytes], `public` [.., n] -> int16 [numel].
        """
        u = _wide_digits(public, *cut(tables))
        rows = tables.expand(u.shape[0] // max(len(tables), 1), *tables.shape).reshape(-1, *tables.shape[1:])

        def bit(at: Tensor) -> Tensor:
            found = (rows.gather(2, (at >> 3).unsqueeze(-1)).squeeze(-1) >> (at & 7).to(torch.uint8)) & 1
            return torch.nn.functional.pad(found, [WIDE - found.shape[1], 0])

        less = bit(u)
        first = torch.nn.functional.pad((u == 0).to(torch.uint8), [WIDE - u.shape[1], 0])
        upto = torch.where(first > 0, int(leader), bit((u - 1).clamp_(min=0))).to(torch.uint8)
        return torch.stack([packed(less), packed(less ^ upto)], -1).view(torch.int16).flatten()

    def wide_expand(self, masks: Tensor, out: Tensor) -> None:
        """Write products of the mask bits of words, int16 [n] -> [n, 6]: those that `wide.cpp` names, in its order.

        [n, 2] of words of six digits: the first and the last of them.
        """
        m = _spread(masks)
        every = torch.ones((len(m), 1), dtype=torch.uint8, device=m.device)
        for j in range(WIDE - 1, 0, -1):
            every = torch.cat([every, every & m[:, WIDE + j, None]], 1)
        products = [every[:, : 1 << (WIDE - 1 - d)] & m[:, d, None] for d in range(WIDE - 1)]
        rows = packed(torch.cat([every, *products], 1)).view(torch.int64)
        out.copy_(rows if out.shape[-1] == rows.shape[-1] else rows[:, [0, -1]])

    def wide_evaluate(self, opened: Tensor, words: Tensor, dealt: Tensor, *, leader: bool) -> Tensor:
        """A share of [u < a] for each word: of its opened bits, those shared of it, and of what `wide_expand` makes.

        int16 [n], int16 [n], [n, 6 or 2] -> uint8 [n]. One digit after the other is folded in, q_k = V + e:
        L <- l_k + (V + e) L.
        """
        v = _spread(opened)
        start = 2 if dealt.shape[-1] == FEW_WORDS else 0
        if start:
            dealt = torch.cat([dealt[:, :1], torch.zeros_like(dealt).repeat(1, 2), dealt[:, 1:]], 1)
        bits = self.unpack_bits(dealt.contiguous().view(torch.uint8), 64 * dealt.numel()).view(len(v), 384).clone()
        bits[:, 0] = int(leader)  # the product of nothing
        every, at = bits[:, : 128 >> start], 384 - (256 >> start)
        total = torch.zeros_like(every)
        for d in range(start, WIDE - 1):
            count = 128 >> d
            total = total ^ bits[:, at : at + count] ^ (every[:, :count] & v[:, d, None])
            total = (v[:, WIDE + d + 1, None] & total[:, : count // 2]) ^ total[:, count // 2 :]
            at += count
        return total[:, 0] ^ _spread(words)[:, WIDE - 1]

    def wave_table(self, waves: Waves, a: Tensor, words: Tensor) -> None:
        """Write the words that are dealt for a mask [n], a run of them for terms of one width side by side."""
        table = waves.table(a.reshape(-1))
        at = 0
        for width, rows in waves.runs:
            values = torch.stack([wave for _ in range(rows // 2) for wave in next(table)])
            size = width * values.numel()
            self.narrow(values << RING.bits - 8 * width, width, words[at : at + size])
            at += size

    def wave_sum(self, waves: Waves, e: Tensor, words: Tensor) -> Tensor:
        """A share of the sum of all terms, from public E and a share of the words of its mask: [n], uint8 -> [n]."""
        e = e.reshape(-1)
        out = torch.zeros_like(e)
        factors = waves.factors(e)
        at = 0
        for width, rows in waves.runs:
            size = width * rows * e.numel()
            values = self.widen(words[at : at + size], width).view(rows, -1)
            at += size
            for k in range(0, rows, 2):
                sine, cosine = next(factors)
                out += sine * values[k] + cosine * values[k + 1]
        return out

    def octave_table(self, table: Octaves, a: Tensor, frac_bits: int) -> Tensor:
        """What is dealt for masks of exponents: [..] -> [N, ..]."""
        return table.of_mask(a, frac_bits)

    def octave_share(self, table: Octaves, e: Tensor, frac_bits: int, part: Tensor) -> Tensor:
        """A share of 2^(e + a), from public e and a share of the table of its mask: [..], [N, ..] -> [..]."""
        return table.share(e, frac_bits, part)


def _digits(words: Tensor) -> Tensor:
    """The digits of each word: [n] -> int16 [16, n]."""
    quarters = words.view(torch.int16).view(-1, RING.bytes // 2).T.contiguous().unsqueeze(1)
    shifts = torch.arange(0, 16, 4, dtype=torch.int16, device=words.device).view(-1, 1)
    return (quarters >> shifts).bitwise_and_(15).reshape(CHUNKS, -1)


def _wide_digits(words: Tensor, digits: int, bits: int) -> Tensor:
    """The top digits of so many bits of each word, as places: [..] -> [numel, digits]."""
    below = RING.bits - bits * torch.arange(digits, 0, -1, device=words.device)
    return ((words.reshape(-1, 1) & _LOW) >> below) & ((1 << bits) - 1)


def cut(tables: Tensor) -> tuple[int, int]:
    """How many digits tables [n, digits, 2^bits / 8] are of, and of how many bits."""
    return tables.shape[1], tables.shape[2].bit_length() + 2


def _spread(words: Tensor) -> Tensor:
    """The bits of words, one to a byte, the lowest first: int16 [n] -> uint8 [n, 16]."""
    return ((words.reshape(-1, 1) >> torch.arange(16, device=words.device)) & 1).to(torch.uint8)


def _by_digit(planes: Tensor) -> Tensor:
    """[4 nodes, bytes] in the order of the digits -> [4 digits, nodes, bytes]."""
    return planes.view(len(planes) // 4, 4, -1).transpose(0, 1)
