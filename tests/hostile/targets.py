"""Everything that reads bytes which others wrote: what is right to begin with, and what reads it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np
import torch

import tacit
from tacit.api.sharing import _announced
from tacit.checkpoint import _read as read_checkpoint
from tacit.data.table import read_table
from tacit.datasets.files import read_tensors
from tacit.errors import TacitError
from tacit.federated.identity import Identity, Roster
from tacit.federated.masks.packets import Advertisement, Revealed, unpack_shares
from tacit.federated.parties.work import Work
from tacit.federated.update import Layout
from tacit.fhe import wire as fhe_wire
from tacit.fhe.spec import ClientSpec, ServerSpec, from_bytes
from tacit.net.framing import Kind, pack_header
from tacit.net.handshake import MAGIC, WIRE_VERSION, _hello, _read_hello, _read_preamble
from tacit.net.link import Link
from tacit.net.parting import Cause
from tacit.net.transcript import Transcript
from tacit.outside.plan import Plan
from tacit.outside.schema import Schema
from tacit.outside.wire import Connection
from tacit.protocols.two_party.transfers.base import KEY_BYTES, Chooser, answer
from tacit.session.chain import Chained
from tacit.session.config import Config
from tacit.session.evidence import read_account
from tacit.session.preparation import Preparation
from tacit.session.store import Store

from . import federations, histograms


class Target(NamedTuple):
    """A way in: samples of what belongs there, and what takes it."""

    samples: Callable[[Path], list[bytes]]
    take: Callable[[Path, bytes], object]
    slow: bool = False
    """Whether one takes milliseconds."""


TARGETS: dict[str, Target] = {}


def target(name: str, samples: Callable[[Path], list[bytes]], *, slow: bool = False) -> Callable[[Any], Any]:
    def add(take: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], object]:
        TARGETS[name] = Target(samples, take, slow)
        return take

    return add


class Bytes:
    """A wire from which bytes come, and then nothing."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def recv_into(self, view: memoryview) -> int:
        return self._rest.readinto(view)

    def send(self, data: bytes | memoryview) -> int:
        return len(data)


@contextmanager
def a_link(data: bytes) -> Iterator[Link]:
    here, there = socket.socketpair()
    link = Link("bob", "127.0.0.1:1", here, bytes(32), same_script=True)
    try:
        there.setblocking(False)
        try:
            there.sendall(data[: 1 << 16])
        finally:
            there.shutdown(socket.SHUT_WR)
        yield link
    finally:
        link.close()
        there.close()


# --- links ------------------------------------------------------------------------------------------------------------


def _frames(folder: Path) -> list[bytes]:
    history = Transcript()
    history.record("a")
    payloads = {
        Kind.DATA: b"12345678",
        Kind.ANNOUNCE: b"[[2], 1]",
        Kind.ALIVE: bytes(25),
        Kind.ABORT: Cause("lost", "bob", "gone").to_bytes(),
        Kind.DIVERGED: history.to_bytes(),
        Kind.BYE: b"",
    }
    frames = [pack_header(k, n, len(p), bytes(8)) + p for n, (k, p) in enumerate(payloads.items())]
    return [b"".join(frames), *frames]


def no_more(link: Link) -> None:
    raise TacitError("nothing more comes")


@target("frames", _frames)
def frames(folder: Path, data: bytes) -> None:
    with a_link(data) as link:
        for _ in range(20):
            header = link.next_header(no_more)
            if header.kind is Kind.DATA:
                link.skip_payload(no_more)
            else:
                link.take_payload(no_more)


@target("histories", lambda folder: [_history()])
def histories(folder: Path, data: bytes) -> None:
    try:
        Transcript.from_bytes(data)
    except ValueError as error:
        raise TacitError(str(error)) from None


def _history() -> bytes:
    transcript = Transcript()
    for name in ("one", "two (3, 4)", "three"):
        transcript.record(name)
    return transcript.to_bytes()


@target("causes", lambda folder: [Cause("lost", "bob", "has gone").to_bytes()])
def causes(folder: Path, data: bytes) -> None:
    raise Cause.from_bytes(data, "bob").error("alice", "bob")


class _Me(NamedTuple):
    shared: dict[str, str]
    version: str = "0.1"
    script: str = "ab"


@target("greetings", lambda folder: [_greeting()])
def greetings(folder: Path, data: bytes) -> None:
    with _closing():
        _read_hello(Bytes(data), "bob")


def _greeting() -> bytes:
    return _hello(_Me(shared={"roles": "[1, 2]"}), os.urandom(32))


@target("preambles", lambda folder: [MAGIC + bytes((WIRE_VERSION, 1, 5, 3)) + b"alicebob"])
def preambles(folder: Path, data: bytes) -> None:
    here, there = socket.socketpair()
    with here, there, _closing():
        there.sendall(data[: 1 << 15])
        there.shutdown(socket.SHUT_WR)
        _read_preamble(here)


@contextmanager
def _closing() -> Iterator[None]:
    """A connection that ends is an `OSError` there, and translated where these are called."""
    try:
        yield
    except OSError as error:
        raise TacitError(str(error)) from None


@target("announced shapes", lambda folder: [b'[[3, 4], "float32"]', b'[[], "bool"]'])
def shapes(folder: Path, data: bytes) -> None:
    _announced("alice", data)


# --- clients ----------------------------------------------------------------------------------------------------------


class _Writer:
    class transport:  # noqa: N801 - as asyncio calls it
        @staticmethod
        def set_write_buffer_limits(high: int) -> None: ...


def _head(**head: Any) -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "little") + text


HEADS = [
    _head(verb="submit", rows=3),
    _head(refused="overloaded", why="full", after=3.5),
    _head(greeting={"a": 2}),
]


@target("heads at the door", lambda folder: HEADS)
def heads(folder: Path, data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        connection = Connection(reader, _Writer(), "a client", 1.0)  # type: ignore[arg-type]
        for _ in range(3):
            await connection.receive()

    _loop().run_until_complete(read())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@target("schemas", lambda folder: [b'{"rows": 3, "fields": [["x", "float32", [4]], ["y", "int64", []]]}'])
def schemas(folder: Path, data: bytes) -> None:
    _json(data, Schema.parse)


@target("plans", lambda folder: [b'{"shape": [4], "dtype": "float32", "batch": 8}'])
def plans(folder: Path, data: bytes) -> None:
    _json(data, Plan.parse)


def _json(data: bytes, parse: Callable[[Any], object]) -> None:
    """What comes as JSON has been read as such before."""
    try:
        literal = json.loads(data)
    except (ValueError, RecursionError):
        raise TacitError("no JSON") from None
    parse(literal)


# --- files ------------------------------------------------------------------------------------------------------------


@target(
    "configs",
    lambda folder: [
        b'{"alice": "127.0.0.1:9001", "bob": "127.0.0.1:9002", "crypto-producer": "[::1]:9003", "tacit": '
        b'{"frac_bits": 16, "tls": "certs", "timeout": 120, "revoked": [], "range_check": 3.5,'
        b'"client_limits": {"idle": 3}, "clients": {"alice": "h:1", "bob": "h:2"},'
        b'"reveal": [{"name": "weights*", "to": ["alice"]}], "seed": 3}}',
        b'{"alice": "127.0.0.1:9001", "bob": "127.0.0.1:9002"}',
    ],
)
def configs(folder: Path, data: bytes) -> None:
    Config.parse(data.decode(errors="surrogateescape"), folder)


def _put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    with open(path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(data)
    return path


@target("tables", lambda folder: [b"a,b,label\n1,2.5,0\n-3,1e-3,1\n", b'\xef\xbb\xbf"a ""x""",b\r\n1,2\r\n'])
def tables(folder: Path, data: bytes) -> None:
    read_table(_put(folder, "table.csv", data))


def _tensors(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    return [save({"x": torch.ones(3, 4), "y": torch.arange(3)}), save({"z": torch.zeros(2, dtype=torch.bool)})]


@target("safetensors", _tensors)
def safetensors(folder: Path, data: bytes) -> None:
    read_tensors(_put(folder, "x.safetensors", data))


def _arrays(folder: Path) -> list[bytes]:
    out = io.BytesIO()
    np.savez(out, x=np.ones((3, 4), np.float32), y=np.arange(3))
    with ZipFile(other := io.BytesIO(), "w") as file:
        file.writestr("x.npx", "no array, which NumPy hands over as bytes")
    return [out.getvalue(), other.getvalue()]


@target("npz", _arrays)
def npz(folder: Path, data: bytes) -> None:
    read_tensors(_put(folder, "x.npz", data))


def _array(folder: Path) -> list[bytes]:
    out = io.BytesIO()
    np.save(out, np.ones((3, 4), np.float32))
    return [out.getvalue()]


@target("npy", _array)
def npy(folder: Path, data: bytes) -> None:
    read_tensors(_put(folder, "x.npy", data))


def _checkpoint(folder: Path) -> list[bytes]:
    with tacit.session():
        tacit.save({"w": tacit.share(torch.randn(3, 2), owner="alice"), "n": 3, "l": [torch.ones(2)]}, folder / "kept")
    return [(folder / "kept" / "alice.safetensors").read_bytes()]


@target("checkpoints", _checkpoint)
def checkpoints(folder: Path, data: bytes) -> None:
    read_checkpoint(_put(folder, "alice.safetensors", data), "alice")


def _store(folder: Path) -> list[bytes]:
    config = Config.embedded()
    preparation = Preparation(folder / "store")
    preparation.begin(3, config, "5" * 32)
    transcript = Transcript()
    preparation.add(0, "truncation", torch.zeros(40, dtype=torch.uint8), transcript)
    preparation.finish(transcript)
    return [(folder / "store" / "alice.store").read_bytes()]


@target("stores", _store)
def stores(folder: Path, data: bytes) -> None:
    store = Store(_put(folder, "alice.store", data), Config.embedded(), "alice")
    try:
        store.take("truncation", 40, Transcript())
        store.finish(Transcript())
    finally:
        store.abandon()


def _ledger(folder: Path) -> list[bytes]:
    chained = Chained(folder / "kept.jsonl", None)
    for record in (
        {"run": "ab", "began": True},
        {"name": "weights", "shape": [3], "to": ["alice"]},
        {"end": 1},
    ):
        chained.append(record)
    return [(folder / "kept.jsonl").read_bytes()]


@target("ledgers", _ledger)
def ledgers(folder: Path, data: bytes) -> None:
    read_account(_put(folder, "a.jsonl", data), None)


# --- federations ------------------------------------------------------------------------------------------------------


@target("layouts", lambda folder: [Layout(("loss", "acc"), (("w", (3, 4)), ("b", ()))).pack().encode()])
def layouts(folder: Path, data: bytes) -> None:
    Layout.unpack(data.decode(errors="replace"))


@target("rounds", lambda folder: [_round()])
def rounds(folder: Path, data: bytes) -> None:
    _json(data, Work.parse)


def _round() -> bytes:
    layout = Layout(("loss",), (("w", (3,)),)).pack()
    hexes = {"view": "ab" * 32, "agreed": "cd" * 32, "signature": "ef" * 64, "digests": ["01" * 32] * 2}
    return json.dumps({"run": 1, "number": 2, "submissions": [{"client": 0, "layout": layout, **hexes}] * 2}).encode()


@target("packets", lambda folder: [bytes(200), bytes(72)])
def packets(folder: Path, data: bytes) -> None:
    for read in (Advertisement.unpack, Revealed.unpack, unpack_shares):
        try:
            read(data)
        except TacitError:
            continue


@target("stages", federations.stages)
def stages(folder: Path, data: bytes) -> None:
    federations.answers(data)


@target("histograms", histograms.queries)
def histograms_of_trees(folder: Path, data: bytes) -> None:
    histograms.answers(data)


@target("answers", federations.replied, slow=True)
def answers_of_clients(folder: Path, data: bytes) -> None:
    federations.survives(data)


def _identities(folder: Path) -> list[bytes]:
    folder.mkdir(exist_ok=True)
    key = Identity.generate("x").save(folder).read_bytes()
    short = key.replace(b"K2Vw", b"K2Vv")  # says that it is a key of another curve, of which it has too few bytes
    return [key, short]


@target("identities", _identities)
def identities(folder: Path, data: bytes) -> None:
    Identity.load(_put(folder, "x.key", data))


@target("rosters", lambda folder: [json.dumps({"a": Identity.generate("a").public_key.hex(), "b": "00" * 32}).encode()])
def rosters(folder: Path, data: bytes) -> None:
    Roster.load(_put(folder, "roster.json", data))


# --- encrypted predictions --------------------------------------------------------------------------------------------


@cache
def _model() -> tuple[Any, Any, bytes]:
    from tacit.fhe.linear_model import LogisticRegression

    draws = np.random.default_rng(3)
    x = draws.normal(size=(60, 4))
    model = LogisticRegression().fit(x, x[:, 0] > 0)
    model.compile(x)
    client, server = model.client(), model.server()
    server.register(client.public_key)
    return client, server, client.encrypt(x[:2])


def _resealed(data: bytes) -> bytes:
    """With a digest that is right again: what somebody hostile would send."""
    import hashlib

    return data[:-32] + hashlib.sha256(data[:-32]).digest()


@target("encrypted queries", lambda folder: [_model()[2]], slow=True)
def queries(folder: Path, data: bytes) -> None:
    _model()[1].answer(_resealed(data) if len(data) % 4 else data)


@target("encrypted answers", lambda folder: [_model()[1].answer(_model()[2])], slow=True)
def answers(folder: Path, data: bytes) -> None:
    _model()[0].decrypt(_resealed(data) if len(data) % 4 else data, _model()[2])


@target("evaluation keys", lambda folder: [_model()[0].public_key], slow=True)
def keys(folder: Path, data: bytes) -> None:
    _model()[1].register(_resealed(data) if len(data) % 4 else data)


def _models(folder: Path) -> list[bytes]:
    from tacit.fhe.ensemble import RandomForestRegressor
    from tacit.fhe.neighbors import KNeighborsClassifier
    from tacit.fhe.spec import to_bytes
    from tacit.fhe.tree import DecisionTreeClassifier

    client, server, _ = _model()
    draws = np.random.default_rng(3)
    x, kinds = draws.normal(size=(60, 4)), (RandomForestRegressor(2, max_depth=2), KNeighborsClassifier(2))
    others = [
        kind.fit(x, np.arange(60) % 3).compile(x) for kind in (*kinds, DecisionTreeClassifier(hide_structure=False))
    ]
    return [to_bytes(half) for half in (client.spec, server.spec, *(other.client().spec for other in others))]


@target("encrypted models", _models)
def models(folder: Path, data: bytes) -> None:
    for kind in (ClientSpec, ServerSpec):
        try:
            half = from_bytes(data, kind)
            if isinstance(half, ClientSpec):  # what is read can be used
                p, z = half.parameters, half.encoder.encode(np.zeros((1, half.encoder.features)))
                outputs = half.reader.read(np.zeros((1, p.layout.outputs), dtype=np.int64), p.moduli)
                half.head.predict(outputs, z)
        except TacitError:
            continue


def _hybrid(folder: Path) -> list[bytes]:
    from tacit.fhe.hybrid.files import Layer, to_bytes
    from tacit.fhe.hybrid.layer import Facts

    layers = (Layer("h.0", Facts(3, 2, 0.5, 1.5), Facts(2, 3, 0.0, 2.0)), Layer("h.1", Facts(4, 4, 0.0, 1.0), None))
    return [to_bytes(layers, {"norm.weight": torch.ones(3)})]


@target("hybrid models", _hybrid)
def hybrids(folder: Path, data: bytes) -> None:
    from tacit.fhe.hybrid.files import from_bytes as read

    read(data)


@target("encrypted messages", lambda folder: [_model()[2][:600]])
def messages(folder: Path, data: bytes) -> None:
    fhe_wire.unpack(_resealed(data), tuple(fhe_wire.Kind), _model()[2][12:28])


# --- two parties alone ------------------------------------------------------------------------------------------------


@cache
def _chooser() -> Chooser:
    return Chooser([0, 1])


@target("keys of transfers", lambda folder: [bytes(_chooser().keys)], slow=True)
def transfers(folder: Path, data: bytes) -> None:
    size = 4 * KEY_BYTES  # a message of another size is refused by the link
    answer(data[:size].ljust(size, b"\1"), "bob")


@target("answers of transfers", lambda folder: [answer(bytes(_chooser().keys), "bob")[0]], slow=True)
def transfer_answers(folder: Path, data: bytes) -> None:
    size = len(answer(bytes(_chooser().keys), "bob")[0])
    _chooser().open(data[:size].ljust(size, b"\1"))


# --- what a role announces to all -------------------------------------------------------------------------------------


@contextmanager
def announcing(message: bytes) -> Iterator[None]:
    """A session in which somebody says this, whatever was to be said, and in which nobody's data lives here."""
    with tacit.session() as session:
        transport: Any = session.transport
        transport.announce = lambda source, own: message
        transport.hosted = ("bob",)
        try:
            yield
        finally:
            session.end(TacitError("it is over"))


@target("tables that owners announce", lambda folder: [_table(), b"null"])
def announced_tables(folder: Path, data: bytes) -> None:
    with announcing(data):
        found = tacit.read_table(None, "alice", key="id", label="y")
        repr(found), len(found)


def _table() -> bytes:
    public = {
        "name": "t",
        "rows": 3,
        "columns": ["a", "b"],
        "label": "y",
        "classes": 2,
        "parts": 1,
        "alternatives": [1],
    }
    return json.dumps({"public": public}).encode()


@target("columns that owners announce", lambda folder: [b'{"public": ["a", "b"]}', b'{"public": 3}'])
def announced_columns(folder: Path, data: bytes) -> None:
    with announcing(_table()):
        table = tacit.read_table(None, "alice", key="id")
    with announcing(data):
        repr(table.prepared(tacit.prepare.Table()))


@target("rows that owners announce", lambda folder: [b'{"public": 2}'])
def announced_rows(folder: Path, data: bytes) -> None:
    from tacit.records.joining import single

    with announcing(_table()):
        table = tacit.read_table(None, "alice", key="id")
    with announcing(data):
        len(single(table, first=True))


@target("files that owners announce", lambda folder: [b'{"name": "x.csv", "rows": 3, "columns": [["a", "b"], ["y"]]}'])
def announced_files(folder: Path, data: bytes) -> None:
    from tacit.data.read import _public
    from tacit.session.announced import said_by

    said_by("alice", data, "a table", lambda said: _public("alice", said, 2))


@target(
    "data sets that parties announce",
    lambda folder: [b'{"rows": [3, 4], "kinds": [0, 0], "known": [[[["x", "float32", [4]]], 16]]}'],
)
def announced_sets(folder: Path, data: bytes) -> None:
    from tacit.datasets.open import _told
    from tacit.session.announced import said_by

    said_by("alice", data, "data set x", lambda said: _told(said, [bytes(32), b"\1" * 32]))


@target("models that owners announce", lambda folder: [b'["boosted numbers", 5, 2, 20, 4, 1]'])
def announced_models(folder: Path, data: bytes) -> None:
    from tacit.ensemble.outside import _announced as announced

    announced("alice", data)


# --- one server and its clients ---------------------------------------------------------------------------------------


@cache
def _traced() -> Any:
    from torch import nn

    from tacit.outside.graph.trace import traced

    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return traced(nn.Sequential(features, nn.Linear(2 * 9, 3), nn.Softmax(-1)).eval(), (1, 8, 8), "float32", 2)


@target("graphs of models", lambda folder: [_traced().graph.text, *GRAPHS], slow=True)
def graphs(folder: Path, data: bytes) -> None:
    from tacit.outside.graph.form import Graph
    from tacit.outside.graph.run import check

    check(Graph.parse(data))


def _graph(*nodes: Any, shape: tuple[int, ...] = (4,), result: int = 1) -> bytes:
    steps = {"nodes": list(nodes), "result": {"v": result}}
    return json.dumps(
        {
            "format": 1, "input": [list(shape), "float32"], "weights": [["w", [4, 3], "float32", 20]],
            "constants": [], "rows": {"2": steps},
        }
    ).encode()  # fmt: skip


GRAPHS = [
    _graph(["aten.mm.default", [{"v": 0}, {"w": 0}], {}, 1]),
    _graph(["aten.split.Tensor", [{"v": 0}, 2, 1], {}, 2], ["aten.add.Tensor", [{"v": 1}, {"v": 2}], {}, 1], result=3),
    _graph(["aten.repeat.default", [{"v": 0}, [1, 3]], {}, 1], ["aten.sum.dim_IntList", [{"v": 1}, [1]], {}, 1]),
    _graph(["aten.unbind.int", [{"v": 0}, 1], {}, 4]),
    _graph(["aten.expand.default", [{"v": 0}, [2, 4]], {}, 1], ["aten.cumsum.default", [{"v": 1}, 0], {}, 1], result=2),
    _graph(["aten.constant_pad_nd.default", [{"v": 0}, [1, 1], 0.0], {}, 1]),
    _graph(["aten.index_select.default", [{"v": 0}, 1, {"c": 0}], {}, 1]),
    _graph(["aten._to_copy.default", [{"v": 0}], {"dtype": {"d": "float64"}}, 1]),
]


@target("greetings of a server", lambda folder: [_called()])
def called_by(folder: Path, data: bytes) -> None:
    from tacit.outside.pairing import called

    called(Bytes(data), "the server", "", None)


def _called() -> bytes:
    from importlib.metadata import version

    serves = {"shape": [1, 8, 8], "dtype": "float32", "batch": 2}
    pair = {"wire": WIRE_VERSION, "version": version("tacit"), "model": "sha256:" + "0" * 64, "nonce": "ab" * 32}
    return _head(tacit=2, role="server", frac_bits=16, serves=serves, pair=pair)


@target("greetings of a client", lambda folder: [_calls()])
def calls(folder: Path, data: bytes) -> None:
    from tacit.outside.pairing import Terms, welcomed

    welcomed(Bytes(data), "the client", Terms("server", 16, Plan((4,)), "sha256:" + "0" * 64))


def _calls() -> bytes:
    from importlib.metadata import version

    pair = {"wire": WIRE_VERSION, "version": version("tacit"), "nonce": "cd" * 32, "knows": ""}
    return _head(pair=pair)


@target("requests of a client", lambda folder: [b'{"rows": 2}', b'{"prepare": 4}'])
def requests(folder: Path, data: bytes) -> None:
    from tacit.predictions.attendant import _asked

    _asked(data)


@target("waits that a server asks for", lambda folder: [b'{"wait": 0.5}', b"{}"])
def waits(folder: Path, data: bytes) -> None:
    from types import SimpleNamespace

    from tacit.outside.partner import _heard

    _heard(_meeting(SimpleNamespace(parties=("server", "client"), announce=lambda source, own: data)), "the server")


def _meeting(session: Any) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(protocol=SimpleNamespace(session=session))
