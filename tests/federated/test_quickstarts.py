"""Each quickstart of the page runs with the two lines and without, and gives the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from tacit.federated import Identity, LocalGrid, PairwiseMasks, Roster, Settings
from tacit.federated.errors import FederatedError
from tacit.federated.legacy import numpy_client_app

PAGE = Path(__file__).parents[2] / "docs" / "federated-quickstarts.md"
BLOCKS = dict(re.findall(r'^```py title="(\w+)"\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE))
SITES = 4
SLOW = {"transformers"}


def without(program: str) -> str:
    """The app as it was: the second line gone, and the mod of the first."""
    kept = [line for line in program.splitlines() if not line.endswith("# the second line")]
    lines = [line.replace("mods=[SecureAggregationMod(FORM)]", "") for line in kept]
    assert len(lines) == len(program.splitlines()) - 1
    assert sum(line.endswith("# the first line") for line in lines) == 1
    return "\n".join(lines)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Run a program's two apps on the grid in this process; return the arrays that its server saved, and the grid."""
    agreed = ModuleType("federation")
    agreed.FORM = PairwiseMasks(Settings(minimum=3))
    monkeypatch.setitem(sys.modules, "federation", agreed)
    monkeypatch.chdir(tmp_path)
    people = [Identity.generate(f"site-{i}") for i in range(SITES)]
    Roster.of(people).save(tmp_path / "roster.json")
    config = {"roster": str(tmp_path / "roster.json")}
    nodes = [
        {"partition-id": i, "num-partitions": SITES, "identity": str(person.save(tmp_path)), **config}
        for i, person in enumerate(people)
    ]

    def run(program):
        names: dict[str, object] = {}
        exec(compile(program, "quickstart", "exec"), names)
        clear = []

        def network(message):
            if message.metadata.reply_to_message_id and message.has_content():
                clear.extend(message.content.metric_records)
            return message

        grid = LocalGrid(names["client"], nodes, run_config=config, network=network)
        names["server"](grid, Context(1, 1, {}, RecordDict(), config))
        with np.load("model.npz") as saved:
            return {name: saved[name] for name in saved}, clear

    return run


NAMES = [
    pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else [])
    for n in BLOCKS
    if n not in ("federation", "walk", "xgboost")
]


@pytest.mark.parametrize("name", NAMES)
def test_a_quickstart_gives_the_same_with_two_lines_as_without(start, name):
    if name in SLOW:
        pytest.importorskip(name)
    secure, in_clear = start(BLOCKS[name])
    plain, told = start(without(BLOCKS[name]))

    assert not in_clear
    assert told  # that of the plain app is seen, so the above says something
    assert list(secure) == list(plain)
    for key, expected in plain.items():
        assert np.abs(secure[key] - expected).max() < 1e-6, key


def test_the_quickstart_of_xgboost_gives_xgboosts_trees_of_all_rows(start):
    xgboost = pytest.importorskip("xgboost")
    grown, in_clear = start(BLOCKS["xgboost"])
    names: dict[str, object] = {}
    exec(BLOCKS["xgboost"], names)
    sites = [names["load_data"](Context(1, 1, {"partition-id": i}, RecordDict(), {})) for i in range(SITES)]
    x, y = np.concatenate([s.get_data().toarray() for s in sites]), np.concatenate([s.get_label() for s in sites])

    pooled = xgboost.train({**names["PARAMS"], "tree_method": "hist", "nthread": 1}, xgboost.DMatrix(x, y), 4)

    model = xgboost.Booster()
    model.load_model(bytearray(grown["arr_0"].tobytes()))
    margins = model.predict(xgboost.DMatrix(x), output_margin=True)
    assert margins == pytest.approx(pooled.predict(xgboost.DMatrix(x), output_margin=True), abs=1e-4)
    assert ((margins > 0) == y).mean() > 0.75
    assert not in_clear


@pytest.mark.slow
def test_the_walk_of_forty_lines_ends_in_predictions_on_encrypted_images(tmp_path):
    pytest.importorskip("mlxtend", reason="pip install tacit[libraries]")
    pytest.importorskip("tenseal")
    program = BLOCKS["walk"]

    command = [sys.executable, "-W", "ignore", "-c", program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert len([line for line in program.splitlines() if line.strip()]) <= 40
    accuracy, agreed = map(float, re.search(r"accuracy ([\d.]+), encrypted as in clear ([\d.]+)", done.stdout).groups())
    assert accuracy > 0.87
    assert agreed >= 0.96


def test_a_client_of_the_older_interface_that_returns_too_few_arrays_says_so(start):
    program = BLOCKS["legacy"].replace("return [mean +", "return [] and [mean +")

    with pytest.raises(FederatedError, match="fit returned 0 arrays where 1 came"):
        start(program)


def test_a_client_may_be_one_that_was_not_wrapped(start):
    program = BLOCKS["legacy"].replace(".to_client()", "")

    assert start(program)[0]["arr_0"] == pytest.approx(start(BLOCKS["legacy"])[0]["arr_0"], abs=1e-9)
    assert numpy_client_app(lambda context: None)
