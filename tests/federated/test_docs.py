"""The program of the documentation runs, in a process of its own, and prints the average and the report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "federated.md"


def test_the_program_of_the_page_runs(tmp_path):
    blocks = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (program,) = [block for block in blocks if "LocalGrid(app" in block]

    warn = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # typer, which Flower imports, uses deprecated names
    done = subprocess.run([sys.executable, *warn, "-c", program], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "[2. 2. 2.] session 1 (train): 5 of 5 clients" in done.stdout
