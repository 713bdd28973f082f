"""The example of a language model that is in memory one layer at a time."""

from __future__ import annotations

import runpy

import pytest
import torch

import tacit
from tacit.cli.local import launch_local

from .conftest import EXAMPLES

SCRIPT = EXAMPLES / "text" / "llama_by_layers.py"


def test_a_model_that_comes_layer_by_layer_says_what_plain_pytorch_says(session):
    example = runpy.run_path(str(SCRIPT))
    sizes, prompt = example["SIZES"]["tiny"], torch.randint(100, (6,))
    assert sizes.words % sizes.piece  # the last piece is shorter

    with torch.no_grad():
        plain = example["scores"](prompt, sizes, 2, None, example["in_the_clear"], lambda rows: rows)
        secret = example["scores"](
            prompt, sizes, 2, None, example["of_bob"], lambda rows: tacit.share(rows, owner="alice")
        )

    assert plain.shape == (sizes.words,)
    assert (tacit.reveal(secret, to="all") - plain).abs().max() < 2e-3 * plain.abs().max()


@pytest.mark.slow
def test_three_processes_find_the_next_word(tmp_path):
    lines: dict[str, list[str]] = {}

    code = launch_local(SCRIPT, args=["--words=4"], on_line=lambda role, line: lines.setdefault(role, []).append(line))

    assert code == 0, lines
    assert lines.keys() == {"alice", "bob", "crypto-producer"}
    assert len(lines["bob"]) == 1
    assert float(lines["alice"][1].split()[-1]) < 2e-3
