"""The emulated wide-area network has the round trip and the rate that it was given, for any program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*command: str, hosts: int = 2, link: str = "40ms,350mbit") -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, str(BENCHMARKS / "wan.py"), link, str(hosts), *command]
    return subprocess.run(whole, capture_output=True, text=True, timeout=100, cwd=BENCHMARKS)


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    """Skip where this user may make no namespaces or TUN devices: then the message must say so."""
    done = run("true")
    if done.returncode:
        assert "no network of namespaces can be made here (it takes root and /dev/net/tun)" in done.stderr
        pytest.skip(done.stderr.strip())


@pytest.mark.timed
def test_links_are_as_long_and_as_wide_as_asked_for() -> None:
    for _ in range(3):  # other programs on this machine can only make it slower
        found = json.loads(run(sys.executable, "links.py").stdout)
        both, one = (found[way] * 8 / 350e6 for way in ("both_ways", "one_way"))
        if found["round_trip"] < 0.042 and min(both, one) > 0.95:
            break

    assert 0.04 <= found["round_trip"] < 0.042
    assert 0.95 < one < 1.02
    assert 0.95 < both < 1.02


def test_each_pair_of_hosts_has_a_link_and_a_loopback_of_its_own() -> None:
    program = """
import hosts, json, multiprocessing, socket, time

def answer(host, ready):
    hosts.enter(host)
    with socket.create_server((hosts.address(host), 4000)) as server:
        ready.send(sorted(name for _, name in socket.if_nameindex()))
        for _ in range(2):
            link, _ = server.accept()
            link.sendall(link.recv(1))
            link.close()

context = multiprocessing.get_context("fork")
pipes = [context.Pipe() for _ in range(3)]
servers = [context.Process(target=answer, args=(host, pipe[1])) for host, pipe in enumerate(pipes)]
[server.start() for server in servers]
devices = [pipe[0].recv() for pipe in pipes]
trips = []
for here in range(3):
    hosts.enter(here)
    for there in {0, 1, 2} - {here}:
        with socket.create_connection((hosts.address(there), 4000)) as link:
            start = time.perf_counter()
            link.sendall(b"?")
            assert link.recv(1) == b"?"
            trips.append(time.perf_counter() - start)
[server.join() for server in servers]
print(json.dumps([devices, trips]))
"""
    done = run(sys.executable, "-c", program, hosts=3, link="30ms,100mbit")

    devices, trips = json.loads(done.stdout)
    assert devices == [["lo", "wan"]] * 3
    assert len(trips) == 6
    assert min(trips) >= 0.03
    assert min(trips) < 0.034


def test_the_exit_code_is_that_of_the_command_and_no_device_is_left() -> None:
    before = Path("/proc/net/dev").read_text().count(":")

    done = run("sh", "-c", "exit 7")

    assert done.returncode == 7
    assert Path("/proc/net/dev").read_text().count(":") == before


def test_without_hosts_addresses_are_those_of_this_machine() -> None:
    code = "import hosts; hosts.enter(1); print(hosts.namespaces(), hosts.address(1), hosts.device())"
    environment = {name: value for name, value in os.environ.items() if name != "TACIT_BENCH_HOSTS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS, env=environment)

    assert done.stdout.strip() == "[] 127.0.0.1 lo"
