"""What a config and a ledger have to know of the products on top, also where a product's own packages are missing.

A new product adds its settings and the words for its receivers here; sessions know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

from tacit.errors import ConfigError
from tacit.session.addresses import Address, no_duplicates, read_address
from tacit.session.literals import SETTINGS, read_path
from tacit.session.registered import Block, Outsider, register_block, register_outsider

__all__ = ["CLIENTS", "FEDERATION", "Serving"]

CLIENTS = register_outsider(Outsider(word="clients", one="client", who="whoever asks a service", many=True))
"""Whoever asks a prediction service."""

FEDERATION = register_outsider(Outsider(word="federation", one="federation", who="Flower's server"))
"""Flower's server, who is given the aggregates of rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(Block):
    """How the parties work for clients, who submit data and ask for predictions."""

    clients: tuple[Address, ...] = ()
    """Where each party takes data and requests from clients, `{"alice": "host:port", …}` with all parties."""
    listen_clients: Address | None = None
    """Where this role binds the port for clients if not at its address above."""
    providers: str | None = None
    """Folder of the certificates of the clients that this role works for; without one, it works for anybody."""
    data: str = "data"
    """Folder in which this role keeps its shares of the data sets that clients submit."""

    @override
    @classmethod
    def read(cls, given: Mapping[str, Any], parties: Sequence[str], folder: Path) -> Self:
        settings: dict[str, Any] = {"data": read_path("data", given.get("data", "data"), folder)}
        if "listen_clients" in given:
            settings["listen_clients"] = read_address(f"{SETTINGS}.listen_clients", given["listen_clients"])
        if "providers" in given:
            settings["providers"] = read_path("providers", given["providers"], folder)
        if "clients" in given:
            settings["clients"] = _clients(given["clients"], parties)
        return cls(**settings)

    @override
    def listening(self, parties: Sequence[str]) -> Iterator[tuple[str, Address]]:
        yield from zip(parties, self.clients, strict=False)
        if self.listen_clients is not None:
            yield f"{SETTINGS}.listen_clients", self.listen_clients

    @override
    @classmethod
    def trial(cls, parties: Sequence[str], address: Callable[[], str]) -> dict[str, object]:
        return {"clients": {party: address() for party in parties}}


register_block(Serving)


def _clients(literal: object, parties: Sequence[str]) -> tuple[Address, ...]:
    """Read where clients reach each of the parties."""
    if not isinstance(literal, dict) or set(literal) != set(parties):
        names = ", ".join(f'"{party}": "host:port"' for party in parties)
        raise ConfigError(f"'{SETTINGS}.clients' must have an address for each party: {{{names}}}")
    addresses = tuple(read_address(f"{SETTINGS}.clients.{party}", literal[party]) for party in parties)
    no_duplicates([f"{SETTINGS}.clients.{party}" for party in parties], addresses)
    return addresses
