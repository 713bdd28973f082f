"""The ranks of one job, for tests: forks of a fresh interpreter, once it has imported what all of them need."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import traceback
from pathlib import Path

PROGRAMS = Path(__file__).parent


def run_ranks(count: int, program: str, *arguments: str, seconds: float = 120) -> list[str]:
    """Run a program of this folder as so many ranks with all roles in each, and return what each of them printed."""
    command = [sys.executable, __file__, str(count), str(PROGRAMS / program), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\0")[:count]


def main(count: int, program: str, *arguments: str) -> int:
    import torch  # noqa: F401

    import tacit.api  # noqa: F401

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    children = [child(rank, program, arguments) for rank in range(count)]
    outputs, failed = [], 0
    for number, reader in children:
        with os.fdopen(reader, errors="replace") as file:
            outputs.append(file.read())
        failed |= os.waitpid(number, 0)[1]
    sys.stdout.write("\0".join(outputs))
    return int(failed != 0)


def child(rank: int, program: str, arguments: tuple[str, ...]) -> tuple[int, int]:
    """Fork, and return the number of the process and where what it prints can be read."""
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(writer)
        return number, reader
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
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
