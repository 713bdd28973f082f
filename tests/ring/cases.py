"""Every kernel with operands that fit it, for tests that spoil them, move them or count them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.protocols.additive.kernels import CHUNKS, Reference
from tacit.protocols.additive.kernels.octaves import Octaves
from tacit.protocols.additive.kernels.waves import Term, Waves
from tacit.ring.kernels import Places

from .operands import bits, octets, ring

WAVES = Waves(12345 << 40, odd=True, terms=[Term(0.5, 0.25, 20, 20, 5), Term(0.1, -0.5, 20, 20, 4)])
OCTAVES = Octaves.of(-20, 1, 2.0**-16, 4, 8)
KEY = bytes(16)
SQUARE = Places(torch.zeros(1, dtype=torch.int64), torch.arange(0, 12, 4), torch.arange(3))

Tensors = list[Tensor]


class Case(NamedTuple):
    """A call of a kernel, and what makes n elements of operands for it: what it reads, and what it writes to."""

    kernel: str
    call: Callable[[Reference, Tensors, Tensors], Any]
    operands: Callable[[int], tuple[Tensors, Tensors]]
    any_length: tuple[int, ...] = ()
    """Operands, first those read, then those written, whose length nothing else says."""
    any_dtype: bool = False
    any_device: bool = False
    values: bool = False
    """Whether it asks for the value of an element, which a tensor without values does not have."""


def planes(n: int) -> int:
    return (n + 7) // 8


def shorts(*shape: int) -> Tensor:
    return torch.randint(-(2**15), 2**15, shape, dtype=torch.int16)


def words(n: int, width: int) -> Tensor:
    return octets(width * n)


CASES = {
    "matmul": Case(
        "matmul", lambda k, i, o: k.matmul(*i), lambda n: ([ring(n, 70), ring(70, 200)], []), (1,), any_device=True
    ),
    "matmul_short": Case(
        "matmul_short",
        lambda k, i, o: k.matmul_short(*i),
        lambda n: ([ring(n, 70), ring(70, 200).to(torch.int32)], []),
        (1,),
        any_device=True,
    ),
    "contract": Case(
        "contract",
        lambda k, i, o: k.contract(i[0], SQUARE, i[1], SQUARE, o[0], SQUARE),
        lambda n: ([ring(11 + n), ring(11 + n)], [ring(11 + n)]),
        (0, 1, 2),  # as long as its places lie inside: see test_bounds
    ),
    "contract, shared": Case(
        "contract",
        lambda k, i, o: k.contract(i[0], SQUARE, i[1], SQUARE, o[0], SQUARE, shared=3),
        lambda n: ([ring(11 + n), ring(11 + n)], [ring(11 + n)]),
        (0, 1, 2),
    ),
    "bin_sums": Case(
        "bin_sums", lambda k, i, o: k.bin_sums(*i, 16), lambda n: ([octets(4, n) % 16, ring(3, n).t()], []), (1,)
    ),
    "parities": Case("parities", lambda k, i, o: k.parities(*i), lambda n: ([ring(2, n), ring(2, 5)], []), (0, 1)),
    "logical_shift": Case("logical_shift", lambda k, i, o: k.logical_shift(*i, 5), lambda n: ([ring(n)], []), (0,)),
    "encode": Case(
        "encode",
        lambda k, i, o: k.encode(*i, 2.0**16),
        lambda n: ([torch.randn(n)], []),
        (0,),
        any_dtype=True,
        values=True,
    ),
    "decode": Case("decode", lambda k, i, o: k.decode(*i, 2.0**-16, torch.float32), lambda n: ([ring(n)], []), (0,)),
    "pack_bits": Case("pack_bits", lambda k, i, o: k.pack_bits(*i), lambda n: ([bits(n)], []), (0,)),
    "unpack_bits": Case("unpack_bits", lambda k, i, o: k.unpack_bits(*i, 70), lambda n: ([octets(planes(70))], [])),
    "widen": Case("widen", lambda k, i, o: k.widen(*i, 5), lambda n: ([words(n, 5)], [])),
    "narrow": Case("narrow", lambda k, i, o: k.narrow(*i, 5, *o), lambda n: ([ring(n)], [words(n, 5)])),
    "subtract_words": Case(
        "subtract_words", lambda k, i, o: k.subtract_words(*o, *i, 3), lambda n: ([words(n, 3)], [words(n, 3)])
    ),
    "add_to": Case(
        "key_stream", lambda k, i, o: k.key_stream(KEY, o[0].device).add_to(*o), lambda n: ([], [ring(n)]), (0,)
    ),
    "subtract_from": Case(
        "key_stream",
        lambda k, i, o: k.key_stream(KEY, o[0].device).subtract_from(*o),
        lambda n: ([], [ring(n).to(torch.int32)]),
        (0,),
    ),
    "xor_into": Case(
        "key_stream", lambda k, i, o: k.key_stream(KEY, o[0].device).xor_into(*o), lambda n: ([], [octets(n)]), (0,)
    ),
    "multiply_add": Case(
        "multiply_add",
        lambda k, i, o: k.multiply_add(*o, *i, leader=True),
        lambda n: ([ring(n), ring(n), ring(n), ring(n)], [ring(n)]),
    ),
    "scaled_parts": Case(
        "scaled_parts",
        lambda k, i, o: k.scaled_parts(i[0], 1 << 48, *o, i[1]),
        lambda n: ([ring(n), bits(n)], [ring(n), octets(n)]),
    ),
    "scaled_share": Case(
        "scaled_share",
        lambda k, i, o: k.scaled_share(i[0], 3 << 40, i[1], i[2], leader=True),
        lambda n: ([ring(n), ring(n), octets(n)], []),
    ),
    "scaled_public": Case(
        "scaled_public", lambda k, i, o: k.scaled_public(*i, 3 << 40), lambda n: ([ring(n)], []), (0,)
    ),
    "wrap_factor": Case("wrap_factor", lambda k, i, o: k.wrap_factor(*i), lambda n: ([ring(n)], []), (0,)),
    "wrap_words": Case("wrap_words", lambda k, i, o: k.wrap_words(*i), lambda n: ([octets(n)], []), (0,)),
    "selected": Case(
        "selected",
        lambda k, i, o: k.selected(*i[:5], 1 << 48, i[5]),
        lambda n: ([ring(n), bits(n), ring(n), ring(n), ring(n), octets(n)], []),
    ),
    "thermometer": Case(
        "thermometer",
        lambda k, i, o: k.thermometer(*i, *o),
        lambda n: ([ring(n)], [torch.zeros(CHUNKS, n, dtype=torch.int16)]),
    ),
    "lookup": Case(
        "lookup",
        lambda k, i, o: k.lookup(*i, leader=True),
        lambda n: ([torch.zeros(CHUNKS, n, dtype=torch.int16), ring(3, n)], []),
    ),
    "node_inputs": Case(
        "node_inputs",
        lambda k, i, o: k.node_inputs(*i, top=False),
        lambda n: ([octets(4, 4, planes(n)), octets(4, 4, planes(n))], []),
    ),
    "node_expand": Case(
        "node_expand",
        lambda k, i, o: k.node_expand(*i, top=True, out=o[0]),
        lambda n: ([octets(6, 1, planes(n))], [octets(15, 1, planes(n))]),
    ),
    "node_evaluate": Case(
        "node_evaluate",
        lambda k, i, o: k.node_evaluate(*i, top=False, leader=False),
        lambda n: (
            [octets(7, 4, planes(n)), octets(7, 4, planes(n)), octets(22, 4, planes(n)), octets(4, planes(n))],
            [],
        ),
    ),
    "wide_tables": Case(
        "wide_tables", lambda k, i, o: k.wide_tables(*i, *o), lambda n: ([ring(n)], [octets(n, 8, 32)])
    ),
    "wide_tables of six": Case(
        "wide_tables", lambda k, i, o: k.wide_tables(*i, *o), lambda n: ([ring(n)], [octets(n, 6, 8)])
    ),
    "wide_lookup of six": Case(
        "wide_lookup", lambda k, i, o: k.wide_lookup(*i, leader=True), lambda n: ([octets(n, 6, 8), ring(3, n)], [])
    ),
    "wide_expand of six": Case(
        "wide_expand", lambda k, i, o: k.wide_expand(*i, *o), lambda n: ([shorts(n)], [ring(n, 2)])
    ),
    "wide_evaluate of six": Case(
        "wide_evaluate",
        lambda k, i, o: k.wide_evaluate(*i, leader=False),
        lambda n: ([shorts(n), shorts(n), ring(n, 2)], []),
    ),
    "wide_lookup": Case(
        "wide_lookup", lambda k, i, o: k.wide_lookup(*i, leader=True), lambda n: ([octets(n, 8, 32), ring(3, n)], [])
    ),
    "wide_expand": Case("wide_expand", lambda k, i, o: k.wide_expand(*i, *o), lambda n: ([shorts(n)], [ring(n, 6)])),
    "wide_evaluate": Case(
        "wide_evaluate",
        lambda k, i, o: k.wide_evaluate(*i, leader=False),
        lambda n: ([shorts(n), shorts(n), ring(n, 6)], []),
    ),
    "wave_table": Case(
        "wave_table", lambda k, i, o: k.wave_table(WAVES, *i, *o), lambda n: ([ring(n)], [words(n, WAVES.width)])
    ),
    "wave_sum": Case(
        "wave_sum", lambda k, i, o: k.wave_sum(WAVES, *i), lambda n: ([ring(n), words(n, WAVES.width)], [])
    ),
    "octave_table": Case(
        "octave_table", lambda k, i, o: k.octave_table(OCTAVES, *i, 16), lambda n: ([ring(n)], []), any_length=(0,)
    ),
    "octave_share": Case(
        "octave_share",
        lambda k, i, o: k.octave_share(OCTAVES, i[0], 16, i[1]),
        lambda n: ([ring(n), ring(OCTAVES.entries, n)], []),
    ),
}
