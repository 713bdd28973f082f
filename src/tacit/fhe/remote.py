"""A service on the other end of HTTP: what `Client("https://...")` talks to. The paths are those of `service.py`."""

from __future__ import annotations

import ipaddress
import json
import weakref

import httpx

from tacit.errors import FheError, KeyMismatchError, MessageError, ServiceError

BINARY = "application/octet-stream"
_ERRORS: dict[int, type[FheError]] = {404: ServiceError, 409: KeyMismatchError, 413: ServiceError, 422: MessageError}


MOST_BYTES = 1 << 28
"""The longest body that is taken: eight times the longest message, which a model's file may need."""


class Remote:
    """The few requests of the protocol. Certificates are verified as HTTPS does; connections close with it.

    Raises:
        ServiceError: for http to another machine: whoever is on the way could answer with a model of his own.
    """

    def __init__(self, address: str, timeout: float | None) -> None:
        self._address = address.rstrip("/")
        url = httpx.URL(self._address)
        if url.scheme != "https" and not on_this_machine(url.host):
            raise ServiceError(
                f"{self._address} is neither https nor on this machine: anybody on the way could take the service's "
                f"place; give it a certificate, or reach it through a tunnel that ends on this machine"
            )
        self._given = timeout
        self._http = httpx.Client(timeout=timeout or 60.0)
        self.close = weakref.finalize(self, self._http.close)

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer, where nobody said how long."""
        if self._given is None:
            self._http.timeout = httpx.Timeout(seconds)

    def client_file(self) -> bytes:
        """Return the client's half of the model."""
        return self._request("GET", "/v1/client")

    def hybrid_file(self) -> bytes:
        """Return the client's file of a hybrid model."""
        return self._request("GET", "/v1/hybrid")

    def register(self, public_key: bytes) -> None:
        """Register a public key."""
        self._request("PUT", "/v1/keys", public_key)

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a query."""
        return self._request("POST", "/v1/predict", query)

    def _request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        headers = {"content-type": BINARY, "accept-encoding": "identity"}  # a few bytes may not become many here
        try:
            with self._http.stream(method, self._address + path, content=content, headers=headers) as response:
                body = bytearray()
                for piece in response.iter_raw():
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise ServiceError(f"{self._address} sent more than {MOST_BYTES} bytes")
        except httpx.HTTPError as error:
            raise ServiceError(f"no answer from {self._address}: {type(error).__name__}") from error
        if response.is_success:
            return bytes(body)
        try:
            detail = str(json.loads(body)["detail"])[:1000]
        except (ValueError, KeyError, TypeError):
            detail = response.reason_phrase
        raise _ERRORS.get(response.status_code, ServiceError)(f"{self._address} refused: {detail}")


def on_this_machine(host: str) -> bool:
    """Whether only programs on the same machine reach this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
