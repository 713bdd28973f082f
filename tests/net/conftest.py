"""Runs of several roles over real sockets: each role in a thread, or in a process where it has to be killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tacit.net.certificates import make_certificate
from tacit.net.tcp import Tcp
from tacit.net.transcript import Transcript
from tacit.session.config import Config
from tacit.session.launch import Launch, connect

ROLES = ("alice", "bob", "crypto-producer")
Body = Callable[[Tcp], Any]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    for role in (*ROLES, "carol"):
        make_certificate(folder, role)
    return folder


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Net:
    """Configs with fresh ports, and ways to run roles with them."""

    def __init__(self, folder: Path, certificates: Path) -> None:
        self.folder, self.certificates = folder, certificates
        self.ports: dict[str, int] = {}
        self._processes: list[subprocess.Popen[str]] = []

    def config(self, roles: tuple[str, ...] = ROLES, **settings: object) -> Config:
        return Config.parse(json.dumps(self.literal(roles, **settings)), self.folder)

    def literal(self, roles: tuple[str, ...] = ROLES, **settings: object) -> dict[str, object]:
        for role, port in zip(roles, free_ports(len(roles)), strict=True):
            self.ports.setdefault(role, port)
        defaults = {"tls": str(self.certificates), "connect_timeout": 20, "timeout": 20}
        return {**{role: f"127.0.0.1:{self.ports[role]}" for role in roles}, "tacit": {**defaults, **settings}}

    def run(
        self,
        bodies: dict[str, Body],
        configs: dict[str, Config] | Config | None = None,
        *,
        scripts: dict[str, str] | None = None,
        delays: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        """Run each role's body in a thread and return what it returned, or the exception that ended it."""
        configs = configs or self.config()
        results: dict[str, Any] = {}

        def play(role: str) -> None:
            time.sleep((delays or {}).get(role, 0))
            transport = None
            try:
                config = configs if isinstance(configs, Config) else configs[role]
                transport = connect(Launch(config, role, (scripts or {}).get(role, "")), Transcript())
                results[role] = bodies[role](transport)
                transport.close()
            except Exception as error:
                results[role] = error
                if transport is not None:
                    transport.abort(str(error))

        threads = [threading.Thread(target=play, args=(role,), name=f"role-{role}") for role in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads), "a role hangs"
        return results

    def spawn(self, role: str, program: str, config: dict[str, object]) -> subprocess.Popen[str]:
        """Run a program in a process of its own; it finds `transport`, `role` and `transcript` there."""
        path = self.folder / f"{role}.json"
        path.write_text(json.dumps(config))
        script = self.folder / f"{role}.py"
        script.write_text(PROLOGUE + program + EPILOGUE)
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "TACIT_CONFIG": str(path), "TACIT_ROLE": role, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


PROLOGUE = """
import sys, time
import torch
from tacit.errors import TacitError
from tacit.net.transcript import Transcript
from tacit.net.transport import Parcel
from tacit.session.launch import connect, current

launch, transcript = current(), Transcript()
role = launch.role
transport = None
def body():
    global transport
    transport = connect(launch, transcript)
"""

EPILOGUE = """
try:
    body()
    transport.close()
except TacitError as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    if transport is not None:
        transport.abort(str(error))
"""


@pytest.fixture
def net(tmp_path: Path, certificates: Path) -> Iterator[Net]:
    made = Net(tmp_path, certificates)
    yield made
    made.end()


def open_sockets() -> int:
    return sum(os.readlink(f"/proc/self/fd/{number}").startswith("socket:") for number in _descriptors())


def _descriptors() -> list[str]:
    return [number for number in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{number}")]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """After each test, threads and sockets are as many as before."""
    before = threading.active_count(), open_sockets()
    yield
    assert (threading.active_count(), open_sockets()) == before
