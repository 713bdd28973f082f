"""What a compiled model reveals, costs and rests on: `model.fhe_report()`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields

import numpy as np

from tacit.fhe import parameters as rings
from tacit.fhe.compile.assemble import Check, Circuit, flooding
from tacit.fhe.encode import Encoder, Monomials, Quantizer
from tacit.fhe.forest_program import ForestProgram, LeafProgram
from tacit.fhe.program import NeighborProgram, Program
from tacit.fhe.table import Front


@dataclass(frozen=True)
class Report:
    """Printed, it is the table that a data-protection officer asks for."""

    model: str
    client_learns: str
    server_learns: str
    security_bits: int
    security_source: str
    statistical_bits: int
    ring_degree: int
    ciphertext_modulus_bits: int
    plain_modulus: int
    noise_budget_bits: float
    """Left after the flood, which takes all but this on purpose."""
    secret_key_bytes: int
    public_key_bytes: int
    query_bytes: int
    answer_bytes: int
    rows_per_ciphertext: int
    bulk: bool
    n_bits: int
    rows_checked: int
    agreement: float
    """Of encrypted with clear predictions on those rows of `compile`: the share of labels, or r2 of quantities."""
    cut_off: float
    """Share of the values in `compile` that lie outside the ranges of their columns."""
    encrypt_ms: float
    server_ms: float
    decrypt_ms: float

    def __str__(self) -> str:
        width = max(len(f.name) for f in fields(self))
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            digits = 4 if field.name in ("agreement", "cut_off") else 1
            text = (
                f"{value:.{digits}f}"
                if isinstance(value, float)
                else f"{value:,}"
                if type(value) is int
                else str(value)
            )
            lines.append(f"{field.name.replace('_', ' '):<{width}}  {text}")
        return "\n".join(lines)


def client_learns(program: Program, encoder: Encoder) -> str:
    """Say what a client learns from answers and from its half of the model."""
    if isinstance(program, ForestProgram):
        return (
            "for each row and output the sum of the values of the reached leaves; neither which leaves nor what each "
            f"tree said. From its file: {program.leaves} leaves or pairs of leaves, {int(program.tree.max()) + 1} "
            f"trees, and the {encoder.length} (column, threshold) pairs that are compared"
        )
    if isinstance(program, LeafProgram):
        return (
            f"for each row and output the exact sum of the values of the reached leaves. From its file: the trees, "
            f"{program.length} leaves, all but what these say; about as many well-chosen rows give that away"
        )
    if isinstance(program, NeighborProgram):
        return (
            f"for each row its distances to all {len(program.points)} training points with their labels, in no order; "
            "enough rows reconstruct the training points. Use it only where the client may know them"
        )
    listed = isinstance(encoder, Quantizer) and isinstance(encoder.before, Monomials)
    products = isinstance(encoder, Quantizer) and (encoder.pairs or encoder.squares)
    degree = "squares and products of columns" if products or listed else "columns"
    return (
        f"for each row the exact scores. They are linear in the {degree}, so {program.length + 1} well-chosen rows "
        "give the quantised model away: limit the queries of a client that must not have it. From its file: the "
        "ranges of the columns" + (" and which products of them the network has" if listed else "")
    )


def _of_steps(front: Front) -> str:
    """Say what the public steps before a model tell."""
    if front.steps is None:
        return ""
    return f"; and the steps that it runs itself, with all that they learned: {', '.join(front.steps.names)}"


SERVER_LEARNS = "that this client asked, when, and how many rows; nothing about values, scores or predictions"


def report(circuit: Circuit) -> Report:
    """Measure one row and gather the facts."""
    p, program = circuit.server_spec.parameters, circuit.server_spec.program
    client, server = circuit.client, circuit.server
    server.register(client.public_key)
    seen = circuit.check or Check(0, math.nan, math.nan, 0)
    row = circuit.client_spec.encoder.encode(np.zeros((1, circuit.client_spec.encoder.features)))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        query = client.encrypt_encoded(row)
        encrypted = time.perf_counter()
        answer = server.answer(query)
        served = time.perf_counter()
        client.decrypt(answer, query)
        times.append((encrypted - start, served - encrypted, time.perf_counter() - served))
    encrypt, serve, decrypt = (1e3 * float(t) for t in np.median(times, axis=0))
    return Report(
        model=circuit.client_spec.name,
        client_learns=client_learns(program, circuit.client_spec.encoder) + _of_steps(circuit.client_spec.front),
        server_learns=SERVER_LEARNS,
        security_bits=rings.SECURITY_BITS,
        security_source=rings.SECURITY_SOURCE,
        statistical_bits=flooding(program, p),
        ring_degree=p.degree,
        ciphertext_modulus_bits=p.modulus_bits + p.special_bits,
        plain_modulus=p.plain_modulus,
        noise_budget_bits=round(p.modulus_bits - math.log2(p.plain_modulus) - 1 - p.flood_bits, 1),
        secret_key_bytes=client.secret_key_size,
        public_key_bytes=len(client.public_key),
        query_bytes=len(query),
        answer_bytes=len(answer),
        rows_per_ciphertext=p.layout.samples,
        bulk=circuit.client_spec.bulk,
        n_bits=seen.n_bits,
        rows_checked=seen.rows,
        agreement=seen.agreement,
        cut_off=seen.cut_off,
        encrypt_ms=encrypt,
        server_ms=serve,
        decrypt_ms=decrypt,
    )
