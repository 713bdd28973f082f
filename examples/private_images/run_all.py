"""The whole story on this machine, with a process for every role: pre-train, submit, train, serve, predict.

Two servers and a crypto-producer, each a process of its own, speak TLS; four providers and a client come and go.
This is a rehearsal: it also reveals the trained weights, to compare the service's answers with plain PyTorch's.

    python examples/private_images/run_all.py                # some minutes
    python examples/private_images/run_all.py --small        # about a minute
"""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tacit.products import Serving
from tacit.session.config import Config
from tacit.session.trial import write_trial

HERE = Path(__file__).resolve().parent
CONFIG, TO = ("--config", "config.json"), ("--to", "public.json")
PATIENCE = 120
"""Seconds until a server answers its door, or ends after an interrupt."""

FULL = (500, 500, 32, ("--images", 2000), ("--epochs", 4))
SMALL = (100, 100, 8, ("--images", 1000), ("--epochs", 5, "--rate", 0.03))
"""Images of a provider, held-out images, channels, and options of the two trainings. So SMALL still recognises most."""

Processes = list[subprocess.Popen[bytes]]


class Deployment:
    """Two servers and a crypto-producer, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = Config.load(write_trial(folder))

    def run(self, *command: object) -> None:
        """Run something to its end; stop here if it fails."""
        self._finish([self._start(*command)])

    def run_as_all(self, script: str, *options: object) -> None:
        """Run a script as all roles, to the end."""
        program = ["-m", "tacit", "run", HERE / script, *CONFIG]
        self._finish([self._start(*program, "--as", role, "--", *options) for role in self.config.roles])

    @contextmanager
    def open_doors(self, roles: Sequence[str], *command: object) -> Iterator[None]:
        """Run a command as these roles while clients come."""
        running = [self._start("-m", "tacit", *command, *CONFIG, "--as", role) for role in roles]
        try:
            for address in self.config.of(Serving).clients:
                _wait_for(address, running)
            yield
            for process in running if command[0] == "receive" else running[:1]:  # the first party ends a service
                process.send_signal(signal.SIGINT)
            self._finish(running, PATIENCE)
        finally:
            for process in running:
                process.kill()

    def _start(self, *command: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=self.folder)  # noqa: S603 - our own words

    def _finish(self, running: Processes, patience: float | None = None) -> None:
        codes = [process.wait(timeout=patience) for process in running]
        if any(codes):
            sys.exit(f"exit codes {codes}")


def _wait_for(address: tuple[str, int], running: Processes) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and all(process.poll() is None for process in running):
        try:
            socket.create_connection(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nobody answers at {address}")


def main() -> None:
    """Go through all five steps."""
    parser = argparse.ArgumentParser(description="Run all steps of the example.")
    parser.add_argument("--small", action="store_true", help="few images, few channels")
    parser.add_argument("--at-home", action="store_true", help="providers apply the feature layers themselves")
    parser.add_argument("--folder", type=Path, help="where everything is written; a new one if not given")
    options = parser.parse_args()
    images, held_out, width, pretrain, train = SMALL if options.small else FULL
    folder = options.folder or Path(tempfile.mkdtemp(prefix="private-images-"))
    servers = Deployment(folder)

    servers.run("-m", "tacit", "keygen", *CONFIG, "--public", "public.json")
    servers.run(HERE / "1_pretrain.py", *pretrain, "--width", width)
    submit = [HERE / "2_submit.py", *TO, *(["--features", "features.safetensors"] if options.at_home else [])]
    with servers.open_doors(servers.config.parties, "receive"):
        for seed in (11, 12, 13):
            servers.run(*submit, "--images", images, "--seed", seed)
        servers.run(*submit, "--images", held_out, "--seed", 14, "--dataset", "held-out")
    servers.run_as_all("3_train.py", *train, "--width", width, "--reveal", "trained.safetensors")
    with servers.open_doors(servers.config.roles, "serve", HERE / "4_serve.py"):
        servers.run(HERE / "5_predict.py", *TO, "--beside", "trained.safetensors")
    print(f"everything is in {folder}")


if __name__ == "__main__":
    main()
