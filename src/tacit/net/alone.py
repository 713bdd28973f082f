"""A role that plays its part of a program by itself: the crypto-producer, ahead of the run that its work is for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from typing_extensions import override

from tacit.errors import ConfigError
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel, Transport

__all__ = ["Alone"]


class Alone(Transport):
    """No links. The role hears nothing and is asked for nothing: the roles of the run to come are the others alone."""

    def __init__(self, role: str, others: Sequence[str], transcript: Transcript) -> None:
        self.roles = tuple(others)
        self.hosted = (role,)
        self.transcript = transcript

    @override
    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        if sends or receives:
            raise self._nobody()

    @override
    def send(self, parcel: Parcel) -> None:
        raise self._nobody()

    @override
    def receive(self, parcel: Parcel) -> None:
        raise self._nobody()

    @override
    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        raise self._nobody()

    @override
    def announce(self, source: str, message: bytes | None) -> bytes:
        if message is None:
            raise ConfigError(
                f"{source} tells the others something after {self.transcript.operator}, which nobody knows while "
                f"{self.hosted[0]} prepares: a program that is prepared states shapes, tacit.share(…, shape=…), and "
                "reads no files of owners by tacit.read_csv or tacit.load"
            )
        return message

    @override
    def pair_key(self, one: str, other: str) -> bytes:
        raise self._nobody()

    def _nobody(self) -> ConfigError:
        return ConfigError(f"{self.hosted[0]} is alone while it prepares, in {self.transcript.operator}")

    @override
    def compare_openings(self, parties: Sequence[str]) -> None:
        """Nothing is opened."""

    @override
    def look(self) -> None:
        """Nobody is there."""

    @override
    def abort(self, reason: str) -> None:
        """Nobody has to be told."""

    @override
    def close(self) -> None:
        """Nobody has to agree."""

    @property
    @override
    def wire_bytes(self) -> dict[tuple[str, str], int]:
        return {}
