"""Encrypted prediction over HTTP (FastAPI): what `tacit serve-fhe` runs and `Client("https://...")` speaks to.

::

    GET  /v1/model      what is served: name, identifier, sizes (JSON)
    GET  /v1/client     the client's half of the model
    PUT  /v1/keys       register a public key; answers with its identifier
    POST /v1/predict    an encrypted query; answers with the encrypted answer
    GET  /v1/hybrid     the client's file of a hybrid model, whose layers have the four above under /layers/0 and so on

Bodies are the messages of `wire.py`. Errors are JSON {"detail": ...}: 409 for a key that is not registered or a
message for another model, 413 for one that is too large, 422 for one that is damaged. Public keys are kept in a
folder that all workers share, under their own digests; they are not secret.

Pages of other origins are refused by the browser unless they are named (CORS). Naming them gives nothing away that a
program could not ask for: there are no cookies and no log-in here. It says whose pages may spend this service's time
in their visitors' browsers.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tacit.errors import FheError, KeyMismatchError, MessageError, ServiceError
from tacit.fhe import spec, wire
from tacit.fhe.hybrid import files
from tacit.fhe.remote import BINARY
from tacit.fhe.server import KEY_CACHE, Server

MODEL, CLIENT, KEYS, ORIGINS = "TACIT_FHE_MODEL", "TACIT_FHE_CLIENT", "TACIT_FHE_KEYS", "TACIT_FHE_ORIGINS"
MAX_KEYS = 10_000
"""Public keys on disk (half a gigabyte at n = 4096). The oldest goes first; its client registers again by itself."""

MOST_KEY_BYTES = 1 << 30
"""Bytes of all keys of a service, where keys are of megabytes or a hybrid model has many layers, which share them."""

FEWEST_CACHED = 16
"""Keys that each layer of a hybrid keeps ready to use, however many layers there are."""


class ModelInfo(BaseModel):
    """What a service serves."""

    name: str
    model: str
    ring_degree: int
    public_key_bytes: int
    largest_message_bytes: int
    largest_message_rows: int
    """Of a query that is not in bulk; in bulk it is the ring's degree."""


class KeyInfo(BaseModel):
    """A registered key."""

    key: str


class KeyFolder:
    """Public keys in a folder, by digest; a file appears whole or not at all."""

    def __init__(self, folder: Path, most_bytes: int = MOST_KEY_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, key: str, message: bytes) -> None:
        """Keep a checked public key."""
        fd, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(message)
            Path(name).replace(self._folder / key)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        kept = sorted(self._folder.glob("[0-9a-f]" * 32), key=_written)
        most = min(MAX_KEYS, max(self._most_bytes // len(message), 1))  # all keys of a model have one size
        for path in kept[:-most]:
            path.unlink(missing_ok=True)

    def get(self, key: bytes) -> bytes | None:
        """Return a public key."""
        try:
            return (self._folder / key.hex()).read_bytes()
        except FileNotFoundError:
            return None


def _written(path: Path) -> float:
    """Return when a file was written; zero if another worker has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class Desk:
    """A server and its keys: the part of the service that knows no HTTP."""

    def __init__(self, server: Server, keys: KeyFolder) -> None:
        self.server = server
        self.keys = keys
        p = server.spec.parameters
        # One message holds at least one ciphertext's worth of rows, however large the model.
        self.limit = max(wire.MESSAGE_BYTES, p.layout.uploads * p.upload_bytes) + 4096

    def register(self, message: bytes) -> str:
        """Check and keep a public key."""
        key = self.server.register(message)
        self.keys.add(key, message)
        return key

    def answer(self, query: bytes) -> bytes:
        """Answer a query, with a key from the folder if another worker took it.

        Raises:
            ServiceError: for more rows than a client puts into one query, which would take a core for minutes.
        """
        bulk, rows = wire.size_of(query)
        p = self.server.spec.parameters
        if rows > (most := p.degree if bulk else p.most_rows):
            raise ServiceError(f"a query to this service has at most {most} rows: send fewer rows at once")
        try:
            return self.server.answer(query)
        except KeyMismatchError:
            known = self.keys.get(wire.key_of(query))
            if known is None:
                raise
            self.server.register(known)
            return self.server.answer(query)


async def _body(request: Request, limit: int) -> bytes:
    """Return the body of a request, or refuse it before it fills the memory."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, f"a message to this service has at most {limit} bytes: send fewer rows at once")
    return bytes(body)


_BINARY_BODY = {
    "requestBody": {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}
}
_BINARY_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {BINARY: {}}}}


_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


def _allow(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins ask, without cookies.

    Raises:
        ServiceError: for what a browser would never send as an origin, so that it would allow nobody.
    """
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ServiceError(
                f"{origin!r} is no origin: write scheme, host and port alone, as https://app.example.org"
            )
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "PUT", "POST"],
            allow_headers=["content-type"],
        )  # fmt: skip


def create_app(
    server_folder: str | Path, client_folder: str | Path | None, key_folder: str | Path, origins: Sequence[str] = ()
) -> FastAPI:
    """Return the service for a model saved by `save_server` (and, to publish it, `save_client`), or for the two folders
    of a `Hybrid`.

    Pages of these `origins` may ask it from a browser.
    """
    layers = files.parts(Path(server_folder), spec.SERVER_FILE)
    if layers and not (Path(server_folder) / spec.SERVER_FILE).is_file():
        return _hybrid_app(layers, Path(server_folder), client_folder, Path(key_folder), origins)
    return _model_app(Path(server_folder), client_folder, Path(key_folder), origins, 1)


def _model_app(
    server_folder: Path, client_folder: str | Path | None, key_folder: Path, origins: Sequence[str], sharers: int
) -> FastAPI:
    """Return the service for one compiled model, which shares what keys may take with others."""
    cached = None if sharers == 1 else max(KEY_CACHE // sharers, FEWEST_CACHED)
    desk = Desk(Server(server_folder, cached), KeyFolder(key_folder, MOST_KEY_BYTES // sharers))
    published = None
    if client_folder is not None:
        half = spec.load(client_folder, spec.ClientSpec)
        if half.model != desk.server.spec.model:
            raise KeyMismatchError("the client's half and the server's half are not of the same compiled model")
        published = spec.to_bytes(half)
    app = FastAPI(title="Tacit encrypted prediction", version="1", description=__doc__.split("\n")[0])
    _allow(app, origins)

    @app.exception_handler(FheError)
    async def refuse(_: Request, error: FheError) -> JSONResponse:
        statuses = {KeyMismatchError: 409, MessageError: 422, ServiceError: 413}
        status = next((code for kind, code in statuses.items() if isinstance(error, kind)), 400)
        return JSONResponse({"detail": str(error)}, status)

    @app.get("/v1/model", summary="What is served")
    async def model() -> ModelInfo:
        p = desk.server.spec.parameters
        return ModelInfo(
            name=desk.server.spec.name, model=desk.server.spec.model, ring_degree=p.degree,
            public_key_bytes=p.key_bytes, largest_message_bytes=desk.limit, largest_message_rows=p.most_rows,
        )  # fmt: skip

    @app.get("/v1/client", summary="The client's half of the model", responses=_BINARY_ANSWER, response_class=Response)
    async def client() -> Response:
        if published is None:
            raise HTTPException(404, "this service does not publish the client's half of its model")
        return Response(published, media_type=BINARY)

    @app.put("/v1/keys", summary="Register a public key", openapi_extra=_BINARY_BODY)
    async def keys(request: Request) -> KeyInfo:
        body = await _body(request, desk.limit)
        return KeyInfo(key=await anyio.to_thread.run_sync(desk.register, body))

    @app.post(
        "/v1/predict", summary="Answer an encrypted query",
        openapi_extra=_BINARY_BODY, responses=_BINARY_ANSWER, response_class=Response,
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        body = await _body(request, desk.limit)
        return Response(await anyio.to_thread.run_sync(desk.answer, body), media_type=BINARY)

    return app


def _hybrid_app(
    layers: Sequence[str], server: Path, client: str | Path | None, keys: Path, origins: Sequence[str]
) -> FastAPI:
    """Return the service for all layers of a hybrid model, each under /layers/."""
    app = FastAPI(title="Tacit encrypted layers", version="1", description=__doc__.split("\n")[0])
    _allow(app, origins)
    published = None if client is None else files.read(Path(client))
    if published is not None:
        files.from_bytes(published)
    for name in layers:
        half = None if client is None else Path(client) / name
        app.mount(f"/layers/{name}", _model_app(server / name, half, keys / name, (), len(layers)))

    @app.get("/v1/hybrid", summary="The client's file", responses=_BINARY_ANSWER, response_class=Response)
    async def hybrid() -> Response:
        if published is None:
            raise HTTPException(404, "this service does not publish the client's half of its model")
        return Response(published, media_type=BINARY)

    return app


def from_environment() -> FastAPI:
    """Return the service that `tacit serve-fhe` described in the environment: how it reaches each worker process."""
    origins = os.environ.get(ORIGINS, "").split()
    return create_app(os.environ[MODEL], os.environ.get(CLIENT), os.environ[KEYS], origins)
