"""What the examples and the notebook of tacit.fhe show, runs; what they cite, exists. Pages run as all others do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from preloaded import Preloaded

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "fhe").glob("*.py"))
SLOW = {"hybrid_transformer"}  # it imports transformers, which only `make test-slow` installs
CITATION = re.compile(r"\[([A-Z][A-Za-z]*\d\d)\]")


@pytest.mark.parametrize(
    "script", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in EXAMPLES]
)
def test_examples_run(script: Path, tmp_path: Path, preloaded: Preloaded) -> None:
    done = preloaded.run(script, tmp_path)

    assert done.returncode == 0, done.stderr
    assert "equal" in done.stdout


def test_the_notebook_runs(tmp_path: Path, preloaded: Preloaded) -> None:
    notebook = json.loads((ROOT / "examples" / "fhe" / "encrypted_predictions.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]

    done = preloaded.run("\n".join(cells), tmp_path)

    assert len(cells) >= 4
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout


def test_citations_resolve() -> None:
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs" / "papers_fhe.bib").read_text(), re.MULTILINE))
    texts = [*(ROOT / "src" / "tacit" / "fhe").rglob("*.py"), *(ROOT / "docs").glob("fhe*.md")]

    cited = {key for path in texts for key in CITATION.findall(path.read_text())}

    assert cited
    assert cited <= known
