"""The ranks of one job, for tests: forks of a fresh interpreter, once it has imported what all of them need."""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from pathlib import Path

PROGRAMS = Path(__file__).parent


def run_ranks(
    count: int, program: str, *arguments: str, seconds: float = 170, environment: dict[str, str] | None = None
) -> list[str]:
    """Run a program of this folder as so many ranks with all roles in each, and return what each of them printed."""
    command = [sys.executable, __file__, str(count), str(PROGRAMS / program), *arguments]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")


def run_roles(count: int, config: Path, program: str, *arguments: str, seconds: float = 170) -> dict[str, str]:
    """As `run_ranks`, for each role of a config in processes of its own; what each of them printed, by its name."""
    roles = json.loads(config.read_text()).keys() - {"tacit"}
    environment = {"TACIT_CONFIG": str(config), "ROLES": " ".join(roles)}
    printed = run_ranks(count, program, *arguments, seconds=seconds, environment=environment)
    return dict(zip([f"{role}[{rank}]" for role in roles for rank in range(count)], printed, strict=True))


def main(count: int, program: str, *arguments: str) -> int:
    import torch  # noqa: F401

    import tacit.api  # noqa: F401

    children, roles = [], os.environ.pop("ROLES", "").split() or [""]
    for role, port in zip(roles, ports(len(roles)), strict=True):
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "TACIT_ROLE": role}
        children += [
            child(job | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, program, arguments) for rank in range(count)
        ]
    outputs, failed = [], 0
    for number, reader in children:
        with os.fdopen(reader, errors="replace") as file:
            outputs.append(file.read())
        failed |= os.waitpid(number, 0)[1]
    sys.stdout.write("\0".join(outputs))
    return int(failed != 0)


def ports(count: int) -> list[int]:
    """Different ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def child(job: dict[str, str], program: str, arguments: tuple[str, ...]) -> tuple[int, int]:
    """Fork, and return the number of the process and where what it prints can be read."""
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(writer)
        return number, reader
    os.environ |= job
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    sys.argv = [program, *arguments]
    code = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
