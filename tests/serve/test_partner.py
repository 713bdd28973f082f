"""A client who computes with one server: both ends in this process, over real connections."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DataError,
    EncodingError,
    NetworkError,
    Overloaded,
    PeerAborted,
    PeerLost,
    RevealError,
)
from tacit.net.certificates import make_certificate
from tacit.outside import pairing
from tacit.outside.deployment import Deployment
from tacit.outside.pairing import read_head, send_head
from tacit.predictions.attendant import Line, Served, attend, served
from tacit.session.config import Config
from tacit.session.evidence import compare, read_account
from tacit.session.ledger import Entry
from tacit.session.trial import free_ports, write_trial


class Lines(Line):
    """Books that allow everything, unless told to have a client wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.clients: list[str] = []
        self.rows: list[int] = []

    def came(self, client: str) -> None:
        self.clients.append(client)

    def allowed(self) -> float:
        return self.waits.pop(0) if self.waits else 0.0

    def begins(self, rows: int) -> None:
        self.rows.append(rows)


class Attending:
    """A server that attends to each client in a thread."""

    def __init__(self, what: Served) -> None:
        self.served, self.line = what, Lines()
        self.ended: list[BaseException | None] = []
        self.sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", what.config.addresses[0].port))
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.sockets.append(sock)
                self._threads.append(threading.Thread(target=self._attend, args=(sock,), daemon=True))
                self._threads[-1].start()

    def _attend(self, sock: socket.socket) -> None:
        try:
            attend(sock, self.served, self.line, "here")
            self.ended.append(None)
        except BaseException as error:
            self.ended.append(error)
        finally:
            sock.close()

    def wait(self) -> None:
        """Until all clients have gone."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(20)
        self.wait()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("one-server")
    return Config.load(write_trial(folder, ["server"], {"timeout": 20, "ledger": str(folder / "ledger")}))


@pytest.fixture(scope="module")
def ready(model: nn.Module, config: Config) -> Served:
    return served(model, config, (3, 4), batch=4)


@contextlib.contextmanager
def attending(what: Served) -> Iterator[Attending]:
    """The server, at a port of its own."""
    (port,) = free_ports(1)
    address = what.config.addresses[0]._replace(port=port)
    server = Attending(replace(what, config=replace(what.config, addresses=(address,))))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(ready: Served) -> Iterator[Attending]:
    with attending(ready) as found:
        yield found


def client_of(server: Attending, **settings: Any) -> tacit.Client:
    return tacit.Client(server.served.config, timeout=20, **settings)


def test_a_client_alone_sees_what_the_plain_model_says(server: Attending, model: nn.Module) -> None:
    rows = torch.randn(7, 3, 4)

    with client_of(server) as client:
        one, several, array = client.predict(rows[0]), client.predict(rows), client.predict(rows[:2].numpy())
    server.wait()

    assert (several - model(rows)).abs().max() < 2.0**-10
    assert (one - model(rows[:1])[0]).abs().max() < 2.0**-10
    assert (array - model(rows[:2])).abs().max() < 2.0**-10
    assert server.line.rows == [1, 4, 4, 2]
    assert server.ended == [None]


def test_both_ends_write_down_that_the_client_alone_was_told(server: Attending, tmp_path: Path) -> None:
    with client_of(server, ledger=tmp_path) as client:
        client.predict(torch.ones(3, 4))
    server.wait()

    accounts = [read_account(Path(str(server.served.config.ledger)) / "server.jsonl", None)]
    accounts.append(read_account(tmp_path / "client.jsonl", None))
    its, ours = accounts[0].runs[-1], accounts[1].runs[-1]
    assert its.identity == ours.identity
    assert [(r.name, r.shape, r.receivers) for r in its.reveals] == [("prediction", (1, 3), ("clients",))]
    assert its.reveals == ours.reveals
    assert (its.ended, ours.ended) == ("in agreement", "in agreement")
    assert not [wrong for account in accounts for wrong in account.wrong]
    assert not compare(accounts)


def test_weights_are_sent_once(server: Attending) -> None:
    with client_of(server) as client:
        client.predict(torch.ones(3, 4))
        first = client.wire_bytes
        client.predict(torch.ones(3, 4))
        second = client.wire_bytes
        client.predict(torch.ones(3, 4))
        third = client.wire_bytes

    assert first is not None
    assert second is not None
    assert third is not None
    assert third - second < 0.2 * first
    assert abs((third - second) - (second - first)) < 0.8 * (second - first)


def test_what_no_input_changes_is_made_ahead(server: Attending, model: nn.Module) -> None:
    rows, sent = torch.randn(3, 3, 4), []

    with client_of(server) as client:
        for ahead in (False, False, True):
            if ahead:
                client.prepare(times=2)
            before = client.wire_bytes or 0
            found = client.predict(rows)
            sent.append((client.wire_bytes or 0) - before)
        with pytest.raises(DataError, match="1 to 64 times"):
            client.prepare(times=0)
    server.wait()

    assert (found - model(rows)).abs().max() < 2.0**-10
    assert sent[2] < 0.9 * sent[1]
    assert server.line.rows == [4, 4, 0, 4]


def test_what_is_wrong_with_rows_is_said_and_the_session_goes_on(server: Attending, model: nn.Module) -> None:
    with client_of(server) as client:
        good = client.predict(torch.ones(3, 4))
        with pytest.raises(DataError, match=r"takes inputs of shape \(3, 4\), not \(4, 3\)"):
            client.predict(torch.ones(4, 3))
        with pytest.raises(DataError, match="takes inputs of shape"):
            client.predict(torch.ones(0, 3, 4))
        with pytest.raises(EncodingError, match="NaN"):
            client.predict(torch.full((3, 4), torch.nan))
        with pytest.raises(EncodingError, match="too large"):
            client.predict(torch.full((2, 3, 4), 1e20))
        with pytest.raises(DataError, match="must be a tensor"):
            client.predict({"x": 1})
        again = client.predict(torch.ones(3, 4))
    server.wait()

    assert torch.allclose(good, again, atol=2.0**-10)
    assert len(server.ended) == 1


def test_three_clients_at_once_each_get_their_own(server: Attending, model: nn.Module) -> None:
    def ask(number: int) -> float:
        rows = torch.full((2, 3, 4), float(number)) * torch.linspace(-1, 1, 4)
        with client_of(server) as client:
            found = [client.predict(rows) for _ in range(3)]
        return max(float((y - model(rows)).abs().max()) for y in found)

    with ThreadPoolExecutor(3) as pool:
        errors = list(pool.map(ask, range(1, 4)))
    server.wait()

    assert max(errors) < 2.0**-9
    assert server.ended == [None] * 3


def test_whole_numbers_come_through_exactly(config: Config) -> None:
    table = torch.tensor([[1.0, -1.0], [2.0, 5.0]])
    what = served(lambda x: (x * 3 > 4, (x * x).float() @ table)[0], config, (2,), dtype=torch.int64, batch=2)

    with attending(what) as server, client_of(server) as client:
        found = client.predict(torch.tensor([[1, 2], [-5, 40]]))
        with pytest.raises(DataError, match=r"inputs of torch\.int64, not torch\.float32"):
            client.predict(torch.ones(2))

    assert found.tolist() == [[0, 1], [0, 1]]
    assert found.dtype == torch.int64


def test_a_session_that_the_server_has_ended_is_replaced_unnoticed(server: Attending, model: nn.Module) -> None:
    with client_of(server) as client:
        client.predict(torch.ones(3, 4))
        server.sockets[0].shutdown(socket.SHUT_RDWR)
        found = client.predict(torch.ones(3, 4))
    server.wait()

    assert (found - model(torch.ones(1, 3, 4))[0]).abs().max() < 2.0**-10
    assert len(server.ended) == 2


def test_a_server_that_dies_in_the_middle_is_an_error(ready: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with attending(ready) as server, client_of(server) as client:
        client.predict(torch.ones(3, 4))
        begins = server.line.begins

        def dies(rows: int) -> None:
            server.sockets[-1].shutdown(socket.SHUT_RDWR)
            begins(rows)

        monkeypatch.setattr(server.line, "begins", dies)
        with pytest.raises((PeerLost, PeerAborted), match="server"):
            client.predict(torch.ones(3, 4))
        monkeypatch.setattr(server.line, "begins", begins)
        client.predict(torch.ones(3, 4))


def test_a_client_that_is_interrupted_leaves_nothing(server: Attending, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Tensor:
        raise KeyboardInterrupt

    with client_of(server) as client:
        client.predict(torch.ones(3, 4))
        with monkeypatch.context() as patched:
            patched.setattr("tacit.outside.partner.answered", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.predict(torch.ones(3, 4))
        server.wait()
        assert isinstance(server.ended[0], PeerAborted)
        client.predict(torch.ones(3, 4))


def test_a_client_that_asks_too_much_is_told_when_to_ask_again(server: Attending) -> None:
    server.line.waits = [0.0, 30.0]
    with client_of(server) as client:
        client.predict(torch.ones(3, 4))
        for _ in range(2):
            with pytest.raises(Overloaded, match="too many requests") as refused:
                client.predict(torch.ones(3, 4))
            assert refused.value.after is not None
            assert 20 < refused.value.after <= 30


def test_the_caller_s_session_and_random_numbers_are_left_alone(server: Attending) -> None:
    with tacit.session() as own:
        torch.manual_seed(3)
        expected = torch.rand(3)
        torch.manual_seed(3)
        with client_of(server) as client:
            client.predict(torch.ones(3, 4))
            assert tacit.current_session() is own
        assert torch.equal(torch.rand(3), expected)
        assert tacit.reveal(tacit.share(torch.ones(1), owner="alice")) == 1.0


# --- who is who ------------------------------------------------------------------------------------------------------


def test_another_model_is_refused_by_its_digest(server: Attending) -> None:
    another = pytest.raises(ConfigError, match=f"serves another model, {server.served.terms.model}")
    with client_of(server, model="sha256:" + 64 * "0") as client, another:
        client.predict(torch.ones(3, 4))
    with client_of(server, model=server.served.terms.model) as client:
        client.predict(torch.ones(3, 4))
        assert client.model == server.served.terms.model
        assert client.plan.batch == 4


@pytest.mark.parametrize("end", ["server", "client"])
def test_another_version_is_named(server: Attending, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    main = threading.current_thread()

    def version(_: str) -> str:
        here = "client" if threading.current_thread() is main else "server"
        return "9.9" if here == end else "0.1.0"

    monkeypatch.setattr(pairing, "version", version)
    with client_of(server) as client, pytest.raises(ConfigError, match="install the same version at both ends"):
        client.predict(torch.ones(3, 4))
    server.wait()

    assert isinstance(server.ended[0], ConfigError)


def test_another_certificate_is_refused(server: Attending, tmp_path: Path) -> None:
    make_certificate(tmp_path, "server")
    address = str(server.served.config.addresses[0])

    refused = pytest.raises(AuthenticationError, match="not the one")
    with tacit.Client(address, certificate=tmp_path / "server.crt") as client, refused:
        client.predict(torch.ones(3, 4))
    right = Path(server.served.config.tls) / "server.crt"
    with tacit.Client(address, certificate=right) as client:
        assert client.predict(torch.ones(3, 4)).shape == (3,)


def test_clients_have_to_show_certificates_where_providers_are_named(
    model: nn.Module, config: Config, tmp_path: Path
) -> None:
    from tacit.products import Serving

    for name in ("clinic", "stranger"):
        make_certificate(tmp_path, name)
    providers = tmp_path / "providers"
    providers.mkdir()
    (providers / "clinic.crt").write_bytes((tmp_path / "clinic.crt").read_bytes())
    blocks = tuple(replace(b, providers=str(providers)) if isinstance(b, Serving) else b for b in config.blocks)

    with attending(served(model, replace(config, blocks=blocks), (3, 4), batch=1)) as server:
        with client_of(server, identity=tmp_path / "clinic") as client:
            client.predict(torch.ones(3, 4))
        for identity in (None, tmp_path / "stranger"):
            with client_of(server, identity=identity) as client, pytest.raises(NetworkError):
                client.predict(torch.ones(3, 4))
    assert server.line.clients == ["clinic"]


def test_an_address_needs_a_certificate_unless_it_is_here(config: Config) -> None:
    with pytest.raises(ConfigError, match="certificate="):
        tacit.Client("example.org:9000")
    (port,) = free_ports(1)
    with tacit.Client(f"127.0.0.1:{port}") as client, pytest.raises(ConnectError, match="cannot be reached"):
        client.predict(torch.ones(1))


def test_a_server_without_tls_is_for_this_machine(model: nn.Module, config: Config) -> None:
    what = served(model, replace(config, tls="insecure-plaintext", ledger=None), (3, 4), batch=1)

    with attending(what) as server, tacit.Client(str(server.served.config.addresses[0])) as client:
        assert (client.predict(torch.ones(3, 4)) - model(torch.ones(1, 3, 4))[0]).abs().max() < 2.0**-10


def test_what_takes_two_servers_is_refused(server: Attending, deploy: Any) -> None:
    with client_of(server) as client, pytest.raises(ConfigError, match="two servers or more"):
        client.submit(torch.ones(2, 2), "rows")
    two = deploy()
    with pytest.raises(ConfigError, match="one server"):
        tacit.Client(two, model="sha256:" + 64 * "0")
    with pytest.raises(ConfigError, match="one server"):
        _ = tacit.Client(two).model
    assert tacit.Client(two).wire_bytes is None


def test_a_policy_decides_before_anybody_comes(model: nn.Module, config: Config) -> None:
    with pytest.raises(RevealError, match=r'"to": \[.clients.\]'):
        served(model, replace(config, reveal=()), (3, 4))


# --- bytes from strangers --------------------------------------------------------------------------------------------


def raw(server: Attending) -> socket.socket:
    return socket.create_connection(server.served.config.addresses[0], timeout=10)


@pytest.fixture(scope="module")
def plain(model: nn.Module, config: Config) -> Served:
    return served(model, replace(config, tls="insecure-plaintext", ledger=None), (3, 4), batch=1)


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff" * 64, b"\x02\0\0\0[]", b"\x02\0\0\0{}", b"\x09\0\0\0" + b'{"pair":0', b"\x0a\0\0\0" + b'{"pair":1}'],
    ids=["silence", "length", "list", "empty", "torn", "kind"],
)
def test_strange_greetings_end_that_connection_only(plain: Served, said: bytes) -> None:
    with attending(plain) as server:
        with raw(server) as sock:
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(1 << 16):
                    pass
        server.wait()
        with tacit.Client(str(server.served.config.addresses[0])) as client:
            client.predict(torch.ones(3, 4))

    assert isinstance(server.ended[0], NetworkError)


@pytest.mark.parametrize(
    "rows", ["{}", "[]", '{"rows": 3}', '{"rows": -1}', '{"rows": true}', '{"rows": 1e9}', '{"prepare": 99}', "\0"]
)
def test_strange_requests_end_that_session_only(plain: Served, rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tacit.outside import partner

    def announce(meeting: Any, **_: int) -> None:
        meeting.protocol.session.announce("client", rows.encode())

    with attending(plain) as server:
        with tacit.Client(str(server.served.config.addresses[0])) as client, monkeypatch.context() as patched:
            patched.setattr(partner, "_announce", announce)
            with pytest.raises((PeerAborted, PeerLost)):
                client.predict(torch.ones(3, 4))
        server.wait()

    assert isinstance(server.ended[0], (NetworkError, DataError))


def greeting(**changes: Any) -> dict[str, Any]:
    pair = {"wire": 2, "version": tacit.__version__, "model": "sha256:0", "nonce": "00" * 32}
    head = {"tacit": 2, "role": "server", "frac_bits": 16, "serves": {"shape": [3], "dtype": "float32", "batch": 1}}
    return {**head, "pair": pair, **changes}


@pytest.mark.parametrize(
    ("head", "error", "why"),
    [
        ({"hello": 1}, NetworkError, "does not compute with its clients"),
        (greeting(pair={}), NetworkError, "not a message"),
        (greeting(role="client"), NetworkError, "not a message"),
        (greeting(role="../x"), NetworkError, "not a message"),
        (greeting(frac_bits=True), NetworkError, "not a message"),
        (greeting(frac_bits=60), NetworkError, "not a message"),
        (greeting(serves={"shape": [-3], "dtype": "float32", "batch": 1}), NetworkError, "not a message"),
        (greeting(serves=7), NetworkError, "not a message"),
        ({"refused": "overloaded", "why": "full", "after": 2}, Overloaded, "full"),
    ],
)
def test_strange_servers_are_found_out(head: dict[str, Any], error: type[Exception], why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(Exception):
                send_head(sock, **head)
                read_head(sock, "client")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with tacit.Client(address, timeout=10) as client, pytest.raises(error, match=why):
            client.predict(torch.ones(3))
        thread.join(10)


def test_another_graph_than_announced_is_refused(plain: Served) -> None:
    other = served(nn.Linear(2, 2), plain.config, (2,), batch=1)
    lying = replace(plain, traced=other.traced)

    refused = pytest.raises(DataError, match="another model than it has announced")
    with attending(lying) as server, tacit.Client(str(server.served.config.addresses[0])) as client, refused:
        client.predict(torch.ones(3, 4))


def test_the_public_file_of_one_server(config: Config, tmp_path: Path) -> None:
    Deployment.of(config).save(tmp_path / "public.json")

    read = Deployment.load(tmp_path / "public.json")

    assert read == Deployment.of(config)
    assert read.names == ("server",)
    assert set(json.loads((tmp_path / "public.json").read_text())["servers"]) == {"server"}


def test_entries_of_a_ledger_in_memory_name_the_client_s_line(server: Attending) -> None:
    with client_of(server) as client:
        client.predict(torch.ones(3, 4))
        assert client._partner is not None
        assert client._partner._meeting is not None
        (entry,) = client._partner._meeting.protocol.session.ledger.entries

    assert isinstance(entry, Entry)
    assert entry.receivers == ("client",)
    assert Path(__file__).name in entry.line
