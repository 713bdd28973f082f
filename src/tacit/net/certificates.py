"""The certificates by which roles know each other: one self-signed certificate a role, and no authority above them.

A folder holds `ROLE.key`, the private key of its owner (readable by the owner alone), and `ROLE.crt` for every role.
A peer must present exactly the certificate in its file: it is *pinned*, so names in it prove nothing more. It must be
in date, and not among those that the config calls revoked. A private key may be encrypted with a passphrase, which
comes from the variable TACIT_KEY_PASSPHRASE, or from a file descriptor whose number TACIT_KEY_PASSPHRASE_FD holds.
"""

from __future__ import annotations

import datetime
import os
import ssl
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from tacit import private_files
from tacit.errors import ConfigError
from tacit.net.tls import as_ssl_error

if TYPE_CHECKING:
    from OpenSSL import SSL

__all__ = [
    "Identity",
    "Terms",
    "check_certificate",
    "check_date",
    "fingerprint",
    "key_of_ranks",
    "key_password",
    "make_certificate",
    "passphrase",
    "read_certificate",
    "signing_key",
]

LIFETIME = datetime.timedelta(days=360)
"""Longer spares users a surprise in the middle of a project; shorter ends what a stolen key can do."""

SOON = datetime.timedelta(days=30)
"""Before the end of a certificate, from when on a role is told of it."""

PASSPHRASE = "TACIT_KEY_PASSPHRASE"  # noqa: S105 - where it is, and not what it is


def make_certificate(folder: Path, role: str, *, encrypt: bool = False, rotate: bool = False) -> Path:
    """Write a new private key and certificate of a role, and return the certificate's path; never overwrites a key.

    With `encrypt` the key is encrypted with the passphrase of the environment. With `rotate` the old key goes, and its
    certificate gets a name with its date: what was signed with it can still be checked.
    """
    secret = passphrase()
    if encrypt and secret is None:
        raise ConfigError(f"set {PASSPHRASE} or {PASSPHRASE}_FD to what the key is to be encrypted with")
    kind: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if encrypt and secret is not None:
        kind = serialization.BestAvailableEncryption(secret)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be made: {error.strerror or error}") from None
    key_path, certificate_path = folder / f"{role}.key", folder / f"{role}.crt"
    if rotate and not encrypt and _is_encrypted(key_path):
        raise ConfigError(f"{key_path} is encrypted, and its successor would not be: say --encrypt, or delete it first")
    if key_path.exists() and not rotate:
        raise ConfigError(
            f"{key_path} is there already: delete it if {role} is to have a new key, which its peers must then pin"
        )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind)
    public = certificate.public_bytes(serialization.Encoding.PEM)
    try:
        with private_files.replacing(key_path) as new_key, private_files.replacing(certificate_path, 0o644) as new:
            private_files.fill(new_key, private)  # both are on the disk before either gets its name
            private_files.fill(new, public)
            if rotate and certificate_path.exists():
                _keep(certificate_path)
    except OSError as error:
        raise ConfigError(
            f"the key of {role} cannot be written to {folder}, and what was there before is as it was: "
            f"{error.strerror or error}"
        ) from None
    return certificate_path


def _is_encrypted(key: Path) -> bool:
    try:
        return b"ENCRYPTED" in key.read_bytes()
    except OSError:
        return False


def _keep(certificate: Path) -> None:
    """Keep a certificate under a name with the day from which it was valid, too."""
    day = read_certificate(certificate).not_valid_before_utc.date()
    kept = certificate.with_name(f"{certificate.stem}.{day}.crt")
    number = 2
    while kept.exists():
        kept, number = certificate.with_name(f"{certificate.stem}.{day}.{number}.crt"), number + 1
    private_files.write(kept, certificate.read_bytes(), private_files.PUBLIC)


@cache
def _read_descriptor(number: str) -> bytes:
    try:
        with os.fdopen(int(number), "rb") as file:
            return file.read(4096).rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"no passphrase can be read from the file descriptor {number!r}: {error}") from None


def passphrase() -> bytes | None:
    """What private keys are encrypted with, if the environment says so; a descriptor is read once."""
    if number := os.environ.get(f"{PASSPHRASE}_FD"):
        return _read_descriptor(number)
    text = os.environ.get(PASSPHRASE)
    return text.encode() if text else None


def key_password() -> bytes:
    """What OpenSSL is given for a key that is encrypted; it would otherwise ask the terminal."""
    found = passphrase()
    if found is None:
        raise ValueError(f"the private key is encrypted: set {PASSPHRASE}, or {PASSPHRASE}_FD to a file descriptor")
    return found


def check_date(path: Path) -> None:
    """Raise `ConfigError` if a certificate is out of date, and warn if it soon will be."""
    certificate, now = read_certificate(path), datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise ConfigError(
            f"{path} has expired, on {certificate.not_valid_after_utc.date()}: its role makes another with "
            f"`tacit keygen --rotate`, and sends it to all"
        )
    if now < certificate.not_valid_before_utc:
        raise ConfigError(f"{path} is valid from {certificate.not_valid_before_utc.date()} on: is the clock right?")
    if now > certificate.not_valid_after_utc - SOON:
        warnings.warn(
            f"{path} expires on {certificate.not_valid_after_utc.date()}: `tacit keygen --rotate` makes another",
            stacklevel=2,
        )


def check_certificate(path: Path, name: str, revoked: Collection[str]) -> None:
    """Raise `ConfigError` if a certificate is out of date, or revoked."""
    check_date(path)
    if fingerprint(path) in revoked:
        raise ConfigError(f"{path} is among the certificates that 'tacit.revoked' names: get a new one of {name}")


def fingerprint(path: Path) -> str:
    """The SHA-256 fingerprint of a certificate file, for people to compare over the telephone."""
    return read_certificate(path).fingerprint(hashes.SHA256()).hex(":")


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate in PEM."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"there is no certificate {path}: get it from its role, or make all of them with `tacit keygen`"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not a certificate: {error}") from None


def _private_key(path: Path) -> PrivateKeyTypes:
    """Read a private key in PEM, or raise what `private_files.NO_KEY` names."""
    raw = path.read_bytes()
    return serialization.load_pem_private_key(raw, key_password() if b"ENCRYPTED" in raw else None)


def signing_key(folder: Path, role: str) -> ec.EllipticCurvePrivateKey:
    """The private key of a role, by which it signs what it says beside its connections."""
    path = folder / f"{role}.key"
    try:
        key = _private_key(path)
    except private_files.NO_KEY as error:
        raise ConfigError(f"{path} is not a private key that can be used: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not a key on an elliptic curve, as `tacit keygen` makes it")
    return key


def key_of_ranks(folder: Path, role: str) -> bytes:
    """A key that all processes of a role have, and nobody else: from its private key."""
    secret = signing_key(folder, role).private_numbers().private_value
    derivation = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"tacit ranks of one role")
    return derivation.derive(secret.to_bytes(66, "big"))


@dataclass(frozen=True, slots=True)
class Terms:
    """What one end of TLS 1.3 shows, and whom it believes: settings for `Tls`, or for a door of `asyncio`."""

    server: bool
    own: Path | None
    """Its certificate and key, without the suffixes `.crt` and `.key`; None shows nothing, which a server must not."""
    believed: tuple[bytes, ...]
    """The certificates, in DER, of which the other end must have one; none, at a server: whoever comes is let in."""

    def context(self) -> SSL.Context:
        """Settings for `Tls`; raise what `private_files.NO_KEY` names if certificate and key cannot be used.

        No session is kept, so none can be taken up again; the two tickets that OpenSSL sends all the same open nothing.
        """
        from cryptography.hazmat.bindings.openssl.binding import Binding
        from OpenSSL import SSL, crypto

        context = SSL.Context(SSL.TLS_SERVER_METHOD if self.server else SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        context.clear_mode(Binding.lib.SSL_MODE_ENABLE_PARTIAL_WRITE)  # a call protects all that it is given
        if self.own is not None:
            certificate = x509.load_pem_x509_certificate(self.own.with_name(f"{self.own.name}.crt").read_bytes())
            key: Any = _private_key(self.own.with_name(f"{self.own.name}.key"))
            try:
                context.use_certificate(certificate)
                context.use_privatekey(key)
                context.check_privatekey()
            except SSL.Error as error:
                raise as_ssl_error(error) from None
        if self.believed:
            store = context.get_cert_store()
            assert store is not None
            for der in self.believed:
                store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
        if self.believed or not self.server:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        return context

    def standard(self) -> ssl.SSLContext:
        """The same for `asyncio`, which knows the `ssl` of Python only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self.server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        if self.server:
            context.num_tickets = 0
        if self.own is not None:
            context.load_cert_chain(f"{self.own}.crt", f"{self.own}.key", password=key_password)
        if self.believed:
            context.load_verify_locations(cadata=b"".join(self.believed))
        if self.believed or not self.server:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass(frozen=True, slots=True)
class Identity:
    """This role's key and certificate, and the certificates its peers must present."""

    role: str
    folder: Path
    pins: dict[str, bytes]
    """The certificate of each peer, in DER."""

    @staticmethod
    def load(folder: Path, role: str, peers: tuple[str, ...], revoked: Collection[str] = ()) -> Identity:
        """Read and check everything that a handshake will need, so that what is missing is said at once."""
        key = folder / f"{role}.key"
        if not key.is_file():
            raise ConfigError(f"there is no private key {key}: make it with `tacit keygen`")
        if not private_files.is_private(key):
            raise ConfigError(f"{key} can be read by other users of this machine: run `chmod 600 {key}`")
        for name in (role, *peers):
            check_certificate(folder / f"{name}.crt", name, revoked)
        pins = {
            peer: read_certificate(folder / f"{peer}.crt").public_bytes(serialization.Encoding.DER) for peer in peers
        }
        own = read_certificate(folder / f"{role}.crt").public_bytes(serialization.Encoding.DER)
        known = {own: role}
        for peer, pin in pins.items():
            if pin in known:
                raise ConfigError(f"{known[pin]}.crt and {peer}.crt in {folder} are the same certificate")
            known[pin] = peer
        identity = Identity(role, folder, pins)
        for peer in peers:
            identity.context(peer, server=True)
        return identity

    def context(self, peer: str, *, server: bool) -> SSL.Context:
        """Settings for TLS 1.3 with one peer: it must prove that it has the key of its pinned certificate."""
        try:
            return Terms(server, self.folder / self.role, (self.pins[peer],)).context()
        except private_files.NO_KEY as error:
            raise ConfigError(f"{self.role}.key and {self.role}.crt in {self.folder} do not fit: {error}") from None

    def is_pinned(self, peer: str, certificate: bytes | None) -> bool:
        """Whether this is exactly the certificate that the peer must present."""
        return certificate is not None and certificate == self.pins[peer]
