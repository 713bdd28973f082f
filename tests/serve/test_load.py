"""What `tacit bench serve` measures and shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tacit.cli.main import cli
from tacit.errors import ConnectError
from tacit.outside.deployment import Deployment
from tacit.predictions.load import Load, measure

from .conftest import Deploy
from .test_service import Served


def test_percentiles_are_latencies_that_were_seen() -> None:
    load = Load(2, [0.4, 0.1, 0.3, 0.2], 0, 2.0)

    assert [load.latency(percent) for percent in (1, 25, 50, 75, 76, 99, 100)] == [0.1, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    assert load.throughput == 2.0


def test_every_request_of_every_client_is_counted(deploy: Deploy) -> None:
    config = deploy()

    with Served(config, lambda x: x * 2, (3,), dtype=torch.int64, batch=2, places=1) as served:
        load = measure(config, clients=3, requests=4, warm=1)

    assert served.service is not None
    assert served.service.answered == 15
    assert len(load.latencies) == 12
    assert 0 < max(load.latencies) <= load.seconds
    assert load.refused <= served.service.refused


def test_a_service_that_is_not_there_is_an_error(deploy: Deploy) -> None:
    with pytest.raises(ConnectError):
        measure(deploy(), clients=2, requests=1)


def test_the_command_shows_a_table(deploy: Deploy, tmp_path: Path) -> None:
    config = deploy()
    Deployment.of(config).save(tmp_path / "public.json")

    with Served(config, lambda x: x * 2, (3,)):
        shown = CliRunner().invoke(
            cli, ["bench", "serve", "--to", str(tmp_path / "public.json"), "--clients", "1,2", "--requests", "3"]
        )

    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert [row[:2] for row in rows] == [["1", "3"], ["2", "6"]]
    assert all(float(row[2]) > 0 and 0 < float(row[3]) <= float(row[5]) for row in rows)


@pytest.mark.slow
def test_the_command_measures_one_server() -> None:
    shown = CliRunner().invoke(cli, ["bench", "serve", "--one-server", "--clients", "1,2", "--requests", "2"])

    assert shown.exit_code == 0, shown.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert [row[:2] for row in rows] == [["1", "2"], ["2", "4"]]
    assert all(float(row[-2]) > 0 and float(row[-1]) > 0 for row in rows)


@pytest.mark.slow
def test_the_command_starts_a_service_of_its_own() -> None:
    shown = CliRunner().invoke(cli, ["bench", "serve", "--clients", "1,3", "--requests", "3", "--batch", "2"])

    assert shown.exit_code == 0, shown.output
    assert "cores" in shown.output
