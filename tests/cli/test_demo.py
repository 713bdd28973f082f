"""`tacit demo` and `tacit bench`, as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def tacit(*arguments, cwd, timeout=150):
    command = [sys.executable, "-m", "tacit", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@pytest.mark.timeout(200)
def test_the_fraud_demo_prints_weights_quality_cost_and_what_was_revealed(tmp_path):
    done = tacit("demo", "fraud", "--epochs", 1, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    for expected in (
        "Wrote tacit-run/aliceTrainFile.csv and tacit-run/bobTrainFileWithLabel.csv.",
        "years_as_customer",
        "declared_income",
        "both owners' secrets, with Tacit",
        "Alice's columns alone",
        "crypto-producer sent",
        "counts on held-out people",
    ):
        assert expected in done.stdout
    assert sorted(path.name for path in (tmp_path / "tacit-run").iterdir()) == [
        "aliceTrainFile.csv",
        "bobTrainFileWithLabel.csv",
    ]


def test_the_demo_stops_with_the_sentence_of_the_role_that_failed(tmp_path):
    (tmp_path / "tacit-run").mkdir()
    (tmp_path / "tacit-run" / "aliceTrainFile.csv").write_text("a\n1\n")
    (tmp_path / "tacit-run" / "bobTrainFileWithLabel.csv").write_text("b\n1\n")

    done = tacit("demo", "fraud", cwd=tmp_path)

    assert done.returncode == 1
    assert "has no column 'label'; its columns are b" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "fraud", "--directory", "/proc/none"), "cannot be written"),
        (("bench", "--only", "("), "--only is not a regular expression"),
        (("bench", "--peers", "nowhere", "--folder", "out"), "there is no nowhere/crypten/bin/python"),
    ],
)
def test_wrong_options_get_one_sentence(tmp_path, arguments, message):
    done = tacit(*arguments, cwd=tmp_path)

    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_bench_writes_rows_a_table_and_a_plot(tmp_path):
    done = tacit("bench", "--only", "infer.mlp.batch1", "--folder", tmp_path / "results", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "results" / "rows.jsonl").read_text().splitlines()]
    assert [row["system"] for row in rows] == ["machine", "tacit", "tacit-plain"]
    for row in rows[1:]:
        assert row["task"] == "infer.mlp.batch1"
        assert row["accuracy"] == 1.0
        assert row["rounds"] > 0
    assert "| `infer.mlp.batch1` |" in (tmp_path / "results" / "table.md").read_text()
    assert (tmp_path / "results" / "plot.svg").read_text().startswith("<?xml")
