"""What runs is agreed on: files and versions are hashed, and a role runs what it has approved."""

from __future__ import annotations

import importlib
import json
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import tacit
from tacit import sbom
from tacit.cli.main import cli
from tacit.errors import ConfigError
from tacit.session.config import Config
from tacit.session.launch import launched
from tacit.session.program import SCHEME, Program, environment, environment_digest, executed, only

FILES = {
    "train.py": "import json\nimport beside\nfrom inner import first\ndef late():\n    import lazily.deep\n",
    "beside.py": "VALUE = 'as approved'\nimport numpy\n",
    "inner/__init__.py": "",
    "inner/first.py": "from . import second\nfrom .second import VALUE\n",
    "inner/second.py": "from beside import VALUE\n",
    "lazily/__init__.py": "",
    "lazily/deep.py": "import train\n",
    "unused.py": "VALUE = 'nobody looked at this'\n",
    "data.csv": "1,2\n",
}
USED = sorted(set(FILES) - {"unused.py", "data.csv"})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = list(sys.meta_path), sys.pycache_prefix, list(sys.path), set(sys.modules)
    sys.path.insert(0, str(tmp_path / "code"))
    yield tmp_path / "code"
    sys.meta_path[:], sys.pycache_prefix, sys.path[:] = before[:3]
    for name in set(sys.modules) - before[3]:
        del sys.modules[name]


def config(folder: Path, **settings: object) -> Config:
    roles = {"alice": "127.0.0.1:1", "bob": "127.0.0.1:2", "crypto-producer": "127.0.0.1:3"}
    return Config.parse(json.dumps({**roles, "tacit": settings}), folder)


def test_a_program_is_its_script_and_what_it_imports_beside_it(folder: Path) -> None:
    program = Program.read(folder / "train.py")

    assert list(program.files) == USED
    assert len(program.digest) == 64
    assert Program.read(folder / "nothing.py").digest == ""


@pytest.mark.parametrize("name", USED)
def test_every_file_and_its_name_count(folder: Path, name: str) -> None:
    before = Program.read(folder / "train.py").digest

    (folder / "unused.py").write_text("")
    unused = Program.read(folder / "train.py").digest
    (folder / name).write_text(FILES[name] + "#")

    assert unused == before != Program.read(folder / "train.py").digest


def test_a_cycle_of_links_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("import beside")
    (folder / "beside.py").unlink()
    (folder / "beside.py").symlink_to(tmp_path / "elsewhere.py")

    assert "beside.py" not in Program.read(folder / "train.py").files


def test_another_program_or_other_packages_are_refused_before_anything_runs(folder: Path) -> None:
    script = folder / "train.py"
    good, packages = SCHEME + Program.read(script).digest, SCHEME + environment_digest()

    launch = launched(config(folder, program=good, environment=packages), "alice", script)
    assert launch.script_digest == good.removeprefix(SCHEME)

    (folder / "inner" / "second.py").write_text("import os")
    with pytest.raises(ConfigError, match="the program is not the one that alice approved, sha256:"):
        launched(config(folder, program=good), "alice", script)
    with pytest.raises(ConfigError, match="the program is not the one that alice approved"):
        tacit.session(config(folder, program=good), role="alice")
    with pytest.raises(ConfigError, match="the packages of this environment are not those that bob approved"):
        launched(config(folder, environment=SCHEME + "0" * 64), "bob", script)
    with pytest.raises(ConfigError, match=r"'tacit.program' must be sha256: and 64 hexadecimal digits"):
        config(folder, program="abc")


def test_only_what_was_approved_is_imported_as_it_was_read(folder: Path) -> None:
    (folder / "beside.py").write_text("VALUE = 'in a compiled file'")
    compiled = py_compile.compile(str(folder / "beside.py"), cfile=str(folder / "hidden.pyc"))
    assert compiled
    (folder / "beside.py").write_text(FILES["beside.py"])
    only(Program.read(folder / "train.py"))
    (folder / "beside.py").write_text("VALUE = 'changed since'")

    assert importlib.import_module("beside").VALUE == "as approved"
    assert importlib.import_module("lazily.deep").train.late is not None
    assert importlib.import_module("wave")
    for name in ("unused", "hidden"):
        with pytest.raises(ConfigError, match=f"the program imports .*{name}"):
            importlib.import_module(name)


def test_a_script_that_was_approved_runs_as_it_was_read(folder: Path) -> None:
    script = folder / "train.py"
    script.write_text("import beside\nVALUE = beside.VALUE\nNAME = __name__\ndef late(x: int = 0):\n    return VALUE\n")
    (folder / "beside.py").write_text(FILES["beside.py"] + "def first(x: int): pass\n")
    before = executed(script, "__main__")
    only(Program.read(script))
    script.write_text("raise SystemExit('changed since')")

    found = executed(script, "__main__")

    assert (found["VALUE"], found["NAME"], found["late"]()) == ("as approved", "__main__", "as approved")
    assert found["late"].__annotations__ == {"x": int}  # and no text: future statements are a file's own
    assert importlib.import_module("beside").first.__annotations__ == {"x": int}
    assert before["VALUE"] == found["VALUE"]
    assert sys.modules["__main__"] is not None
    assert found["__file__"] == str(script)
    with pytest.raises(ConfigError, match="is not of the files that were approved"):
        executed(folder / "unused.py", "__main__")


def test_a_bill_of_materials_lists_what_is_installed() -> None:
    found = sbom.bill()

    parts = {part["name"]: part for part in found["components"]}
    assert {"torch", "cryptography", "numpy"} <= parts.keys()
    assert not {"tacit", "python", "pytest"} & parts.keys()
    assert parts["cryptography"]["purl"] == f"pkg:pypi/cryptography@{environment()['cryptography']}"
    assert parts["cryptography"]["licenses"]
    assert found["metadata"]["component"]["name"] == "tacit"
    assert found == sbom.bill()
    assert len(sbom.bill(["fhe"])["components"]) > len(parts)


def test_a_dry_run_shows_what_to_agree_on(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"alice": "h:1", "bob": "h:2", "crypto-producer": "h:3"}))

    shown = CliRunner().invoke(
        cli, ["run", str(folder / "train.py"), "--config", str(path), "--as", "alice", "--dry-run"]
    )

    assert shown.exit_code == 0
    lines = shown.output.splitlines()
    assert lines[0] == f'"program": "{SCHEME}{Program.read(folder / "train.py").digest}"'
    assert [line.split()[1] for line in lines[1 : 1 + len(USED)]] == USED
    assert lines[1 + len(USED)] == f'"environment": "{SCHEME}{environment_digest()}"'
    assert f"tacit {environment()['tacit']}" in lines[-1]
    assert "torch" in environment()
    assert "pytest" not in environment()
