"""The certificates by which roles know each other: one self-signed certificate a role, and no authority above them.

A folder holds `ROLE.key`, the private key of its owner (readable by the owner alone), and `ROLE.crt` for every role.
A peer must present exactly the certificate in its file: it is *pinned*, so names and dates in it prove nothing more.
"""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tacit import private_files
from tacit.errors import ConfigError

__all__ = ["Identity", "fingerprint", "make_certificate", "read_certificate", "signing_key"]

LIFETIME = datetime.timedelta(days=3650)
"""Longer spares users a surprise in the middle of a project; a lost key is answered by a new pin, not by a date."""


def make_certificate(folder: Path, role: str) -> Path:
    """Write a new private key and certificate of a role, and return the certificate's path; never overwrites a key."""
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
    folder.mkdir(parents=True, exist_ok=True)
    key_path, certificate_path = folder / f"{role}.key", folder / f"{role}.crt"
    try:
        file = private_files.create(key_path)
    except FileExistsError:
        raise ConfigError(
            f"{key_path} is there already: delete it if {role} is to have a new key, which its peers must then pin"
        ) from None
    with file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate_path


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


def signing_key(folder: Path, role: str) -> ec.EllipticCurvePrivateKey:
    """The private key of a role, by which it signs what it says beside its connections."""
    path = folder / f"{role}.key"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is not a private key that can be used: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not a key on an elliptic curve, as `tacit keygen` makes it")
    return key


@dataclass(frozen=True, slots=True)
class Identity:
    """This role's key and certificate, and the certificates its peers must present."""

    role: str
    folder: Path
    pins: dict[str, bytes]
    """The certificate of each peer, in DER."""

    @staticmethod
    def load(folder: Path, role: str, peers: tuple[str, ...]) -> Identity:
        """Read and check everything that a handshake will need, so that what is missing is said at once."""
        key = folder / f"{role}.key"
        if not key.is_file():
            raise ConfigError(f"there is no private key {key}: make it with `tacit keygen`")
        if not private_files.is_private(key):
            raise ConfigError(f"{key} can be read by other users of this machine: run `chmod 600 {key}`")
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

    def context(self, peer: str, *, server: bool) -> ssl.SSLContext:
        """Settings for TLS 1.3 with one peer: it must prove that it has the key of its pinned certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if server:
            context.num_tickets = 0
        try:
            context.load_cert_chain(
                self.folder / f"{self.role}.crt", self.folder / f"{self.role}.key", password=_refuse
            )
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(f"{self.role}.key and {self.role}.crt in {self.folder} do not fit: {error}") from None
        context.load_verify_locations(cadata=self.pins[peer])
        return context

    def is_pinned(self, peer: str, certificate: bytes | None) -> bool:
        """Whether this is exactly the certificate that the peer must present."""
        return certificate is not None and certificate == self.pins[peer]


def _refuse() -> str:
    """Answer a request for a passphrase, which OpenSSL would otherwise put to the terminal."""
    raise ValueError("the private key must not be encrypted with a passphrase")
