"""Steps that are replayed by every role in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, torch, tacit
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

with tacit.session() as session:
    alice, bob = session.parties
    plain = nn.Linear(5, 1)
    x, y = torch.randn(640, 5), (torch.rand(640, 1) > 0.5).float()
    model = tacit.share(plain, owner=alice)
    rows, targets = tacit.share(x, owner=alice), tacit.share(y, owner=bob)
    mine, other = [torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, plain)]

    def train(model, optimizer, x, y):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()

    step = tacit.compile(lambda x, y: train(model, mine, x, y), strict=True)
    who, when = sys.argv[1], int(sys.argv[2])
    for k in range(0, 640, 16):
        if who == session.role and k == when:
            step = step.function
        step(rows[k : k + 16], targets[k : k + 16])
        train(plain, other, x[k : k + 16], y[k : k + 16])
    found = tacit.reveal(model.weight.detach(), to="all")
    assert step.replayed > 30, step.why_not
    assert (found - plain.weight).abs().max() < 1e-3
    print(session.role, "has replayed")
"""


def run(folder: Path, who: str, when: int) -> subprocess.CompletedProcess[str]:
    """Run it by all roles, of which one stops to compile its step after so many rows."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "tacit", "local", str(script), who, str(when)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_every_role_replays(tmp_path: Path) -> None:
    done = run(tmp_path, "nobody", 0)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("has replayed") == 3


@pytest.mark.slow
@pytest.mark.parametrize(("who", "when"), [("bob", 0), ("alice", 320), ("crypto-producer", 320)])
def test_a_role_that_runs_the_step_as_it_is_written_ends_the_session(tmp_path: Path, who: str, when: int) -> None:
    done = run(tmp_path, who, when)

    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "do not run the same program" in said
    assert "tacit.compile(<lambda>: " in said
    assert who in said
    assert "has replayed" not in done.stdout
