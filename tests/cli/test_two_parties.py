"""Two parties and no producer, as a user starts them: a process each, and nobody beside them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tacit.cli.local import launch_local
from tacit.cli.main import cli, main
from tacit.session.config import Config
from tacit.session.launch import start
from tacit.session.trial import write_trial

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json, sys
import torch, tacit
from torch import nn

torch.manual_seed(3)
with tacit.session(seed=5) as session:
    network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    rows = torch.randn(3, 6)
    model = tacit.share(network if tacit.is_role("bob") else nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)),
                        owner="bob")
    x = tacit.share(rows if tacit.is_role("alice") else None, owner="alice", shape=(3, 6), dtype=torch.float32)
    with torch.no_grad(), tacit.profile() as profile:
        scores = model(x)
    tacit.save({"scores": scores, "model": model.state_dict()}, "kept")
    seen = tacit.reveal(scores, to="alice", name="scores")
    again = tacit.reveal(tacit.load("kept")["scores"], to="bob", name="kept scores")
    refused = ""
    try:
        tacit.reveal(x, to="bob", name="rows")
    except tacit.errors.RevealError as error:
        refused = str(error)
    cost = session.meter.cost
    with torch.no_grad():
        plain = network(rows)
    far = [None if y is None else float((y - plain).abs().max()) for y in (seen, again)]
    print(json.dumps({"far": far, "rounds": cost.rounds, "sent": cost.sent, "prepared": cost.prepared,
                      "roles": session.config.roles, "protocol": session.config.protocol, "refused": refused,
                      "lines": [entry.name for entry in session.ledger.entries], "role": session.role,
                      "profile": str(profile)}))
"""


@pytest.mark.timeout(120)
def test_two_processes_predict_save_load_and_reveal_by_their_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(PROGRAM)
    lines: dict[str, list[str]] = {}
    policy = [{"name": "scores", "to": ["alice"]}, {"name": "kept scores", "to": ["bob"]}]

    code = launch_local(
        "script.py",
        settings={"protocol": "two-party", "ledger": str(tmp_path / "ledger"), "reveal": policy},
        on_line=lambda role, line: lines.setdefault(role, []).append(line),
    )

    assert code == 0, lines
    assert set(lines) == {"alice", "bob"}
    alice, bob = (json.loads(lines[role][-1]) for role in ("alice", "bob"))
    for told, mine in ((alice, 0), (bob, 1)):
        assert told["far"][1 - mine] is None
        assert told["far"][mine] < 2.0**-10
        assert (told["protocol"], told["roles"]) == ("two-party", ["alice", "bob"])
        assert "rows" in told["refused"]
        assert told["lines"] == ["scores", "kept scores"]
        assert "prepared" in told["profile"]
        assert "producer" not in told["profile"]
    for count in ("rounds", "sent", "prepared"):
        assert alice[count] == bob[count]
    assert alice["prepared"]["alice"] > 0
    for folder in ("kept", "ledger"):
        assert {path.stem for path in (tmp_path / folder).iterdir()} >= {"alice", "bob"}
        assert not any("producer" in path.name for path in (tmp_path / folder).iterdir())


def test_a_config_of_two_roles_is_enough_for_keys_and_for_clients(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    addresses = {"server0": "127.0.0.1:9101", "server1": "127.0.0.1:9102"}
    clients = {"server0": "127.0.0.1:9103", "server1": "127.0.0.1:9104"}
    path.write_text(json.dumps({**addresses, "tacit": {"clients": clients}}))

    made = CliRunner().invoke(cli, ["keygen", "--config", str(path)])
    told = CliRunner().invoke(cli, ["keygen", "--config", str(path), "--public", str(tmp_path / "public.json")])

    assert (made.exit_code, told.exit_code) == (0, 0)
    assert {key.stem for key in (tmp_path / "certs").glob("*.key")} == {"server0", "server1"}
    assert list(json.loads((tmp_path / "public.json").read_text())["servers"]) == ["server0", "server1"]


def test_trials_have_the_roles_of_their_scheme(tmp_path: Path) -> None:
    config = Config.load(write_trial(tmp_path, settings={"protocol": "two-party"}))

    assert (config.protocol, config.roles) == ("two-party", ("server0", "server1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "script.py", "--config", "far.json", "--out", "store"), "add --as alice at one and --as bob at"),
        (("prepare", "script.py", "--config", "config.json", "--as", "carol", "--out", "store"), "its roles are alice"),
        (("prepare", "script.py", "--config", "helped.json", "--as", "bob", "--out", "store"), "leave --as bob out"),
        (("run", "script.py", "--config", "config.json", "--as", "alice", "--prepared", "store"), "there is no store"),
        (("local", "script.py", "--without-producer", "--parties", "a,b,c"), "at most two parties may compute"),
        (("run", "script.py", "--config", "config.json", "--as", "crypto-producer"), "its roles are alice, bob"),
        (("run", "script.py", "--config", "three.json", "--as", "alice"), "that role is missing: add it, or leave"),
        (("run", "script.py", "--config", "beside.json", "--as", "alice"), "helps in 'additive', so leave it out here"),
    ],
)
def test_what_two_parties_cannot_do_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text("import tacit\ntacit.session()\n")
    for name, roles, settings in (
        ("config", ("alice", "bob"), {}),
        ("three", ("alice", "bob", "carol"), {}),
        ("beside", ("alice", "bob", "crypto-producer"), {"protocol": "two-party"}),
        ("helped", ("alice", "bob", "crypto-producer"), {}),
        ("far", ("alice", "bob"), {}),
    ):
        host = "10.0.0.7" if name == "far" else "127.0.0.1"
        literal = {role: f"{host}:{9100 + at}" for at, role in enumerate(roles)}
        (tmp_path / f"{name}.json").write_text(json.dumps({**literal, "tacit": settings}))

    try:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        start(None)

    err = capsys.readouterr().err
    assert ended.value.code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_runs_without_a_producer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tacit", "demo", "fraud", "--epochs", "1", "--without-producer"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)

    assert done.returncode == 0, done.stderr
    assert "producer" not in done.stdout
    for expected in ("declared_income", "both owners' secrets, with Tacit", "prepared", "counts on held-out people"):
        assert expected in done.stdout
    (far,) = re.findall(r"pooled plain PyTorch: (\S+)", done.stdout)
    assert float(far) < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_and_a_client_classify_by_themselves() -> None:
    lines: dict[str, list[str]] = {}
    script = ROOT / "examples" / "secure_classification" / "classify.py"

    code = launch_local(
        script,
        args=["--images=60", "--training-images=600", "--epochs=4"],
        settings={"protocol": "two-party"},
        on_line=lambda role, line: lines.setdefault(role, []).append(line),
    )

    assert code == 0, lines
    assert list(lines) == ["alice"]
    assert " of 60 images recognised" in lines["alice"][0]
