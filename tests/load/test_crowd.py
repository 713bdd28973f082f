"""Sixty-four clients at once, a quarter of them hostile, at servers that are processes of their own. Slow."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tacit.serve import Client
from tacit.session.config import Config

from .measured import anonymous
from .serving import ANSWER, Servers

HONEST = 48
REQUESTS = 12

HOSTILE = """
import asyncio, os, sys
from tacit.outside.deployment import Deployment
from tacit.outside.wire import Connection

DEPLOYMENT = Deployment.load(sys.argv[1])
KINDS = ("half_open", "oversized", "garbage", "slow")
EACH = 4
HUGE = {"rows": 1 << 40, "fields": [["x", "float32", [1 << 20]]]}
LARGE = {"rows": 1 << 21, "fields": [["x", "float32", [32]]]}
ASKED = {"rows": 1, "fields": [["x", "float32", [16]]]}
times = dict.fromkeys(KINDS, 0)


async def opened(place, here, *, tls=True):
    server = DEPLOYMENT.servers[place]
    return await asyncio.open_connection(
        *server.address, ssl=server.context(None) if tls else None, local_addr=(here, 0)
    )


async def half_open(place, here):
    "Connect, without a handshake or with one, and say nothing."
    reader, writer = await opened(place, here, tls=times["half_open"] % 2 == 0)
    await asyncio.wait_for(reader.read(), 5)


async def oversized(place, here):
    "Announce more than there is."
    for do, schema in (("predict", HUGE), ("submit", HUGE), ("submit", LARGE), ("predict", LARGE)):
        reader, writer = await opened(place, here)
        connection = Connection(reader, writer, "server", 5)
        await connection.receive()
        await connection.send(do=do, dataset="d", id=os.urandom(16).hex(), schema=schema, frac_bits=16, form="seed")
        await connection.send_body([memoryview(os.urandom(16))])
        try:
            await connection.receive()
        finally:
            connection.drop()
    reader, writer = await opened(place, here)
    writer.write(b"\\xff" * 4 + bytes(1 << 20))
    await reader.read()


async def garbage(place, here):
    "Send random bytes, within TLS and without."
    for tls in (True, False):
        reader, writer = await opened(place, here, tls=tls)
        for _ in range(50):
            writer.write(os.urandom(4096))
            await writer.drain()
        writer.close()


async def slow(place, here):
    "Send a request byte by byte."
    reader, writer = await opened(place, here)
    connection = Connection(reader, writer, "server", 5)
    await connection.receive()
    await connection.send(do="predict", id=os.urandom(16).hex(), schema=ASKED)
    for byte in os.urandom(16 * 8):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)
    await connection.receive()


async def for_ever(kind, number):
    while True:
        try:
            times[kind] += 1
            await globals()[kind](number % 2, f"127.0.0.{2 + KINDS.index(kind)}")
        except Exception:
            await asyncio.sleep(0.02)


async def main():
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    tasks = [asyncio.create_task(for_ever(kind, number)) for kind in KINDS for number in range(EACH)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(min(times.values()), flush=True)
    os._exit(0)


asyncio.run(main())
"""


@contextmanager
def hostile(config: Path) -> Iterator[None]:
    """Sixteen that never stop, in a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOSTILE, str(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1)
        yield
        said, _ = process.communicate("\n", timeout=20)
        assert int(said) >= 4  # each of them has done its worst
    finally:
        process.kill()
        process.communicate()


def asked(config: Config) -> list[float]:
    """What all the honest ones wait, at once; whoever is refused raises."""
    here = threading.Barrier(HONEST)

    def ask(_: int) -> list[float]:
        latencies = []
        with Client(config, timeout=30) as client:
            client.plan  # noqa: B018, it connects
            here.wait(60)
            for _ in range(REQUESTS):
                start = time.perf_counter()
                found = client.predict(torch.ones(16))
                latencies.append(time.perf_counter() - start)
                assert (found - torch.tensor(ANSWER)).abs().max() < 1e-2
        return latencies

    with ThreadPoolExecutor(HONEST) as pool:
        return [seconds for latencies in pool.map(ask, range(HONEST)) for seconds in latencies]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixty_four_clients_some_of_them_hostile(tmp_path: Path) -> None:
    with Servers(tmp_path) as servers:
        alone = sorted(asked(servers.config))
        before = {role: anonymous(pid) for role, pid in servers.pids.items()}
        with hostile(servers.path):
            beside = sorted(asked(servers.config))
            grown = {role: anonymous(pid) - before[role] for role, pid in servers.pids.items()}

    print()
    for name, seconds in (("alone", alone), ("beside hostile ones", beside)):
        middle, most = seconds[len(seconds) // 2], seconds[-1]
        print(f"{HONEST} honest clients {name}: {1000 * middle:.0f} ms in the middle, {1000 * most:.0f} at most")
    print({role: f"{size / 2**20:+.1f} MiB" for role, size in grown.items()})
    assert len(beside) == HONEST * REQUESTS
    assert beside[-1] < 5.0
    assert max(grown.values()) < 64 << 20
    assert f"answered {2 * HONEST * REQUESTS} requests" in servers.said["server0"]
    assert "refused 0" in servers.said["server0"]
    assert {process.returncode for process in servers.processes.values()} == {0}
