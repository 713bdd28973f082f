"""An app as `flwr new` lays it out becomes one with secure aggregation by two lines, imports not counted."""

from __future__ import annotations

import difflib
import tempfile
import tomllib
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.config_utils import load_and_validate
from flwr.supercore.object_ref import load_app

from tacit.federated import Identity, LocalGrid, Roster

from .projects import forget

SITES = 5

FORMS = {
    "masks": "PairwiseMasks(Settings(minimum=3))",
    "parties": "InsecureEmbeddedParties(ClippedMean(50.0), minimum=3)",
}


def two_lines(folder: Path, form: str) -> list[str]:
    """Add secure aggregation to the project; return the lines that are new and no imports."""
    names = "ClippedMean, InsecureEmbeddedParties, PairwiseMasks, Settings"
    edits = {
        "client_app.py": [
            ("from quickstart.task import load_data", "from quickstart import FORM\nfrom tacit.federated import "
             "SecureAggregationMod\nfrom quickstart.task import load_data"),
            ("app = ClientApp()", "app = ClientApp(mods=[SecureAggregationMod(FORM)])"),
        ],
        "server_app.py": [
            ("from quickstart.task", "from quickstart import FORM\nfrom tacit.federated import Roster, "
             "SecureAggregation\nfrom quickstart.task"),
            ("    # Start strategy", "    strategy = SecureAggregation(strategy, Roster.load(context.run_config"
             '["roster"]), FORM)\n    # Start strategy'),
        ],
    }  # fmt: skip
    new = []
    for name, pairs in edits.items():
        path = folder / "quickstart" / name
        before = after = path.read_text()
        for old, text in pairs:
            assert after.count(old) == 1
            after = after.replace(old, text)
        path.write_text(after)
        new += [line[1:] for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] == "+"]
    (folder / "quickstart" / "__init__.py").write_text(f"from tacit.federated import {names}\nFORM = {form}\n")
    return [line.strip() for line in new if "import" not in line]


def start(folder: Path) -> list[np.ndarray]:
    """Run the project's apps, as Flower finds them, on the grid in this process; return the model that it saves."""
    forget()
    settings = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    config = {**settings["config"], "roster": str(folder / "roster.json")}
    apps = [load_app(settings["components"][f"{kind}app"], RuntimeError, str(folder)) for kind in ("server", "client")]
    identities = [Identity.generate(f"site-{i}") for i in range(SITES)]
    Roster.of(identities).save(folder / "roster.json")
    keys = Path(tempfile.mkdtemp(dir=folder))
    nodes = [
        {"partition-id": i, "num-partitions": SITES, "roster": config["roster"], "identity": str(identity.save(keys))}
        for i, identity in enumerate(identities)
    ]
    grid = LocalGrid(apps[1], nodes, run_config=config)
    apps[0](grid, Context(1, 1, {}, RecordDict(), config))
    with np.load("final_model.npz") as saved:
        return [saved[name] for name in saved]


@pytest.mark.parametrize("form", FORMS)
def test_two_lines_make_an_app_secure_and_change_nothing_else(project, form):
    plain = start(project)
    added = two_lines(project, FORMS[form])

    secure = start(project)

    assert added == [
        "app = ClientApp(mods=[SecureAggregationMod(FORM)])",
        'strategy = SecureAggregation(strategy, Roster.load(context.run_config["roster"]), FORM)',
    ]
    for expected, got in zip(plain, secure, strict=True):
        assert np.abs(got - expected).max() < (1e-6 if form == "masks" else 2e-4)
    assert np.abs(secure[0] - np.arange(5)).max() < 2  # it has learnt


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower uses a deprecated name
def test_flower_accepts_the_project_before_and_after(project):
    for change in (lambda: None, lambda: two_lines(project, FORMS["masks"])):
        change()

        config, warnings = load_and_validate(project / "pyproject.toml")
        archive = zipfile.ZipFile(BytesIO(build_fab_from_disk(project)))

        assert config is not None
        assert not warnings
        assert "quickstart/client_app.py" in archive.namelist()


def test_a_client_that_has_the_line_answers_no_server_that_lacks_it(project):
    two_lines(project, FORMS["masks"])
    server = project / "quickstart" / "server_app.py"
    server.write_text(server.read_text().replace("strategy = SecureAggregation(strategy", "unused = (strategy"))

    model = start(project)

    assert not model  # nothing came back, and the initial model is not kept by FedAvg
