"""`tacit serve` by two servers and the crypto-producer, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tacit.session.config import Config
from tacit.session.trial import write_trial

__all__ = ["Servers"]

OUTBOX = 1 << 20
"""Bytes up to which the crypto-producer works ahead: so few that it is soon as large as it gets."""

MODEL = """
import tacit
from torch import nn

INPUT = (16,)


def load():
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4))
    for p in model.parameters():
        p.data = (p.data * 0 + 0.5)
    return tacit.share(model.requires_grad_(False), owner="server0")
"""

ANSWER = [8 * 0.5 * (16 * 0.5 + 0.5) + 0.5] * 4
"""Of the input of ones."""


class Servers:
    """A deployment that answers, and ends with the `with` statement."""

    def __init__(self, folder: Path, *options: str) -> None:
        settings = {"timeout": 20, "connect_timeout": 60, "outbox_bytes": OUTBOX}
        self.path = write_trial(folder, settings=settings)
        self.config = Config.load(self.path)
        (folder / "served.py").write_text(MODEL)
        self.processes = {role: self._started(folder, role, options) for role in self.config.roles}
        self.said: dict[str, str] = {}

    def _started(self, folder: Path, role: str, options: tuple[str, ...]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tacit", "serve", str(folder / "served.py"), "--config", str(self.path)]
        with open(folder / f"{role}.log", "w") as log:
            return subprocess.Popen(
                [*command, "--as", role, *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def __enter__(self) -> Servers:
        for process in self.processes.values():
            assert process.stdout is not None
            assert process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.processes["server0"].send_signal(signal.SIGTERM)
            for role, process in self.processes.items():
                self.said[role], _ = process.communicate(timeout=30)
        finally:
            for process in self.processes.values():
                process.kill()
                process.communicate()

    @property
    def pids(self) -> dict[str, int]:
        """The processes by their roles."""
        return {role: process.pid for role, process in self.processes.items()}
