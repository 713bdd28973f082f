"""Programs in processes of their own: forks of an interpreter that has imported PyTorch and Tacit, and done no more.

Importing both takes longer than most programs of the documentation. Warnings are errors, as with `python -W error`.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Done(NamedTuple):
    """What a program has come to."""

    returncode: int
    stdout: str
    stderr: str


class Preloaded:
    """The interpreter that forks; `close` ends it, and whatever it has begun."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", __file__],
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # several would wait for each other on a busy machine
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, program: Path | str, folder: Path) -> Done:
        """Run a script, or the text of one, in a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="tacit-") as place:
            script = program
            if isinstance(program, str):
                script = Path(place) / "program.py"
                script.write_text(program)
            order = {"script": str(script), "folder": str(folder), "place": place}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            code = self._process.stdout.readline()
            assert code, "the interpreter has ended"
            return Done(int(code), *((Path(place) / name).read_text() for name in ("stdout", "stderr")))

    def close(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def main() -> None:
    import torch  # noqa: F401

    import tacit.api  # noqa: F401

    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        child = os.fork()
        if not child:
            begin(**order)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def begin(script: str, folder: str, place: str) -> None:
    """Be the program, in a fork."""
    os.chdir(folder)
    for number, name in ((0, os.devnull), (1, f"{place}/stdout"), (2, f"{place}/stderr")):
        os.dup2(os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT), number)
    sys.argv, sys.path[0] = [script], os.path.dirname(script)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
