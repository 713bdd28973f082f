"""Clients ask for predictions of a model that was trained on secrets, as `tacit serve` has it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tacit
from tacit.api import embedded
from tacit.ensemble import GradientBoostingClassifier
from tacit.serve import Client, Service
from tacit.session.config import Config
from tacit.session.trial import write_trial

from .conftest import on_grid, shared


def test_a_client_gets_the_predictions_of_secret_trees(random: np.random.Generator, tmp_path: Path) -> None:
    config = Config.load(write_trial(tmp_path))
    x = on_grid(random.normal(size=(80, 4)))
    y = torch.from_numpy((x[:, 0] * x[:, 3] > 0).astype(np.int64))
    started, known = threading.Event(), dict[str, Any]()

    def serve() -> None:
        try:
            with embedded(config):
                first, second = config.parties
                parts = shared(x, 2, 2, owners=(first, second))
                model = GradientBoostingClassifier(n_estimators=2, max_depth=2, max_bins=6)
                model.fit(parts, tacit.share(y, owner=first))
                known["alone"] = tacit.reveal(model.predict_proba(parts), to=first)
                known["service"] = Service(model.predict_proba, (4,), batch=3)
                known["service"].run(started.set)
        finally:
            started.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        with Client(config) as client:
            one = client.predict(torch.from_numpy(x[0]).float())
            some = client.predict(torch.from_numpy(x[5:8]).float())
    finally:
        known["service"].stop()
        thread.join(30)

    assert one.numpy() == pytest.approx(known["alone"][0].numpy(), abs=1e-3)
    assert some.numpy() == pytest.approx(known["alone"][5:8].numpy(), abs=1e-3)
