"""Ranks of one role: who may be in their process group, and how they wait for each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.ranks.forked import run_ranks, run_roles

from tacit.cli.local import _jobs
from tacit.net.certificates import key_of_ranks, make_certificate
from tacit.session.trial import PORTS, free_ports, write_trial


def test_ranks_know_and_wait_for_each_other() -> None:
    assert all("as it should be" in text for text in run_ranks(2, "together.py"))


def test_the_key_of_ranks_is_of_one_role(tmp_path: Path) -> None:
    for role in ("alice", "bob"):
        make_certificate(tmp_path, role)

    assert key_of_ranks(tmp_path, "alice") == key_of_ranks(tmp_path, "alice") != key_of_ranks(tmp_path, "bob")


def test_no_job_has_the_port_of_another_or_of_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [*range(PORTS.start, PORTS.start + 40)]
    drawn = iter([*taken, *range(30000, 30010)])
    monkeypatch.setitem(free_ports.__globals__, "_free_ports", lambda: drawn)
    config = "".join(f'"127.0.0.1:{port}", ' for port in taken)

    jobs = _jobs(("alice", "bob", "crypto-producer"), 2, config)

    assert [job["MASTER_PORT"] for job in jobs.values()] == ["30000", "30001", "30002"]


@pytest.mark.slow
def test_two_roles_in_one_process_group_are_found_out(tmp_path: Path) -> None:
    config = write_trial(tmp_path, ["alice", "bob"], {"timeout": 100, "connect_timeout": 100}, ranks=2)

    found = run_roles(2, config, "swapped.py", str(tmp_path))

    for text in found.values():
        assert re.search(r"has (alice|bob)\[[01]\] at its place [01]", text), found
        assert "a sum of shares" not in text, found
