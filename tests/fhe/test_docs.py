"""What the pages, examples and the notebook of tacit.fhe show, runs; what they cite, exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "fhe").glob("*.py"))
SLOW = {"hybrid_transformer"}  # it imports transformers, which only `make test-slow` installs
CITATION = re.compile(r"\[([A-Z][A-Za-z]*\d\d)\]")


def run(*arguments: str | Path, folder: Path) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}  # small networks crawl on two threads of a busy machine
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "script", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in EXAMPLES]
)
def test_examples_run(script: Path, tmp_path: Path) -> None:
    printed = run(script, folder=tmp_path)

    assert "equal" in printed


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "fhe" / "encrypted_predictions.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]

    printed = run("-c", "\n".join(cells), folder=tmp_path)

    assert len(cells) >= 4
    assert "True" in printed


def test_programs_on_the_page_run(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "fhe.md").read_text(), re.DOTALL | re.MULTILINE)

    printed = [run("-c", block, folder=tmp_path) for block in blocks]

    assert len(printed) >= 2
    assert all(printed)


def test_citations_resolve() -> None:
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "papers_fhe.bib").read_text(), re.MULTILINE))
    texts = [*(ROOT / "src" / "tacit" / "fhe").rglob("*.py"), *(ROOT / "docs").glob("fhe*.md")]

    cited = {key for path in texts for key in CITATION.findall(path.read_text())}

    assert cited
    assert cited <= known
