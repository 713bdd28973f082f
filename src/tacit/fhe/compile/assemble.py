"""The last step of every compilation: choose the encryption parameters and cut the model into its two halves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

from tacit.fhe import noise
from tacit.fhe.client import Client
from tacit.fhe.encode import Encoder, Float
from tacit.fhe.layout import Int, Layout
from tacit.fhe.parameters import Parameters, choose
from tacit.fhe.program import Program
from tacit.fhe.read import Head, Reader
from tacit.fhe.server import Server
from tacit.fhe.spec import ClientSpec, ServerSpec


@dataclass(frozen=True)
class Compiled:
    """What a family's compiler returns."""

    program: Program
    encoder: Encoder
    reader: Reader
    head: Head


@dataclass(frozen=True)
class Circuit:
    """The two halves, and (made when first used) a client and a server in this process."""

    client_spec: ClientSpec
    server_spec: ServerSpec

    @cached_property
    def server(self) -> Server:
        """A server in this process."""
        return Server(self.server_spec)

    @cached_property
    def client(self) -> Client:
        """A client in this process that asks `server`."""
        return Client(self.client_spec, server=self.server)

    def simulate(self, x: Float) -> tuple[Int, Int]:
        """Return the integers that a client would decrypt, computed in clear, and the encoded rows."""
        z = self.client_spec.encoder.encode(x)
        return self.server_spec.program.simulate(z), z


def assemble(name: str, parts: Compiled) -> Circuit:
    """Choose parameters for a program and return its two halves, bound together by a random identifier."""
    program = parts.program
    parameters = choose(program.length, program.outputs, program.bounds, prime=program.prime, fresh=program.fresh)
    model, bulk = os.urandom(16).hex(), not program.fresh and bulk_holds(program, parameters)
    return Circuit(
        ClientSpec(model, name, parameters, bulk, parts.encoder, parts.reader, parts.head),
        ServerSpec(model, name, parameters, bulk, program),
    )


def flooding(program: Program, p: Parameters, layout: Layout | None = None) -> int:
    """Return the statistical bits of an answer. Only the server can tell: it takes the weights."""
    layout = layout or p.layout
    bounds = program.bounds(layout, p.plain_modulus)
    count = layout.outputs * layout.samples
    return noise.statistical_bits(p.degree, p.flood_bits, bounds.row_l1, bounds.product_l2, count)


def bulk_holds(program: Program, p: Parameters) -> bool:
    """Return whether bulk answers (a form is one product, every coefficient is sent) reach the flooding target too."""
    layout = Layout(p.degree, program.length, program.outputs, groups=program.length, per_product=1, samples=p.degree)
    return flooding(program, p, layout) >= noise.TARGET_STATISTICAL_BITS
