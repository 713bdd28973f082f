"""All roles of a protocol in one process, at the level of shares, with a record of what each of them receives."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tacit.net.in_process import InProcess
from tacit.net.transport import Parcel
from tacit.protocols.number import Number
from tacit.protocols.schemes import protocol_of
from tacit.protocols.values import Value
from tacit.ring.fixed_point import decode, encode
from tacit.session.config import Config
from tacit.session.session import Session


class Recorder(InProcess):
    """A transport that writes down what each role receives, and from whom."""

    def __init__(self, roles: Sequence[str]) -> None:
        super().__init__(roles)
        self.received: dict[tuple[str, str], list[torch.Tensor]] = {}

    def receive(self, parcel: Parcel) -> None:
        super().receive(parcel)
        self._write_down(parcel)

    def take(self, source: str, destination: str, size: int) -> torch.Tensor:
        tensor = super().take(source, destination, size)
        self._write_down(Parcel(source, destination, tensor))
        return tensor

    def _write_down(self, parcel: Parcel) -> None:
        data = parcel.tensor.detach().clone().contiguous().view(-1).view(torch.uint8)
        self.received.setdefault((parcel.source, parcel.destination), []).append(data)


class World:
    """All roles of a protocol in one process, with short ways in and out."""

    def __init__(self, parties: int, scheme: str = "additive") -> None:
        self.scheme = scheme
        self.config = Config.embedded([f"party{i}" for i in range(parties)], protocol=scheme)
        self.transport = Recorder(self.config.roles)
        self.session = Session(self.transport, self.config)
        self.protocol = protocol_of(self.session)
        self.parties = self.config.parties

    def share(self, x: torch.Tensor, frac_bits: int = 16, owner: int = 1, *, known: bool = False) -> Number:
        """Share real numbers, or with `frac_bits` 0 ring elements, which nobody knows unless they are `known`."""
        out = self.protocol.share(encode(x, frac_bits), self.parties[owner], x.shape, frac_bits)
        return out if known else self.protocol.adopt(self.protocol.refresh(out), x.shape, frac_bits)

    def ring(self, x: Value) -> torch.Tensor:
        """The ring elements of a secret."""
        value = self.protocol.reveal(x, [self.parties[0]])
        assert value is not None
        return value

    def value(self, x: Number) -> torch.Tensor:
        """The real numbers of a secret."""
        return decode(self.ring(x), x.frac_bits, torch.float64)
