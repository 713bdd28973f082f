"""`tacit local`: all roles on this machine, with real sockets and certificates."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tacit.cli.local import launch_local, printer
from tacit.errors import ConfigError


class Lines:
    """Collects what roles print."""

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}

    def __call__(self, role: str, line: str) -> None:
        self.of.setdefault(role, []).append(line)


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


REVEAL = """
import os, sys
import torch, tacit
with tacit.session() as session:
    x = tacit.share(torch.tensor([1.5, -2.0]) if tacit.is_role("alice") else None, owner="alice", shape=(2,))
    y = tacit.share(torch.tensor([2.0, 4.0]) if tacit.is_role("bob") else None, owner="bob", shape=(2,))
    z = tacit.reveal(x * y, to="bob")
    print(session.role, None if z is None else [round(v, 2) for v in z.tolist()])
    print(sys.argv[1:], os.environ["OMP_NUM_THREADS"], os.environ["EXTRA"], os.getcwd())
"""


def test_all_roles_run_one_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    code = launch_local(script(tmp_path, REVEAL), args=["--rows", "5"], env={"EXTRA": "yes"}, on_line=lines)

    assert code == 0, lines.of
    threads = max(1, (os.cpu_count() or 1) // 3)
    rest = f"['--rows', '5'] {threads} yes {os.getcwd()}"
    assert lines.of == {
        "alice": ["alice None", rest],
        "bob": ["bob [3.0, -8.0]", rest],
        "crypto-producer": ["crypto-producer None", rest],
    }


GRADIENT = """
import torch, tacit
with tacit.session():
    x = tacit.share(torch.tensor([1.5, -2.0], requires_grad=True), owner="bob")
    (x * x).sum().backward()
    grad = tacit.reveal(x.grad)
    print(x.requires_grad, grad if grad is None else grad.round(decimals=2).tolist())
"""


def test_all_roles_follow_the_gradient_of_what_one_of_them_owns(tmp_path: Path) -> None:
    lines = Lines()

    assert launch_local(script(tmp_path, GRADIENT), on_line=lines) == 0, lines.of

    assert lines.of == {
        "alice": ["True [3.0, -4.0]"],
        "bob": ["True [3.0, -4.0]"],
        "crypto-producer": ["True None"],
    }


BRANCH = """
import torch, tacit
with tacit.session() as session:
    x = tacit.share(torch.ones(2))
    if tacit.is_role("alice"):
        {alice}
    tacit.reveal({all})
"""


def run_branch(folder: Path, lines: Lines, alice: str, everybody: str = "x * x") -> int:
    text = BRANCH.replace("{alice}", alice).replace("{all}", everybody)
    return launch_local(script(folder, text), on_line=lines, settings={"timeout": 10})


def test_a_role_that_fails_ends_the_others_and_gives_the_exit_code(tmp_path: Path) -> None:
    lines = Lines()

    code = run_branch(tmp_path, lines, "raise SystemExit(5)")

    assert code == 5 or code == 1
    for role in ("bob", "crypto-producer"):
        assert any("alice" in line for line in lines.of[role]), lines.of


def test_an_error_of_a_script_reaches_the_others_without_its_text(tmp_path: Path) -> None:
    lines = Lines()

    code = run_branch(tmp_path, lines, "raise ValueError('the secret is 42')")

    assert code == 1
    assert any("the secret is 42" in line for line in lines.of["alice"])
    for role in ("bob", "crypto-producer"):
        (line,) = lines.of[role]
        assert line == "error: alice stopped: ValueError in its program (see its own log)"


def test_work_on_secrets_by_one_role_alone_is_a_divergence(tmp_path: Path) -> None:
    lines = Lines()

    code = run_branch(tmp_path, lines, "y = (x * x).relu()")

    assert code == 1
    text = "\n".join(line for role in ("alice", "bob") for line in lines.of[role])
    assert "do not run the same program" in text


@pytest.mark.slow  # as the last test below, which says more of it
def test_public_values_that_differ_are_a_divergence(tmp_path: Path) -> None:
    lines = Lines()

    code = run_branch(tmp_path, lines, "pass", "x * (2.0 if tacit.is_role('alice') else 3.0)")

    assert code == 1
    text = "\n".join(line for lines in lines.of.values() for line in lines)
    assert "do not run the same program" in text


def test_more_parties(tmp_path: Path) -> None:
    lines = Lines()
    text = "import tacit\nwith tacit.session() as s:\n    print(len(s.transport.roles))\n"

    code = launch_local(script(tmp_path, text), parties=("a", "b", "c"), on_line=lines)

    assert code == 0, lines.of
    assert lines.of == {role: ["4"] for role in ("a", "b", "c", "crypto-producer")}


LINKED = """
import time
import torch, tacit
with tacit.session() as session:
    x = tacit.share(torch.ones(3), owner="alice", shape=(3,))
    start = time.perf_counter()
    for _ in range(5):
        tacit.reveal(x + x)
    print(torch.get_num_threads(), time.perf_counter() - start)
"""


def test_an_emulated_link_makes_a_round_take_half_its_round_trip(tmp_path: Path) -> None:
    lines = Lines()

    code = launch_local(script(tmp_path, LINKED), wan="100ms,350mbit", threads=2, on_line=lines)

    assert code == 0, lines.of
    for role in ("alice", "bob"):
        threads, seconds = lines.of[role][0].split()
        assert threads == "2"
        assert float(seconds) >= 0.19  # a round less than five, if the peer was ahead


def test_wrong_input_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = script(tmp_path, "")

    with pytest.raises(ConfigError, match="there is no script"):
        launch_local(tmp_path / "nowhere.py")
    with pytest.raises(ConfigError, match="at least two parties"):
        launch_local(path, parties=("alice",))
    with pytest.raises(ConfigError, match=r"'tacit\.frac_bits'"):
        launch_local(path, settings={"frac_bits": 99})
    with pytest.raises(ConfigError, match="is not a link such as 40ms,350mbit"):
        launch_local(path, wan="slow")


def test_lines_are_printed_behind_the_name_of_their_role(capsys: pytest.CaptureFixture[str]) -> None:
    on_line = printer(("alice", "bob"))

    on_line("bob", "[bold]as it is[/bold] " + "x" * 200)

    assert capsys.readouterr().out == "  bob │ [bold]as it is[/bold] " + "x" * 200 + "\n"


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_ends_all_children(tmp_path: Path, number: signal.Signals) -> None:
    path = script(tmp_path, "import time\nprint('up', flush=True)\ntime.sleep(100)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "tacit", "local", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    for _ in range(3):
        assert "up" in process.stdout.readline()
    children = children_of(process.pid)
    assert len(children) == 3

    began = time.monotonic()
    os.killpg(process.pid, number)

    process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("SIGSEGV", marks=pytest.mark.slow)])
def test_a_role_that_was_killed_is_named_with_the_signal(tmp_path: Path, how: str) -> None:
    lines = Lines()
    text = f"""
import os, signal, tacit
with tacit.session():
    if tacit.is_role("bob"):
        os.kill(os.getpid(), signal.{how})
"""

    code = launch_local(script(tmp_path, text), on_line=lines)

    number = getattr(signal, how).value
    assert code == 128 + number
    assert any(f"bob was killed by signal {number} ({how})" in line for line in lines.of["bob"])


def test_a_divergence_names_the_line_and_traceback_shows_the_way(tmp_path: Path) -> None:
    lines = Lines()
    text = """import os, torch, tacit
with tacit.session():
    x = tacit.share(torch.ones(3), owner="alice")
    x = torch.nn.functional.relu(x) * os.getpid()
    tacit.reveal(x)
"""

    code = launch_local(script(tmp_path, text), on_line=lines, show_traceback=True)

    assert code == 1
    printed = "\n".join(lines.of["alice"] + lines.of["bob"])
    assert "aten.mul.Tensor(secret 3) at script.py:4" in printed
    assert 'script.py", line 5, in <module>' in printed
