"""What a config and a ledger have to know of the products on top, also where a product's own packages are missing.

A new product adds its settings and the words for its receivers here; sessions know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from typing_extensions import override

from tacit.errors import ConfigError
from tacit.session.addresses import Address, no_duplicates, read_address
from tacit.session.literals import SETTINGS, read_path, show
from tacit.session.registered import GUEST, Block, Outsider, register_block, register_outsider

__all__ = ["CLIENTS", "FEDERATION", "ClientLimits", "Serving"]

CLIENTS = register_outsider(Outsider(word="clients", one=GUEST, who="whoever asks a service", many=True))
"""Whoever asks a prediction service."""

FEDERATION = register_outsider(Outsider(word="federation", one="federation", who="Flower's server"))
"""Flower's server, who is given the aggregates of rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """A client is a certificate or, where anybody may come, a network address (of IPv6, its first 64 bits).

    What comes too fast is made to wait, and what is too much is refused with the seconds after which to ask again.
    """

    connections: int = 512
    """Connections at once, of all clients together, 2 MiB of memory each at most. When they are taken, a newcomer gets
    the place of a connection of the client that has most of them, of an idle one if there is one."""
    requests: float = 500.0
    """Requests a second of one client, and a quarter as many new connections; as many as in four seconds may come at
    once. More: faster programs, or more people, behind one address; fewer: less work for a hostile one."""
    submissions: int = 32
    """Submissions of one client that may be under way at once."""
    daily_bytes: int = 1 << 36
    """Bytes of submissions, at least a mebibyte each, that are taken from one client in a day."""
    slowest: int = 1 << 14
    """Bytes a second; a share that comes more slowly is given up. Less suits slower lines; more lets a client that
    trickles hold on for less time."""
    idle: float = 300.0
    """Seconds that a client may be connected and silent. Longer saves it handshakes."""
    daily_rows: int = 1 << 20
    """Rows that one client may have predicted in a day by a server that [computes with it](serving.md#one-server).
    Fewer: less of the model is told by predictions."""
    computing: float = 600.0
    """Seconds that one request may take there. Longer suits slower lines; shorter: a client that stops halfway holds a
    place for less."""
    reserved: float = 60.0
    """Seconds for which the first submission of a data set keeps others, of other tensors, out, before all servers are
    known to hold it. Longer: time for slower clients; shorter: a client that submits to one server only, and so for
    nothing, keeps a name for less."""

    @staticmethod
    def parse(key: str, literal: object) -> ClientLimits:
        """Check what a config says under a key."""
        if not isinstance(literal, dict):
            raise ConfigError(f"'{key}' must be an object of limits such as {{\"requests\": 100}}")
        names = [each.name for each in fields(ClientLimits)]
        for name, value in literal.items():
            if name not in names:
                raise ConfigError(f"'{key}.{name}' is not a limit: the limits are {', '.join(names)}")
            least, most = _RANGES[name]
            whole = type(getattr(ClientLimits(), name)) is int
            if type(value) not in ((int,) if whole else (int, float)) or not least <= value <= most:
                kind = "whole number" if whole else "number"
                raise ConfigError(f"'{key}.{name}' must be a {kind} from {least:g} to {most:g}, not {show(value)}")
        return ClientLimits(**literal)


_RANGES: dict[str, tuple[float, float]] = {
    "connections": (1, 1 << 16),
    "requests": (0.1, 1e6),
    "submissions": (1, 1 << 16),
    "daily_bytes": (1 << 20, 1 << 50),
    "slowest": (1, 1 << 30),
    "idle": (0.1, 1e6),
    "daily_rows": (1, 1 << 40),
    "computing": (0.1, 1e6),
    "reserved": (0.1, 1e6),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(Block):
    """How the parties work for clients, who submit data and ask for predictions."""

    clients: tuple[Address, ...] = ()
    """Where each party takes data and requests from clients, `{"alice": "host:port", …}` with all parties."""
    listen_clients: Address | None = None
    """Where this role binds the port for clients if not at its address above."""
    providers: str | None = None
    """Folder of the certificates of the clients that this role works for; without one, it works for anybody."""
    client_limits: ClientLimits = field(default_factory=ClientLimits)
    """How much each client may ask of this role, `{"requests": 100, …}`; see [the door](serving.md#the-door)."""
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
        if "client_limits" in given:
            settings["client_limits"] = ClientLimits.parse(f"{SETTINGS}.client_limits", given["client_limits"])
        return cls(**settings)

    @override
    def listening(self, parties: Sequence[str]) -> Iterator[tuple[str, Address]]:
        yield from zip(parties, self.clients, strict=False)
        if self.listen_clients is not None:
            yield f"{SETTINGS}.listen_clients", self.listen_clients

    @override
    @classmethod
    def trial(cls, parties: Sequence[str], address: Callable[[], str]) -> dict[str, object]:
        return {"clients": {party: address() for party in parties}} if len(parties) > 1 else {}


register_block(Serving)


def _clients(literal: object, parties: Sequence[str]) -> tuple[Address, ...]:
    """Read where clients reach each of the parties."""
    if not isinstance(literal, dict) or set(literal) != set(parties):
        names = ", ".join(f'"{party}": "host:port"' for party in parties)
        raise ConfigError(f"'{SETTINGS}.clients' must have an address for each party: {{{names}}}")
    addresses = tuple(read_address(f"{SETTINGS}.clients.{party}", literal[party]) for party in parties)
    no_duplicates([f"{SETTINGS}.clients.{party}" for party in parties], addresses)
    return addresses
