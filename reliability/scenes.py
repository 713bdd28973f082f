"""What is going on while somebody is disturbed: each scene has its actors, a process each, and what each of them does.

An actor says where it is by a file named after the phase and itself, and waits there for a moment if somebody is to be
disturbed in that phase. It writes what it has to say to its standard output, and ends with 0 if all went well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import tacit
from tacit.cli.run import execute
from tacit.errors import TacitError
from tacit.outside.client import Client
from tacit.outside.deployment import Deployment
from tacit.outside.wire import Connection
from tacit.predictions.host import Host
from tacit.serve import Doors, Service
from tacit.session.config import Config
from tacit.session.launch import launched, start

__all__ = ["PAUSE", "SCENES", "Play", "Scene"]

PROGRAM = Path(__file__).with_name("program.py")

PAUSE = 1.0
"""Seconds that an actor stays at the beginning of the phase in which somebody is disturbed."""

ROWS, COLUMNS = 40_000, 8
"""Of what a client submits: some megabytes, so that a transfer has a middle."""


@dataclass(frozen=True)
class Play:
    """What an actor is told."""

    actor: str
    config: Path
    here: Path
    phase: str
    resume: bool
    timeout: float

    def reach(self, phase: str, *others: str) -> None:
        """Say that a phase begins (for others as well), and wait there if somebody is to be disturbed in it."""
        for actor in (self.actor, *others):
            (self.here / f"{phase}.{actor}").touch()
        if phase == self.phase:
            time.sleep(PAUSE)


@dataclass(frozen=True)
class Scene:
    """Who plays what. Clients come once all others are ready, and the others wait for more of them."""

    name: str
    parties: tuple[str, ...]
    act: Callable[[Play], int]
    settings: dict[str, Any]
    client: Callable[[Play], int] | None = None
    right: Callable[[Path], str] = lambda here: ""
    """What is wrong with what a scene that went well has left in its folder."""


def plain_model() -> nn.Module:
    """The model that is served."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).requires_grad_(False)


def told(error: BaseException) -> int:
    """End an actor by one sentence."""
    print(f"error: {error}" if isinstance(error, TacitError) else f"{type(error).__name__}: {error}", flush=True)
    return 1


# --- training ---------------------------------------------------------------------------------------------------------


def train(play: Play) -> int:
    """A role of a training with checkpoints."""
    os.environ["RELIABILITY_ROLE"] = play.actor
    start(launched(Config.load(play.config), play.actor, PROGRAM, resume=play.resume))
    return execute(PROGRAM, (str(play.here), str(PAUSE), play.phase), show_traceback=False)


def weights_are_right(here: Path) -> str:
    """Those that PyTorch alone comes to."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(16, 3, generator=generator), torch.randn(16, 1, generator=generator)
    torch.manual_seed(2)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    weight = here / "weight.pt"
    if not weight.exists() or not torch.allclose(torch.load(weight), model.weight.detach(), atol=1e-3):
        return "the weights are not those of an undisturbed run"
    return "something is left beside the checkpoints" if list(here.glob("kept/*/*/.*")) else ""


# --- predictions ------------------------------------------------------------------------------------------------------


def serve(play: Play) -> int:
    """A role of a prediction service."""
    start(launched(Config.load(play.config), play.actor, __file__))
    calls: list[int] = []
    try:
        with tacit.session() as session:
            model = tacit.share(plain_model(), owner="server0")

            def answer(x: torch.Tensor) -> torch.Tensor:
                calls.append(1)
                if len(calls) == 2:
                    play.reach("answering", *["client"] * (play.actor == "server0"))
                y: torch.Tensor = model(x)
                return y

            service = Service(answer, (6,), batch=2)
            if play.actor == session.parties[0]:
                signal.signal(signal.SIGTERM, lambda *_: service.stop())
            service.run(lambda: play.reach("waiting"))
    except TacitError as error:
        return told(error)
    return 0


def serve_alone(play: Play) -> int:
    """One server, with which each client computes."""
    config, calls = Config.load(play.config), list[int]()
    host = Host(plain_model(), config, (6,), batch=2)
    signal.signal(signal.SIGTERM, lambda *_: host.stop())
    host.run(lambda: play.reach("waiting"))
    del calls
    return 0


def ask(play: Play) -> int:
    """A client that asks for a prediction."""
    try:
        deployment = Deployment.of(Config.load(play.config))
        with Client(deployment, timeout=play.timeout) as client:
            client.plan  # noqa: B018 - it connects
            play.reach("asking", *["server"])
            answer = client.predict(torch.arange(6.0) / 4)
    except TacitError as error:
        return told(error)
    torch.save(answer, play.here / "answer.pt")
    return 0


def answer_is_right(here: Path) -> str:
    """What the plain model says."""
    answer = here / "answer.pt"
    if not answer.exists():
        return "no client was answered"
    return "" if torch.allclose(torch.load(answer), plain_model()(torch.arange(6.0) / 4), atol=1e-3) else "wrong answer"


# --- submissions ------------------------------------------------------------------------------------------------------


def receive(play: Play) -> int:
    """A server that takes in what clients submit."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    with Doors(Config.load(play.config), play.actor):
        play.reach("waiting")
        while not ended:
            time.sleep(0.05)
    return 0


def submit(play: Play) -> int:
    """A client that submits data."""
    send, begun = Connection.send, list[int]()

    async def sending(connection: Connection, **head: Any) -> None:
        if head.get("do") == "commit" and not begun:
            begun.append(1)
            play.reach("committing", "server0", "server1")
        await send(connection, **head)

    def progress(sent: int, of: int) -> None:
        if not sent or not (play.here / f"sending.{play.actor}").exists():
            play.reach("sending", "server0", "server1")

    Connection.send = sending  # type: ignore[method-assign]
    try:
        with Client(Deployment.of(Config.load(play.config)), timeout=play.timeout) as client:
            client.submit({"x": torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)}, "rows", progress=progress)
    except TacitError as error:
        return told(error)
    (play.here / "submitted").touch()
    return 0


def submissions_are_whole(here: Path) -> str:
    """Once or twice all rows, and never a part of them: who could not know that it counted has submitted again."""
    with tacit.session(parties=("server0", "server1")):
        x = tacit.reveal(tacit.open_dataset("rows", here / "data")["x"], name="rows")
    whole = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    if len(x) not in (ROWS, 2 * ROWS) or not all(torch.equal(part, whole) for part in x.split(ROWS)):
        return f"{len(x)} rows are there, of {ROWS} or twice that"
    return "something is left of what did not count" if list(here.glob("data/*/staging/*")) else ""


PAIR = ("alice", "bob")
SCENES = {
    scene.name: scene
    for scene in (
        Scene("training", PAIR, train, {}, right=weights_are_right),
        Scene("training by two", PAIR, train, {"protocol": "two-party"}, right=weights_are_right),
        Scene("predictions", ("server0", "server1"), serve, {}, ask, answer_is_right),
        Scene("one server", ("server",), serve_alone, {}, ask, answer_is_right),
        Scene("submissions", ("server0", "server1"), receive, {}, submit, submissions_are_whole),
    )
}
assert sys.platform != "win32"
