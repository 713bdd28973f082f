"""The ledger: a line for each reveal, and a policy that is asked before a share leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from tacit.errors import RevealError
from tacit.session.config import Config, RevealRule
from tacit.session.ledger import Ledger, is_library, source_line, where


def policy(*rules: tuple[str, list[str]]) -> tuple[RevealRule, ...]:
    literal = [{"name": name, "to": to} for name, to in rules]
    read = Config.embedded(reveal=literal).reveal
    assert read is not None
    return read


def test_a_line_says_what_was_revealed_to_whom_where_and_when() -> None:
    ledger = Ledger("alice", None, None)

    entry = ledger.write("weights", torch.Size((2, 3)), ["bob", "carol"])

    assert ledger.entries == [entry]
    assert (entry.name, entry.shape, entry.receivers) == ("weights", (2, 3), ("bob", "carol"))
    assert entry.line.startswith(f"{__file__}:")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(entry.time)) < timedelta(minutes=1)


def test_lines_are_kept_in_a_file_across_runs(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "alice.jsonl"

    for name in ("weights", "Gewichte, gerundet"):
        Ledger("alice", None, path).write(name, (2,), ["bob"])

    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["name"] for line in lines] == ["weights", "Gewichte, gerundet"]
    assert {line["role"] for line in lines} == {"alice"}
    assert set(lines[0]) > {"role", "name", "shape", "receivers", "line", "time"}


def test_what_a_policy_forbids_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "alice.jsonl"
    ledger = Ledger("alice", policy(("weight*", ["bob"])), path)

    ledger.write("weight of age", (), ["bob"])
    with pytest.raises(RevealError) as refused:
        ledger.write("weight of age", (), ["bob", "carol"])

    assert len(ledger.entries) == len(path.read_text().splitlines()) == 1
    assert str(refused.value).startswith(f"alice refuses to reveal 'weight of age' to carol ({__file__}:")
    assert str(refused.value).endswith("add {\"name\": 'weight of age', \"to\": ['carol']} to the policy if it should")


ROLES = ["alice", "bob", "crypto-producer"]
CLIENTS = ["client", "client 10.0.0.1:5000", "client fingerprint 9f…"]


@pytest.mark.parametrize(
    ("to", "allowed"),
    [
        ([], []),
        (["alice"], ["alice"]),
        (["all"], ROLES),
        (["clients"], CLIENTS),
        (["federation"], ["federation"]),
        (["alice", "clients"], ["alice", *CLIENTS]),
    ],
)
def test_a_rule_allows_the_receivers_it_names_and_all_are_the_roles(to: list[str], allowed: list[str]) -> None:
    ledger = Ledger("alice", policy(("x", to)), None)

    for receiver in [*ROLES, *CLIENTS, "federation"]:
        if receiver in allowed:
            ledger.check("x", [receiver])
            continue
        with pytest.raises(RevealError, match="its reveal policy does not allow it"):
            ledger.check("x", [receiver])


def test_a_refusal_says_the_word_that_a_policy_needs() -> None:
    ledger = Ledger("alice", (), None)

    for receiver, word in (("client 10.0.0.1:5000", "clients"), ("federation", "federation"), ("bob", "bob")):
        with pytest.raises(RevealError, match=rf"to {receiver} \(.*\"to\": \['{word}'\]"):
            ledger.check("x", [receiver])


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [("*", "", True), ("a?", "ab", True), ("a?", "AB", False), ("w[0-9]", "w5", True), ("w", "w.", False)],
)
def test_names_are_matched_as_file_names_are_and_case_counts(pattern: str, name: str, allowed: bool) -> None:
    ledger = Ledger("alice", policy((pattern, ["bob"])), None)

    if allowed:
        ledger.check(name, ["bob"])
    else:
        with pytest.raises(RevealError):
            ledger.check(name, ["bob"])


def test_no_policy_allows_everything_and_an_empty_one_nothing() -> None:
    Ledger("alice", None, None).check("x", [*ROLES, *CLIENTS])
    with pytest.raises(RevealError):
        Ledger("alice", (), None).check("x", ["alice"])


def test_lines_are_the_users_not_a_librarys() -> None:
    place = _called()

    assert place is not None
    assert place[0].co_name == "test_lines_are_the_users_not_a_librarys"
    assert source_line().startswith(f"{__file__}:")
    assert is_library(torch.__file__)
    assert is_library("<frozen runpy>")
    assert not is_library(__file__)


def _called() -> tuple[object, int] | None:
    return where()
