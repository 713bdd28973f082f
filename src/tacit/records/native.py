"""Digests of keys in C++, but those of texts beyond ASCII."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from tacit.records.digests import Digests, Texts
from tacit.records.keys import DIGEST_BYTES
from tacit.ring import _native
from tacit.ring.kernels.native import memory

__all__ = ["Native"]

KEYLESS, FOREIGN = 1, 2
"""What the kernel says of rows that have no key, and of those that Python has to bring to their form."""


class Native(Digests):
    """See `Digests`; `instructions` is whether the processor's own for SHA-256 are used, if it has them."""

    def __init__(self, *, instructions: bool = True) -> None:
        self._instructions = instructions

    @override
    def make(self, columns: Sequence[Texts]) -> tuple[Tensor, Tensor]:
        rows = len(columns[0].offsets) - 1
        out, state = torch.empty(rows, DIGEST_BYTES, dtype=torch.uint8), torch.empty(rows, dtype=torch.uint8)
        texts = [(memory(c.data, torch.uint8), memory(c.offsets, torch.int32), c.raw) for c in columns]
        places = memory(out, torch.uint8), memory(state, torch.uint8)
        _native.key_digests(texts, *places, self._instructions, torch.get_num_threads())
        found = state.numpy()  # whose loops start no threads
        keyless = torch.from_numpy(found == KEYLESS)
        self._fill(columns, np.flatnonzero(found == FOREIGN).tolist(), out, keyless)
        return out, keyless
