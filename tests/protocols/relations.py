"""What tells that a mask was used twice: relations between words that roles sent, or that were opened.

A uniform word is near a small multiple of another one by chance once in 2^39 pairs of them; words under one mask are,
whatever the secrets are, if those are small. So secrets here are small. Of a million words some are near by chance,
so more of them have to be for a finding, or two that follow each other, of others that do: by chance these are once in
2^78 pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel
from tacit.protocols.additive.opening import Masking, Opening
from tacit.protocols.additive.scheme import PRODUCER

MULTIPLES = (1, -1, 2, -2, 3, -3, *(sign << bits for bits in (8, 12, 16, 20, 24, 32) for sign in (1, -1)))
NEAR_BITS = 24
"""How near: secrets of these tests have 16 fractional bits, and are below 2^8."""

HITS = 4
"""How many words have to be so at least: what is masked has some sixteen elements."""

CHANCE = 1e-9
"""How probable as many words as are found may be where all are uniform, for one multiple."""


class Seen:
    """The words of a run: what was opened, what each party sent for that, and what each role sent to each other."""

    def __init__(self) -> None:
        self.words: dict[str, list[np.ndarray]] = {}

    def add(self, what: str, tensor: Tensor) -> None:
        """Write down a message of whole words."""
        flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
        if flat.numel() >= 16 and flat.numel() % 8 == 0:
            self.words.setdefault(what, []).append(np.from_dlpack(flat).copy().view(np.uint64))

    @property
    def count(self) -> int:
        """How many words there are."""
        return sum(w.size for rows in self.words.values() for w in rows)

    def suspicious(self) -> list[str]:
        """What should not be: words that are equal, or nearly, or nearly small multiples of others, or small."""
        found = []
        for what, rows in self.words.items():
            words = np.concatenate(rows)
            for multiple, (hits, runs) in related(words).items():
                if hits >= by_chance(words.size) or runs:
                    found.append(f"{what}: {hits} of {words.size} words are near {multiple} times another one")
            small = int((np.abs(words.view(np.int64)) < 1 << 36).sum())
            if small >= HITS:
                found.append(f"{what}: {small} of {words.size} words are small")
        return found


def by_chance(words: int) -> int:
    """How many of so many words have to be near others to be more than chance; a pair counts twice for 1 and -1."""
    pairs = words**2 * 2.0 ** (NEAR_BITS + 1 - 64) / 2
    return max(HITS, 2 * int(scipy.stats.poisson.isf(CHANCE, pairs)) + 2)


def related(words: np.ndarray) -> dict[int, tuple[int, int]]:
    """For each small multiple, how many words times that are near another word, and how many next to each other are."""
    order = np.argsort(words, kind="stable")
    ascending, n, hits = words[order], words.size, {}
    for multiple in MULTIPLES:
        target = words * np.uint64(multiple % (1 << 64))
        place = np.searchsorted(ascending, target)
        other = np.full(n, -1)
        for beside in (-1, 0, 1):
            at = (place + beside) % n
            close = np.abs((ascending[at] - target).view(np.int64)) < 1 << NEAR_BITS
            other = np.where(close & (order[at] != np.arange(n)), order[at], other)
        near = other >= 0
        follow = near[1:] & near[:-1] & (np.abs(np.diff(other)) == 1)
        hits[multiple] = int(near.sum()), int(follow.sum())
    return hits


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Write down what is sent among parties, and what they open, while the block runs."""
    seen = Seen()
    opened, sent = Masking._opened, InProcess.send

    def _opened(self: Masking, openings: Sequence[Opening]) -> list[Tensor | None]:
        values = opened(self, openings)
        for opening, value in zip(openings, values, strict=True):
            if value is not None and value.dtype == torch.int64:
                seen.add("opened", value)
                for party, tensor in enumerate(opening.tensors):
                    seen.add(f"of party {party}, to open", tensor)
        return values

    def send(self: InProcess, parcel: Parcel) -> None:
        roles = self.roles
        others = [r for r in roles if r not in (parcel.source, PRODUCER)]
        if parcel.source == PRODUCER or parcel.destination == others[0]:  # what goes to several is one message
            seen.add(f"sent by {parcel.source}", parcel.tensor)
        sent(self, parcel)

    with monkeypatch.context() as patch:
        patch.setattr(Masking, "_opened", _opened)
        patch.setattr(InProcess, "send", send)
        yield seen
