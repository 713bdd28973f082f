"""Who takes part: each client's Ed25519 identity, known to all in advance."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tacit import private_files
from tacit.federated.errors import ForgeryError, RosterError

__all__ = ["Identity", "Roster", "enroll"]


@dataclass(frozen=True)
class Identity:
    """A client's name and signing key. The key stays at the client."""

    name: str
    _key: Ed25519PrivateKey = field(repr=False)
    _portable: bool = field(default=False, repr=False)
    """Whether other processes of a simulation may get it."""

    def __reduce__(self) -> tuple[Callable[[str, bytes], Identity], tuple[str, bytes]]:
        if not self._portable:
            raise TypeError(f"the identity of {self.name} is not pickled: save it, and load the file where it is used")
        return _simulated, (self.name, self._key.private_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """Return a fresh identity, from the operating system's randomness."""
        return cls(name, Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read an identity; its name is that of the file."""
        place = Path(path)
        try:
            if not private_files.is_private(place):
                raise RosterError(f"{place} can be read by other users of this machine: run `chmod 600 {place}`")
            key = load_pem_private_key(place.read_bytes(), password=None)
        except private_files.NO_KEY as error:
            raise RosterError(f"{place}: no identity can be read there ({type(error).__name__})") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise RosterError(f"{place}: the key is not an Ed25519 key")
        return cls(place.stem, key)

    def save(self, folder: str | Path) -> Path:
        """Write `<name>.pem`, readable by its owner only."""
        path = Path(folder) / f"{self.name}.pem"
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with private_files.create(path) as file:
            file.write(pem)
        return path

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a roster holds."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self._key.sign(message)


@dataclass(frozen=True)
class Roster:
    """Everyone who may take part: names and public keys. A client's index is its place among the sorted names."""

    keys: Mapping[str, bytes]

    def __post_init__(self) -> None:
        if len(self.keys) < 2:
            raise RosterError("a roster needs two clients or more: the sum of one is no secret")
        if any(len(key) != 32 for key in self.keys.values()) or len(set(self.keys.values())) != len(self.keys):
            raise RosterError("a roster holds one Ed25519 key of 32 bytes for each client, all different")
        object.__setattr__(self, "keys", dict(sorted(self.keys.items())))

    @classmethod
    def of(cls, identities: Iterable[Identity]) -> Self:
        """Return the roster of these identities."""
        return cls({identity.name: identity.public_key for identity in identities})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a roster, `{"name": "public key in hexadecimal", ...}`."""
        try:
            table = json.loads(Path(path).read_text())
            return cls({str(name): bytes.fromhex(key) for name, key in table.items()})
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RosterError(f"{path}: no roster can be read there ({type(error).__name__})") from None

    def save(self, path: str | Path) -> None:
        """Write the roster. It holds nothing secret."""
        text = json.dumps({name: key.hex() for name, key in self.keys.items()}, indent=1)
        private_files.write(Path(path), f"{text}\n".encode(), private_files.PUBLIC)

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of their indices."""
        return tuple(self.keys)

    def index(self, identity: Identity) -> int:
        """Return an identity's index; the key must be the one that the roster holds."""
        if self.keys.get(identity.name) != identity.public_key:
            raise RosterError(f"the roster does not hold the key of {identity.name}")
        return self.names.index(identity.name)

    def verify(self, index: int, message: bytes, signature: bytes) -> None:
        """Raise `ForgeryError` unless client `index` signed this message."""
        if not 0 <= index < len(self):
            raise ForgeryError(f"the roster has no client {index}")
        try:
            Ed25519PublicKey.from_public_bytes(self.keys[self.names[index]]).verify(signature, message)
        except InvalidSignature:
            raise ForgeryError(f"a key in the name of {self.names[index]} is forged, or of another round") from None


def _simulated(name: str, key: bytes) -> Identity:
    return Identity(name, Ed25519PrivateKey.from_private_bytes(key), True)


def enroll(names: Iterable[str], folder: str | Path | None = None) -> tuple[Roster, dict[str, Identity]]:
    """Make identities for all names in one place: for tests, notebooks and simulations, whose processes share them.

    Processes that each import the app, as those of `flwr run` do, share them by a folder: the first one makes them
    there, all others read them.
    """
    names = list(names)
    if len(set(names)) < len(names):
        raise RosterError("each client has a name of its own, and one of these comes twice")
    if folder is None:
        identities = {name: Identity(name, Ed25519PrivateKey.generate(), True) for name in names}
        return Roster.of(identities.values()), identities
    folder = Path(folder)
    if not folder.exists():
        _keep(names, folder)
    roster = Roster.load(folder / "roster.json")
    if set(roster.names) != set(names):
        raise RosterError(f"{folder} holds the identities of others: name a new folder, or remove it")
    loaded = [Identity.load(folder / f"{name}.pem") for name in names]
    return roster, {identity.name: replace(identity, _portable=True) for identity in loaded}


def _keep(names: list[str], folder: Path) -> None:
    """Make a folder with identities and their roster, all at once; of several processes the first one's is kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        identities = [Identity.generate(name) for name in names]
        for identity in identities:
            identity.save(made)
        Roster.of(identities).save(made / "roster.json")
        with contextlib.suppress(OSError):  # another process was faster
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
