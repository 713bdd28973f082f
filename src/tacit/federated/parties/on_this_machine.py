"""All roles of an aggregation by computing parties on this machine, each a process: to try out, and for tests.

It makes every key in one folder. In earnest each role makes its own, on its own machine (docs/federated.md).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tacit.errors import ConnectError
from tacit.federated.parties.directory import SERVER, Aggregators, make_box_key
from tacit.net.certificates import make_certificate
from tacit.session.config import SETTINGS, Config
from tacit.session.trial import free_ports

__all__ = ["establish", "parties_on_this_machine"]

HOST = "127.0.0.1"
START_SECONDS = 60.0


def establish(folder: Path, parties: Sequence[str] = ("aggregator-1", "aggregator-2")) -> Aggregators:
    """Write keys and certificates, `config.json` and `aggregators.json`, for roles on free ports of this machine."""
    certs, roles = folder / "certs", Config.embedded(parties).roles
    for role in (*roles, SERVER):
        make_certificate(certs, role)
    ports = [f"{HOST}:{port}" for port in free_ports(2 * len(roles))]
    config = {**dict(zip(roles, ports, strict=False)), SETTINGS: {"tls": "certs", "connect_timeout": START_SECONDS}}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    keys = {party: make_box_key(certs, party) for party in parties}
    aggregators = Aggregators(keys, dict(zip(roles, ports[len(roles) :], strict=True)))
    aggregators.save(folder / "aggregators.json")
    return aggregators


@contextmanager
def parties_on_this_machine(folder: Path, settings: Path, roster: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run all roles that `establish` wrote to a folder, each in a process that logs to `ROLE.log` there.

    Yields the processes, all of which listen; none is left when the block ends.
    """
    aggregators = Aggregators.load(folder / "aggregators.json")
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for role in aggregators.roles:
            with (folder / f"{role}.log").open("ab") as log:
                command = [
                    sys.executable, "-m", "tacit", "aggregate", str(settings), "--as", role,
                    "--config", str(folder / "config.json"), "--aggregators", str(folder / "aggregators.json"),
                    "--roster", str(roster),
                ]  # fmt: skip
                processes[role] = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - Tacit itself
        for role, address in aggregators.addresses.items():
            _wait_for(address, processes[role], folder / f"{role}.log")
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise ConnectError(f"a role did not start; {log} says why")
