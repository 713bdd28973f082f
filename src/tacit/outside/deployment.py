"""What a client needs to know of the servers: their addresses for clients and their certificates, nothing secret.

`tacit keygen --public FILE` writes it as one file for all clients::

    {"format": "tacit-public-1", "frac_bits": 16,
     "servers": {"server0": {"address": "10.0.0.1:9100", "certificate": "-----BEGIN CERTIFICATE-----…"}, …}}

A client trusts exactly these certificates. Whoever gives it the file decides whom it trusts, so the file should come
over a channel that nobody can tamper with; `fingerprints` are there to be compared.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tacit import private_files
from tacit.errors import ConfigError
from tacit.net.certificates import Identity, Terms, fingerprint, read_certificate
from tacit.products import Serving
from tacit.session.addresses import Address, is_loopback, read_address
from tacit.session.config import FRAC_BITS, Config

__all__ = ["Deployment", "Endpoint", "client_identity", "server_terms"]

FORMAT = "tacit-public-1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server as clients see it; `certificate` in PEM, None where the config has asked for no encryption."""

    name: str
    address: Address
    certificate: str | None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of the certificate."""
        if self.certificate is None:
            return "none (plaintext)"
        return x509.load_pem_x509_certificate(self.certificate.encode()).fingerprint(hashes.SHA256()).hex(":")

    def terms(self, identity: Path | None) -> Terms | None:
        """What TLS with this server takes, with the client's own certificate if it has one."""
        if self.certificate is None:
            return None
        return Terms(False, identity, (ssl.PEM_cert_to_DER_cert(self.certificate),))

    def context(self, identity: Path | None) -> ssl.SSLContext | None:
        """The same for `asyncio`."""
        terms = self.terms(identity)
        return None if terms is None else terms.standard()

    def is_pinned(self, certificate: bytes | None) -> bool:
        """Whether this is exactly the certificate that the server must present (in DER)."""
        return self.certificate is None or certificate == ssl.PEM_cert_to_DER_cert(self.certificate)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The servers in their order, and the fractional bits of their fixed-point numbers."""

    servers: tuple[Endpoint, ...]
    frac_bits: int

    @property
    def names(self) -> tuple[str, ...]:
        """The servers' names."""
        return tuple(server.name for server in self.servers)

    @staticmethod
    def load(source: str | Path | Config | Deployment) -> Deployment:
        """Take a public file, or a config with the certificates that it names."""
        if isinstance(source, Deployment):
            return source
        if isinstance(source, Config):
            return Deployment.of(source)
        path = Path(source)
        if not path.exists() and re.fullmatch(r"[^/]*:[0-9]+", str(source)):
            return Deployment.at(str(source), None)
        literal = _literal(path)
        if literal is None:
            return Deployment.of(Config.load(path))
        try:
            return _parse(literal)
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"{path} is not a public file as `tacit keygen --public` writes it: {error}") from None

    @staticmethod
    def at(text: str, certificate: str | Path | None) -> Deployment:
        """One server by its address and the file of its certificate."""
        address, pem = read_address("the address of a server", text), None
        if certificate is not None:
            pem = read_certificate(Path(certificate)).public_bytes(Encoding.PEM).decode()
        elif not is_loopback(address.host):
            raise ConfigError(
                f"who answers at {address} is known by its certificate only: write tacit.Client({text!r}, "
                'certificate="server.crt"), or give the public file that `tacit keygen --public` wrote'
            )
        return Deployment((Endpoint("the server", address, pem),), 16)

    @staticmethod
    def of(config: Config) -> Deployment:
        """Gather addresses and certificates of a config."""
        clients = config.addresses if config.awaits_clients else config.of(Serving).clients
        if not clients:
            raise ConfigError(
                'the config names no addresses for clients: add "clients": {'
                + ", ".join(f'"{party}": "host:port"' for party in config.parties)
                + '} under "tacit"'
            )
        servers = []
        parties = [party for party in config.parties if party in config.settled]
        for party, address in zip(parties, clients, strict=True):
            pem = None
            if not config.plaintext:
                certificate = read_certificate(Path(config.tls) / f"{party}.crt")
                pem = certificate.public_bytes(Encoding.PEM).decode()
            servers.append(Endpoint(party, address, pem))
        return Deployment(tuple(servers), config.frac_bits)

    def save(self, path: str | Path) -> None:
        """Write the public file."""
        servers = {s.name: {"address": str(s.address), "certificate": s.certificate} for s in self.servers}
        literal = {"format": FORMAT, "frac_bits": self.frac_bits, "servers": servers}
        try:
            private_files.write(Path(path), f"{json.dumps(literal, indent=1)}\n".encode(), private_files.PUBLIC)
        except OSError as error:
            raise ConfigError(f"the public file {path} cannot be written: {error.strerror or error}") from None


def _literal(path: Path) -> dict[str, Any] | None:
    """The content of a public file, or None for anything else, which will be read as a config."""
    try:
        literal = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return literal if isinstance(literal, dict) and literal.get("format") == FORMAT else None


def _parse(literal: dict[str, Any]) -> Deployment:
    frac_bits = literal["frac_bits"]
    if type(frac_bits) is not int or frac_bits not in FRAC_BITS:
        raise ConfigError(f"frac_bits must be from {FRAC_BITS.start} to {FRAC_BITS.stop - 1}")
    servers = []
    for name, entry in literal["servers"].items():
        address, pem = read_address(name, entry["address"]), entry["certificate"]
        if pem is None and not is_loopback(address.host):
            raise ConfigError(f"{name} has no certificate")
        if pem is not None:
            x509.load_pem_x509_certificate(pem.encode())
        servers.append(Endpoint(name, address, pem))
    if not servers:
        raise ConfigError("there must be a server")
    return Deployment(tuple(servers), frac_bits)


def client_identity(path: str | Path) -> Path:
    """Check that a client's key and certificate are there; `path` is that of either, or without suffix."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".key", ".crt") else path
    Identity.load(stem.parent, stem.name, ())
    return stem


def server_terms(config: Config, role: str) -> tuple[Terms | None, dict[bytes, str]]:
    """What TLS at a role's door takes, and the names of the clients it works for by certificate (empty: anybody)."""
    providers = config.of(Serving).providers
    if config.plaintext:
        if providers is not None:
            raise ConfigError("clients without TLS cannot be told apart: remove 'tacit.providers', or use certificates")
        return None, {}
    identity = Identity.load(Path(config.tls), role, (), config.revoked)
    own = identity.folder / role
    if providers is None:
        return Terms(True, own, ()), {}
    known = {}
    for path in sorted(Path(providers).glob("*.crt")):
        if fingerprint(path) in config.revoked:
            continue
        known[read_certificate(path).public_bytes(Encoding.DER)] = path.stem
    if not known:
        raise ConfigError(f"there are no certificates of clients in {providers}, so nobody could come")
    return Terms(True, own, tuple(known)), known
