"""The credit example: raw records of two institutions, joined, prepared and trained on."""

from __future__ import annotations

import csv
import json
import os
import runpy
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tacit.api import embedded
from tacit.outside.deployment import Deployment
from tacit.serve import Service
from tacit.session.config import Config
from tacit.session.trial import write_trial

FOLDER = Path(__file__).parents[2] / "examples" / "credit"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("credit")
    make = [sys.executable, FOLDER / "credit_records.py", "--directory", folder]
    subprocess.run(make, check=True, capture_output=True)
    return folder


def test_the_records_are_as_dirty_as_documented(folder):
    with (folder / "bank.csv").open(encoding="utf-8", newline="") as file:
        bank = list(csv.DictReader(file, delimiter=";"))
    with closing(sqlite3.connect(folder / "bureau.db")) as base:
        bureau = base.execute("SELECT no, late, region FROM persons").fetchall()

    here, there = {row["customer no"] for row in bank}, {no.strip().upper() for no, _, _ in bureau}
    assert (len(bank), len(bureau), len(here), len(there)) == (4200, 4500, 4200, 4500)
    assert 2900 < len(here & there) < 3400
    assert 0.17 < sum(row["repaid"] == "no" for row in bank) / 4200 < 0.29
    assert sum(row["born"] == "" for row in bank) > 200
    assert sum(late is None for _, late, _ in bureau) > 200


def test_the_program_has_sixty_lines_at_most():
    assert len((FOLDER / "train.py").read_text().splitlines()) <= 60


@pytest.fixture(scope="module")
def trained(folder):
    """What one epoch has printed; models and preparations are in the folder."""
    run = [sys.executable, "-W", "error", FOLDER / "train.py", folder, "1"]
    done = subprocess.run(run, capture_output=True, text=True, env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_together_tell_who_repays(trained, folder):
    lines = trained.splitlines()

    auc = [float(line.split("AUC ")[1].split(",")[0]) for line in lines[:2]]
    assert min(auc) > 0.75
    assert {line.split()[0] for line in lines[2:]} >= {"born", "purpose=car", "part_used", "region=east"}
    assert "phone" not in trained
    assert (folder / "alice.prep").is_file()


@pytest.mark.slow
def test_the_bank_scores_its_people_and_clients_ask_about_one(trained, folder, tmp_path, monkeypatch):
    done = subprocess.run(
        [sys.executable, "-W", "error", FOLDER / "batch.py", folder], capture_output=True, text=True, env=ONE_THREAD
    )
    assert done.returncode == 0, done.stderr
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        scores = {row["customer no"]: float(row["risk"]) for row in csv.DictReader(file)}
    some = list(scores)[:2]
    with (folder / "bank.csv").open(encoding="utf-8", newline="") as file:
        unknown = next(
            row["customer no"] for row in csv.DictReader(file, delimiter=";") if row["customer no"] not in scores
        )
    monkeypatch.setenv("CREDIT", str(folder))
    config = Config.load(write_trial(tmp_path, ["alice", "bob"], {"timeout": 60, "connect_timeout": 60}))
    Deployment.of(config).save(tmp_path / "public.json")
    model, started, found = runpy.run_path(str(FOLDER / "serve.py")), threading.Event(), []

    def serve():
        with embedded(config):
            tables, names = model["tables"](), model["columns"]()
            found.append(Service(model["load"](), tables=tables, given=model["GIVEN"], columns=names, batch=4))
            found[0].run(started.set)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert started.wait(60)
        ask = [sys.executable, "-W", "error", FOLDER / "ask.py", "--to", tmp_path / "public.json", *some, unknown]
        asked = subprocess.run(ask, capture_output=True, text=True, env=ONE_THREAD)
    finally:
        found[0].stop()
        thread.join(60)

    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert [float(line.split(": ")[1]) for line in lines[:2]] == pytest.approx([scores[n] for n in some], abs=2e-3)
    assert lines[2] == f"{unknown}: not known to both"
    assert 0 < float(lines[3].split(": ")[1]) < 1
    assert 2900 < len(scores) < 3400


@pytest.mark.slow
def test_the_demo_runs_it_in_three_processes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tacit", "demo", "credit"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Wrote credit-run/bank.csv and credit-run/bureau.db." in done.stdout
    assert "perceptron: AUC 0.8" in done.stdout
    assert sorted(path.name for path in (tmp_path / "credit-run" / "model").iterdir()) == [
        f"{role}.safetensors" for role in ("alice", "bob", "crypto-producer")
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_is_that_of_its_script_and_runs(tmp_path):
    cells = json.loads((FOLDER / "walk.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (tmp_path / "cells.py").write_text(
        code.replace('"walk.py"', repr(str(FOLDER / "walk.py"))).replace("__file__", "_")
    )
    maker = FOLDER.parent / "private_images" / "notebook.py"

    check = [sys.executable, maker, "--check", FOLDER / "walk.py"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:FigureCanvasAgg", tmp_path / "cells.py"],
        cwd=tmp_path,
        env={**ONE_THREAD, "EPOCHS": "1", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert subprocess.run(check, capture_output=True).returncode == 0
    assert done.returncode == 0, done.stderr
    quality = [float(line.split("AUC ")[1].split(",")[0]) for line in done.stdout.splitlines() if ": AUC " in line]
    assert min(quality) > 0.75
    assert {path.name for path in (tmp_path / "credit-run").iterdir()} >= {"model", "alice.prep", "bob.prep"}
