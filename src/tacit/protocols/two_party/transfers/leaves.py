"""Leaves of trees, of which one party knows all and the other all but one, whose place is its secret.

Every node of a tree gives its two children by a hash. At each level the sender adds up the left children
and the right children; from a transfer for each level the receiver learns the sum of the side away from its path, which
gives the one child there that it could not compute. [Roy22] section 5, after Goldreich, Goldwasser and Micali.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256

from tacit.protocols.two_party.transfers.kernels import Form

__all__ = ["SUMS_BYTES", "all_but_one", "choices", "grown"]

NODE = 16
SUMS_BYTES = 128 * 2 * NODE
"""What the sender adds to its answer: both sums of each level, each under the secret of its side."""


def grown(form: Form, secrets: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Draw all trees: their leaves, and the sums under the secrets of the transfers, one for each level."""
    leaves, sums = [], []
    for tree in range(form.trees):
        nodes = [os.urandom(NODE)]
        for level in range(form.levels):
            nodes = [child for node in nodes for child in _children(node)]
            for side, secret in enumerate(secrets[form.levels * tree + level]):
                sums.append(_sum([*nodes[side::2], _pad(secret)]))
        leaves += nodes
    return b"".join(leaves), b"".join(sums)


def choices(form: Form, delta: bytes) -> list[int]:
    """The sides to choose, one for each level, by whoever is not to know leaf Δ_i of tree i: those away from it."""
    return [1 - bit for tree in range(form.trees) for bit in _path(form, delta, tree)]


def all_but_one(form: Form, delta: bytes, secrets: Sequence[bytes], sums: bytes) -> bytes:
    """All leaves but leaf Δ_i of tree i, from the secrets that `choices` chose; leaf x is in the place of x + Δ_i."""
    out = []
    for tree in range(form.trees):
        nodes: list[bytes | None] = [None]
        place = 0  # of the one node that is not known
        for level, bit in enumerate(_path(form, delta, tree)):
            away, transfer = 1 - bit, form.levels * tree + level
            children: list[bytes | None] = [
                c for node in nodes for c in ((None, None) if node is None else _children(node))
            ]
            at = NODE * (2 * transfer + away)
            known = [child for child in children[away::2] if child is not None]
            children[2 * place + away] = _sum([*known, sums[at : at + NODE], _pad(secrets[transfer])])
            nodes, place = children, 2 * place + bit
        out += [nodes[x ^ place] or bytes(NODE) for x in range(form.leaves)]
    return b"".join(out)


def _path(form: Form, delta: bytes, tree: int) -> list[int]:
    """The bits of Δ_i, the highest first."""
    whole = int.from_bytes(delta, "little") >> form.levels * tree
    return [whole >> k & 1 for k in reversed(range(form.levels))]


def _children(node: bytes) -> tuple[bytes, bytes]:
    both = sha256(b"tacit tree" + node).digest()
    return both[:NODE], both[NODE:]


def _pad(secret: bytes) -> bytes:
    return sha256(b"tacit tree sum" + secret).digest()[:NODE]


def _sum(nodes: Sequence[bytes]) -> bytes:
    total = 0
    for node in nodes:
        total ^= int.from_bytes(node, "little")
    return total.to_bytes(NODE, "little")
