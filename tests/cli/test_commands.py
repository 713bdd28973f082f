"""The command line: help, keys, running one role, and the one sentence when something is wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import tacit
from tacit.cli.main import COMMANDS, cli, main
from tacit.net.certificates import Identity, fingerprint

ROLES = ("alice", "bob", "crypto-producer")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({role: f"127.0.0.1:{19001 + at}" for at, role in enumerate(ROLES)}))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and return its one sentence."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_help_lists_every_command_without_importing_it() -> None:
    result = CliRunner().invoke(cli, ["--help"])

    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in COMMANDS)


@pytest.mark.parametrize("asked", ["", "reference"])
def test_the_version_comes_with_the_kernels_in_use(asked: str) -> None:
    native = not asked and importlib.util.find_spec("tacit.ring._native") is not None

    done = subprocess.run(
        [sys.executable, "-m", "tacit", "--version"],
        env={**os.environ, "TACIT_KERNELS": asked},
        capture_output=True,
        text=True,
    )

    kernels = r"native \((amx|avx512|avx2|portable)(, AES instructions)?\)" if native else "reference"
    assert re.fullmatch(f"tacit {re.escape(tacit.__version__)}, kernels: {kernels}\n", done.stdout)


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["dance"])

    assert result.exit_code == 2
    assert "No such command 'dance'" in result.output


def test_keygen_makes_everybodys_keys_for_trying_out(config: Path) -> None:
    result = CliRunner().invoke(cli, ["keygen", "--config", str(config)])

    assert result.exit_code == 0
    folder = config.parent / "certs"
    for role in ROLES:
        Identity.load(folder, role, tuple(peer for peer in ROLES if peer != role))
        assert fingerprint(folder / f"{role}.crt") in result.output


def test_keygen_for_one_role_says_what_to_send(config: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["keygen", "--config", str(config), "--as", "bob", "--out", str(tmp_path / "o")])

    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["bob.crt", "bob.key"]
    assert "bob.crt to alice and crypto-producer" in result.output
    assert "PRIVATE" not in result.output


def test_keygen_refuses_to_overwrite_and_unknown_roles(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CliRunner().invoke(cli, ["keygen", "--config", str(config), "--as", "bob"])

    assert "bob.key exist already" in refused(capsys, "keygen", "--config", str(config))
    assert not (config.parent / "certs" / "alice.key").exists()
    assert "no role 'eve'" in refused(capsys, "keygen", "--config", str(config), "--as", "eve")


def test_run_refuses_wrong_input_in_one_sentence(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = config.parent / "script.py"

    assert "there is no script" in refused(capsys, "run", str(script), "--config", str(config), "--as", "alice")
    script.touch()
    assert "no role 'eve'" in refused(capsys, "run", str(script), "--config", str(config), "--as", "eve")
    assert "no config file" in refused(capsys, "run", str(script), "--config", "nowhere.json", "--as", "alice")
    config.write_text("{")
    assert "line 1, column 2" in refused(capsys, "run", str(script), "--config", str(config), "--as", "alice")


def run_alice(config: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    script = config.parent / "script.py"
    script.write_text(text)
    (config.parent / "helper.py").write_text("VALUE = 7\n")
    command = [sys.executable, "-m", "tacit", "run", str(script), "--config", str(config), "--as", "alice", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_run_executes_the_script_as_python_would(config: Path) -> None:
    text = "import sys, helper\nif __name__ == '__main__':\n    print(sys.argv[1:], helper.VALUE)\n    sys.exit(3)\n"

    done = run_alice(config, text, "--", "--epochs", "5")

    assert done.stdout == "['--epochs', '5'] 7\n"
    assert (done.returncode, done.stderr) == (3, "")


def test_errors_of_tacit_are_one_sentence_and_a_traceback_only_on_request(config: Path) -> None:
    text = "import tacit\nwith tacit.session():\n    pass\n"

    short, long = run_alice(config, text), run_alice(config, text, "--traceback")

    assert (short.returncode, short.stdout) == (1, "")
    assert short.stderr.startswith("error: there is no private key")
    assert short.stderr.count("\n") == 1
    assert long.returncode == 1
    assert "line 2, in <module>" in long.stderr


def test_other_errors_show_where_in_the_script(config: Path) -> None:
    done = run_alice(config, "def f():\n    return 1 / 0\nf()\n")

    assert done.returncode == 1
    assert "line 2, in f" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "runpy" not in done.stderr


def test_ctrl_c_ends_a_role_that_waits_for_others(config: Path) -> None:
    CliRunner().invoke(cli, ["keygen", "--config", str(config)])
    script = config.parent / "script.py"
    script.write_text("import tacit\nprint('up', flush=True)\nwith tacit.session():\n    pass\n")
    command = [sys.executable, "-m", "tacit", "run", str(script), "--config", str(config), "--as", "alice"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.3)

    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=10)
    assert err == "error: interrupted\n"
    # Python ends itself by the signal, which is 130 for a shell, if it struck in an import that evaluates a string
    assert process.returncode in (130, -signal.SIGINT)
