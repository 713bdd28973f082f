"""What the protocols ask of a network: move tensors between roles, and small public messages from one role to all.

Two implementations: `InProcess` (all roles live in this process) and `Tcp` (one role here, links to the others).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from tacit.net.transcript import Transcript

__all__ = ["Parcel", "Transport"]


class Parcel(NamedTuple):
    """A tensor on its way. At the sender it is read, at the receiver it is filled in place.

    The tensor is contiguous, on the CPU, of any integer dtype, and may have zero elements. Both ends know its size
    before it travels, because every role runs the same program; a frame of another size is a divergence.
    """

    source: str
    destination: str
    tensor: torch.Tensor


class Transport(ABC):
    """The links from the roles hosted in this process to all the others."""

    roles: tuple[str, ...]
    """All roles in the order of the config: computing parties first, their helpers last."""

    hosted: tuple[str, ...]
    """The roles that live in this process: one of them in a distributed run, all of them embedded."""

    transcript: Transcript
    """Shared with the session, which records operators in it; its digest goes into every frame."""

    @property
    def links(self) -> Transport:
        """By which travels what no input changes: this one, unless a run is prepared."""
        return self

    @abstractmethod
    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        """Send and receive at the same time; return when all sent tensors may be reused and all received ones are full.

        Never deadlocks, whatever the sizes: two roles may send each other gigabytes at once.
        """

    @abstractmethod
    def send(self, parcel: Parcel) -> None:
        """Hand over one tensor and return early; the transport keeps it, and blocks only for back-pressure."""

    @abstractmethod
    def receive(self, parcel: Parcel) -> None:
        """Fill one tensor."""

    @abstractmethod
    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        """So many bytes that `source` has handed over by `send`, in memory that is the caller's now."""

    @abstractmethod
    def announce(self, source: str, message: bytes | None) -> bytes:
        """Give every role the same small public message; `message` is None at all roles but `source`."""

    def promise(self, source: str, message: bytes | None) -> Callable[[], bytes]:
        """`announce`, but that roles other than the source go on at once; what they call waits for the message."""
        said = self.announce(source, message)
        return lambda: said

    @abstractmethod
    def pair_key(self, one: str, other: str) -> bytes:
        """32 secret bytes that the two roles, and nobody else, agreed on for this run; one of them is hosted here."""

    @abstractmethod
    def compare_openings(self, parties: Sequence[str]) -> None:
        """Let every frame between these parties carry, beside the transcript's digest, that of what they opened.

        The hash of what was opened is keyed with a key of the pair, so that nobody else can find another opening of the
        same digest; and where the two differ, the frame is refused as one of another operator is.
        """

    @abstractmethod
    def look(self) -> None:
        """Raise if a peer has gone or has said why it stops: for whoever waits for something else."""

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Tell every peer that this role stops because of `reason`, then drop the connections. Never raises."""

    @abstractmethod
    def close(self) -> None:
        """End the run in agreement with all peers: their transcripts must equal ours."""

    @property
    @abstractmethod
    def wire_bytes(self) -> dict[tuple[str, str], int]:
        """Bytes sent so far for each (source, destination) seen from here, framing included."""
