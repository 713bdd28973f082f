"""The HTTP service, over a real socket on loopback."""

from __future__ import annotations

import contextlib
import errno
import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("fastapi")

from tests.fhe.serving import listening

from tacit.cli.serve_fhe import serve_fhe
from tacit.errors import KeyMismatchError, MessageError, ServiceError
from tacit.fhe import Client, parameters, remote, wire
from tacit.fhe.layout import SpreadLayout
from tacit.fhe.parameters import SPREAD_RING, Parameters
from tacit.fhe.service import KeyFolder, create_app

ROWS = np.linspace(-2, 2, 120).reshape(4, 30)


@pytest.fixture
def folders(boosted: Any, tmp_path: Path) -> Path:
    boosted.save_server(tmp_path / "server")
    boosted.save_client(tmp_path / "client")
    return tmp_path


@pytest.fixture
def address(folders: Path) -> Iterator[str]:
    app = create_app(folders / "server", folders / "client", folders / "keys")
    with listening(app) as url:
        yield url


def test_a_client_needs_the_address_only(address: str, boosted: Any) -> None:
    with Client(address) as client:
        predictions, probabilities = client.predict(ROWS), client.predict_proba(ROWS)

    assert (predictions == boosted.predict(ROWS, fhe="simulate")).all()
    assert (probabilities == boosted.predict_proba(ROWS, fhe="simulate")).all()


def test_a_key_that_the_service_forgot_is_registered_again(address: str, folders: Path, boosted: Any) -> None:
    client = Client(address)
    client.predict(ROWS[:1])
    other = create_app(folders / "server", None, folders / "keys")  # another worker, started later
    kept = list((folders / "keys").iterdir())

    client._registered = True
    for path in kept:
        path.unlink()
    stranger = Client(address)
    stranger._registered = True  # believes so, wrongly

    assert other.title == "Tacit encrypted prediction"
    assert len(kept) == 1
    assert kept[0].name == client._key.hex()
    assert (stranger.predict(ROWS) == boosted.predict(ROWS, fhe="simulate")).all()


def test_wrong_requests_are_named(address: str, linear: Any, boosted: Any, folders: Path) -> None:
    query = boosted.client().encrypt(ROWS[:1])

    answers = {
        "junk": httpx.post(f"{address}/v1/predict", content=b"junk"),
        "unregistered": httpx.post(f"{address}/v1/predict", content=query),
        "other model": httpx.put(f"{address}/v1/keys", content=linear.client().public_key),
        "too large": httpx.post(f"{address}/v1/predict", content=bytes((32 << 20) + 5000)),
    }

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "junk": 422, "unregistered": 409, "other model": 409, "too large": 413
    }  # fmt: skip
    assert "fewer rows" in answers["too large"].json()["detail"]
    with pytest.raises(KeyMismatchError, match="another model"):
        Client(linear.client().spec, server=Client(address)._remote).predict(ROWS)
    with pytest.raises(MessageError, match="not a tacit"):
        Client(address)._remote.answer(b"junk")
    linear.save_client(folders / "other")
    with pytest.raises(KeyMismatchError, match="not of the same compiled model"):
        create_app(folders / "server", folders / "other", folders / "keys")


def test_a_key_that_another_worker_removes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, listed = KeyFolder(tmp_path, 250), Path.glob
    removed = tmp_path / ("0" * 32)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [removed, *listed(self, pattern)])

    for digit in "123":
        keys.add(digit * 32, bytes(100))

    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["2", "3"]
    assert keys.get(bytes.fromhex("3" * 32)) == bytes(100)
    assert keys.get(bytes.fromhex("1" * 32)) is None


def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(OSError, match="no space"):
        KeyFolder(tmp_path).add("1" * 32, bytes(100))

    assert not list(tmp_path.iterdir())


def test_a_query_asks_for_bounded_work(address: str, boosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "MOST_SECONDS", 2.5 * boosted.client().spec.parameters.seconds)  # two rows
    client = Client(address)
    ask, asked = client._remote.answer, []
    monkeypatch.setattr(client._remote, "answer", lambda query: asked.append(wire.size_of(query)) or ask(query))

    predictions = client.predict(ROWS[:3])

    assert (predictions == boosted.predict(ROWS[:3], fhe="simulate")).all()
    assert asked == [(False, 2), (False, 1)]
    assert httpx.get(f"{address}/v1/model").json()["largest_message_rows"] == 2
    with pytest.raises(ServiceError, match="at most 2 rows"):
        ask(client.encrypt(ROWS[:3]))


def test_only_models_that_take_long_are_asked_for_few_rows(linear: Any) -> None:
    large = Parameters(*SPREAD_RING, 17 * 11, SpreadLayout(8192, 3000, 1344, 32, 64, 1, 32), 100, 0, (17, 11))
    p = linear.client().spec.parameters

    assert 1 <= large.most_rows <= 20
    assert large.most_rows * large.seconds <= 8
    assert p.most_rows == wire.MESSAGE_BYTES // (p.layout.uploads * p.upload_bytes) * p.layout.samples


def test_a_client_waits_as_long_as_its_model_takes(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Client(address)
    monkeypatch.setattr(parameters, "MOST_SECONDS", usual.spec.parameters.seconds / 5)

    assert usual._remote._http.timeout.read == 60
    assert Client(address)._remote._http.timeout.read == pytest.approx(300)
    assert Client(address, timeout=5)._remote._http.timeout.read == 5


def test_the_service_describes_itself(address: str, boosted: Any) -> None:
    described = httpx.get(f"{address}/openapi.json").json()
    info = httpx.get(f"{address}/v1/model").json()

    assert set(described["paths"]) == {"/v1/model", "/v1/client", "/v1/keys", "/v1/predict"}
    assert info["name"] == "GradientBoostingClassifier"
    assert info["model"] == boosted.client().spec.model


def test_a_service_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(ServiceError, match="no answer"):
        Client(f"http://127.0.0.1:{port}", timeout=2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--host", "0.0.0.0"], "--certfile"), (["--client", "nowhere"], "no model file"), ([], "no model file")],
)
def test_the_command_refuses_in_one_sentence(arguments: list[str], says: str, folders: Path) -> None:
    empty = folders / "empty"
    empty.mkdir()

    result = CliRunner().invoke(serve_fhe, [str(empty if not arguments else folders / "server"), *arguments])

    assert result.exit_code != 0
    assert says in result.output
    assert "Traceback" not in result.output


def test_http_goes_to_this_machine_only() -> None:
    with pytest.raises(ServiceError, match="neither https nor on this machine"):
        Client("http://models.example.org", timeout=2)


@pytest.mark.parametrize("body", ["bomb", "flood"])
def test_an_answer_is_taken_as_it_is_and_only_so_long(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 1 << 20)
    content = gzip.compress(bytes(1 << 26)) if body == "bomb" else bytes((1 << 20) + 1)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            if body == "bomb":
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(MessageError if body == "bomb" else ServiceError):
            Client(f"http://127.0.0.1:{server.server_port}", timeout=5)
        thread.join()


def test_only_pages_of_named_origins_may_ask(folders: Path) -> None:
    async def preflight(origins: tuple[str, ...], asks: str) -> str | None:
        app = create_app(folders / "server", None, folders / "keys", origins)
        asked = {"method": "POST", "headers": "content-type"}
        headers = {"origin": asks, **{f"access-control-request-{what}": value for what, value in asked.items()}}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            answer = await http.options("/v1/predict", headers=headers)
        return answer.headers.get("access-control-allow-origin")

    def allowed(origins: tuple[str, ...], asks: str) -> str | None:
        return anyio.run(preflight, origins, asks)

    assert allowed(("https://app.example.org",), "https://app.example.org") == "https://app.example.org"
    assert allowed(("https://app.example.org",), "https://other.example.org") is None
    assert allowed((), "https://app.example.org") is None
    assert allowed(("*",), "https://app.example.org") == "*"
    for wrong in ("app.example.org", "https://app.example.org/", "https://*.example.org", "null", "https://a b"):
        with pytest.raises(ServiceError, match="is no origin"):
            create_app(folders / "server", None, folders / "keys", (wrong,))
