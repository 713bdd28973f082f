"""All roles in one process: a parcel travels through a queue, for notebooks, tests and the embedded mode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence

import torch

from tacit.errors import DivergenceError
from tacit.net.framing import HEADER_BYTES
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel, Transport
from tacit.ring.memory import copy

__all__ = ["InProcess"]

Pair = tuple[str, str]


class InProcess(Transport):
    """Every role lives here, so nothing is hidden from whoever owns the process: for trying out, not for privacy."""

    def __init__(self, roles: Sequence[str], transcript: Transcript | None = None) -> None:
        self.roles = tuple(roles)
        self.hosted = self.roles
        self.transcript = transcript or Transcript()
        self._queues: dict[Pair, deque[torch.Tensor]] = {
            (source, destination): deque() for source in roles for destination in roles if source != destination
        }
        self._wire_bytes = dict.fromkeys(self._queues, 0)
        self._keys: dict[frozenset[str], bytes] = {}

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> None:
        """Queue what is sent, fill what is received, and copy what nobody has received yet: its owner may reuse it."""
        for parcel in sends:
            self.send(parcel)
        for parcel in receives:
            self.receive(parcel)
        for source, destination, tensor in sends:
            queue = self._queues[source, destination]
            for at, waiting in enumerate(queue):
                if waiting is tensor:
                    queue[at] = tensor.clone()

    def send(self, parcel: Parcel) -> None:
        """Queue the tensor itself; there is no back-pressure, because nobody runs ahead inside one thread."""
        source, destination, tensor = parcel
        pair = source, destination
        self._queues[pair].append(tensor)
        self._wire_bytes[pair] += HEADER_BYTES + tensor.nbytes

    def receive(self, parcel: Parcel) -> None:
        """Fill the tensor from the oldest parcel of the same pair."""
        source, destination, target = parcel
        copy(target, self._oldest(source, destination, target.nbytes))

    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        """The tensor itself that was sent: nobody else has it any more."""
        return self._oldest(source, destination, size).view(-1).view(torch.uint8)

    def _oldest(self, source: str, destination: str, size: int) -> torch.Tensor:
        queue = self._queues[source, destination]
        if not queue:
            raise DivergenceError(
                f"{destination} waits for {source} in {self.transcript.operator}, but {source} has sent nothing"
            )
        tensor = queue.popleft()
        if tensor.nbytes != size:
            raise DivergenceError(
                f"{destination} expects {size} bytes from {source} in {self.transcript.operator}, "
                f"but {source} has sent {tensor.nbytes}"
            )
        return tensor

    def announce(self, source: str, message: bytes | None) -> bytes:
        """Return the message: all the roles that are to know it are here."""
        if message is None:
            raise ValueError(f"every role is hosted here, so the message that {source} announces must be given")
        for role in self.roles:
            if role != source:
                self._wire_bytes[source, role] += HEADER_BYTES + len(message)
        return message

    def pair_key(self, one: str, other: str) -> bytes:
        """Draw the key of a pair from the operating system when it is first asked for."""
        if (one, other) not in self._queues:
            raise ValueError(f"{one!r} and {other!r} are not two different roles of {', '.join(self.roles)}")
        pair = frozenset((one, other))
        key = self._keys.get(pair)
        if key is None:
            key = self._keys[pair] = os.urandom(32)
        return key

    def compare_openings(self, parties: Sequence[str]) -> None:
        """All that is opened is the same object here."""

    def look(self) -> None:
        """All of them are here."""

    def abort(self, reason: str) -> None:
        """Forget what is under way."""
        for queue in self._queues.values():
            queue.clear()

    def close(self) -> None:
        """Check that everything sent was received."""
        for (source, destination), queue in self._queues.items():
            if queue:
                raise DivergenceError(f"{destination} has not received {len(queue)} parcels that {source} sent to it")

    @property
    def wire_bytes(self) -> dict[Pair, int]:
        """Bytes of each pair, counted as `Tcp` would count them."""
        return dict(self._wire_bytes)
