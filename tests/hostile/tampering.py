"""Roles of which one is hostile: what it sends has the size that it must have, and holds what it likes."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel

__all__ = ["Tampering", "tampered"]

WORDS = (0, 1, -1, 2, 1 << 31, -(1 << 31), 1 << 62, -(1 << 62), (1 << 63) - 1, -(1 << 63))


def _zeros(draws: random.Random, data: Tensor) -> None:
    data.zero_()


def _ones(draws: random.Random, data: Tensor) -> None:
    data.fill_(255)


def _noise(draws: random.Random, data: Tensor) -> None:
    data.copy_(torch.frombuffer(bytearray(draws.randbytes(len(data))), dtype=torch.uint8))


def _bit(draws: random.Random, data: Tensor) -> None:
    data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)


def _word(draws: random.Random, data: Tensor) -> None:
    word = draws.choice(WORDS).to_bytes(8, "little", signed=True)
    at = draws.randrange(len(data)) // 8 * 8
    part = data[at : at + 8]
    part.copy_(torch.frombuffer(bytearray(word[: len(part)]), dtype=torch.uint8))


def _same(draws: random.Random, data: Tensor) -> None:
    """The first word in all places: places that are no order, keys that are alike."""
    size = draws.choice((1, 4, 8, 16))
    first = data[:size].clone()
    for at in range(0, len(data) - size + 1, size):
        data[at : at + size] = first


def _turned(draws: random.Random, data: Tensor) -> None:
    data.copy_(data.flip(0))


KINDS: tuple[Callable[[random.Random, Tensor], None], ...] = (_zeros, _ones, _noise, _bit, _word, _same, _turned)


def tampered(draws: random.Random, tensor: Tensor) -> Tensor:
    """A tensor of the same size that holds something else."""
    out = tensor.detach().clone(memory_format=torch.contiguous_format)
    draws.choice(KINDS)(draws, out.view(-1).view(torch.uint8))
    return out


class Tampering(InProcess):
    """All roles in one process. Of the parcels that roles send some arrive as something else, of the same size."""

    def __init__(self, roles: tuple[str, ...], draws: random.Random, rate: float) -> None:
        super().__init__(roles)
        self._draws, self._rate = draws, rate
        self.spoilt = 0
        """How many so far."""

    @override
    def send(self, parcel: Parcel) -> None:
        if parcel.tensor.nbytes and self._draws.random() < self._rate:
            self.spoilt += 1
            parcel = parcel._replace(tensor=tampered(self._draws, parcel.tensor))
        super().send(parcel)
