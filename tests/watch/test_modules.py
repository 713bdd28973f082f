"""Every module that is documented, every model and every example of the suite, in a session that checks itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from modules import CASES
from torch import Tensor
from torch.utils._pytree import tree_leaves

import tacit
from tacit.errors import TacitError
from tacit.session.session import Session
from tacit.watch.precision import Precision

ROOT = Path(__file__).parents[2]

SUITES = (
    *("tests/models", "tests/test_training.py", "tests/test_private_images.py", "tests/test_examples.py"),
    *("tests/test_nn.py", "tests/test_tensor.py", "tests/aten"),
)
"""Tests that start sessions with all roles in one process: of models, examples, training, operators."""

MODULES = {name: case for family in CASES.values() for name, case in family.items()}
LATER = {*CASES["Padding"], *CASES["Pooling"], "Transformer", "TransformerDecoder", "TransformerEncoder"}
"""Modules whose parts other ones have as well."""

UNCHECKED = {"aten._amp_foreach_non_finite_check_and_unscale_.default"}
"""Operators for which PyTorch has no result on plain float64 values."""


@pytest.fixture(scope="module")
def session() -> Session:
    with tacit.session(seed=1, check=True) as opened:
        yield opened


@pytest.mark.parametrize("name", [pytest.param(m, marks=[pytest.mark.slow] if m in LATER else []) for m in MODULES])
def test_a_module_and_its_gradients_are_right(name, session):
    torch.manual_seed(0)
    case = MODULES[name]
    module, inputs = tacit.share(case.make()), [draw() for draw in case.inputs]
    leaves = [tacit.share(x).requires_grad_() if x.is_floating_point() else x for x in inputs]

    try:
        results = [r for r in tree_leaves(module(*leaves)) if isinstance(r, Tensor)]
        ends = [r for r in results if r.requires_grad]
        torch.autograd.backward(ends, [tacit.share(torch.randn(r.shape)) for r in ends])
    except tacit.errors.PrecisionError:
        raise
    except (TacitError, RuntimeError):
        pytest.skip("not on secrets, or not backward")

    for x in [*results, *(x.grad for x in leaves if x.grad is not None)]:
        if isinstance(x, tacit.SecretTensor):
            tacit.reveal(x.detach())
    assert isinstance(session.watcher, Precision)
    assert set(session.watcher.unchecked) <= UNCHECKED


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("suite", SUITES)
def test_all_that_the_suite_runs_is_right(suite):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--check", suite]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-4000:]
