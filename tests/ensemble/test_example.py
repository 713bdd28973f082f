"""The boosting example runs as three processes, and agrees with XGBoost on all columns in one place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tacit.cli.local import launch_local

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fraud")
    generate = [sys.executable, EXAMPLES / "fraud" / "generate.py", "--directory", folder]
    subprocess.run(generate, check=True, capture_output=True)
    return folder


def run(directory: Path, *options: str) -> dict[str, object]:
    """The report of all roles, each in a process of its own."""
    said: list[str] = []
    report = directory / "report.json"
    code = launch_local(
        EXAMPLES / "boosting" / "train.py",
        args=[f"--directory={directory}", f"--report={report}", *options],
        threads=1,
        on_line=lambda role, line: said.append(f"{role}: {line}"),
    )
    assert code == 0, "\n".join(said)
    found: dict[str, object] = json.loads(report.read_text())
    return found


def test_the_example_runs_as_three_processes(directory: Path) -> None:
    report = run(directory, "--trees=1", "--depth=2", "--bins=4", "--held-out=100")

    assert float(str(report["accuracy"])) > 0.8
    assert sum(float(v) for v in dict(report["importances"]).values()) == pytest.approx(1, abs=1e-3)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_agrees_with_xgboost(directory: Path) -> None:
    pytest.importorskip("xgboost")
    plain = [sys.executable, EXAMPLES / "boosting" / "plain.py", "--directory", directory]
    want = json.loads(subprocess.run(plain, check=True, capture_output=True, text=True, env=ONE_THREAD).stdout)

    report = run(directory)

    assert float(str(report["auc"])) == pytest.approx(want["auc"], abs=0.005)
    assert float(str(report["accuracy"])) == pytest.approx(want["accuracy"], abs=0.005)
    assert float(str(report["rounds a tree"])) <= 110
