"""The example of private images: its five steps, and what frozen layers and one-round activations save."""

from __future__ import annotations

import copy
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tacit
from tacit.api import embedded
from tacit.serve import Doors, Service
from tacit.session.config import Config
from tacit.session.trial import write_trial

EXAMPLE = Path(__file__).parents[1] / "examples" / "private_images"
WIDTH = 2


@pytest.fixture
def network(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield runpy.run_path(str(EXAMPLE / "network.py"))
    sys.modules.pop("network", None)


@pytest.fixture
def step(network, monkeypatch, tmp_path, capsys):
    """Return a function that runs a script of the example as its command line would, and returns what it says."""
    monkeypatch.chdir(tmp_path)

    def run(name, *options):
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        runpy.run_path(str(EXAMPLE / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("at_home", [False, True], ids=["images", "features"])
def test_the_five_steps_in_one_process(at_home, step, monkeypatch, tmp_path):
    config = Config.load(write_trial(tmp_path))
    monkeypatch.setattr(tacit, "session", lambda: embedded(config))
    home = ["--features", "features.safetensors"] if at_home else []
    to = ["--to", "config.json"]

    pretrained = step("1_pretrain.py", "--images", 60, "--epochs", 1, "--width", WIDTH)
    with Doors(config, *config.parties):
        receipts = [step("2_submit.py", *to, "--images", 20, "--seed", seed, *home) for seed in (11, 12)]
        receipts.append(step("2_submit.py", *to, "--images", 10, "--seed", 13, "--dataset", "held-out", *home))
    trained = step("3_train.py", "--epochs", 1, "--width", WIDTH)
    stop = _serve(config)
    predicted = step("5_predict.py", *to, "--images", 3)
    stop()

    assert "learned on 60 images" in pretrained
    assert [r.split(" (")[0] for r in receipts] == [
        *["20 rows are in digits at server0 and server1"] * 2,
        "10 rows are in held-out at server0 and server1",
    ]
    assert "of 10 recognised" in trained
    assert trained.splitlines()[-1].startswith("40 images: ")
    assert predicted.splitlines()[-1].endswith("of 3 recognised")


def _serve(config):
    """Serve 4_serve.py in a thread; return what ends it."""
    model, started, found = runpy.run_path(str(EXAMPLE / "4_serve.py")), threading.Event(), []

    def serve():
        with embedded(config):
            found.append(Service(model["load"](), model["INPUT"], batch=2))
            found[0].run(started.set)

    thread = threading.Thread(target=serve)
    thread.start()
    assert started.wait(60)

    def stop():
        found[0].stop()
        thread.join(60)

    return stop


def test_the_notebook_is_that_of_its_script_and_runs(tmp_path):
    small = {**os.environ, "IMAGES": "40", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    cells = json.loads((EXAMPLE / "walk.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "cells.py").write_text(
        code.replace('"walk.py"', repr(str(EXAMPLE / "walk.py"))).replace("__file__", "_")
    )

    check = subprocess.run([sys.executable, EXAMPLE / "notebook.py", "--check"], capture_output=True, text=True)
    command = [sys.executable, "-W", "ignore:FigureCanvasAgg", tmp_path / "cells.py"]
    done = subprocess.run(command, env=small, capture_output=True, text=True, timeout=150)

    assert check.returncode == 0, check.stderr
    assert done.returncode == 0, done.stderr
    assert "confusion matrix (5, 5)" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_command_runs_all_steps_with_a_process_for_every_role(tmp_path):
    command = [sys.executable, EXAMPLE / "run_all.py", "--small", "--folder", tmp_path]

    done = subprocess.run(command, capture_output=True, text=True, timeout=500)

    assert done.returncode == 0, done.stderr
    recognised = re.search(r"(\d+) of 20 recognised", done.stdout)
    assert recognised
    assert int(recognised[1]) >= 12  # chance is 4
    assert "plain PyTorch, same weights: the same answer 20 of 20 times" in done.stdout
    assert "server1 answered 3 requests" in done.stdout


def test_frozen_layers_are_opened_once_and_not_differentiated(network):
    x, y = network["draw"](8, seed=1, of=network["NEW"])
    torch.manual_seed(1)
    layers = network["features"](WIDTH).requires_grad_(False)
    head = network["classifier"](5, WIDTH).eval()
    with tacit.session(seed=1) as session:
        images, labels = tacit.share(x, owner="alice"), tacit.share(y, owner="alice")

        def cost(work):
            before = session.meter.cost
            result = work()
            return result, session.meter.cost - before

        frozen, given = cost(lambda: tacit.share(layers, owner="bob"))
        classifier = tacit.share(head, owner="bob")
        found, first = cost(lambda: frozen(images[:4]))
        again, second = cost(lambda: frozen(images[4:]))
        loss = F.cross_entropy(classifier(found), labels[:4])
        whole = F.cross_entropy(nn.Sequential(frozen, classifier)(images[4:]), labels[4:])
        _, backward_of_head = cost(lambda: loss.backward())
        _, backward_of_all = cost(lambda: whole.backward())

        assert given.online == {"alice": 0, "bob": 8 * sum(t.numel() for t in frozen.state_dict().values())}
        assert first.online == second.online
        assert first.online["alice"] == second.online["alice"]
        assert backward_of_all.rounds <= backward_of_head.rounds
        assert backward_of_all.online == backward_of_head.online
        assert all(p.grad is None for p in frozen.parameters())
        assert (tacit.reveal(again) - layers(x[4:])).abs().max() < 5e-3


@pytest.mark.parametrize("sigmoid", ["FourierSigmoid", "PolynomialSigmoid"])
def test_the_whole_network_trains_to_the_plain_weights(sigmoid, network):
    x, y = network["draw"](24, seed=1)
    torch.manual_seed(1)

    def act():
        return getattr(tacit.nn, sigmoid)(centred=True)

    plain = nn.Sequential(network["features"](WIDTH, act), network["classifier"](10, WIDTH, act))
    start = copy.deepcopy(plain)
    with tacit.session(seed=1):
        secret = tacit.share(copy.deepcopy(plain))

        for model, a, b in ((plain, x, y), (secret, tacit.share(x), tacit.share(y))):
            torch.manual_seed(2)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for rows in torch.arange(24).split(8):
                optimizer.zero_grad()
                F.cross_entropy(model(a[rows]), b[rows]).backward()
                optimizer.step()

        for before, want, got in zip(start.parameters(), plain.parameters(), secret.parameters(), strict=True):
            assert (want - before).abs().max() > 2e-3
            assert (tacit.reveal(got.detach()) - want).abs().max() < 5e-4
