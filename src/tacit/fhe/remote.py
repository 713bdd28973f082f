"""A service on the other end of HTTP: what `Client("https://...")` talks to. The paths are those of `service.py`."""

from __future__ import annotations

import weakref

import httpx

from tacit.errors import FheError, KeyMismatchError, MessageError, ServiceError

BINARY = "application/octet-stream"
_ERRORS: dict[int, type[FheError]] = {404: ServiceError, 409: KeyMismatchError, 413: ServiceError, 422: MessageError}


class Remote:
    """The few requests of the protocol. Certificates are verified as HTTPS does; connections close with it."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address.rstrip("/")
        self._http = httpx.Client(timeout=timeout)
        self.close = weakref.finalize(self, self._http.close)

    def client_file(self) -> bytes:
        """Return the client's half of the model."""
        return self._request("GET", "/v1/client")

    def register(self, public_key: bytes) -> None:
        """Register a public key."""
        self._request("PUT", "/v1/keys", public_key)

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a query."""
        return self._request("POST", "/v1/predict", query)

    def _request(self, method: str, path: str, content: bytes | None = None) -> bytes:
        try:
            response = self._http.request(
                method, self._address + path, content=content, headers={"content-type": BINARY}
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise ServiceError(f"no answer from {self._address}: {type(error).__name__}") from error
        if response.is_success:
            return response.content
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            detail = response.reason_phrase
        raise _ERRORS.get(response.status_code, ServiceError)(f"{self._address} refused: {detail}")
