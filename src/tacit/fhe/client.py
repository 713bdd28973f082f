"""The client: makes keys, encrypts rows, decrypts answers. The secret key stays here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tacit import private_files
from tacit.errors import FheError, KeyMismatchError, MessageError
from tacit.fhe import wire
from tacit.fhe.layout import Int
from tacit.fhe.read import Float, Labels
from tacit.fhe.remote import Remote
from tacit.fhe.seal import Scheme, SecretScheme
from tacit.fhe.server import Server
from tacit.fhe.spec import ClientSpec, from_bytes, load

_KEY_MAGIC = b"TACITKEY"


class Client:
    """Predicts on encrypted rows with a model that it does not have.

    `model` is a folder written by `save_client`, a `ClientSpec`, or the address of a service ("https://..."), which
    then answers the queries. `server` is a `Server` in this process instead. `timeout` is how many seconds of silence a
    service may need; without it a minute, or, for a model whose answer should take more than some seconds, minutes.
    """

    def __init__(
        self, model: str | Path | ClientSpec, *, server: Server | None = None, timeout: float | None = None
    ) -> None:
        self._remote: Remote | Server | None = server
        if isinstance(model, str) and model.startswith(("http://", "https://")):
            self._remote = Remote(model, timeout)
            self.spec = from_bytes(self._remote.client_file(), ClientSpec)
            self._remote.be_patient(self.spec.parameters.patience)
        else:
            self.spec = model if isinstance(model, ClientSpec) else load(model, ClientSpec)
        self._model = bytes.fromhex(self.spec.model)
        self._scheme = Scheme(self.spec.parameters)
        self._use(SecretScheme(self._scheme))

    def __repr__(self) -> str:
        return f"Client({self.spec.name}, key {self._key.hex()[:8]})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to a service. Going out of use does the same."""
        if isinstance(self._remote, Remote):
            self._remote.close()

    def _use(self, secret: SecretScheme) -> None:
        self._secret = secret
        payload = wire.pack_fresh(*secret.encrypt_zero(), self._scheme.primes)
        switches = list(secret.switching_keys())
        payload += b"".join(wire.pack_fresh(c0, seed, self._scheme.key_primes) for c0, seed in switches)
        self._key = wire.digest(payload)[:16]
        self._public = wire.Message(
            wire.Kind.PUBLIC_KEY, self._model, self._key, wire.NO_REFERENCE, 0, 1 + len(switches), payload
        ).pack()  # fmt: skip
        self._registered = False

    @property
    def public_key(self) -> bytes:
        """The message that the server needs once, before the first query."""
        return self._public

    @property
    def secret_key_size(self) -> int:
        """Bytes of the secret key."""
        return len(self._secret.secret_bytes())

    def save_key(self, path: str | Path) -> None:
        """Write the secret key to a file that only its owner may read. Keep it as you would keep the data."""
        private_files.write(Path(path), _KEY_MAGIC + self._model + self._secret.secret_bytes())

    def load_key(self, path: str | Path) -> None:
        """Go on with a secret key that `save_key` wrote. Its public key is made anew."""
        if not private_files.is_private(Path(path)):
            raise MessageError(f"{path} can be read by other users of this machine: run `chmod 600 {path}`")
        raw = Path(path).read_bytes()
        if raw[:8] != _KEY_MAGIC:
            raise MessageError("this is not a tacit.fhe key file")
        if raw[8:24] != self._model:
            raise KeyMismatchError("this key was made for another model")
        try:
            self._use(SecretScheme(self._scheme, raw[24:]))
        except (RuntimeError, ValueError) as error:
            raise MessageError("this tacit.fhe key file is damaged") from error

    def encrypt(self, x: Any) -> bytes:
        """Return a query for the rows of x. Every ciphertext is fresh, and none is ever kept to be sent again."""
        return self.encrypt_encoded(self.spec.encode(x))

    def encrypt_encoded(self, z: Int) -> bytes:
        """Return a query for rows that `spec.encode` has made integers of."""
        layout = self.spec.parameters.layout
        bulk = self.bulk(len(z))
        kind = wire.Kind.BULK_QUERY if bulk else wire.Kind.QUERY
        polynomials = [
            polynomial
            for start in range(0, len(z), self.spec.parameters.degree if bulk else layout.samples)
            for polynomial in (
                z[start : start + self.spec.parameters.degree].T
                if bulk
                else layout.place_inputs(z[start : start + layout.samples])
            )
        ]
        parts = [wire.pack_fresh(*self._secret.encrypt(p), self._scheme.primes) for p in polynomials]
        return wire.Message(
            kind, self._model, self._key, wire.NO_REFERENCE, len(z), len(parts), b"".join(parts)
        ).pack()  # fmt: skip

    def bulk(self, rows: int) -> bool:
        """Return whether that many rows go with one coefficient a row, because it takes fewer bytes both ways."""
        p = self.spec.parameters
        chunks, packs = -(-rows // p.degree), -(-rows // p.layout.samples)
        by_row = chunks * (p.layout.length * p.upload_bytes + p.layout.outputs * (p.answer_bytes + 6 * rows))
        packed = packs * (p.layout.uploads * p.upload_bytes + p.layout.products * p.answer_bytes)
        return self.spec.bulk and by_row < packed and p.layout.length * p.upload_bytes <= wire.MESSAGE_BYTES

    def _messages(self, z: Int) -> Iterator[Int]:
        """Cut rows into as many as one query may hold."""
        p, at = self.spec.parameters, 0
        while at < max(len(z), 1):
            bulk = self.bulk(len(z) - at)
            chunk = z[at : at + (p.degree if bulk else p.most_rows)]
            at += max(len(chunk), 1)
            yield chunk

    def decrypt(self, answer: bytes, query: bytes) -> Int:
        """Return the integers in the answer to a query."""
        message = wire.unpack(answer, (wire.Kind.ANSWER, wire.Kind.BULK_ANSWER), self._model)
        if message.key != self._key:
            raise KeyMismatchError("this answer was made for another client's key")
        if message.reference != wire.digest(query):
            raise KeyMismatchError("this answer belongs to another query")
        if message.rows != wire.size_of(query)[1]:
            raise MessageError("this answer has more or fewer rows than its query")
        cutter = wire.Cutter(message.payload)
        chunks = self._decrypt_bulk if message.kind is wire.Kind.BULK_ANSWER else self._decrypt_rows
        outputs = list(chunks(cutter, message.rows))
        cutter.finish()
        p = self.spec.parameters
        table = np.concatenate(outputs) if outputs else np.zeros((0, p.layout.outputs), dtype=np.int64)
        return self.spec.reader.read(table, p.moduli)

    def _decrypt_rows(self, cutter: wire.Cutter, rows: int) -> Iterator[Int]:
        layout = self.spec.parameters.layout
        for start in range(0, rows, layout.samples):
            samples = min(layout.samples, rows - start)
            parts = [self._decrypt_one(cutter, layout.positions(p, samples)) for p in range(layout.products)]
            yield np.concatenate([part.reshape(samples, -1) for part in parts], axis=1)

    def _decrypt_bulk(self, cutter: wire.Cutter, rows: int) -> Iterator[Int]:
        p = self.spec.parameters
        for start in range(0, rows, p.degree):
            positions = np.arange(min(p.degree, rows - start))
            yield np.stack([self._decrypt_one(cutter, positions) for _ in range(p.layout.outputs)], axis=1)

    def _decrypt_one(self, cutter: wire.Cutter, positions: npt.NDArray[np.intp]) -> Int:
        p = self.spec.parameters
        residues = wire.cut_answer(cutter, p.degree, positions, self._scheme.primes[0], p.trim_bits)
        return self._secret.decrypt(residues, positions)

    def values(self, x: Any) -> tuple[Int, Int]:
        """Return the decrypted integers for the rows of x, and the encoded rows themselves."""
        z = self.spec.encode(x)
        return self.values_of(z), z

    def values_of(self, z: Int) -> Int:
        """Return the decrypted integers for rows that are encoded already."""
        if self._remote is None:
            raise FheError("this client has no server: give it the address of one, or use encrypt and decrypt")
        if not self._registered:
            self._remote.register(self._public)
            self._registered = True
        tables = []
        for rows in self._messages(z):
            query = self.encrypt_encoded(rows)
            try:
                answer = self._remote.answer(query)
            except KeyMismatchError:  # the service has forgotten the key (it restarted, or keeps only so many)
                self._remote.register(self._public)
                answer = self._remote.answer(query)
            tables.append(self.decrypt(answer, query))
        return np.concatenate(tables)

    def predict(self, x: Any) -> Labels:
        """Return the predictions for the rows of x."""
        return self.spec.head.predict(*self.values(x))

    def predict_proba(self, x: Any) -> Float:
        """Return class probabilities for the rows of x."""
        return self.spec.head.predict_proba(*self.values(x))

    def decision_function(self, x: Any) -> Float:
        """Return the scores of the rows of x."""
        return self.spec.head.scores(*self.values(x))
