"""Two servers without a crypto-producer: clients submit to them, and ask them, as they do any others."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import torch
from torch import nn

import tacit
from tacit.api import embedded
from tacit.products import Serving
from tacit.serve import Doors, Service

from .conftest import Deploy


def test_clients_of_two_servers_alone_get_what_the_plain_model_says(deploy: Deploy, tmp_path: Path) -> None:
    config = deploy(protocol="two-party", ledger=str(tmp_path / "ledger"))
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    rows, started, served = torch.randn(3, 4), threading.Event(), []

    def serve() -> None:
        with embedded(config):
            service = Service(tacit.share(model, owner="server0"), shape=(4,), batch=4)
            served.append(service)
            service.run(started.set)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert started.wait(60)
        with tacit.Client(config) as client:
            several, one = client.predict(rows), client.predict(rows[0])
    finally:
        served[0].stop()
        thread.join(60)

    with torch.no_grad():
        plain = model(rows)
    assert (several - plain).abs().max() < 2.0**-9
    assert (one - plain[0]).abs().max() < 2.0**-9
    assert (served[0].answered, config.roles) == (2, ("server0", "server1"))


def test_servers_alone_work_ahead_while_nobody_asks(deploy: Deploy) -> None:
    config = deploy(protocol="two-party")
    model, started, served = nn.Sequential(nn.Linear(4, 6), nn.ReLU()), threading.Event(), []
    rows, prepared = torch.randn(2, 4), []

    def serve() -> None:
        with embedded(config) as session:
            secret = tacit.share(model, owner="server0")

            def answer(x: torch.Tensor) -> torch.Tensor:
                before = session.meter.cost
                y = secret(x)
                prepared.append(sum((session.meter.cost - before).prepared.values()))
                return y

            served.append(Service(answer, shape=(4,), batch=2))
            served[0].run(started.set)

    def settle() -> None:
        """Wait until nothing is left to make."""
        deadline = time.monotonic() + 30
        while not served[0]._resting and time.monotonic() < deadline:
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert started.wait(60)
        with tacit.Client(config) as client:
            answers = []
            for _ in range(3):
                settle()
                answers.append(client.predict(rows))
    finally:
        served[0].stop()
        thread.join(60)

    with torch.no_grad():
        assert all((answer - model(rows)).abs().max() < 2.0**-9 for answer in answers)
    assert prepared[0] > 0
    assert prepared[1:] == [0, 0, 0]


def test_data_of_owners_who_only_submit_are_computed_on_by_two_servers_alone(deploy: Deploy) -> None:
    config = deploy(protocol="two-party")
    images, labels = torch.randn(2, 5, 3), torch.arange(5) % 2

    with Doors(config, "server0", "server1"):
        for part in images:
            with tacit.Client(config) as client:
                client.submit({"image": part, "label": labels}, "lesions")
    with tacit.session(roles=config.roles):
        held = tacit.open_dataset("lesions", config.of(Serving).data)
        positives = tacit.reveal(held["label"].sum(), name="positives")
        largest = tacit.reveal(held["image"][:].relu().sum(), name="sum")

    assert positives == 4
    assert abs(float(largest) - float(images.relu().sum())) < 2.0**-8
