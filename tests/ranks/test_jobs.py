"""Roles that are jobs of several processes, over sockets with TLS, as `tacit local --ranks` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.test_local import Lines, script
from tests.ranks.forked import run_roles

from tacit.cli.local import launch_local
from tacit.session.evidence import compare, read_account, read_certificates
from tacit.session.trial import free_ports, write_trial

ROOT = Path(__file__).parents[2]
TOTALS = ROOT / "examples" / "many_machines" / "totals.py"
PATIENT = {"timeout": 100, "connect_timeout": 100}
"""For a busy machine: nothing in these runs is to fail by time."""


def test_the_page_shows_the_example() -> None:
    page = (ROOT / "docs" / "many-machines.md").read_text()

    assert TOTALS.read_text().partition('"""\n\n')[2] in page


def test_ranks_are_roles_of_their_own(tmp_path: Path) -> None:
    config = write_trial(
        tmp_path,
        ["alice", "bob"],
        {"ledger": str(tmp_path / "ledger"), "checkpoints": str(tmp_path / "checkpoints"), **PATIENT},
        ranks=2,
    )

    found = {name: json.loads(text) for name, text in run_roles(2, config, "links.py", str(tmp_path)).items()}

    assert {name: each["name"] for name, each in found.items()} == {name: name for name in found}
    assert {path.stem for path in (tmp_path / "ledger").glob("*.jsonl")} == found.keys()
    of = {(name, f"{peer}{name[-3:]}"): key for name, each in found.items() for peer, key in each["keys"].items()}
    assert all(key == of[peer, name] for (name, peer), key in of.items())
    assert len(set(of.values())) == 6, "two pairs of ranks have one key"
    assert len({each["run"] for each in found.values()}) == 2
    for name, each in found.items():
        rank = int(name[-2])
        assert each["total"] == [100.0, 122.0, 148.0, 178.0]
        assert each["own"] == [10.0 * rank + k for k in range(4)]
        assert each["first"] == [0.0, 1.0, 2.0, 3.0]
        assert ("refused" in each) == (rank == 1)
        assert "rank=0" in each.get("refused", "rank=0")
        assert each["loop"] == [0, 1]
    kept = list((tmp_path / "checkpoints" / "training").glob("00000002-*/*"))
    assert {path.name for path in kept} == {f"{name.replace('[0]', '')}.safetensors" for name in found}
    assert len({path.parent for path in kept}) == 1, "ranks have checkpoints of different identities"
    certificates = read_certificates(tmp_path / "certs")
    accounts = [read_account(path, certificates) for path in sorted((tmp_path / "ledger").glob("*.jsonl"))]
    assert [account.wrong for account in accounts] == [[]] * 6
    assert compare([account for account in accounts if "[1]" in account.path.name]) == []


@pytest.mark.slow
@pytest.mark.parametrize("program", ["totals.py", "train.py"])
def test_ranks_run_from_stores_that_ranks_have_prepared(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines, path = Lines(), TOTALS.with_name(program)
    config = write_trial(tmp_path, ["alice", "bob"], PATIENT, ranks=2)
    command = [sys.executable, "-m", "tacit", "prepare", str(path), "--config", str(config), "--out", "store"]
    job = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    ranks = [
        subprocess.Popen([*command], env={**job, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"})
        for rank in range(2)
    ]
    assert [each.wait(150) for each in ranks] == [0, 0]

    code = launch_local(path, ranks=2, prepared="store", settings=PATIENT, on_line=lines)

    assert code == 0, lines.of
    assert lines.of.keys() == {"alice[0]", "alice[1]", "bob[0]", "bob[1]"}
    if program == "totals.py":
        assert all(printed[-1] == "tensor([10., 12., 14., 16.])" for printed in lines.of.values()), lines.of
    again = Lines()
    assert launch_local(path, ranks=2, prepared="store", settings=PATIENT, on_line=again)
    assert "has been begun" in " ".join(again.of["alice[1]"]), again.of


@pytest.mark.slow
def test_ranks_of_all_roles_compute_over_slow_links(tmp_path: Path) -> None:
    lines = Lines()

    code = launch_local(TOTALS, ranks=2, wan="10ms,100mbit", settings=PATIENT, on_line=lines)

    assert code == 0, lines.of
    assert all(printed[-1] == "tensor([10., 12., 14., 16.])" for printed in lines.of.values()), lines.of
    assert len(lines.of) == 6


@pytest.mark.slow
def test_ranks_of_all_roles_compute_together(tmp_path: Path) -> None:
    lines = Lines()

    code = launch_local(TOTALS, ranks=2, settings={"ledger": str(tmp_path), **PATIENT}, on_line=lines)

    assert code == 0, lines.of
    names = {f"{role}[{rank}]" for role in ("alice", "bob", "crypto-producer") for rank in range(2)}
    assert lines.of.keys() == names
    assert all(printed[-1] == "tensor([10., 12., 14., 16.])" for printed in lines.of.values()), lines.of
    assert {path.stem for path in tmp_path.glob("*.jsonl")} == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("os.kill(os.getpid(), 9)", "alice[1] has gone while alice[0] was at operator"),
        ("raise tacit.TacitError('no more')", "alice[1] stopped: no more"),
        ("session.close(); dist.destroy_process_group(); sys.exit()", "alice[1] "),
        ("dist.all_reduce(total.sum())", "two ranks do different things: alice[0] does"),
    ],
)
def test_a_rank_that_fails_ends_the_run_everywhere(act: str, said: str, tmp_path: Path) -> None:
    lines = Lines()
    failing = f"    if tacit.role() == 'alice' and dist.get_rank() == 1:\n        {act}\n    dist.all_reduce(total)\n"
    text = (
        TOTALS.read_text()
        .replace("dist.destroy", f"{failing}dist.destroy")
        .replace("import torch\n", "import os, sys, torch\n")
    )
    text = text.replace("session():", "session() as session:")

    code = launch_local(script(tmp_path, text), ranks=2, settings={"timeout": 20}, on_line=lines)

    assert code
    ends = {name: printed[-1] for name, printed in lines.of.items()}
    assert said in ends["alice[0]"], ends
    for name in ("bob[0]", "crypto-producer[0]"):
        assert "alice[0] stopped: " in ends[name], ends
    for name in ("bob[1]", "crypto-producer[1]"):
        assert "alice[1]" in ends[name], ends
