"""Several linear scorers in one program.

The members' scores are rows of one matrix, each member on a scale of its own; the client gets all of them
(`joint_heads.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.errors import DataError
from tacit.fhe.compile.assemble import Compiled
from tacit.fhe.encode import Affine, Float, Quantizer
from tacit.fhe.estimator import FheModel, adopt, counterpart
from tacit.fhe.program import LinearProgram
from tacit.fhe.read import Head, PlainReader


def member_of(trained: Any, kind: str) -> tuple[FheModel, Affine | None]:
    """Return a member on ciphertexts, and the affine steps in front of it where it is a pipeline.

    Raises:
        DataError: for steps that are not affine, which only a whole pipeline's client can run.
    """
    from sklearn.pipeline import Pipeline as SkPipeline

    from tacit.fhe.pipeline import affine_of

    before = None
    if isinstance(trained, SkPipeline):
        steps, trained = SkPipeline(trained.steps[:-1]), trained.steps[-1][1]
        if steps.steps and (before := affine_of(steps, np.zeros((1, steps.n_features_in_)), ())) is None:
            raise DataError(
                f"a member of {kind} on ciphertexts may have scalers and projections in front of it, not other steps: "
                "put those in front of the whole, in a tacit.fhe.Pipeline"
            )
    return adopt(counterpart(trained), trained, None), before


def after(inner: Affine | None, before: Affine | None) -> Affine | None:
    """Return inner(before(x)) as one map."""
    if inner is None or before is None:
        return inner if before is None else before
    return Affine(inner.matrix @ before.matrix, inner.matrix @ before.offset + inner.offset)


def compile_members(
    members: list[tuple[FheModel, Affine | None]], x: Float, n_bits: int, before: Affine | None, kind: str
) -> tuple[LinearProgram, Quantizer, tuple[Head, ...], tuple[int, ...]]:
    """Return the program of all members' scores, and the head and the number of scores of each.

    Raises:
        DataError: for a member whose scores are not linear in the columns.
    """
    parts: list[Compiled] = []
    for member, inner in members:
        part = member._lower(x, after(inner, before), n_bits)
        encoder = part.encoder
        plain = isinstance(encoder, Quantizer) and not (encoder.pairs or encoder.squares or encoder.before)
        if not (plain and isinstance(part.program, LinearProgram)):
            raise DataError(f"{kind} on ciphertexts takes linear members, not {type(member).__name__}")
        parts.append(part)
    programs = [part.program for part in parts if isinstance(part.program, LinearProgram)]
    first = parts[0].encoder
    assert isinstance(first, Quantizer)
    program = LinearProgram(
        np.concatenate([p.weights for p in programs]), np.concatenate([p.bias for p in programs]), first.limits
    )
    return program, first, tuple(part.head for part in parts), tuple(p.outputs for p in programs)


def joined(program: LinearProgram, encoder: Quantizer, head: Head) -> Compiled:
    """Return the compiled model of several members."""
    return Compiled(program, encoder, PlainReader(), head)
