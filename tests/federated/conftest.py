"""Flower sends nothing home from tests, and logs only what is wrong."""

from __future__ import annotations

import logging
import os
import shutil
import sys

import pytest

from .projects import QUICKSTART, forget

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
pytest.importorskip("flwr")
logging.getLogger("flwr").setLevel(logging.ERROR)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project, and no trace of it in the interpreter afterwards."""
    shutil.copytree(QUICKSTART, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "project"
    forget()
