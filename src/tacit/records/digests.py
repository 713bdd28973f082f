"""Digests of the keys of many rows at once, natively where this process can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tacit.records.keys import DIGEST_BYTES, digest_of_parts, normal_text
from tacit.ring.kernels import by_device

__all__ = ["Digests", "Texts", "at_hand"]


class Texts(NamedTuple):
    """One column of keys as Arrow has it: text i is data[offsets[i] : offsets[i + 1]], in UTF-8; empty for none."""

    data: Tensor
    """uint8."""
    offsets: Tensor
    """int32 [rows + 1]."""
    raw: bool
    """Whether texts are still to be brought to the form in which keys are compared."""

    def of(self, row: int) -> str:
        """The text of a row, in that form."""
        first, last = self.offsets[row : row + 2].tolist()
        text = str(bytes(self.data[first:last].numpy()), "utf-8")
        return normal_text(text) if self.raw else text


class Digests:
    """The digests themselves, in Python."""

    def make(self, columns: Sequence[Texts]) -> tuple[Tensor, Tensor]:
        """Of each row, uint8 [rows, 16], and which rows have no key, bool [rows]; there the digest is anything."""
        rows = len(columns[0].offsets) - 1
        out, keyless = torch.zeros(rows, DIGEST_BYTES, dtype=torch.uint8), torch.zeros(rows, dtype=torch.bool)
        self._fill(columns, range(rows), out, keyless)
        return out, keyless

    def _fill(self, columns: Sequence[Texts], rows: Sequence[int], out: Tensor, keyless: Tensor) -> None:
        for row in rows:
            parts = [column.of(row) for column in columns]
            keyless[row] = not all(parts)
            out[row] = torch.frombuffer(bytearray(digest_of_parts(parts)), dtype=torch.uint8)


def _native() -> Digests:
    from tacit.records.native import Native

    return Native()


_KERNELS = by_device(Digests(), _native)


def at_hand() -> Digests:
    """What makes digests in this process."""
    return _KERNELS.at("cpu")
