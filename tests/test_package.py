"""`import tacit` waits for nothing; its names are there when they are used, whatever was imported before."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tacit

ROOT = Path(__file__).parents[1]


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_name_has_one_home_and_the_type_checker_is_told_the_same():
    declared = {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(tacit)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tacit.")
        for alias in node.names
    }

    assert declared == {name: home for home, names in tacit._HOMES.items() for name in names}
    assert {*declared, "__version__"} == set(tacit.__all__)
    assert all(getattr(tacit, name) is not None for name in tacit.__all__)
    assert set(tacit.__all__) <= set(dir(tacit))
    with pytest.raises(AttributeError, match="module 'tacit' has no attribute 'nothing'"):
        tacit.nothing  # noqa: B018


def test_pytorch_is_imported_with_the_first_name_and_functions_win_over_subpackages():
    printed = python(
        "import sys, tacit, tacit.session.roles, tacit.errors\n"
        "print('torch' in sys.modules)\n"
        "import tacit.check, tacit.profile\n"
        "print(*map(callable, [tacit.session, tacit.check, tacit.profile]), tacit.errors.TacitError.__name__)"
    )

    assert printed.split() == ["False", "True", "True", "True", "TacitError"]


def test_a_client_that_masks_waits_for_no_large_library():
    pytest.importorskip("flwr")

    printed = python(
        "import sys\n"
        "from tacit.federated import PairwiseMasks, Privacy, SecureAggregation, SecureAggregationMod, Settings, Terms\n"
        "PairwiseMasks(Settings(privacy=Privacy(1.0, 1.0, 2)))\n"
        "print(*{'torch', 'opendp', 'dp_accounting', 'scipy', 'sklearn', 'pandas'} & set(sys.modules))"
    )

    assert not printed.split()


def test_every_pinned_package_has_digests_of_its_files():
    def pins(name):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        found = (line.removesuffix("\\").strip().split("==") for line in lines if "==" in line and line[0] != "#")
        return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}

    text = (ROOT / "hashes.txt").read_text(encoding="utf-8")

    assert pins("hashes.txt") == pins("constraints.txt"), "run `make hashes`"
    assert all("--hash=sha256:" in part for part in re.split(r"\n(?=\S)", text) if "==" in part)
