"""The text example: real sentences, a plain model and a secret one that agree, and one number that is revealed."""

from __future__ import annotations

import copy
import importlib
import runpy
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

import tacit
from tacit.cli.local import launch_local

from .conftest import EXAMPLES

SCRIPT = EXAMPLES / "text" / "which_library.py"
SMALL = ["--per-library=120", "--held-out=60", "--buckets=128", "--epochs=2"]
POINT = 0.01


@pytest.fixture(scope="module")
def text() -> Iterator[ModuleType]:
    folder = str(EXAMPLES / "text")
    sys.path.insert(0, folder)
    yield importlib.import_module("sentences")
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def example(text):
    return runpy.run_path(str(SCRIPT))


def test_the_sentences_are_real_and_do_not_name_their_library(text):
    found = text.sentences(300, seed=3)

    assert found == text.sentences(300, seed=3)
    assert found != text.sentences(300, seed=4)
    assert [sum(label == one for _, label in found) for one in range(3)] == [300] * 3
    assert len({sentence for sentence, _ in found}) > 890  # few libraries say the same
    assert all(text.SHORTEST <= len(text.words(sentence)) <= text.LONGEST for sentence, _ in found)
    assert not any(text.NAMES & set(text.words(sentence)) for sentence, _ in found)


def test_a_bag_is_the_share_of_each_word(text):
    bag = text.bags(["The mean of the mean.", "Numpy gives the mean."], 64)

    assert torch.allclose(bag.sum(1), torch.ones(2))
    assert bag[0, text.number("mean", 64)] >= 0.4
    assert bag[1, text.number("gives", 64)] >= 1 / 3


def test_secret_training_comes_within_a_point_of_plain_training(example, session):
    bag, label = example["data"](400, 128)
    torch.manual_seed(0)
    plain = example["Classifier"](128, 8)
    secret = tacit.share(copy.deepcopy(plain))

    torch.manual_seed(5)
    example["train"](plain, bag[:900], label[:900], epochs=3)
    torch.manual_seed(5)
    example["train"](secret, tacit.share(bag[:900], owner="alice"), tacit.share(label[:900], owner="bob"), epochs=3)

    others = bag[900:], label[900:]
    want, got = example["recognised"](plain, *others), example["recognised"](secret, *map(tacit.share, others))
    assert int(want) > 0.5 * len(others[1])  # of three libraries
    assert abs(int(want) - int(tacit.reveal(got))) <= POINT * len(others[1])


def test_secret_word_numbers_give_what_the_bag_gives(example, text, session):
    (sentence, _), *_ = text.sentences(50)
    numbers = torch.tensor([[text.number(word, 128) for word in text.words(sentence)]])
    model = tacit.share(example["Classifier"](128, 8))

    with torch.no_grad():
        from_numbers = model.libraries(model.words(tacit.share(numbers, owner="alice")))
        from_bag = model(tacit.share(text.bags([sentence], 128), owner="alice"))

    torch.testing.assert_close(tacit.reveal(from_numbers), tacit.reveal(from_bag), atol=2**-12, rtol=0)


def test_the_example_reveals_one_number(monkeypatch, capsys):
    revealed = {}
    reveal = tacit.reveal

    def remember(x, to="all", *, name=None):
        revealed[name] = reveal(x, to, name=name)
        return revealed[name]

    monkeypatch.setattr(tacit, "reveal", remember)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *SMALL])

    runpy.run_path(str(SCRIPT), run_name="__main__")

    assert list(revealed) == ["sentences recognised"]
    (count,) = revealed.values()
    assert capsys.readouterr().out.startswith(f"{int(count)} of 120 sentences recognised")
    assert 40 < count <= 120


@pytest.mark.slow
def test_three_processes_run_the_example():
    lines: dict[str, list[str]] = {}

    code = launch_local(SCRIPT, args=SMALL, on_line=lambda role, line: lines.setdefault(role, []).append(line))

    assert code == 0, lines
    assert list(lines) == ["alice"]
    assert " of 120 sentences recognised" in lines["alice"][0]
