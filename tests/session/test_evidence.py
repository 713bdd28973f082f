"""Ledgers as evidence: chained, signed, and compared with those of other roles."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import tacit
from tacit.cli.main import cli
from tacit.errors import ConfigError
from tacit.net.certificates import make_certificate, signing_key
from tacit.net.transcript import Transcript
from tacit.session.chain import Chained, read
from tacit.session.config import Config
from tacit.session.evidence import Account, compare, read_account, read_certificates
from tacit.session.ledger import Ledger

ROLES = ("alice", "bob", "crypto-producer")
FACTS = {"parties": ["alice", "bob"], "roles": list(ROLES)}
Reveal = tuple[str, tuple[int, ...], tuple[str, ...]]
REVEALS: list[Reveal] = [("loss", (), ("alice", "bob")), ("weights", (3, 2), ("alice",)), ("répartition", (5,), ROLES)]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for role in ROLES:
        make_certificate(folder, role)
    return folder


def written(
    path: Path,
    role: str = "alice",
    certs: Path | None = None,
    run: str = "ab" * 16,
    reveals: list[Reveal] = REVEALS,
    end: str | None = "in agreement",
) -> Path:
    """A ledger of one run."""
    ledger, transcript = Ledger(role, None, path, None if certs is None else signing_key(certs, role)), Transcript()
    ledger.begin(run, transcript, FACTS)
    for name, shape, receivers in reveals:
        transcript.record(f"reveal {name}")
        ledger.write(name, shape, receivers)
    if end is not None:
        ledger.end(end)
    return path


def account(path: Path, certs: Path | None = None) -> Account:
    return read_account(path, None if certs is None else read_certificates(certs))


def test_a_ledger_is_whole_and_signed_across_runs(tmp_path: Path, certs: Path) -> None:
    path = tmp_path / "alice.jsonl"
    for number in range(3):
        written(path, certs=certs, run=f"{number:032x}")

    found = account(path, certs)

    assert (found.role, found.wrong, found.noted) == ("alice", [], [])
    assert [len(run.reveals) for run in found.runs] == [3, 3, 3]
    assert list(found.signers.values()) == [str(certs / "alice.crt")]
    assert path.stat().st_mode & 0o077 == 0


def changed(line: str) -> str:
    return line.replace('"weights"', '"wishes"')


FORGERIES: dict[str, Callable[[list[str]], list[str]]] = {
    "a name is changed": lambda rows: [changed(row) for row in rows],
    "a receiver is changed": lambda rows: [row.replace('["alice", "bob"]', '["alice"]') for row in rows],
    "a line is left out": lambda rows: rows[:1] + rows[2:],
    "the first line is left out": lambda rows: rows[1:],
    "two lines are swapped": lambda rows: [rows[0], rows[2], rows[1], *rows[3:]],
    "a line is there twice": lambda rows: [*rows[:2], rows[1], *rows[2:]],
    "a line is put in": lambda rows: [rows[0], "{}", *rows[1:]],
    "a line is made unreadable": lambda rows: [rows[0], rows[1][: len(rows[1]) // 2], *rows[2:]],
    "the chain is taken off": lambda rows: [rows[0], rows[1].split(', "chain"')[0] + "}", *rows[2:]],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_ledger_that_was_changed_is_found_out(forgery: str, tmp_path: Path, certs: Path) -> None:
    path = written(tmp_path / "alice.jsonl", certs=certs)
    rows = path.read_text(encoding="utf-8").splitlines()

    path.write_text("\n".join(FORGERIES[forgery](rows)) + "\n", encoding="utf-8")

    assert account(path).wrong


def test_every_byte_counts(tmp_path: Path, certs: Path) -> None:
    path = written(tmp_path / "alice.jsonl", certs=certs)
    data = path.read_bytes()

    for at in random.sample(range(len(data) - 1), 60):
        turned = bytearray(data)
        turned[at] ^= 1 << random.randrange(8)
        path.write_bytes(turned)
        found = account(path, certs)
        assert found.wrong or found.noted, (at, data[at : at + 20])


def test_a_chain_made_anew_lacks_the_key(tmp_path: Path, certs: Path) -> None:
    forged = written(tmp_path / "forged" / "alice.jsonl", reveals=REVEALS[:1])
    other = tmp_path / "other"
    make_certificate(other, "alice")
    by_another_key = written(tmp_path / "key" / "alice.jsonl", certs=other)
    by_bob = written(tmp_path / "bob" / "bob.jsonl", role="bob", certs=certs)
    by_bob.write_text(by_bob.read_text().replace('"role": "bob"', '"role": "alice"'))

    assert account(forged).wrong == []
    assert all("is not signed" in text for text in account(forged, certs).wrong)
    assert any("of any certificate of alice" in text for text in account(by_another_key, certs).wrong)
    assert account(by_bob, certs).wrong


def test_signatures_of_a_certificate_that_was_replaced_still_count(tmp_path: Path) -> None:
    folder, path = tmp_path / "certs", tmp_path / "alice.jsonl"
    make_certificate(folder, "alice")
    written(path, certs=folder, run="1" * 32)
    (folder / "alice.crt").rename(folder / "alice.2026.crt")
    (folder / "alice.key").unlink()
    make_certificate(folder, "alice")
    written(path, certs=folder, run="2" * 32)

    found = account(path, folder)

    assert found.wrong == []
    assert sorted(found.signers.values()) == [str(folder / "alice.2026.crt"), str(folder / "alice.crt")]


def test_what_a_process_that_died_left_is_noted_and_fixed(tmp_path: Path, certs: Path) -> None:
    path = written(tmp_path / "alice.jsonl", certs=certs, run="1" * 32, end=None)
    with path.open("ab") as file:
        file.write(b'{"kind": "reveal", "na')
    written(path, certs=certs, run="2" * 32)

    found = account(path, certs)

    assert found.wrong == []
    assert any("stand 1 without a chain" in text for text in found.noted)
    assert any("run 11111111, from line 1 on, has no end" in text for text in found.noted)
    path.write_bytes(path.read_bytes().replace(b'"na\n', b'"ma\n'))
    assert account(path, certs).wrong


def test_lines_of_an_older_version_are_fixed_by_the_first_that_follows(tmp_path: Path) -> None:
    path = tmp_path / "alice.jsonl"
    path.write_text(json.dumps({"role": "alice", "name": "x"}) + "\n")
    written(path)

    assert account(path).wrong == []
    path.write_text(path.read_text().replace('"x"', '"y"', 1))
    assert account(path).wrong


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "alice.jsonl"

    def write(number: int) -> None:
        file = Chained(path, None)
        for k in range(20):
            file.append({"kind": "note", "number": number, "k": k})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = list(read(path.read_bytes()))
    assert len(lines) == 80
    assert all(line.whole and not line.between for line in lines)


def test_a_long_ledger_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "alice.jsonl"
    Chained(path, None).append({"text": "x" * 300_000})
    Chained(path, None).append({"text": "y"})
    with path.open("ab") as file:
        file.write(b"z" * 200_000)
    Chained(path, None).append({"text": "w"})

    assert [(line.whole, line.between) for line in read(path.read_bytes())] == [(True, 0), (True, 0), (True, 1)]


def test_a_ledger_that_cannot_be_written_stops_the_reveal(tmp_path: Path) -> None:
    path = written(tmp_path / "alice.jsonl")
    (tmp_path / "link.jsonl").symlink_to(path)

    with pytest.raises(ConfigError, match="cannot be written"):
        Ledger("alice", None, tmp_path / "link.jsonl").write("x", (), ["bob"])
    if os.geteuid():
        path.chmod(0o400)
        with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
            Ledger("alice", None, path).write("x", (), ["bob"])


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "alice.jsonl")
    before, write = path.read_bytes(), os.write
    ledger = Ledger("alice", None, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
        with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
            ledger.write("x", (), ["bob"])

    assert path.read_bytes() == before
    ledger.write("x", (), ["bob"])
    assert account(path).wrong == []


# --- several roles ----------------------------------------------------------------------------------------------------


def test_ledgers_of_one_run_agree_or_the_first_difference_is_named(tmp_path: Path) -> None:
    alice = account(written(tmp_path / "alice.jsonl"))
    bob = account(written(tmp_path / "bob.jsonl", role="bob"))
    short = account(written(tmp_path / "short.jsonl", role="bob", reveals=REVEALS[:2]))
    other = account(written(tmp_path / "other.jsonl", role="bob", reveals=[REVEALS[0], ("ages", (9,), ("bob",))]))
    elsewhere = account(written(tmp_path / "elsewhere.jsonl", role="bob", run="cd" * 16, reveals=[]))
    twice = account(written(tmp_path / "twice.jsonl"))

    assert compare([alice, bob]) == compare([alice, elsewhere]) == []
    (missing,) = compare([alice, short])
    assert missing.startswith("run abababab, reveal 3: alice has 'répartition' (5,) to alice, bob, crypto-producer")
    assert missing.endswith("and bob has no more")
    (differs,) = compare([alice, other])
    assert "reveal 2: alice has 'weights' (3, 2) to alice at operator 2, and bob has 'ages' (9,) to bob" in differs
    assert "are both of alice" in compare([alice, twice])[0]


def test_a_run_that_one_ledger_lacks_is_missed_once_it_was_kept(tmp_path: Path) -> None:
    for number in "123":
        written(tmp_path / "alice.jsonl", run=number * 32)
        if number == "2":
            written(tmp_path / "bob.jsonl", role="bob", run=number * 32)
    alice, bob = account(tmp_path / "alice.jsonl"), account(tmp_path / "bob.jsonl")

    (missing,) = compare([alice, bob])  # the last run was cut off; of the first one bob kept no ledger yet

    assert missing == "run 33333333: alice took part in it with bob, whose ledger lacks it"
    assert compare([bob, alice]) == [missing]


def test_roles_that_knew_each_other_by_other_certificates_or_had_other_roles_differ(tmp_path: Path) -> None:
    accounts = []
    for role, facts in (
        ("alice", {**FACTS, "certificates": {"alice": "aa", "bob": "bb"}}),
        ("bob", {**FACTS, "certificates": {"alice": "aa", "bob": "xx"}, "roles": [*ROLES, "carol"]}),
    ):
        ledger = Ledger(role, None, tmp_path / f"{role}.jsonl")
        ledger.begin("ab" * 16, Transcript(), facts)
        ledger.end("in agreement")
        accounts.append(account(tmp_path / f"{role}.jsonl"))

    roles, certificates = compare(accounts)

    assert (
        "its roles are alice, bob, crypto-producer for alice, and alice, bob, crypto-producer, carol for bob" in roles
    )
    assert certificates == "run abababab: alice knew bob by the certificate bb…, and bob by xx…"


def test_a_run_that_did_not_end_may_be_a_line_ahead_at_one_role(tmp_path: Path) -> None:
    alice = account(written(tmp_path / "alice.jsonl", end=None))
    behind = account(written(tmp_path / "bob.jsonl", role="bob", reveals=REVEALS[:2], end="by ConnectError"))
    far_behind = account(written(tmp_path / "far.jsonl", role="bob", reveals=REVEALS[:1], end=None))

    assert compare([alice, behind]) == []
    assert compare([alice, far_behind])


def test_what_clients_are_given_differs_in_name_only_and_is_nothing_to_a_helper(tmp_path: Path) -> None:
    def answers(port: int) -> list[Reveal]:
        return [("scores", (4,), (f"client 10.0.0.1:{port}", f"client 10.0.0.2:{port}"))]

    alice = account(written(tmp_path / "alice.jsonl", reveals=answers(5)))
    bob = account(written(tmp_path / "bob.jsonl", role="bob", reveals=answers(6)))
    helper = account(written(tmp_path / "helper.jsonl", role="crypto-producer", reveals=[]))

    assert compare([alice, bob, helper]) == []


def test_a_session_writes_its_run_and_the_command_checks_it(tmp_path: Path) -> None:
    config = Config.parse(json.dumps({"a": "h:1", "b": "h:2", "crypto-producer": "h:3"}), tmp_path)
    embedded = Config.embedded(("a", "b"), ledger=str(tmp_path / "kept"))
    for _ in range(2):
        with tacit.api.embedded(embedded) as session:
            tacit.reveal(tacit.share(torch.ones(2)), to="b", name="ones")
            identity = session.identity
    path = tmp_path / "kept" / "embedded.jsonl"

    found = account(path)
    good = CliRunner().invoke(cli, ["ledger", "verify", str(path)])
    path.write_text(path.read_text().replace('"ones"', '"twos"'))
    bad = CliRunner().invoke(cli, ["ledger", "verify", str(path)])

    assert config.ledger is None
    assert found.runs[1].identity == identity != found.runs[0].identity
    assert [run.ended for run in found.runs] == ["in agreement"] * 2
    assert found.runs[0].reveals[0][:3] == ("ones", (2,), ("b",))
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert "of embedded, 2 runs, 2 reveals; it is whole" in good.output
    assert "WRONG: line 2 does not follow from what stands before it" in bad.output
