"""The server: answers encrypted queries. It holds the model and no secret key, and never sees a row in clear.

For one query ciphertext group c_g (see `layout.py` and `noise.py`):

    c' = sum_g W_g c_g + u pk,    c' <- c' + b,    c' <- c' + (f at the outputs, e2),    switch to the first prime,
    drop low bits.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tacit.errors import KeyMismatchError, MessageError
from tacit.fhe import randomness, wire
from tacit.fhe.layout import Index, Int, SpreadLayout
from tacit.fhe.program import Forms
from tacit.fhe.seal import Scheme, reduced
from tacit.fhe.spec import ServerSpec, load
from tacit.fhe.spread import undone
from tacit.fhe.sums import sums_of

KEY_CACHE = 256
"""Public keys kept ready to use (130 kB each at n = 4096). More costs memory, fewer costs 1 ms for a client that
comes back."""

SPREAD_KEY_CACHE = 24
"""The same for keys that spread inputs, of some 10 MB each."""


class Server:
    """Evaluates one compiled model on encrypted rows."""

    def __init__(self, model: str | Path | ServerSpec, cached_keys: int | None = None) -> None:
        self.spec = model if isinstance(model, ServerSpec) else load(model, ServerSpec)
        self._cached = cached_keys or (SPREAD_KEY_CACHE if self.spec.parameters.elements else KEY_CACHE)
        self._model = bytes.fromhex(self.spec.model)
        self._scheme = Scheme(self.spec.parameters)
        self._sums = sums_of(self._scheme)
        self._keys: OrderedDict[bytes, Any] = OrderedDict()
        self._lock = Lock()
        self._fixed: tuple[list[Any], Int] | None = None
        if not self.spec.program.fresh:
            forms, layout = self._forms(), self.spec.parameters.layout
            polynomials = layout.place_weights(forms.row, forms.column, forms.value)
            self._fixed = [self._sums.factors(groups) for groups in polynomials], forms.constant

    def register(self, public_key: bytes) -> str:
        """Take a client's public key and return its identifier. Idempotent."""
        message = wire.unpack(public_key, (wire.Kind.PUBLIC_KEY,), self._model)
        cutter = wire.Cutter(message.payload)
        key = self._sums.inputs([self._next_ciphertext(cutter)]), self._switching_keys(cutter)
        cutter.finish()
        if wire.digest(message.payload)[:16] != message.key:
            raise MessageError("this public key does not have the identifier that it claims")
        with self._lock:
            self._keys[message.key] = key
            self._keys.move_to_end(message.key)
            while len(self._keys) > self._cached:
                self._keys.popitem(last=False)
        return message.key.hex()

    def knows(self, key: bytes) -> bool:
        """Return whether the public key with this identifier is registered."""
        return key in self._keys

    def answer(self, query: bytes) -> bytes:
        """Return the encrypted answer to an encrypted query."""
        message = wire.unpack(query, (wire.Kind.QUERY, wire.Kind.BULK_QUERY), self._model)
        key = self._keys.get(message.key)
        if key is None:
            raise KeyMismatchError("the public key of this query is not registered here: register it first")
        bulk = message.kind is wire.Kind.BULK_QUERY
        if bulk and not self.spec.bulk:
            raise MessageError("this model does not answer bulk queries")
        payload, parts = self._answer_bulk(message, key[0]) if bulk else self._answer_rows(message, *key)
        kind = wire.Kind.BULK_ANSWER if bulk else wire.Kind.ANSWER
        return wire.Message(
            kind, self._model, message.key, wire.digest(query), message.rows, parts, payload
        ).pack()  # fmt: skip

    def _answer_rows(self, message: wire.Message, key: Any, switches: Any) -> tuple[bytes, int]:
        layout = self.spec.parameters.layout
        if message.parts != -(-message.rows // layout.samples) * layout.uploads:
            raise MessageError("this query does not hold the ciphertexts that its rows need")
        cutter = wire.Cutter(message.payload)
        pieces = []
        for start in range(0, message.rows, layout.samples):
            samples = min(layout.samples, message.rows - start)
            inputs = self._inputs(cutter, switches)
            if self._fixed is None:
                forms = self._forms()
                constants, totals = forms.constant, self._sums.totals(layout, forms, inputs, key)
            else:
                factors, constants = self._fixed
                totals = (self._sums.total(each, inputs, key) for each in factors)
            for product, total in enumerate(totals):
                positions = layout.positions(product, samples)
                constant = np.tile(constants[self._rows_of(product)], samples)
                pieces.append(self._finish(total, positions, constant))
        cutter.finish()
        return b"".join(pieces), len(pieces)

    def _answer_bulk(self, message: wire.Message, key: Any) -> tuple[bytes, int]:
        """Answer a query whose coefficient is a row: input j is one ciphertext, and forms multiply by constants."""
        n, length = self.spec.parameters.degree, self.spec.program.length
        if message.parts != -(-message.rows // n) * length:
            raise MessageError("this query does not hold the ciphertexts that its rows need")
        forms = self.spec.program.forms(self.spec.parameters.moduli)
        table = np.zeros((self.spec.program.outputs, length), dtype=np.int64)
        table[forms.row, forms.column] = forms.value
        cutter = wire.Cutter(message.payload)
        pieces = []
        for start in range(0, message.rows, n):
            inputs = self._sums.inputs([self._next_ciphertext(cutter) for _ in range(length)])
            positions = np.arange(min(n, message.rows - start))
            for row, constant in zip(table, forms.constant, strict=True):
                scalars = np.zeros((length, n), dtype=np.int64)
                scalars[:, 0] = row
                total = self._sums.total(self._sums.factors(scalars), inputs, key)
                pieces.append(self._finish(total, positions, np.full(positions.size, constant)))
        cutter.finish()
        return b"".join(pieces), len(pieces)

    def _rows_of(self, product: int) -> slice:
        layout = self.spec.parameters.layout
        start = product * layout.per_product
        return slice(start, start + layout.outputs_of(product))

    def _forms(self) -> Forms:
        """Return forms for one answer, of inputs as they are multiplied."""
        forms, layout = self.spec.program.forms(self.spec.parameters.moduli), self.spec.parameters.layout
        if not isinstance(layout, SpreadLayout):
            return forms
        return replace(forms, value=undone(forms.value, layout.pieces, self.spec.parameters.plain_modulus))

    def _inputs(self, cutter: wire.Cutter, switches: Any) -> Any:
        """Return the groups of inputs of the next rows, ready to multiply."""
        layout = self.spec.parameters.layout
        if not isinstance(layout, SpreadLayout):
            return self._sums.inputs([self._next_ciphertext(cutter) for _ in range(layout.groups)])
        uploads = range(layout.uploads)
        pieces = [self._sums.spread(self._next_ciphertext(cutter), switches, layout.pieces_of(k)) for k in uploads]
        return self._sums.joined(pieces)

    def _next_ciphertext(self, cutter: wire.Cutter) -> Any:
        return self._scheme.seeded_ciphertext(
            *wire.cut_fresh(cutter, self.spec.parameters.degree, self._scheme.primes)
        )  # fmt: skip

    def _switching_keys(self, cutter: wire.Cutter) -> Any:
        """Return the keys that spreading needs, from the rest of a message; None where nothing is spread."""
        p, scheme = self.spec.parameters, self._scheme
        parts = [wire.cut_fresh(cutter, p.degree, scheme.key_primes) for _ in p.elements for _ in scheme.primes]
        return self._sums.switches(parts) if parts else None

    def _finish(self, total: Any, positions: Index, constant: Int) -> bytes:
        """Add the constants, flood, switch to the first prime, and keep what is needed."""
        p, scheme = self.spec.parameters, self._scheme
        plain = np.zeros(int(positions.max()) + 1, dtype=np.int64)
        plain[positions] = constant
        scheme.evaluator.add_plain_inplace(total, scheme.plaintext(plain))
        noise = np.zeros((2, len(scheme.primes), p.degree), dtype=np.uint64)
        noise[0][:, positions] = randomness.symmetric_residues(p.flood_bits, positions.size, scheme.primes)
        small = randomness.centered_binomial(p.degree)
        for row, q in enumerate(scheme.primes):
            noise[1, row] = reduced(small, q)
        scheme.evaluator.add_inplace(total, scheme.ciphertext(noise))
        scheme.evaluator.mod_switch_to_inplace(total, scheme.last_id)
        return wire.pack_answer(scheme.residues(total), positions, scheme.primes[0], p.trim_bits)
