"""Receipts that servers give clients, so that a client can show one server what the others hold.

A receipt is a signature, with the key of the server's certificate, of a text that says what it holds. Where a config
has asked for no encryption there are no keys, and a server takes the client's word.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tacit.net.certificates import read_certificate, signing_key
from tacit.session.config import Config

__all__ = ["Receipts"]


class Receipts:
    """Signs at one server, and checks what others have signed."""

    def __init__(self, config: Config, role: str) -> None:
        self.role, self._parties = role, config.parties
        self._keys: dict[str, EllipticCurvePublicKey] = {}
        self._own: EllipticCurvePrivateKey | None = None
        self._plaintext = config.plaintext
        if not config.plaintext:
            folder = Path(config.tls)
            for party in config.parties:
                key = read_certificate(folder / f"{party}.crt").public_key()
                if isinstance(key, EllipticCurvePublicKey):
                    self._keys[party] = key
            self._own = signing_key(folder, role)

    def sign(self, dataset: str, description: str) -> str:
        """This server's receipt for a submission of a data set."""
        text = _text(self.role, dataset, description)
        return "" if self._own is None else self._own.sign(text, ECDSA(SHA256())).hex()

    def prove(self, dataset: str, description: str, receipts: object) -> bool:
        """Whether these are receipts of all servers, by name."""
        if not isinstance(receipts, dict):
            return False
        return self._plaintext or all(
            self._fits(party, _text(party, dataset, description), receipts.get(party)) for party in self._parties
        )

    def _fits(self, party: str, text: bytes, receipt: object) -> bool:
        if party not in self._keys or not isinstance(receipt, str):
            return False
        try:
            self._keys[party].verify(bytes.fromhex(receipt), text, ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


def _text(role: str, dataset: str, description: str) -> bytes:
    return b"tacit receipt\0" + "\0".join((role, dataset, description)).encode()
