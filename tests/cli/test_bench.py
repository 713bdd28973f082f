"""`tacit bench` runs its tasks, measures what it says, and writes a table that holds together."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def bench(folder: Path, *options: str, seconds: float = 170) -> str:
    command = [sys.executable, "-m", "tacit", "bench", "--tiny", "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a file of the benchmark at tiny sizes, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("TACIT_BENCH_TINY", "1")
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        monkeypatch.delitem(sys.modules, name, raising=False)  # a folder of tests may have the name, too
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def test_tasks_run_with_and_without_tls_and_give_a_table(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--only", "op.mul")

    machine, *rows = rows_of(tmp_path / "rows.jsonl")
    assert machine["tiny"] is True
    assert {"cores", "rtt_us", "bandwidth_gb_s", "gmac_s", "copy_gb_s"} <= machine.keys()
    assert [(row["task"], row["system"]) for row in rows] == [("op.mul.1e6", "tacit"), ("op.mul.1e6", "tacit-plain")]
    for row in rows:
        assert row["max_abs_err"] < 1e-3
        assert row["seconds"] > 0
        assert row["frac_bits"] == 16
        assert row["kernels"].startswith(("native (", "reference"))
    product = rows[-1]
    assert (product["rounds"], product["online_bytes"]) == (2, 3 * 16_000)  # two operands and what is truncated
    assert "| `op.mul.1e6` |" in printed
    assert (tmp_path / "plot.svg").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_models_of_real_size_are_measured_when_they_are_tiny(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install tacit[models]")

    printed = bench(tmp_path, "--models", "--only", "resnet-18|llama", seconds=280)

    rows = rows_of(tmp_path / "models.jsonl")
    assert [row["model"] for row in rows] == ["resnet-18", "llama, 67 M"]
    for row in rows:
        assert row["error"] < 0.01
        assert row["peak_bytes"].keys() == {"alice", "bob", "crypto-producer"}
        assert row["first"]["rounds"] >= row["later"]["rounds"] > 0
    assert "| resnet-18 |" in printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_models_are_measured_over_an_emulated_link(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="pip install tacit[models]")

    printed = bench(tmp_path, "--models", "--wan", "20ms,350mbit", "--only", "resnet-18", seconds=280)

    (row,) = rows_of(tmp_path / "models-wan.jsonl")
    later = row["later"]
    assert row["wan"] == "20 ms, 350 Mbit/s"
    assert later["least_seconds"] >= later["rounds"] * 0.01
    assert later["seconds"] > 0.9 * later["least_seconds"]
    assert "times the least" in printed
    assert not (tmp_path / "models.jsonl").exists()


def test_models_say_once_which_package_is_missing(tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = module("models")
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ValueError, match=r"pip install 'tacit\[models\]'"):
        models.run(folder=tmp_path, threads=1, tiny=True)

    assert list(tmp_path.iterdir()) == []


def test_rounds_and_bytes_take_at_least_as_long_as_the_busiest_link(module: Any) -> None:
    travel = module("floor").travel

    assert travel(100, 0, 0, 0.04, 1e6) == pytest.approx(2.0)
    assert travel(0, 5e6, 8e6, 0.04, 1e6) == pytest.approx(5.0)  # the producer's go to two
    assert travel(50, 1e6, 8e6, 0.04, 1e6) == pytest.approx(1.0 + 4.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_parties_train_and_predict_in_the_benchmark(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--only", "logreg.1|mlp.batch1$", "--systems", "two-party", seconds=280)

    _, *rows = rows_of(tmp_path / "rows.jsonl")
    assert "| alone: rounds | alone: online, MB | alone: prepared, MB |" in printed
    found = {row["system"] for row in rows}
    assert found == {f"tacit-two-party{which}" for which in ("", "-plain", "-prepared", "-owned")}
    assert "| transfers made ahead, s | each with what it knows, s |" in (tmp_path / "alone-table.md").read_text()
    for row in rows:
        assert row["peak_bytes"] >= row["base_bytes"] > 0
        assert row.get("max_abs_err", 0) < 1e-2
        assert row.get("accuracy", 1) > 0.9
        assert (row["producer_bytes"], row["producer_cpu_seconds"]) == (0, 0)
        assert row["prepared_bytes"] >= 0
        assert row["prepared_seconds"] >= 0
        assert row["system"] != "tacit-two-party-prepared" or row["late_bytes"] == 0


@pytest.mark.slow
def test_under_an_emulated_link_a_task_takes_at_least_its_rounds(tmp_path: Path) -> None:
    for system in ("tacit", "tacit-plain"):
        bench(tmp_path, "--only", "op.mul", "--wan", "60ms,350mbit", "--systems", f"^{system}$", "--add")

    machine, first, again, second = rows_of(tmp_path / "wan.jsonl")
    assert (machine["wan"], machine["wan_round_trip"]) == ("60 ms, 350 Mbit/s", 0.06)
    assert again["system"] == "machine"
    rows = [first, second]
    assert [(row["system"], row["pass"]) for row in rows] == [("tacit", 0), ("tacit-plain", 1)]
    for row in rows:
        assert row["seconds"] >= row["rounds"] * 0.03
    assert "60 ms, 350 Mbit/s" in (tmp_path / "wan-table.md").read_text()


def test_without_namespaces_tacit_is_measured_alone_over_relays(
    module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    side_by_side = module("side_by_side")
    monkeypatch.setattr(side_by_side, "HERE", BENCHMARKS / "nowhere")

    prefix = side_by_side.emulation("40ms,350mbit")

    assert prefix == []
    assert "connections are relayed instead, and Tacit runs alone" in capsys.readouterr().err
    assert all("--wan" in command for command in side_by_side.commands(None, 1, "1ms,1mbit").values())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_small_operator_is_measured_beside_its_floor(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--small", seconds=500)

    rows = rows_of(tmp_path / "small.jsonl")
    assert {row["where"] for row in rows} == {
        "the floor, sleeping", "the floor, looking", "embedded", "plain TCP", "TLS 1.3"
    }  # fmt: skip
    assert {row.get("spin") for row in rows if row["where"] == "plain TCP"} == {0, 50, 500}
    assert all(row["microseconds"] > 0 for row in rows)
    assert "| plain TCP | 500 |" in printed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_joins_are_measured_with_and_without_a_producer(tmp_path: Path) -> None:
    bench(tmp_path, "--join", seconds=500)

    rows = rows_of(tmp_path / "join.jsonl")

    assert [(row["system"], row["rows"]) for row in rows] == [("tacit", 500.0), ("tacit-two-party", 500.0)]
    assert all(row["seconds"] > 0 and row["megabytes"] > 0 for row in rows)
    assert (tmp_path / "join-table.md").read_text().startswith("# Joins\n\nTwo CSV files")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_growth_of_trees_is_measured(tmp_path: Path) -> None:
    printed = bench(tmp_path, "--trees", seconds=500)

    rows = rows_of(tmp_path / "trees.jsonl")
    assert [row["study"] for row in rows[:4]] == ["rows", "columns", "depth", "bins"]
    assert all(row["rounds"] > 0 and row["online_bytes"] > 0 for row in rows)
    assert "| two parties alone |" in printed
    assert [row["trees"] for row in rows if row["study"] == "aim"] == [2, 2]
    assert "| 100 | 2 | 8 |" in printed


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_task_and_every_growth_study_runs(tmp_path: Path) -> None:
    bench(tmp_path, seconds=1700)
    bench(tmp_path, "--growth", seconds=1700)

    rows = rows_of(tmp_path / "rows.jsonl")[1:]
    assert not [row for row in rows if "failed" in row]
    assert len(rows) == 2 * 13
    growth = rows_of(tmp_path / "growth.jsonl")
    assert {row["study"] for row in growth} == {"batch", "width", "depth", "parties"}
    assert all(row["max_abs_err"] < 1e-3 for row in growth)
    assert len(list(tmp_path.glob("growth-*.svg"))) == 4


MACHINE = {
    "system": "machine", "time": "2026-01-01T00:00:00", "processor": "P", "cores": 2, "memory_gb": 8.0,
    "isolated_loopback": True, "calibration_ms": 3.0, "rtt_us": 20.0, "bandwidth_gb_s": 4.0, "gmac_s": 10.0,
    "copy_gb_s": 8.0, "tiny": True,
}  # fmt: skip
ROW = {"task": "op.mul.1e6", "version": "1", "threads": 1, "foreign_cpus": 0.0, "max_abs_err": 1e-4}
OWN = {"rounds": 2, "online_bytes": 8_000_000, "producer_bytes": 4_000_000, "producer_cpu_seconds": 0.1}


def test_the_table_compares_like_with_like_and_the_better_of_spu(module: Any) -> None:
    seconds = {"tacit": 2.0, "tacit-plain": 1.0, "crypten": 10.0, "spu-semi2k": 6.0, "spu-aby3": 4.0}
    rows = [MACHINE, *({**ROW, **OWN, "system": system, "seconds": value} for system, value in seconds.items())]

    head, _, line = module("report").table(rows).splitlines()

    cells = dict(zip(map(str.strip, head.split("|")), map(str.strip, line.split("|")), strict=True))
    assert cells["times CrypTen's speed"] == "10 (5 with TLS)"
    assert cells["times SPU's speed"] == "4 (2 with TLS)"
    assert (cells["rounds"], cells["online, MB"], cells["producer, MB"]) == ("2", "8", "4")


def test_two_parties_alone_are_compared_with_those_who_are_alone(module: Any) -> None:
    seconds = {"tacit": 2.0, "tacit-two-party": 3.0, "spu-semi2k": 6.0, "spu-cheetah": 30.0}
    alone = {"tacit-two-party": {"rounds": 9, "online_bytes": 7_000_000, "prepared_bytes": 3_000_000}}
    alone["tacit-two-party"]["prepared_seconds"] = 0.5
    rows = [
        MACHINE, *({**ROW, **OWN, **alone.get(system, {}), "system": system, "seconds": value}
                   for system, value in seconds.items()),
    ]  # fmt: skip

    head, _, line = module("report").table(rows).splitlines()

    cells = dict(zip(map(str.strip, head.split("|")), map(str.strip, line.split("|")), strict=True))
    assert (cells["times CHEETAH's speed"], cells["times SPU's speed"]) == ("10", "3")
    assert (cells["rounds"], cells["alone: rounds"]) == ("2", "9")
    assert (cells["alone: online, MB"], cells["alone: prepared, MB"]) == ("7", "3")
    assert cells["alone: prepared, s"] == "0.5"


def test_who_is_alone_is_measured_where_it_is_named(module: Any) -> None:
    side = module("side_by_side")
    found = side.commands(None, 1)

    assert [system for system in found if side.asked_for(system, "")] == ["tacit", "tacit-plain"]
    assert [system for system in found if side.asked_for(system, "two-party$")] == ["tacit-two-party"]
    assert "--without-producer" in found["tacit-two-party"]
    plain = found["tacit-two-party-plain"]
    assert sorted(plain) == sorted([*found["tacit-two-party"], "--plain"])
    assert found["tacit-two-party-prepared"] == [*plain, "--prepared"]
    assert found["tacit-two-party-owned"] == [*plain, "--owned"]


def test_only_the_peers_that_are_asked_for_have_to_be_there(module: Any, tmp_path: Path) -> None:
    side = module("side_by_side")
    (tmp_path / "spu" / "bin").mkdir(parents=True)
    (tmp_path / "spu" / "bin" / "python").touch()
    found = side.commands(tmp_path, 1)

    assert list(side.checked(found, "spu-cheetah")) == ["spu-cheetah"]
    with pytest.raises(FileNotFoundError, match="says how to set up crypten"):
        side.checked(found, "")
    with pytest.raises(ValueError, match="no system is called 'spdz': there are tacit"):
        side.checked(found, "spdz")


SPENT = {
    "rounds": 9, "online_bytes": 7_000_000, "prepared_bytes": 3_000_000, "prepared_seconds": 0.5,
    "base_bytes": 200_000_000, "peak_bytes": 450_000_000,
}  # fmt: skip


def test_two_parties_alone_have_a_table_of_their_own(module: Any, tmp_path: Path) -> None:
    near = {"tacit-plain": 0.5, "tacit-two-party-plain": 2.0, "tacit-two-party": 2.5, "tacit-two-party-prepared": 1.0}
    near |= {"tacit-two-party-owned": 0.2, "spu-cheetah": 30.0}
    far = {"tacit-two-party-plain": 4.0, "spu-cheetah": 60.0}
    link = {
        "wan": "40 ms, 350 Mbit/s", "wan_hosts": True, "wan_measured_ms": 40.5, "wan_one_way_mbit_s": 349.0,
        "wan_both_ways_mbit_s": 348.0,
    }  # fmt: skip
    for name, seconds, machine in (("rows", near, MACHINE), ("wan", far, MACHINE | link)):
        rows = [machine, *({**ROW, **SPENT, "system": system, "seconds": value} for system, value in seconds.items())]
        rows.append({"task": "op.matmul.1024", "system": "spu-cheetah", "failed": "no memory"})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    written = module("alone").write(tmp_path).read_text()

    head, _, *lines = [line for line in written.splitlines() if line.startswith("|")]
    (line,) = lines
    cells = dict(zip(map(str.strip, head.split("|")), map(str.strip, line.split("|")), strict=True))
    assert cells == {
        "": "", "task": "`op.mul.1e6`", "with a producer, s": "0.5", "alone, s": "2", "with TLS, s": "2.5",
        "transfers made ahead, s": "1", "each with what it knows, s": "0.2", "CHEETAH, s": "30",
        "times its speed": "15", "hops": "9", "online, MB": "7", "prepared, MB": "3", "prepared, s": "0.5",
        "memory a party, MB": "250", "CHEETAH's, MB": "250", "wide area, s": "4", "CHEETAH there, s": "60",
        "times its speed there": "15",
    }  # fmt: skip
    assert "40 ms, 350 Mbit/s" in written
    assert "Tiny sizes" in written


def test_a_column_that_nothing_was_measured_for_is_left_out(module: Any, tmp_path: Path) -> None:
    alone = module("alone")
    rows = [MACHINE, {**ROW, **SPENT, "system": "tacit-two-party", "seconds": 2.0}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    written = alone.write(tmp_path).read_text()

    assert "| task | with TLS, s | hops | online, MB | prepared, MB | prepared, s | memory a party, MB |" in written
    (tmp_path / "rows.jsonl").write_text(json.dumps(MACHINE) + "\n")
    assert alone.write(tmp_path) is None


def test_joins_that_fail_say_so_and_the_best_pass_of_others_counts(module: Any) -> None:
    facts = {"rows": 5.0, "cpu_seconds": 1.0, "megabytes": 22.0, "memory_megabytes": 300.4, "of": 10_000}
    rows = [
        {"system": "tacit", "seconds": 3.0, **facts},
        {"system": "tacit", "seconds": 2.0, **facts},
        {"system": "spu-rr22", "error": "no such file"},
    ]

    lines = module("join").table(rows).splitlines()

    assert lines[2:] == ["| tacit | 10,000 | 2 | 1 | 22 | 300 |", "| spu-rr22 | | failed | | | |"]


def test_limits_are_those_of_the_best_pass(module: Any) -> None:
    slow = {**MACHINE, "rtt_us": 90.0, "gmac_s": 5.0, "calibration_ms": 9.0}

    found = module("report").at_its_best([slow, {**ROW, **OWN, "system": "tacit", "seconds": 1.0}, MACHINE])

    assert found == {**MACHINE, "calibration_ms": 9.0}


def test_the_model_of_ranks_times_methods_that_there_are(module: Any) -> None:
    ranks = module("ranks")

    assert {method.__qualname__ for method in ranks.WAITS} == {"Waiting.for_frame", "Waiting.until_written"}
    assert {method.__name__ for method in ranks.COLLECTIVES} == {"sum", "gather", "broadcast", "exchange"}


def test_a_floor_adds_up_what_a_task_needs_at_least(module: Any) -> None:
    floor = module("floor")

    parts = floor.seconds({**ROW, **OWN}, MACHINE)
    looking = floor.seconds({**ROW, **OWN}, {**MACHINE, "rtt_looking_us": 8.0})
    apart = floor.seconds({**ROW, **OWN}, {**MACHINE, "wan_rate": 1e6, "wan_round_trip": 0.04})
    product = floor.seconds({**ROW, **OWN, "task": "op.matmul.1024"}, MACHINE)

    assert parts["arithmetic"] == 0
    assert parts["wire"] == pytest.approx(12e6 / 4e9)
    assert parts["rounds"] == pytest.approx(2 * 10e-6)
    assert looking["rounds"] == pytest.approx(2 * 4e-6)
    assert product["arithmetic"] == pytest.approx(3 * module("tasks").multiply_adds("op.matmul.1024") / 10e9 / 2)
    assert parts["memory"] == pytest.approx((16 * 3_000 + 24e6) / 8e9)
    assert (apart["wire"], apart["rounds"]) == pytest.approx((4.0, 0.04))


def test_a_product_takes_five_ring_products_less_one_for_each_operand_with_an_owner(module: Any) -> None:
    tasks = module("tasks")

    per_product = {
        task: tasks.ring_multiply_adds(task) / tasks.multiply_adds(task)
        for task in tasks.TASKS
        if tasks.multiply_adds(task)
    }

    assert (per_product["op.matmul.1024"], per_product["train.logreg.1epoch"]) == (3, 4)
    assert all(3 < ratio < 4 for task, ratio in per_product.items() if task.startswith("infer"))
    assert all(4 < ratio < 5 for task, ratio in per_product.items() if task.startswith("train.net"))


def test_the_plain_references_are_those_of_pytorch(module: Any) -> None:
    import torch
    from torch.nn.functional import conv2d, max_pool2d, relu

    tasks, own = module("tasks"), module("tacit_tasks")
    x = tasks.lenet_images(2)
    c1, e1, c2, e2, w1, b1, w2, b2 = map(torch.from_numpy, tasks.lenet_parameters())
    h = max_pool2d(relu(conv2d(torch.from_numpy(x), c1, e1)), 2)
    h = max_pool2d(relu(conv2d(h, c2, e2)), 2)
    scores = relu(h.flatten(1) @ w1 + b1) @ w2 + b2
    images, labels = map(torch.from_numpy, tasks.network_data(2))
    trained = own.steps_of(own.Network("A"), images, labels, 2)

    expected = tasks.perceptron_trained(2)

    assert np.abs(tasks.lenet_plain(x) - scores.numpy()).max() < 1e-4
    for found, value in zip(trained, expected, strict=True):
        assert np.abs(found.numpy().T - value).max() < 1e-5


def test_sizes_are_those_of_the_names_unless_tiny(module: Any) -> None:
    code = (
        "import tasks; print(tasks.multiply_adds('op.matmul.1024'), tasks.values('op.relu.1e6'), len(tasks.chosen('')))"
    )
    environment = {**os.environ, "TACIT_BENCH_TINY": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, env=environment, capture_output=True, text=True)

    assert done.stdout.split() == [str(1024**3), "2000000", "13"]
    assert module("tasks").multiply_adds("op.matmul.1024") < 1024**2
