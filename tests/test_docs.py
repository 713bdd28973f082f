"""The documentation says what the code does: its programs run, its commands exist, its generated parts are current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from modules import CASES, everything

from tacit.cli.main import cli
from tacit.watch.claims import CLAIMS

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # several would wait for each other on a busy machine
CITATION = re.compile(r"\[([A-Z][A-Za-z+]*\d\d)\]")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return sorted({line.split("  #")[0].strip() for line in lines if line.startswith(f"{program} ")})


LIBRARIES = ("transformers", "lightning", "skorch", "torchmetrics")
"""Not there under `make test`: programs with them run under `make test-slow`, and warn of things of their own."""


def programs() -> list[tuple[str, str]]:
    return [(f"{page.stem}-{place}", text) for page in PAGES for place, text in enumerate(blocks(page, "python"))]


def libraries(text: str) -> list[str]:
    imported = re.findall(r"^import (.*)$", text, re.MULTILINE)
    return [name for name in LIBRARIES if any(name in line.split(", ") for line in imported)]


def marked(name: str, text: str):
    return pytest.param(name, text, id=name, marks=[pytest.mark.slow] if libraries(text) else [])


@pytest.fixture(scope="module")
def folder_with_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate = ROOT / "examples" / "fraud" / "generate.py"
    subprocess.run([sys.executable, generate, "--directory", folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(("name", "text"), [marked(*program) for program in programs()])
def test_programs_run(name, text, folder_with_data, tmp_path, preloaded):
    script = tmp_path / "program.py"
    script.write_text(text.replace("epochs=5", "epochs=1"))
    for library in libraries(text):
        pytest.importorskip(library, reason="pip install tacit[libraries]", exc_type=ImportError)

    if libraries(text):
        command = [sys.executable, script]
        done = subprocess.run(command, cwd=folder_with_data, capture_output=True, text=True, env=ONE_THREAD)
    else:
        done = preloaded.run(script, folder_with_data)

    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_notebook_prints_what_the_quickstart_says(tmp_path, preloaded):
    text = next(block for block in blocks(ROOT / "docs" / "quickstart.md", "python") if "income" in block)

    done = preloaded.run(text, tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("SecretTensor(<hidden; see tacit.reveal>, ")
    assert lines[1] == "tensor([False,  True,  True])"
    assert float(lines[2].strip("tensor()")) == pytest.approx(55.1, abs=0.01)
    assert [float(x) for x in re.findall(r"[\d.]+", lines[3])] == [31, 47, 60]
    assert "rounds" in lines[4]


@pytest.mark.parametrize("line", commands("make"))
def test_make_commands_are_targets(line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert line.split()[1] in targets


@pytest.mark.parametrize("line", commands("tacit"))
def test_tacit_commands_parse(line):
    command, arguments = cli, [word.strip('"') for word in line.split()[1:]]
    context = click.Context(cli)

    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        command = command.get_command(context, arguments.pop(0))
        assert command is not None
    context = command.make_context("tacit", arguments)

    script = context.params.get("script")
    assert script is None or (ROOT / script).is_file()


@pytest.mark.parametrize("line", commands("python"))
def test_python_commands_name_scripts(line):
    assert (ROOT / line.split()[1]).is_file()


def test_generated_parts_are_current():
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_the_table_lists_the_operators_that_the_samples_confirm():
    page = (ROOT / "docs" / "operators.md").read_text()
    part = page.split("<!-- generated: operators -->")[1].split("<!-- end -->")[0]

    free, costly = part.split("| operator |")
    errors = dict(re.findall(r"^\| `([\w.]+)` \|.*?\| 2\^-(\d+) \|", costly, re.MULTILINE))
    listed = {*re.findall(r"`([\w.]+)`", free), *errors}

    assert listed == set(CLAIMS)  # which tests/aten/test_samples.py walks
    assert all(2.0 ** -int(error) == CLAIMS[name].error for name, error in errors.items())


def test_the_table_lists_every_module_of_pytorch():
    listed = [name for family in CASES.values() for name in family]

    assert len(listed) == len(set(listed))
    assert set(listed) == everything()


def test_the_site_builds_without_a_warning(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]

    done = subprocess.run(
        build, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "quickstart" / "index.html").is_file()


def test_links_of_the_readme_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())

    assert targets
    assert all((ROOT / target).is_file() for target in targets)


def test_citations_resolve():
    bibliography = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("papers*.bib")))
    known = set(re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE))
    sources = [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".cpp", ".hpp")]
    texts = {path: path.read_text() for path in [*sources, *(ROOT / "docs").glob("*.md")]}

    cited = {(key, path.name) for path, text in texts.items() for key in CITATION.findall(text)}

    assert {(key, where) for key, where in cited if key not in known} == set()
