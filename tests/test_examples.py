"""The fraud example: made-up people, plain training, and secret training that agrees with it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tacit.cli.local import launch_local

FRAUD = Path(__file__).parents[1] / "examples" / "fraud"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # several would wait for each other on a busy machine
SETTINGS = {"epochs": 1, "learning_rate": 0.5, "held_out": 1000, "seed": 7}


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(FRAUD))
    yield {name: importlib.import_module(name) for name in ("generate", "plain", "breast_cancer")}
    sys.path.remove(str(FRAUD))


@pytest.fixture(scope="module")
def directory(example, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fraud")
    example["generate"].write_missing(folder, seed=7)
    return folder


@pytest.fixture
def lines():
    of: dict[str, list[str]] = {}
    return of


def run_as_all(directory, lines, *options):
    arguments = [f"--directory={directory}", *options]

    def on_line(role, line):
        lines.setdefault(role, []).append(line)

    return launch_local(FRAUD / "train.py", args=arguments, on_line=on_line)


def test_the_people_are_as_documented(example, directory):
    generate = example["generate"]

    xa, xb, label = generate.generate(seed=7)

    assert xa.shape == xb.shape == (7000, 16)
    assert 0.08 < label.mean() < 0.12
    assert (directory / generate.ALICE_FILE).read_text().startswith("balance,monthly_inflow,")
    assert (directory / generate.BOB_FILE).read_text().splitlines()[0].endswith(",audited_before,label")


def test_a_seed_gives_the_same_people_and_files_are_kept(example, directory):
    generate = example["generate"]

    same, other = generate.generate(seed=7)[0], generate.generate(seed=8)[0]

    assert (same == generate.generate(seed=7)[0]).all()
    assert (same != other).any()
    assert generate.write_missing(directory, seed=8) == []


def test_both_owners_together_do_clearly_better_than_each_alone(example, directory):
    results = example["plain"].compare(directory, **SETTINGS)

    assert results["pooled"].auc > results["alice alone"].auc + 0.05
    assert results["pooled"].auc > results["bob alone"].auc + 0.05
    assert min(result.auc for result in results.values()) > 0.7


def test_three_processes_come_to_the_plain_model_and_only_alice_learns_it(example, directory, lines):
    code = run_as_all(directory, lines, "--epochs=1")

    assert code == 0, lines
    assert list(lines) == ["alice"]
    report = json.loads("\n".join(lines["alice"]))
    pooled = example["plain"].compare(directory, **SETTINGS)["pooled"]
    weights = [*report["weights"]["alice"].values(), *report["weights"]["bob"].values()]
    assert weights == pytest.approx(pooled.weights.tolist(), abs=1e-2)
    assert report["accuracy"] == pytest.approx(pooled.accuracy, abs=5e-3)
    assert report["auc"] == pytest.approx(pooled.auc, abs=5e-3)
    assert {entry["name"]: entry["receivers"] for entry in report["revealed"]} == {
        "counts on held-out people": ["alice", "bob"],
        "weights": ["alice"],
    }


def test_an_error_at_one_owner_is_one_sentence_at_every_role(directory, tmp_path, lines):
    for path in directory.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    bob = tmp_path / "bobTrainFileWithLabel.csv"
    bob.write_text(bob.read_text().replace("\n", "\nconfidential", 1))

    code = run_as_all(tmp_path, lines)

    sentence = f"{bob}, row 1, column 'declared_income': the cell is not a number; say categories={{…}} for words"
    assert code == 1
    assert lines == {
        "alice": [f"error: bob stopped: {sentence}"],
        "bob": [f"error: {sentence}"],
        "crypto-producer": [f"error: bob stopped: {sentence}"],
    }


def test_owners_with_different_numbers_of_rows_are_told_so(directory, tmp_path, lines):
    for path in directory.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    alice = tmp_path / "aliceTrainFile.csv"
    alice.write_text("\n".join(alice.read_text().splitlines()[:-1]))

    code = run_as_all(tmp_path, lines)

    assert code == 1
    assert all(len(said) == 1 and "6999" in said[0] and "7000" in said[0] for said in lines.values())


def test_three_terminals_in_any_order_each_with_its_own_file_only(directory, tmp_path):
    base = 21000 + os.getpid() % 10000
    config = tmp_path / "config.json"
    roles = ("alice", "bob", "crypto-producer")
    config.write_text(json.dumps({role: f"127.0.0.1:{base + place}" for place, role in enumerate(roles)}))
    tacit = [sys.executable, "-m", "tacit"]
    subprocess.run([*tacit, "keygen", "--config", config], check=True, capture_output=True)

    for role, name in (("alice", "aliceTrainFile.csv"), ("bob", "bobTrainFileWithLabel.csv")):
        (tmp_path / role).mkdir()
        (tmp_path / role / name).write_bytes((directory / name).read_bytes())
    running = {
        role: subprocess.Popen(
            [
                *tacit,
                "run",
                FRAUD / "train.py",
                "--config",
                config,
                "--as",
                role,
                "--",
                f"--directory={tmp_path / role}",
                "--epochs=1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ONE_THREAD,
        )
        for role in reversed(roles)
    }
    said = {role: process.communicate(timeout=100)[0] for role, process in running.items()}

    assert [process.returncode for process in running.values()] == [0, 0, 0], said
    assert "weights" in json.loads(said["alice"])
    assert said["bob"] == said["crypto-producer"] == ""


def test_breast_cancer_comes_within_half_a_point_of_plain_pytorch(example, tmp_path):
    settings = {"epochs": 10, "learning_rate": 0.5, "held_out": 200, "seed": 7}
    example["breast_cancer"].write_missing(tmp_path, seed=7)
    report = tmp_path / "report.json"

    options = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    command = [sys.executable, FRAUD / "train.py", f"--directory={tmp_path}", f"--report={report}", *options]
    subprocess.run(command, check=True, timeout=100, env=ONE_THREAD)

    secret, plain = json.loads(report.read_text()), example["plain"].compare(tmp_path, **settings)["pooled"]
    assert secret["accuracy"] == pytest.approx(plain.accuracy, abs=0.005)
    assert secret["accuracy"] > 0.95
