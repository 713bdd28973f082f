"""Parties that make, ahead of a run, what no input of it changes: they go through the program without any data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from typing_extensions import override

from tacit.errors import ConfigError
from tacit.net.transport import Parcel, Transport

__all__ = ["Rehearsal"]


class Rehearsal(Transport):
    """Links over which nothing of the program travels, between parties that have real ones beside them.

    As far as the program sees, no role lives here, so nobody's data does; what would be sent is not, and what would
    arrive is zeros. What is made for the run to come travels over `links`.
    """

    def __init__(self, links: Transport) -> None:
        self._links = links
        self.roles = links.roles
        self.hosted = ()
        self.transcript = links.transcript

    @property
    @override
    def links(self) -> Transport:
        return self._links

    @override
    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        for parcel in receives:
            self.receive(parcel)

    @override
    def send(self, parcel: Parcel) -> None:
        """Nobody hears it."""

    @override
    def receive(self, parcel: Parcel) -> None:
        parcel.tensor.zero_()

    @override
    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.uint8)

    @override
    def announce(self, source: str, message: bytes | None) -> bytes:
        raise ConfigError(
            f"{source} tells the others something after {self.transcript.operator}, which nobody knows while a run is "
            "prepared: a program that is prepared states shapes, tacit.share(…, shape=…), and reads no files of "
            "owners by tacit.read_csv or tacit.load"
        )

    @override
    def pair_key(self, one: str, other: str) -> bytes:
        return self._links.pair_key(one, other)

    @override
    def compare_openings(self, parties: Sequence[str]) -> None:
        self._links.compare_openings(parties)

    @override
    def look(self) -> None:
        self._links.look()

    @override
    def abort(self, reason: str) -> None:
        self._links.abort(reason)

    @override
    def close(self) -> None:
        self._links.close()

    @property
    @override
    def wire_bytes(self) -> dict[tuple[str, str], int]:
        return self._links.wire_bytes
