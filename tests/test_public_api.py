"""The names that users may rely on, exactly."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import version

import pytest

import tacit

PUBLIC = {
    "Client",
    "KFold",
    "SecretTensor",
    "StratifiedKFold",
    "TacitError",
    "__version__",
    "batches",
    "check",
    "checkpoint",
    "compile",
    "current_session",
    "describe",
    "either",
    "generate",
    "is_role",
    "join",
    "load",
    "open_dataset",
    "profile",
    "read_csv",
    "read_table",
    "reveal",
    "role",
    "save",
    "session",
    "share",
    "train_test_split",
}


def test_the_public_names_are_exactly_these():
    names = set(tacit.__all__)

    assert names == PUBLIC
    assert all(hasattr(tacit, name) for name in names)


def test_the_version_is_that_of_the_package():
    assert tacit.__version__ == version("tacit")


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_name_is_documented(name):
    documentation = inspect.getdoc(getattr(tacit, name))

    assert documentation
    assert documentation[0].isupper()


def test_every_module_imports_and_exports_what_it_says():
    modules = [info.name for info in pkgutil.walk_packages(tacit.__path__, "tacit.") if info.name != "tacit.__main__"]

    for name in modules:
        module = importlib.import_module(name)
        missing = [export for export in getattr(module, "__all__", ()) if not hasattr(module, export)]
        assert not missing, name
