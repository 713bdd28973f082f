"""The secure-classification example: digits as documented, and one revealed number, which is the plain one."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest
import torch

import tacit
from tacit.cli.local import launch_local

from .conftest import EXAMPLES

SCRIPT = EXAMPLES / "secure_classification" / "classify.py"
SMALL = ["--images=60", "--training-images=600", "--epochs=4"]


def test_a_seed_gives_the_same_digits_and_another_gives_others(drawn):
    images, labels = drawn.digits(50, seed=3)

    again, same_labels = drawn.digits(50, seed=3)
    other, _ = drawn.digits(50, seed=4)

    assert images.shape == (50, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same_labels)
    assert not np.array_equal(images, other)


def test_all_digits_are_as_frequent(drawn):
    _, labels = drawn.digits(2000, seed=3)

    counts = np.bincount(labels, minlength=10)

    assert (counts > 150).all()
    assert (counts < 250).all()


@pytest.mark.parametrize("kind", ["drawn", "real"])
def test_the_example_reveals_the_plain_count_and_nothing_else(kind, drawn, monkeypatch, capsys):
    revealed = {}
    reveal = tacit.reveal

    def remember(x, to="all", *, name=None):
        revealed[name] = reveal(x, to, name=name)
        return revealed[name]

    monkeypatch.setattr(tacit, "reveal", remember)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), f"--digits={kind}", *SMALL])

    example = runpy.run_path(str(SCRIPT), run_name="__main__")

    assert list(revealed) == ["number of images recognised"]
    (recognised,) = revealed.values()
    assert capsys.readouterr().out.startswith(f"{int(recognised)} of 60 images recognised")
    assert recognised > 40
    images, labels = example["data"](kind, "client", 60)
    assert len(images) == len(labels) == 60


def test_secret_predictions_are_the_plain_ones(drawn, session):
    images, labels = (torch.from_numpy(t) for t in drawn.digits(80, seed=5))
    example = runpy.run_path(str(SCRIPT))
    model = example["train"](images, labels, epochs=3)

    with torch.no_grad():
        predictions = tacit.share(model, owner="bob")(tacit.share(images, owner="alice")).argmax(dim=1)
        correct = predictions.eq(tacit.share(labels, owner="alice")).sum()

    assert torch.equal(tacit.reveal(predictions), model(images).argmax(dim=1))
    assert tacit.reveal(correct) == (model(images).argmax(dim=1) == labels).sum()


@pytest.mark.slow
def test_three_processes_run_the_example():
    lines: dict[str, list[str]] = {}

    code = launch_local(SCRIPT, args=SMALL, on_line=lambda role, line: lines.setdefault(role, []).append(line))

    assert code == 0, lines
    assert list(lines) == ["alice"]
    assert " of 60 images recognised" in lines["alice"][0]
