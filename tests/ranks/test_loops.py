"""Loops of several ranks that go on after one has died: at all of them, from one step."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from tests.cli.test_local import Lines, script
from tests.ranks.forked import run_ranks

from tacit.cli.local import launch_local

PROGRAM = """
import os, signal, sys, tacit, torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
x, y = torch.load("data.pt")
torch.manual_seed(3)
plain, rank = nn.Linear(4, 1), dist.get_rank()
with tacit.session() as session:
    mine = slice(rank, None, dist.get_world_size())
    rows = tacit.share(x[mine], owner="alice", shape=x[mine].shape)
    target = tacit.share(y[mine], owner="bob", shape=y[mine].shape)
    model = DistributedDataParallel(tacit.share(plain))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    saved = tacit.checkpoint(every=2, model=model, optimizer=optimizer)
    print(f"from step {saved.step}")
    for xb, yb in saved(tacit.batches(rows, target, size=8, epochs=4, progress=False, shuffle=False)):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(xb), yb).backward()
        optimizer.step()
        if (tacit.role(), rank, saved.step) == ("VICTIM", 1, AT) and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    print("weights", tacit.reveal(model.module.weight, to="all").flatten().tolist())
dist.destroy_process_group()
"""


def test_ranks_go_on_from_the_last_step_that_all_have_kept(tmp_path: Path) -> None:
    printed = run_ranks(2, "loops.py", str(tmp_path))

    assert all("as it should be" in text for text in printed), printed


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["alice", "bob", "crypto-producer"])
def test_a_job_starts_again_everywhere_when_a_rank_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y, lines, at = torch.randn(32, 4), torch.randn(32, 1), Lines(), random.randint(3, 7)
    torch.save((x, y), "data.pt")
    path = script(tmp_path, PROGRAM.replace("VICTIM", victim).replace("AT", str(at)))

    code = launch_local(path, ranks=2, restart=1, settings={"timeout": 60, "connect_timeout": 100}, on_line=lines)

    assert code == 0, lines.of
    torch.manual_seed(3)
    plain = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    for _ in range(4):
        for rows in torch.arange(32).view(2, 16):  # in turns, those of both ranks
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(plain(x[rows]), y[rows]).backward()
            optimizer.step()
    for name, printed in lines.of.items():
        said = "\n".join(printed)
        assert re.findall(r"from step (\d+)", said) == ["0", str(at - at % 2)], (name, said)
        weights = torch.tensor(eval(said.partition("weights ")[2].splitlines()[0]))
        assert (weights - plain.weight.flatten()).abs().max() < 2e-3, name
