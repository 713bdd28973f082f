"""A door with hostile clients before it: what they can take is bounded, and honest ones come through."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import torch

import tacit
from tacit.datasets import store
from tacit.datasets.store import Store
from tacit.errors import DataError, Overloaded, PeerLost, PeerStalled, Refused
from tacit.outside import door as door_module
from tacit.outside.receipts import Receipts
from tacit.outside.wire import Connection
from tacit.products import Serving
from tacit.serve import Client, Doors
from tacit.session.config import Config

from .conftest import Deploy
from .test_submit import HEAD, SCHEMA, _commit, _stage, by_hand, files, opened, wait_until

OTHER = {"rows": 1, "fields": [["x", "float32", [3]]]}


def folder(config: Config) -> Path:
    return Path(config.of(Serving).data)


def kept_bytes(config: Config) -> int:
    return sum(path.stat().st_size for path in folder(config).rglob("*") if path.is_file())


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_a_seed_takes_as_much_room_as_was_sent_until_it_counts(deploy: Deploy) -> None:
    config = deploy()
    huge = {"rows": 1 << 20, "fields": [["x", "float32", [32]]]}  # 256 MiB in full

    async def one_sided(servers: list[Connection]) -> None:
        await servers[0].send(**{**HEAD, "id": "ab" * 16, "schema": huge, "form": "seed", "dataset": "fill"})
        assert await servers[0].receive() == {"ok": "send"}
        await servers[0].send_body([memoryview(bytes(16))])
        assert await servers[0].receive() == {"ok": "staged"}
        await _commit(servers[0])

    with Doors(config, *config.parties):
        start = time.monotonic()
        by_hand(config, one_sided)

    assert time.monotonic() - start < 10
    assert kept_bytes(config) < 2000
    with pytest.raises(DataError, match="1 at server0, 0 at server1"):
        opened(config, "fill")


@pytest.mark.parametrize("submissions", [1, 3])
def test_what_servers_keep_as_a_seed_opens_as_what_was_submitted(deploy: Deploy, submissions: int) -> None:
    config = deploy(3)
    x, y = torch.randn(4, 5), torch.arange(4)

    with Doors(config, *config.parties), Client(config) as client:
        for _ in range(submissions):
            client.submit({"x": x, "y": y}, "d")
    back = opened(config, "d")

    assert (back["x"] - x.repeat(submissions, 1)).abs().max() <= 2**-16
    assert torch.equal(back["y"], y.repeat(submissions))
    forms = [[each.seeded for each in Store(folder(config) / p).submissions("d")] for p in config.parties]
    assert sum(map(sum, forms)) == 2 * submissions  # one of three has it in full
    assert not [path for path in files(config) if "joined" in path]


def test_a_seed_that_is_damaged_is_an_error(deploy: Deploy) -> None:
    config = deploy()
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(torch.ones(2), "d")
    (seed,) = folder(config).rglob("seed")

    seed.write_bytes(bytes(15))
    with pytest.raises(DataError, match="has 16 bytes, not 15"):
        opened(config, "d")
    seed.unlink()
    with pytest.raises(DataError, match=r"seed of submission .* cannot be read"):
        opened(config, "d")


# --- the names of data sets -------------------------------------------------------------------------------------------


def test_half_submissions_keep_a_name_for_a_while_only(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    config, clock = deploy(), Clock()
    monkeypatch.setattr(store, "time", clock)

    async def squat(servers: list[Connection]) -> None:
        await _stage(servers[0], "ab" * 16)
        await _commit(servers[0])
        clock.now += 1
        await servers[1].send(**{**HEAD, "id": "cd" * 16, "schema": OTHER})
        await servers[1].receive()
        await servers[1].send_body([memoryview(bytes(24))])
        await servers[1].receive()
        await _commit(servers[1])

    with Doors(config, *config.parties):
        by_hand(config, squat)
        with Client(config) as client:
            with pytest.raises(Refused, match="data set d is reserved for x: float32") as refused:
                client.submit(torch.ones(2, 4), "d")
            assert refused.value.after == pytest.approx(60, abs=0.01)  # at server1, which is asked second
            clock.now += 60.1
            client.submit(torch.ones(2, 4), "d")
            by_hand(config, lambda servers: expect_refusal(servers[0], "d holds x: float32 of shape .rows, 4."))
            client.submit(torch.ones(1, 4), "d")

    assert torch.equal(opened(config, "d")["x"], torch.ones(3, 4))


class Clock:
    """Stands for the module `time`."""

    now = 1e9

    def time(self) -> float:
        return self.now


async def expect_refusal(server: Connection, why: str) -> None:
    await server.send(**{**HEAD, "id": "ef" * 16, "schema": OTHER})
    with pytest.raises(Refused, match=why):
        await server.receive()


def test_submissions_of_other_tensors_are_left_out_with_a_warning(deploy: Deploy) -> None:
    config = deploy(client_limits={"reserved": 0.1})
    schemas = {"ab" * 16: SCHEMA.literal(), "cd" * 16: OTHER}

    async def unsettled(servers: list[Connection]) -> None:
        for identity, schema in schemas.items():
            for server in servers:
                await server.send(**{**HEAD, "id": identity, "schema": schema, "form": "seed"})
                await server.receive()
                await server.send_body([memoryview(bytes(16))])
                await server.receive()
                await _commit(server)
            await asyncio.sleep(0.15)

    with Doors(config, *config.parties):
        by_hand(config, unsettled)

    with pytest.warns(UserWarning, match="data set d: 1 of 2 submissions have other tensors"):
        assert opened(config, "d")["x"].shape == (1, 2)


def test_receipts_of_all_servers_settle_and_no_others(deploy: Deploy) -> None:
    config = deploy()
    text = "what is held"
    each = {party: Receipts(config, party) for party in config.parties}
    good = {party: receipts.sign("d", text) for party, receipts in each.items()}
    judge = each["server0"]

    assert judge.prove("d", text, good)
    assert not judge.prove("e", text, good)
    assert not judge.prove("d", "something else", good)
    for wrong in (None, [], {}, {"server0": good["server0"]}, {**good, "server1": good["server0"]}):
        assert not judge.prove("d", text, wrong)
    for wrong in ("", "zz", "00", good["server1"][:-2], 7, None):
        assert not judge.prove("d", text, {**good, "server1": wrong})


def test_who_cannot_show_receipts_settles_nothing(deploy: Deploy) -> None:
    config = deploy()

    async def boast(servers: list[Connection]) -> None:
        await _stage(servers[0], "ab" * 16)
        await servers[0].send(do="commit")
        answer = await servers[0].receive()
        assert answer["settled"] is False
        for receipts in (None, {"server0": answer["receipt"], "server1": answer["receipt"]}):
            await servers[0].send(do="settle", dataset="d", id="ab" * 16, receipts=receipts)
            with pytest.raises(Refused, match="not the receipts of all servers"):
                await servers[0].receive()
        await servers[0].send(do="settle", dataset="d", id="cd" * 16, receipts={})
        with pytest.raises(Refused, match="no such submission"):
            await servers[0].receive()

    with Doors(config, *config.parties):
        by_hand(config, boast)
        assert json.loads((folder(config) / "server0" / "d" / "dataset.json").read_text())["settled"] is False
        with Client(config) as client:
            client.submit(torch.ones(1, 2), "d")
        assert [s.settled("d") for s in (Store(folder(config) / p) for p in config.parties)] == [
            True,
            True,
        ]


def test_data_sets_from_before_there_were_reservations_are_settled(deploy: Deploy) -> None:
    config = deploy()
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(torch.ones(1, 2), "d")
        for path in folder(config).glob("*/d/dataset.json"):
            old = json.loads(path.read_text())
            del old["settled"]
            path.write_text(json.dumps(old))
        with pytest.raises(Refused, match="data set d holds x"):
            client.submit(torch.ones(1, 3), "d")


# --- how much, and how fast -------------------------------------------------------------------------------------------


def test_a_client_may_submit_so_much_a_day(deploy: Deploy) -> None:
    config = deploy(client_limits={"daily_bytes": 4 << 20})

    with Doors(config, *config.parties), Client(config) as client:
        for _ in range(4):
            client.submit(torch.ones(1), "d")  # each counts for a MiB
        with pytest.raises(Overloaded, match=r"may submit 4\.\d+ MB a day") as refused:
            client.submit(torch.ones(1), "d")
        with pytest.raises(Refused, match="a day"):
            client.submit(torch.ones(1 << 20), "d")

    assert refused.value.after == pytest.approx(86400 / 4, rel=0.01)
    assert len(opened(config, "d")["x"]) == 4


def test_what_did_not_come_counts_for_nothing(deploy: Deploy) -> None:
    config = deploy(client_limits={"daily_bytes": 1 << 20})

    async def break_off(servers: list[Connection]) -> None:
        for _ in range(3):
            await servers[0].send(**{**HEAD, "id": "ab" * 16, "schema": {"rows": 0}})
            with pytest.raises(Refused):
                await servers[0].receive()
        await servers[0].send(**{**HEAD, "id": "ab" * 16, "schema": SCHEMA.literal()})
        await servers[0].receive()
        servers[0].drop()

    with Doors(config, *config.parties) as doors:
        by_hand(config, break_off)
        wait_until(lambda: not any(len(door.crowd) for door in doors.each))
        with Client(config) as client:
            client.submit(torch.ones(1), "d")


def test_only_so_many_submissions_of_one_client_are_under_way(deploy: Deploy) -> None:
    config = deploy(client_limits={"submissions": 1})

    async def second(servers: list[Connection]) -> None:
        await _stage(servers[0], "ab" * 16)
        with Client(config) as client, pytest.raises(Overloaded, match="1 submissions of this client") as refused:
            await asyncio.to_thread(client.submit, torch.ones(1), "d")
        assert refused.value.after == 1.0

    with Doors(config, *config.parties) as doors:
        by_hand(config, second)
        wait_until(lambda: not any(len(door.crowd) for door in doors.each))
        with Client(config) as client:
            client.submit(torch.ones(1), "d")


def test_a_client_that_trickles_is_sent_away(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "PATIENCE", 1.0)
    config = deploy(client_limits={"slowest": 1000})

    async def trickle(servers: list[Connection]) -> None:
        await servers[0].send(**{**HEAD, "id": "ab" * 16, "schema": SCHEMA.literal()})
        await servers[0].receive()
        for _ in range(15):
            await servers[0].send_body([memoryview(b"\1")])
            await asyncio.sleep(0.1)
        await servers[0].receive()

    with Doors(config, *config.parties) as doors:
        with pytest.raises((PeerLost, PeerStalled)):
            by_hand(config, trickle)
        assert not doors.intakes[0].store._staged
    assert files(config) == []


def test_servers_that_have_their_seeds_wait_for_the_one_that_gets_a_share(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    config = deploy(client_limits={"slowest": 10})
    patience: list[float | None] = []
    receive = Connection.receive

    async def watch(self: Connection, timeout: float | None = None) -> dict[str, Any]:
        patience.append(timeout)
        return await receive(self, timeout)

    monkeypatch.setattr(Connection, "receive", watch)
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(torch.ones(100), "d")

    assert patience.count(30 + 800 / 10) == 2


@pytest.mark.parametrize("step", ["stage", "write", "finish", "commit"])
def test_a_disk_that_is_full_is_said_and_changes_nothing(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:  # fmt: skip
    config = deploy()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/where/shares/are")

    with Doors(config, *config.parties) as doors, Client(config) as client:
        client.submit(torch.ones(1), "d")
        before = files(config)
        with monkeypatch.context() as patch:
            patch.setattr(store.Store if step in ("stage", "commit") else store.Staged, step, full)
            with pytest.raises(Refused, match="cannot write to its disk: No space left on device") as refused:
                client.submit(torch.ones(1), "d")
        wait_until(lambda: not any(len(door.crowd) for door in doors.each))
        assert files(config) == before
        client.submit(torch.ones(1), "d")

    assert "/where" not in str(refused.value)
    assert len(opened(config, "d")["x"]) == 2


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idle", [True, False])
def test_connections_of_one_host_leave_room_for_others(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    config = deploy(client_limits={"connections": 8})
    place = "10.0.0.1"
    monkeypatch.setattr(door_module, "place_of", lambda address: place)
    hogs: list[Client] = []

    async def hold(servers: list[Connection]) -> None:
        if not idle:
            await _stage(servers[0], f"{len(hogs):032x}")

    with Doors(config, *config.parties) as doors:
        try:
            for _ in range(8):
                hogs.append(Client(config, timeout=10))
                hogs[-1]._run(lambda client=hogs[-1]: with_connections(client, hold))  # type: ignore[misc]
            assert len(doors.each[0].crowd) == 8
            with Client(config) as another, pytest.raises(Overloaded, match="no room for another client") as refused:
                another.submit(torch.ones(1), "d")
            assert refused.value.after == 1.0
            place = "10.0.0.2"
            with Client(config) as honest:
                honest.submit(torch.ones(1), "d")
        finally:
            for hog in hogs:
                hog.close()


async def with_connections(client: Client, act: Callable[[list[Connection]], Coroutine[Any, Any, None]]) -> None:
    await act(await client._connected())


def test_requests_that_come_too_fast_are_slowed_down(deploy: Deploy) -> None:
    config = deploy(client_limits={"requests": 5})

    async def hurry(servers: list[Connection]) -> None:
        for _ in range(22):
            await servers[0].send(do="status", dataset="d", id="ab" * 16)
            assert await servers[0].receive() == {"held": False}

    with Doors(config, *config.parties):
        start = time.monotonic()
        by_hand(config, hurry)

    assert time.monotonic() - start >= 0.3  # 20 at once, and 5 a second


def test_status_reads_no_manifests(deploy: Deploy) -> None:
    config = deploy()
    with Doors(config, *config.parties), Client(config) as client:
        receipt = client.submit(torch.ones(1), "d")
        (folder(config) / "server0" / "d" / ("ab" * 16)).mkdir()
        (folder(config) / "server0" / "d" / ("ab" * 16) / "manifest.json").write_text("rubbish")

        async def ask(servers: list[Connection]) -> None:
            for identity, held in ((receipt.id, True), ("cd" * 16, False)):
                await servers[0].send(do="status", dataset="d", id=identity)
                assert await servers[0].receive() == {"held": held}
            for wrong in ({"dataset": "../d", "id": receipt.id}, {"dataset": "d", "id": "../" + receipt.id}, {}):
                await servers[0].send(do="status", **wrong)
                with pytest.raises(Refused):
                    await servers[0].receive()

        by_hand(config, ask)


def test_a_server_cannot_make_a_client_wait_for_ever(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = deploy()
    for after, told in ((float("inf"), None), (-1, None), ("7", None), (float("nan"), None), (3, 3.0)):
        says = {"refused": "overloaded", "why": "no", "after": after}
        monkeypatch.setattr(door_module, "refusal", lambda error, says=says: says)
        with Doors(config, *config.parties), Client(config) as client, pytest.raises(Overloaded) as refused:
            client._run(lambda client=client: with_connections(client, nonsense))  # type: ignore[misc]
        assert refused.value.after == told


async def nonsense(servers: list[Connection]) -> None:
    await servers[0].send(do="dance")
    await servers[0].receive()


def test_the_embedded_session_opens_what_came_through_a_door_in_plaintext(deploy: Deploy) -> None:
    config = deploy(tls="insecure-plaintext")
    with Doors(config, *config.parties), Client(config) as client:
        client.submit(torch.ones(2), "d")
        assert Store(folder(config) / "server0").settled("d")
    with tacit.session(parties=config.parties):
        assert len(tacit.open_dataset("d", config.of(Serving).data)) == 2
