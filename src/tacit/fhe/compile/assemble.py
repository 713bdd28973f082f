"""The last steps of every compilation: choose precision and parameters, and cut the model into its two halves."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tacit.errors import ParameterError
from tacit.fhe import noise, spec
from tacit.fhe.client import Client
from tacit.fhe.encode import Encoder
from tacit.fhe.layout import Int, Layout
from tacit.fhe.parameters import Parameters, choose
from tacit.fhe.program import Program
from tacit.fhe.read import Head, Reader
from tacit.fhe.server import Server
from tacit.fhe.spec import ClientSpec, ServerSpec
from tacit.fhe.table import Front

MOST_BITS = 16


@dataclass(frozen=True)
class Compiled:
    """What a family's compiler returns."""

    program: Program
    encoder: Encoder
    reader: Reader
    head: Head

    @cached_property
    def parameters(self) -> Parameters:
        """The encryption parameters that hold the program."""
        return choose(self.program)


@dataclass(frozen=True)
class Check:
    """What `compile` saw on the rows that it was given."""

    rows: int
    agreement: float
    """Share of rows on which encrypted and clear labels are the same; of quantities, r2 of encrypted against clear."""
    cut_off: float
    """Share of values outside the ranges of their columns."""
    n_bits: int


@dataclass(frozen=True)
class Circuit:
    """The two halves, and (made when first used) a client and a server in this process."""

    client_spec: ClientSpec
    server_spec: ServerSpec
    check: Check | None = None

    @cached_property
    def server(self) -> Server:
        """A server in this process."""
        return Server(self.server_spec)

    @cached_property
    def client(self) -> Client:
        """A client in this process that asks `server`."""
        return Client(self.client_spec, server=self.server)

    def simulate(self, x: Any) -> tuple[Int, Int]:
        """Return the integers that a client would decrypt, computed in clear, and the encoded rows."""
        z = self.client_spec.encode(x)
        return self.server_spec.program.simulate(z), z

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the two halves as their files, and no key: a copy makes keys of its own."""
        return {
            "client": spec.to_bytes(self.client_spec),
            "server": spec.to_bytes(self.server_spec),
            "check": self.check,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in (
            ("client_spec", spec.from_bytes(state["client"], ClientSpec)),
            ("server_spec", spec.from_bytes(state["server"], ServerSpec)),
            ("check", state["check"]),
        ):
            object.__setattr__(self, name, value)


def finest(lower: Callable[[int], Compiled], usual: int, *, bulk: bool = True) -> tuple[Compiled, int]:
    """Return the model in the most bits that cost no ciphertext more than `usual` bits do (fewer if those do not fit).

    More bits enlarge the plaintext modulus, which fills the room of a ring that is paid for anyway. With `bulk` they
    may not cost bulk queries either.
    """
    bits = usual
    while True:
        try:
            base = lower(bits)
            budget = _ciphertexts(base, bulk)
            break
        except ParameterError:
            bits -= 1
            if bits < 2:
                raise
    best, low, high = base, bits, MOST_BITS + 1 if bits == usual else bits + 1
    while high - low > 1:
        middle = (low + high) // 2
        try:
            candidate = lower(middle)
            fits = all(a <= b for a, b in zip(_ciphertexts(candidate, bulk), budget, strict=True))
        except ParameterError:
            fits = False
        if fits:
            best, low = candidate, middle
        else:
            high = middle
    return best, low


def _ciphertexts(parts: Compiled, bulk: bool) -> tuple[float, ...]:
    """Return the size of a ciphertext, how many of them a row takes, and whether many rows must do without bulk."""
    p = parts.parameters
    each = (p.layout.uploads + p.layout.products) / p.layout.samples
    return p.degree * len(p.data_bits), each, bulk and not _bulk(parts.program, p)


def _bulk(program: Program, p: Parameters) -> bool:
    return not program.fresh and bulk_holds(program, p)


def assemble(name: str, parts: Compiled, front: Front | None = None) -> Circuit:
    """Choose parameters for a program and return its two halves, bound together by a random identifier."""
    program, parameters = parts.program, parts.parameters
    model, bulk = os.urandom(16).hex(), _bulk(program, parameters)
    return Circuit(
        ClientSpec(model, name, parameters, bulk, front or Front(), parts.encoder, parts.reader, parts.head),
        ServerSpec(model, name, parameters, bulk, program),
    )


def flooding(program: Program, p: Parameters, layout: Layout | None = None) -> int:
    """Return the statistical bits of an answer. Only the server can tell: it takes the weights."""
    layout = layout or p.layout
    bounds = program.bounds(layout, p.moduli)
    count = layout.outputs * layout.samples
    spread = bounds.product_l1 * p.spread_noise if p.spread_noise else 0.0
    return noise.statistical_bits(p.degree, p.flood_bits, bounds.row_l1, bounds.product_l2, count, spread)


def bulk_holds(program: Program, p: Parameters) -> bool:
    """Return whether bulk answers (a form is one product, every coefficient is sent) reach the flooding target too."""
    layout = Layout(p.degree, program.length, program.outputs, groups=program.length, per_product=1, samples=p.degree)
    return flooding(program, p, layout) >= noise.TARGET_STATISTICAL_BITS
