"""Submissions enter a data set at all servers as a whole, or change nothing; `open_dataset` gives back what went in."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import tacit
from tacit.datasets import store
from tacit.datasets.intake import Doors
from tacit.datasets.store import Limits, Store, StoredSubmission
from tacit.errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DataError,
    EncodingError,
    PeerLost,
    Refused,
)
from tacit.net.certificates import make_certificate
from tacit.outside import sharing
from tacit.outside.client import Connection
from tacit.outside.deployment import Deployment
from tacit.outside.door import Door
from tacit.outside.schema import Schema
from tacit.outside.sharing import expand
from tacit.products import Serving
from tacit.serve import Client
from tacit.session.config import Config

from .conftest import Deploy


def files(config: Config) -> list[str]:
    """Everything that the servers keep."""
    root = Path(config.of(Serving).data)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def opened(config: Config, name: str) -> dict[str, torch.Tensor]:
    with tacit.session(parties=config.parties):
        data = tacit.open_dataset(name, config.of(Serving).data)
        return {key: tacit.reveal(data[key]) for key in data.names}


# --- what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [2, 3])
def test_rows_of_many_providers_come_back_in_one_order(deploy: Deploy, parties: int) -> None:
    config = deploy(parties)
    images, labels = torch.randn(7, 1, 4, 4), torch.randint(-(1 << 62), 1 << 62, (7,))

    with Doors(config, *config.parties):
        for rows in (slice(0, 3), slice(3, 4), slice(4, 7)):
            with Client(config) as client:
                receipt = client.submit({"x": images[rows], "y": labels[rows]}, "lesions")
    back = opened(config, "lesions")

    assert (receipt.rows, receipt.servers) == (3, config.parties)
    assert (back["x"] - images).abs().max() <= 2**-16
    assert torch.equal(back["y"], labels)
    assert back["y"].dtype == torch.int64


def test_the_ends_of_the_range_and_all_dtypes(deploy: Deploy) -> None:
    config = deploy()
    most = float(2**46 - 2**22)  # which float32 can say
    data = {
        "wide": torch.tensor([[most, -most, 0.0, 2.0**-16]], dtype=torch.float64),
        "half": torch.tensor([[0.5, -2.0]], dtype=torch.float16),
        "bytes": torch.tensor([[0, 255]], dtype=torch.uint8),
        "flags": torch.tensor([[True, False]]),
        "whole": torch.tensor([[1 - (1 << 62), (1 << 62) - 1]]),
    }

    with Doors(config, *config.parties), Client(config) as client:
        client.submit(data, "ends")
    back = opened(config, "ends")

    for name, value in data.items():
        assert torch.equal(back[name].to(torch.float64), value.to(torch.float64)), name


@pytest.mark.parametrize("elements", [1, 1 << 10, (1 << 17) + 3])
def test_shares_of_all_sizes(deploy: Deploy, elements: int) -> None:
    config = deploy(3)
    values = torch.randint(1 - (1 << 62), (1 << 62) - 1, (elements,))
    sent: list[tuple[int, int]] = []

    with Doors(config, *config.parties), Client(config) as client:
        client.submit({"a": values, "b": values + 1}, "big", progress=lambda *at: sent.append(at))
    back = opened(config, "big")

    assert torch.equal(back["a"], values)
    assert torch.equal(back["b"], values + 1)
    assert sent[-1] == (16 * elements, 16 * elements)


def test_batches_and_loaders_open_every_row_once(deploy: Deploy) -> None:
    config = deploy()
    x, y = torch.randn(10, 3), torch.arange(10)
    with Doors(config, *config.parties), Client(config) as client:
        client.submit({"x": x[:6], "y": y[:6]}, "rows")
        client.submit({"x": x[6:], "y": y[6:]}, "rows")

    with tacit.session(parties=config.parties) as session:
        data = tacit.open_dataset("rows", config.of(Serving).data)
        before = session.meter.cost
        seen = []
        for xb, yb in data.batches(4, epochs=3):
            xb @ xb.t()
            seen.append(tacit.reveal(yb))
        cost = session.meter.cost - before
        pairs = [(tacit.reveal(a), tacit.reveal(b)) for a, b in DataLoader(data, batch_size=5)]

    assert torch.equal(torch.cat(seen).view(3, 10).sort().values, y.expand(3, 10))
    # every element of x once under its mask; what is revealed (y, 8 bytes three times) goes to the other party
    assert cost.online["server0"] == 8 * x.numel() + 3 * 8 * 10
    assert (torch.cat([a for a, _ in pairs]) - x).abs().max() <= 2**-16
    assert torch.equal(torch.cat([b for _, b in pairs]), y)
    assert len(data) == 10
    assert "hidden" in repr(data["x"])


def test_what_is_not_remembered_is_opened_in_every_epoch(deploy: Deploy) -> None:
    config = deploy()
    x = torch.randn(10, 3)
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(x, "rows")

    with tacit.session(parties=config.parties) as session:
        data = tacit.open_dataset("rows", config.of(Serving).data, remember=False)
        before, total = session.meter.cost, 0.0
        for (xb,) in data.batches(5, epochs=3):
            total = total + (xb * xb).sum()
        cost = session.meter.cost - before
        norm = tacit.reveal(total)

    assert cost.online["server0"] == 3 * 8 * x.numel()
    assert norm == pytest.approx(3 * float(x.square().sum()), rel=1e-3)


def test_fractional_bits_belong_to_a_data_set(deploy: Deploy) -> None:
    config = deploy(frac_bits=20)
    x = torch.randn(5, 3)
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(x, "d")

    with tacit.session(parties=config.parties, frac_bits=20):
        back = tacit.reveal(tacit.open_dataset("d", config.of(Serving).data)["x"])

    assert (back - x).abs().max() <= 2**-20
    with pytest.raises(DataError, match="submitted with 20 fractional bits, but this session has 16"):
        opened(config, "d")


def test_a_submission_withdrawn_at_one_server_does_not_count(deploy: Deploy) -> None:
    config = deploy()
    with Doors(config, *config.parties), Client(config) as client:
        receipts = [client.submit(torch.full((2,), float(i)), "d") for i in range(3)]
    assert len(opened(config, "d")["x"]) == 6

    shutil.rmtree(Path(config.of(Serving).data) / "server1" / "d" / receipts[1].id)

    assert opened(config, "d")["x"].tolist() == [0, 0, 2, 2]
    assert not [path for path in files(config) if "joined" in path]  # nothing keeps the withdrawn rows
    assert not [path for path in files(config) if path.startswith("server1") and receipts[1].id in path]


def test_data_that_cannot_be_shared_is_refused_before_anything_is_sent(deploy: Deploy) -> None:
    client = Client(deploy())  # no server listens

    with pytest.raises(EncodingError, match=r"x holds a number at index \(1, 2\) that is NaN"):
        client.submit(torch.tensor([[1.0, 2, 3], [4, 5, float("nan")]]), "d")
    with pytest.raises(EncodingError, match="too large"):
        client.submit(torch.tensor([2.0**46]), "d")
    for n in (1 << 62, -(1 << 62), -(1 << 63)):
        with pytest.raises(EncodingError, match=r"integers are below 2\^62"):
            client.submit(torch.tensor([n]), "d")
    with pytest.raises(DataError, match="different numbers of rows"):
        client.submit({"x": torch.zeros(2), "y": torch.zeros(3)}, "d")
    with pytest.raises(DataError, match="at least one row"):
        client.submit(torch.zeros(0, 3), "d")
    with pytest.raises(DataError, match="scalar"):
        client.submit(1.0, "d")
    with pytest.raises(DataError, match="complex"):
        client.submit(torch.zeros(2, dtype=torch.complex64), "d")
    with pytest.raises(ConfigError, match="cannot name a data set"):
        client.submit(torch.zeros(2), "../d")
    with pytest.raises(ConnectError, match=r"server0 .* cannot be reached"):
        client.submit(torch.zeros(2), "d")
    client.close()


def test_a_client_that_is_forgotten_hangs_up(deploy: Deploy) -> None:
    config = deploy()

    with Doors(config, *config.parties) as doors:
        Client(config).submit(torch.ones(1), "d")
        gc.collect()
        wait_until(lambda: not any(len(door.crowd) for door in doors.each))
        wait_until(lambda: all(thread.name != "tacit-client" for thread in threading.enumerate()))

    assert len(opened(config, "d")["x"]) == 1


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def settled(deploy: Deploy) -> Any:
    """A deployment whose data set "d" has one row, and what its servers keep."""
    config = deploy()
    with Doors(config, *config.parties, limits=Limits(submission_bytes=1 << 20)) as doors:
        with Client(config) as client:
            client.submit(torch.ones(1, 2), "d")
        yield config, doors, files(config)


HEAD: dict[str, Any] = {"do": "submit", "dataset": "d", "frac_bits": 16, "form": "share"}
SCHEMA = Schema.parse({"rows": 1, "fields": [["x", "float32", [2]]]})


def by_hand(config: Config, act: Callable[[list[Connection]], Coroutine[Any, Any, None]]) -> None:
    """Speak to the servers as no honest client would."""
    client = Client(config, timeout=10)
    try:
        client._run(lambda: _with_connections(client, act))
    finally:
        client.close()


async def _with_connections(client: Client, act: Callable[[list[Connection]], Coroutine[Any, Any, None]]) -> None:
    await act(await client._connected())


async def _stage(connection: Connection, identity: str, **other: Any) -> None:
    await connection.send(**{**HEAD, "id": identity, "schema": SCHEMA.literal(), **other})
    assert await connection.receive() == {"ok": "send"}
    await connection.send_body([memoryview(bytes(16))])
    assert await connection.receive() == {"ok": "staged"}


async def _commit(connection: Connection) -> None:
    await connection.send(do="commit")
    assert (await connection.receive())["ok"] == "committed"


def test_what_only_one_server_has_does_not_count(settled: Any) -> None:
    config, _, _ = settled

    async def one_sided(servers: list[Connection]) -> None:
        await _stage(servers[0], "ab" * 16)
        await _commit(servers[0])

    by_hand(config, one_sided)

    assert len(Store(Path(config.of(Serving).data) / "server0").submissions("d")) == 2
    assert torch.equal(opened(config, "d")["x"], torch.ones(1, 2))


def test_a_data_set_that_no_two_servers_share_cannot_be_opened(settled: Any) -> None:
    config, _, _ = settled

    async def one_sided(servers: list[Connection]) -> None:
        await _stage(servers[1], "ab" * 16, dataset="lonely")
        await _commit(servers[1])

    by_hand(config, one_sided)

    with pytest.raises(DataError, match=r"no submission that all parties hold \(0 at server0, 1 at server1\)"):
        opened(config, "lonely")
    with pytest.raises(DataError, match="0 at server0, 0 at server1"):
        opened(config, "nothing")


def test_the_same_identity_twice_is_refused(settled: Any) -> None:
    config, _, before = settled
    identity = Store(Path(config.of(Serving).data) / "server0").submissions("d")[0].id

    async def again(servers: list[Connection]) -> None:
        await servers[0].send(**{**HEAD, "id": identity, "schema": SCHEMA.literal()})
        with pytest.raises(Refused, match="is here already"):
            await servers[0].receive()

    by_hand(config, again)

    assert files(config) == before


def test_other_schemas_under_one_identity_do_not_count(settled: Any) -> None:
    config, _, _ = settled
    two_rows = Schema.parse({"rows": 2, "fields": [["x", "float32", [2]]]})

    async def two_faced(servers: list[Connection]) -> None:
        await _stage(servers[0], "ab" * 16)
        await _commit(servers[0])
        await servers[1].send(**{**HEAD, "id": "ab" * 16, "schema": two_rows.literal()})
        await servers[1].receive()
        await servers[1].send_body([memoryview(bytes(32))])
        await servers[1].receive()
        await _commit(servers[1])

    by_hand(config, two_faced)

    assert torch.equal(opened(config, "d")["x"], torch.ones(1, 2))


@pytest.mark.parametrize(
    "data",
    [
        torch.ones(1, 3),
        torch.ones(1, 2, dtype=torch.int64),
        {"y": torch.ones(1, 2)},
        {"x": torch.ones(1, 2), "y": torch.ones(1)},
    ],
    ids=["shape", "dtype", "name", "more"],
)
def test_the_wrong_kind_is_refused_with_what_is_expected(settled: Any, data: Any) -> None:
    config, _, before = settled

    with Client(config) as client, pytest.raises(Refused, match=r"data set d holds x: float32 of shape \(rows, 2\)"):
        client.submit(data, "d")

    assert files(config) == before


def test_too_large_a_submission_is_refused_before_it_is_sent(settled: Any) -> None:
    config, _, before = settled

    with Client(config) as client, pytest.raises(Refused, match="131072 elements, not 131073"):
        client.submit(torch.zeros(131073), "large")
    with Client(config) as client:
        client.submit(torch.zeros(131072), "large")

    assert len(files(config)) == len(before) + 6


@pytest.mark.parametrize("step", ["nothing", "half", "staged", "other words"])
def test_a_provider_that_breaks_off_leaves_nothing(settled: Any, step: str) -> None:
    config, doors, before = settled

    async def break_off(servers: list[Connection]) -> None:
        for server in servers:
            await server.send(**{**HEAD, "id": "cd" * 16, "schema": SCHEMA.literal()})
            assert await server.receive() == {"ok": "send"}
            if step != "nothing":
                await server.send_body([memoryview(bytes(16 if step in ("staged", "other words") else 9))])
            if step in ("staged", "other words"):
                assert await server.receive() == {"ok": "staged"}
            if step == "other words":
                await server.send(do="dance")
                with pytest.raises(Refused):
                    await server.receive()
        for server in servers:
            server.drop()

    by_hand(config, break_off)
    wait_until(lambda: not any(len(door.crowd) for door in doors.each))

    assert files(config) == before
    assert not any(intake.store._staged for intake in doors.intakes)


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        asyncio.run(asyncio.sleep(0.01))
    raise AssertionError("it did not happen within 5 s")


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"do": "dance"},
        {"do": ["submit"]},
        {"do": {"submit": 1}, "id": []},
        {**HEAD, "id": "ab" * 16},
        {**HEAD, "id": "ab" * 16, "schema": {"rows": 0, "fields": []}},
        {**HEAD, "id": "ab" * 16, "schema": {"rows": 1, "fields": [["../x", "float32", [2]]]}},
        {**HEAD, "id": "ab" * 16, "schema": {"rows": 1, "fields": [["x", "pickle", [2]]]}},
        {**HEAD, "id": "ab" * 16, "schema": {"rows": 1, "fields": [["x", "float32", [-2]]]}},
        {**HEAD, "id": "ab" * 16, "schema": {"rows": 1 << 39, "fields": [["x", "float32", [1 << 39]]]}},
        {**HEAD, "id": "../../../etc", "schema": SCHEMA.literal()},
        {**HEAD, "id": "ab" * 16, "schema": SCHEMA.literal(), "dataset": "../up"},
        {**HEAD, "id": "ab" * 16, "schema": SCHEMA.literal(), "dataset": ".staging"},
        {**HEAD, "id": "ab" * 16, "schema": SCHEMA.literal(), "frac_bits": 20},
    ],
)
def test_nonsense_is_refused_in_words_and_the_connection_stays(settled: Any, head: dict[str, Any]) -> None:
    config, _, before = settled

    async def talk(servers: list[Connection]) -> None:
        for _ in range(2):
            await servers[0].send(**head)
            with pytest.raises(Refused):
                await servers[0].receive()

    by_hand(config, talk)

    assert files(config) == before


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\x02\x00\x00\x00[]", os.urandom(64)],
    ids=["http", "ones", "list", "random"],
)
def test_junk_ends_the_connection_and_nothing_else(settled: Any, junk: bytes) -> None:
    config, _, before = settled

    async def babble(servers: list[Connection]) -> None:
        await servers[0].send_body([memoryview(junk)])
        with pytest.raises(PeerLost):
            await servers[0].receive()

    by_hand(config, babble)
    with Client(config) as client:
        client.submit(torch.ones(1, 2), "d")

    assert len(files(config)) == len(before) + 4


def test_a_server_that_is_down_keeps_the_others_as_they_were(deploy: Deploy) -> None:
    config = deploy()

    with Doors(config, "server0") as doors:
        with Client(config) as client, pytest.raises(ConnectError, match=r"server1 .* cannot be reached"):
            client.submit(torch.ones(3), "d")
        wait_until(lambda: not len(doors.each[0].crowd))

    assert files(config) == []


def hang_up_on_all(door: Door) -> None:
    for visit in door.crowd.visits():  # from the thread that is at the disk
        door._accepting[0].get_loop().call_soon_threadsafe(visit.connection.drop)


def test_a_lost_confirmation_is_found_out(settled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, doors, _ = settled
    commit = doors.intakes[1].store.commit

    def commit_and_hang_up(staged: Any) -> Any:
        stored = commit(staged)
        hang_up_on_all(doors.each[1])
        return stored

    monkeypatch.setattr(doors.intakes[1].store, "commit", commit_and_hang_up)
    with Client(config) as client:
        receipt = client.submit(torch.full((1, 2), 2.0), "d")

    assert torch.equal(opened(config, "d")["x"], torch.tensor([[1.0, 1], [2, 2]]))
    assert receipt.rows == 1


def test_a_server_that_loses_a_submission_says_so(settled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, doors, _ = settled

    monkeypatch.setattr(doors.intakes[1].store, "commit", lambda staged: hang_up_on_all(doors.each[1]))
    with Client(config) as client, pytest.raises(Refused, match=r"server1 .* lost the submission before it counted"):
        client.submit(torch.full((1, 2), 2.0), "d")

    assert torch.equal(opened(config, "d")["x"], torch.ones(1, 2))


def test_what_a_crash_left_in_staging_is_cleared(deploy: Deploy) -> None:
    config = deploy()
    left = Path(config.of(Serving).data) / "server0" / ".staging" / ("ab" * 16)
    left.mkdir(parents=True)
    (left / "share.safetensors").write_bytes(b"half a share")

    with Doors(config, *config.parties):
        assert files(config) == []


# --- who is who -------------------------------------------------------------------------------------------------------


def test_a_client_sends_nothing_to_a_server_with_another_certificate(deploy: Deploy, tmp_path: Path) -> None:
    config = deploy()
    right = Deployment.load(config)
    pem = make_certificate(tmp_path / "other", "server0").read_text()
    wrong = Deployment(tuple(type(s)(s.name, s.address, pem) for s in right.servers), right.frac_bits)

    with Doors(config, *config.parties), Client(wrong) as eve, pytest.raises(AuthenticationError, match="not the one"):
        eve.submit(torch.ones(1), "d")

    assert files(config) == []


def test_servers_work_for_their_providers_only(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "providers").mkdir()
    own = tmp_path / "own"
    make_certificate(own, "clinic.1")
    make_certificate(own, "eve")
    (tmp_path / "providers" / "clinic.1.crt").write_bytes((own / "clinic.1.crt").read_bytes())
    config = deploy(providers="providers")

    with Doors(config, *config.parties):
        with Client(config) as stranger, pytest.raises(AuthenticationError):
            stranger.submit(torch.ones(1), "d")
        with Client(config, identity=own / "eve.key") as eve, pytest.raises(AuthenticationError):
            eve.submit(torch.ones(1), "d")
        with Client(config, identity=own / "clinic.1") as clinic:
            clinic.submit(torch.ones(1), "d")
    entries = Store(Path(config.of(Serving).data) / "server1").submissions("d")

    assert [entry.provider for entry in entries] == ["clinic.1"]


def test_the_public_file_is_all_that_a_client_needs(deploy: Deploy, tmp_path: Path) -> None:
    config = deploy()
    Deployment.of(config).save(tmp_path / "public.json")

    with Doors(config, *config.parties), Client(tmp_path / "public.json") as client:
        client.submit(torch.ones(1), "d")

    assert "PRIVATE" not in (tmp_path / "public.json").read_text()
    assert torch.equal(opened(config, "d")["x"], torch.ones(1))
    (tmp_path / "public.json").write_text('{"format": "tacit-public-1", "servers": {}}')
    with pytest.raises(ConfigError, match="not a public file"):
        Client(tmp_path / "public.json")


# --- privacy ----------------------------------------------------------------------------------------------------------


def uniform(data: bytes) -> bool:
    """Whether the bytes look uniform (χ² of 255 degrees of freedom; far beyond 10 standard deviations otherwise)."""
    counts = torch.bincount(torch.frombuffer(bytearray(data), dtype=torch.uint8), minlength=256).double()
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 450


def integers(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.int64)


def share_of(submission: StoredSubmission) -> torch.Tensor:
    """What a server keeps of a submission: its share, or what its seed stands for."""
    return integers(b"".join(bytes(piece) for _, piece in store.content(submission)))


def private(config: Config, value: float) -> bool:
    """Whether what each server keeps of four equal submissions, and any two servers together, is uniform and fresh."""
    with Doors(config, *config.parties), Client(config) as client:
        for _ in range(4):
            client.submit(torch.full((4000,), value), "d")
    held = {}
    for party in config.parties:
        held[party] = [share_of(each) for each in Store(Path(config.of(Serving).data) / party).submissions("d")]
    total = sum(shares[0] for shares in held.values())
    assert torch.equal(torch.as_tensor(total), torch.full((4000,), int(value * 2**16)))
    seen = [share for shares in held.values() for share in shares]
    seen += [a - b for shares in held.values() for a, b in combinations(shares, 2)]
    seen += [a[0] + b[0] for a, b in combinations(held.values(), 2)]
    return all(uniform(share.numpy().tobytes()) for share in seen)


@pytest.mark.parametrize("value", [0.0, -1.0, 1234.5])
def test_what_servers_keep_says_nothing_of_what_was_submitted(deploy: Deploy, value: float) -> None:
    assert private(deploy(3), value)


def zeros(seed: bytes, sizes: Sequence[int], purpose: str) -> Iterator[torch.Tensor]:
    for _, part in sharing.pieces(sizes):
        yield torch.zeros(part.stop - part.start, dtype=torch.int64)


def one_stream(seed: bytes, sizes: Sequence[int], purpose: str) -> Iterator[torch.Tensor]:
    return expand(bytes(16), sizes, purpose)


@pytest.mark.parametrize("mutant", [zeros, one_stream])
def test_the_privacy_test_convicts_shares_that_are_not_masked_or_not_fresh(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, mutant: Any
) -> None:  # fmt: skip
    for module in (sharing, store):
        monkeypatch.setattr(module, "expand", mutant)

    assert not private(deploy(3), 1234.5)


def test_nothing_secret_is_logged(settled: Any, caplog: pytest.LogCaptureFixture) -> None:
    config, _, _ = settled
    caplog.set_level(logging.DEBUG)

    with Client(config) as client:
        client.submit(torch.full((1, 2), 424242.0), "d")
        with pytest.raises(Refused):
            client.submit(torch.full((1, 3), 424242.0), "d")
    text = caplog.text
    kept = [each for p in config.parties for each in Store(Path(config.of(Serving).data) / p).submissions("d")]
    numbers = [str(n) for each in kept for n in share_of(each).tolist()]

    assert "1 rows from anonymous" in text
    assert not any(number in text for number in [*numbers, "424242", str(424242 << 16)])


def test_doors_need_an_address_that_is_free(deploy: Deploy) -> None:
    config = deploy()

    with Doors(config, "server0"), pytest.raises(ConnectError, match="server0 cannot listen for clients"):
        Doors(config, "server0").__enter__()
    with pytest.raises(ConfigError, match="not to crypto-producer"):
        Doors(config, "crypto-producer")
    with pytest.raises(ConfigError, match="no addresses for clients"):
        Doors(Config.embedded(("server0", "server1")), "server0")
