"""What tells that a mask was used twice: relations between words that roles sent, or that were opened.

A uniform word is near a small multiple of another one by chance once in 2^40 or so; words under one mask are, whatever
the secrets are, if those are small. So secrets here are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
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
"""How many words have to be so: what is masked has some sixteen elements, and chance has one at most."""


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
            for multiple, hits in related(words).items():
                if hits >= HITS:
                    found.append(f"{what}: {hits} of {words.size} words are near {multiple} times another one")
            small = int((np.abs(words.view(np.int64)) < 1 << 36).sum())
            if small >= HITS:
                found.append(f"{what}: {small} of {words.size} words are small")
        return found


def related(words: np.ndarray) -> dict[int, int]:
    """For each small multiple, how many words times that are near another word."""
    order = np.argsort(words, kind="stable")
    ascending, n, hits = words[order], words.size, {}
    for multiple in MULTIPLES:
        target = words * np.uint64(multiple % (1 << 64))
        place = np.searchsorted(ascending, target)
        near = np.zeros(n, dtype=bool)
        for beside in (-1, 0, 1):
            at = (place + beside) % n
            close = np.abs((ascending[at] - target).view(np.int64)) < 1 << NEAR_BITS
            near |= close & (order[at] != np.arange(n))
        hits[multiple] = int(near.sum())
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
