"""Who the computing parties are: where Flower's server reaches each role, and the keys that clients seal shares with.

One public file for all, made by `tacit aggregate --public`; whoever gives it to a client decides whom the client
trusts, so it should come over a channel that nobody can tamper with::

    {"server": "federation",
     "addresses": {"aggregator-1": "10.0.0.1:9300", "aggregator-2": "10.0.0.2:9300",
                   "crypto-producer": "10.0.0.3:9300"},
     "keys": {"aggregator-1": "7f…", "aggregator-2": "09…"}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tacit import private_files
from tacit.federated.errors import RosterError
from tacit.session.roles import DEFAULT, scheme_named

__all__ = ["SERVER", "Aggregators", "box_key", "make_box_key"]

SERVER = "federation"
"""The name under which Flower's server has its key and certificate."""


@dataclass(frozen=True)
class Aggregators:
    """The computing parties in their order, and the roles that help them. It holds nothing secret."""

    keys: Mapping[str, bytes]
    """Each party's X25519 public key."""
    addresses: Mapping[str, str]
    """Where each role listens for Flower's server."""
    server: str = SERVER

    def __post_init__(self) -> None:
        if len(self.keys) < 2 or not self.keys.keys().isdisjoint(_helping()):
            raise RosterError("aggregation by computing parties needs two of them or more")
        if len(set(self.keys.values())) != len(self.keys) or any(len(key) != 32 for key in self.keys.values()):
            raise RosterError("each computing party needs a key of 32 bytes of its own")
        if set(self.addresses) != set(self.roles):
            raise RosterError(f"addresses are needed for {', '.join(self.roles)}, and for nobody else")

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles: the parties, then those that help them."""
        return (*self.keys, *_helping())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the public file."""
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
            keys = {str(name): bytes.fromhex(key) for name, key in table["keys"].items()}
            return cls(keys, {str(k): str(v) for k, v in table["addresses"].items()}, str(table["server"]))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise RosterError(f"{path}: no aggregators can be read there ({type(error).__name__})") from None

    def save(self, path: str | Path) -> None:
        """Write the public file."""
        keys = {name: key.hex() for name, key in self.keys.items()}
        table = {"server": self.server, "addresses": dict(self.addresses), "keys": keys}
        private_files.write(Path(path), f"{json.dumps(table, indent=1)}\n".encode(), private_files.PUBLIC)


def _helping() -> tuple[str, ...]:
    """The roles beside the parties: rounds are computed by the protocol of a config that names none."""
    return scheme_named(DEFAULT).helping


def make_box_key(folder: Path, party: str) -> bytes:
    """Write a party's private key for boxes, `PARTY.box`, readable by its owner only; return the public key."""
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        file = private_files.create(folder / f"{party}.box")
    except OSError as error:
        raise RosterError(f"{folder / party}.box cannot be written: {error.strerror}") from None
    with file:
        file.write(pem)
    return key.public_key().public_bytes_raw()


def box_key(folder: Path, party: str) -> bytes:
    """Read a party's private key for boxes."""
    path = folder / f"{party}.box"
    try:
        if not private_files.is_private(path):
            raise RosterError(f"{path} can be read by other users of this machine: run `chmod 600 {path}`")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except private_files.NO_KEY as error:
        raise RosterError(f"{path}: no key can be read there ({type(error).__name__})") from None
    if not isinstance(key, X25519PrivateKey):
        raise RosterError(f"{path}: the key is not an X25519 key")
    return key.private_bytes_raw()
