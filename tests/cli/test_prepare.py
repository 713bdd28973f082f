"""`tacit prepare` and `--prepared`: the crypto-producer's work ahead of a run, by real processes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tacit.cli.main import main
from tacit.session.launch import start
from tacit.session.trial import write_trial

ROOT = Path(__file__).parents[2]
SCORE = ROOT / "examples" / "prepared" / "score.py"
PARTIES = ("alice", "bob")


def tacit(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "tacit", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def prepared(folder: Path, script: Path, store: str = "store", *arguments: object) -> subprocess.CompletedProcess[str]:
    """Prepare a script for the config in a folder."""
    if not (folder / "config.json").exists():
        write_trial(folder, PARTIES, {"timeout": 20, "connect_timeout": 20})
    return tacit(folder, "prepare", script, "--config", "config.json", "--out", store, *arguments)


def run(folder: Path, script: Path | dict[str, Path], stores: dict[str, str]) -> dict[str, tuple[int, str]]:
    """Run a script as the parties, each with a store; return their exit codes and what they printed."""
    processes = {}
    for role in PARTIES:
        mine = script if isinstance(script, Path) else script[role]
        command = [sys.executable, "-m", "tacit", "run", str(mine), "--config", "config.json", "--as", role]
        processes[role] = subprocess.Popen(
            [*command, "--prepared", stores[role]],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    printed = {role: process.communicate(timeout=120)[0] for role, process in processes.items()}
    return {role: (process.returncode, printed[role]) for role, process in processes.items()}


def both(store: str) -> dict[str, str]:
    return dict.fromkeys(PARTIES, store)


def written(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


PROGRAM = """
import os, signal
import torch, tacit
with tacit.session() as session:
    x = tacit.share(torch.ones(4) if tacit.is_role("alice") else None, owner="alice", shape=(4,))
    for step in range({steps}):
        x = torch.relu(x * x)
        {between}
    value = tacit.reveal(x, to="bob")
    print(value if value is None else value.tolist(), session.meter.cost)
"""


def program(folder: Path, between: str = "pass", steps: int = 2, name: str = "script.py") -> Path:
    return written(folder, PROGRAM.format(between=between, steps=steps), name)


def test_a_script_is_prepared_or_says_in_one_sentence_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = write_trial(tmp_path, PARTIES)
    texts = {
        "with tacit.session():\n    tacit.share(None, owner='alice')": "error: alice would tell the others the shape",
        "print('no session')": f"error: {tmp_path / 'script.py'} has not ended a session",
        "tacit.session()\ntacit.share(torch.ones(3)).relu()": "",
    }
    for text, said in texts.items():
        script = written(tmp_path, f"import tacit, torch\n{text}")
        try:
            with pytest.raises(SystemExit) as ended:
                main(["prepare", str(script), "--config", str(config), "--out", str(tmp_path / "store")])
        finally:
            start(None)

        out, err = capsys.readouterr()
        assert err.startswith(said)
        assert err.count("\n") == bool(said)
        assert ended.value.code == bool(said)
        assert (tmp_path / "store").exists() != bool(said)
        assert ("give each party its own file" in out) != bool(said)


def test_two_parties_on_one_machine_prepare_in_one_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr(sys, "path", [*sys.path])
    config = write_trial(tmp_path, PARTIES, {"protocol": "two-party"})
    script = written(tmp_path, TOGETHER.format(between="pass", steps=1))

    try:
        with pytest.raises(SystemExit) as ended:
            main(["prepare", str(script), "--config", str(config), "--out", str(tmp_path / "store")])
    finally:
        start(None)

    assert ended.value.code == 0
    assert "give each party its own file" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["alice.store", "bob.store"]


@pytest.mark.slow
def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    produced = tacit(tmp_path, "local", SCORE)
    done = prepared(tmp_path, SCORE)
    later = tacit(tmp_path, "local", SCORE, "--prepared", "store")
    again = tacit(tmp_path, "local", SCORE, "--prepared", "store")

    assert done.returncode == 0, done.stderr
    assert "(unknown while preparing) scores are high" in done.stdout
    assert "store/alice.store " in done.stdout
    assert done.stderr == ""
    assert (produced.returncode, later.returncode, again.returncode) == (0, 0, 1), later.stdout

    def said(output: str, role: str) -> list[str]:
        lines = [line.split("│ ", 1)[1] for line in output.splitlines() if line.strip().startswith(f"{role} │")]
        return [line for line in lines if "rounds" not in line]

    assert said(later.stdout, "alice") == said(produced.stdout, "alice")
    assert said(later.stdout, "bob") == said(produced.stdout, "bob")
    assert "crypto-producer" not in later.stdout
    assert "producer sent 0 B" in later.stdout
    assert again.stdout.count("has been begun, and a store serves one run, whatever became of it: prepare another") == 2


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_a_store_whose_party_was_killed_is_used_up(tmp_path: Path, step: int) -> None:
    kill = f"step == {step} and tacit.is_role('alice') and os.kill(os.getpid(), signal.SIGKILL)"
    script = program(tmp_path, kill)
    assert prepared(tmp_path, script).returncode == 0
    shutil.copytree(tmp_path / "store", tmp_path / "backup")

    ended = run(tmp_path, script, both("store"))
    again = run(tmp_path, program(tmp_path), both("store"))
    restored = run(tmp_path, program(tmp_path), both("backup"))

    assert ended["alice"][0] == -signal.SIGKILL
    assert ended["bob"][0] == 1
    for party in PARTIES:
        assert "has been begun" in again[party][1]
        assert "has been begun" in restored[party][1]


@pytest.mark.slow
def test_parties_with_different_stores_or_without_one_do_not_begin(tmp_path: Path) -> None:
    script = program(tmp_path)
    for store in ("one", "other"):
        assert prepared(tmp_path, script, store).returncode == 0

    mixed = run(tmp_path, script, {"alice": "one", "bob": "other"})
    shutil.copy(tmp_path / "one" / "alice.store", tmp_path / "swapped.store")
    swapped = run(tmp_path, script, {"alice": "one", "bob": "swapped.store"})
    right = run(tmp_path, script, both("one"))

    for party in PARTIES:
        assert mixed[party][0] == 1
        assert "differ in 'the store given by --prepared'" in mixed[party][1]
        assert mixed[party][1].count("\n") == 1
        assert swapped[party][0] == 1
    assert "swapped.store is the store of 'alice', and this is bob" in swapped["bob"][1]
    assert right["bob"][0] == 0, right
    assert right["bob"][1].startswith("[1.0, 1.0, 1.0, 1.0]")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_another_program_ends_at_all_parties(tmp_path: Path, steps: int) -> None:
    assert prepared(tmp_path, program(tmp_path)).returncode == 0

    ended = run(tmp_path, program(tmp_path, steps=steps, name="other.py"), both("store"))

    for party in PARTIES:
        assert ended[party][0] == 1
        assert "was prepared for another program: " in ended[party][1]
        assert "at operator" in ended[party][1]
        assert ended[party][1].splitlines()[-1].startswith("error: ")


# --- two parties alone, who make a store together ---------------------------------------------------------------------


def together(folder: Path, script: Path | dict[str, Path], *, store: str = "store") -> dict[str, tuple[int, str]]:
    """Prepare a script as both parties, each in a process of its own."""
    if not (folder / "config.json").exists():
        write_trial(folder, PARTIES, {"protocol": "two-party", "timeout": 20, "connect_timeout": 20})
    processes = {}
    for role in PARTIES:
        mine = script if isinstance(script, Path) else script[role]
        command = [sys.executable, "-m", "tacit", "prepare", str(mine), "--config", "config.json", "--as", role]
        processes[role] = subprocess.Popen(
            [*command, "--out", store], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    printed = {role: process.communicate(timeout=120)[0] for role, process in processes.items()}
    return {role: (process.returncode, printed[role]) for role, process in processes.items()}


TOGETHER = """
import os, signal
import torch, tacit
with tacit.session() as session:
    x = tacit.share(torch.ones(4) if tacit.is_role("alice") else None, owner="alice", shape=(4,))
    x = x + tacit.share(torch.zeros(4) if tacit.is_role("bob") else None, owner="bob", shape=(4,))
    for step in range({steps}):
        x = torch.relu(x * x)
        {between}
    value = tacit.reveal(x, to="bob")
    print(value if value is None else value.tolist(), session.meter.cost)
"""


@pytest.mark.slow
def test_two_parties_prepare_together_and_run_from_their_stores(tmp_path: Path) -> None:
    script = written(tmp_path, TOGETHER.format(between="pass", steps=2))

    made = together(tmp_path, script)
    done = run(tmp_path, script, {role: f"store/{role}.store" for role in PARTIES})

    for role in PARTIES:
        assert made[role][0] == 0, made
        assert f"store/{role}.store " in made[role][1]
        assert "keep it where nobody else can read it" in made[role][1]
        assert done[role][0] == 0, done
        assert "prepared" not in done[role][1]
    assert done["bob"][1].startswith("[1.0, 1.0, 1.0, 1.0]")


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])
def test_a_store_of_two_parties_of_which_one_was_killed_is_used_up(tmp_path: Path, step: int) -> None:
    kill = f"step == {step} and tacit.is_role('bob') and os.kill(os.getpid(), signal.SIGKILL)"
    script = written(tmp_path, TOGETHER.format(between=kill, steps=2))
    assert together(tmp_path, script)["alice"][0] == 0
    shutil.copytree(tmp_path / "store", tmp_path / "backup")

    ended = run(tmp_path, script, both("store"))
    again = run(tmp_path, written(tmp_path, TOGETHER.format(between="pass", steps=2)), both("store"))
    restored = run(tmp_path, script, both("backup"))

    assert ended["bob"][0] == -signal.SIGKILL
    assert ended["alice"][0] == 1
    for party in PARTIES:
        assert "has been begun" in again[party][1]
        assert "has been begun" in restored[party][1]


@pytest.mark.slow
def test_two_parties_that_prepare_or_run_different_things_are_told(tmp_path: Path) -> None:
    two, three = (written(tmp_path, TOGETHER.format(between="pass", steps=count), f"{count}.py") for count in (2, 3))

    differing = together(tmp_path, {"alice": two, "bob": three}, store="differing")
    assert not (tmp_path / "differing").exists()
    assert {code for code, _ in differing.values()} == {1}
    assert all("error: " in said for _, said in differing.values())

    assert together(tmp_path, two)["bob"][0] == 0
    taken = together(tmp_path, two)
    ended = run(tmp_path, three, both("store"))
    for party in PARTIES:
        assert f"there is something at store/{party}.store already" in taken[party][1]
        assert ended[party][0] == 1
        assert "was prepared for another program: " in ended[party][1]


@pytest.mark.slow
def test_the_example_is_prepared_for_two_parties_on_one_machine(tmp_path: Path) -> None:
    write_trial(tmp_path, PARTIES, {"protocol": "two-party"})
    alone = tacit(tmp_path, "local", SCORE, "--without-producer")
    done = tacit(tmp_path, "prepare", SCORE, "--config", "config.json", "--out", "store")
    wrong = tacit(tmp_path, "local", SCORE, "--prepared", "store")
    later = tacit(tmp_path, "local", SCORE, "--without-producer", "--prepared", "store")

    assert done.returncode == 0, done.stderr
    assert "give each party its own file" in done.stdout
    assert (alone.returncode, later.returncode, wrong.returncode) == (0, 0, 1), later.stdout
    assert "scores are high" in later.stdout
    assert "was prepared with 'tacit.protocol' two-party" in wrong.stdout


@pytest.mark.slow
@pytest.mark.parametrize("killed", PARTIES)
def test_a_preparation_of_which_one_party_dies_leaves_no_store(tmp_path: Path, killed: str) -> None:
    body = TOGETHER.format(between="step == 1 and KILLED", steps=2)
    mine = {role: written(tmp_path, body.replace("KILLED", "0"), f"{role}.py") for role in PARTIES}
    mine[killed].write_text(body.replace("KILLED", "os.kill(os.getpid(), signal.SIGKILL)"))

    made = together(tmp_path, mine)

    assert made[killed][0] == -signal.SIGKILL
    assert all(code for code, _ in made.values())
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_the_crypto_producer_takes_no_part(tmp_path: Path) -> None:
    script = program(tmp_path)
    assert prepared(tmp_path, script).returncode == 0

    done = tacit(tmp_path, "run", script, "--config", "config.json", "--as", "crypto-producer", "--prepared", "store")

    assert done.returncode == 1
    assert done.stderr == "error: crypto-producer takes no part in a run from a store: start the parties alone\n"
