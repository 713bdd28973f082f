"""Disks that are full and folders that are read-only: one sentence, and what was there before is as it was.

Administrators write where others may not, so a file system of its own is filled, or mounted anew; where that is not
allowed the slow test is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tacit import private_files
from tacit.errors import ConfigError
from tacit.net.certificates import Identity, make_certificate

PLACE = """
import contextlib, io, os, subprocess, sys
from pathlib import Path

import numpy as np
import torch

import tacit
from tacit.datasets.store import Limits
from tacit.cli.main import main
from tacit.errors import ConfigError, DataError, Refused, TacitError
from tacit.net.certificates import make_certificate
from tacit.outside.deployment import Deployment
from tacit.serve import Client, Doors
from tacit.session.config import Config
from tacit.session.evidence import read_account
from tacit.session.trial import write_trial

BASE, HOW = Path(sys.argv[1]).resolve(), sys.argv[2]
FILLER = BASE / "filler"


def fail():
    if HOW == "full":
        with FILLER.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(BASE)], check=True)


def heal():
    if HOW == "full":
        FILLER.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(BASE)], check=True)


def files():
    return {p: p.read_bytes() for p in BASE.rglob("*") if p.is_file() and p != FILLER and p.stat().st_size}


def refused(act, *errors):
    before = files()
    fail()
    try:
        act()
    except errors as error:
        print(type(error).__name__, error)
        assert "No space left on device" in str(error) or "Read-only file system" in str(error), error
    else:
        raise AssertionError("it went well")
    heal()
    after = files()
    assert after == before, {str(p) for p in after.keys() ^ before.keys()}


def command(*words):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main(words)
    except SystemExit as end:
        if end.code:
            raise ConfigError(said.getvalue()) from None
"""

DOINGS = {
    "save": """
with tacit.session():
    x = tacit.share(torch.arange(1000.0))
    tacit.save({"x": x}, BASE / "kept")
    refused(lambda: tacit.save({"x": x * 2}, BASE / "kept"), DataError)
    refused(lambda: tacit.save({"x": x * 2}, BASE / "other"), DataError)
    assert tacit.reveal(tacit.load(BASE / "kept")["x"])[7] == 7
    tacit.save({"x": x * 2}, BASE / "kept")
""",
    "ledger": """
config = Config.embedded(ledger=str(BASE / "ledger"))
with tacit.api.embedded(config):
    x = tacit.share(torch.ones(3))
    tacit.reveal(x, name="before")
    refused(lambda: [tacit.reveal(x, name="n" * 3000) for _ in range(3)], ConfigError)
    tacit.reveal(x, name="after")
account = read_account(BASE / "ledger" / "embedded.jsonl", None)
assert not account.wrong, account
shutil = __import__("shutil"); shutil.rmtree(BASE / "ledger")
def begin():
    with tacit.api.embedded(config):
        pass
refused(begin, ConfigError)
""",
    "keys": """
make_certificate(BASE, "alice")
command("keygen", "--client", "clinic", "--out", str(BASE))
refused(lambda: make_certificate(BASE, "alice", rotate=True), ConfigError)
refused(lambda: make_certificate(BASE / "new", "bob"), ConfigError)
refused(lambda: command("keygen", "--client", "clinic", "--out", str(BASE), "--rotate"), ConfigError)
command("keygen", "--client", "clinic", "--out", str(BASE), "--rotate")
""",
    "public file": """
trial = write_trial(BASE / "trial")
Deployment.of(Config.load(trial)).save(BASE / "public.json")
refused(lambda: command("keygen", "--config", str(trial), "--public", str(BASE / "public.json")), ConfigError)
assert Deployment.load(BASE / "public.json").names == ("server0", "server1")
""",
    "prepare": """
trial = write_trial(BASE / "trial", ("alice", "bob"), {"used_stores": "used"})
program = BASE / "program.py"
program.write_text('''
import tacit, torch
with tacit.session(parties=("alice", "bob")):
    x = tacit.share(torch.ones(300, 30), owner="alice", shape=(300, 30))
    tacit.reveal((x * x).sum(), name="sum")
''')
prepare = ("prepare", str(program), "--config", str(trial), "--out", str(BASE / "store"))
refused(lambda: command(*prepare), ConfigError)
command(*prepare)
from tacit.session.launch import start
start(None)
def run():
    from dataclasses import replace
    with tacit.session(parties=("alice", "bob"), prepared=BASE / "store"):
        x = tacit.share(torch.ones(300, 30), owner="alice", shape=(300, 30))
        assert tacit.reveal((x * x).sum(), name="sum") == 9000
os.chdir(BASE)
refused(run, ConfigError)
run()
""",
    "submissions": """
config = Config.load(write_trial(BASE / "trial", settings={"data": str(BASE / "data")}))
with Doors(config, "server0", "server1", limits=Limits(spare_bytes=-(1 << 40))):
    with Client(config) as client:
        client.submit(torch.ones(5, 3), "rows")
        refused(lambda: client.submit(torch.ones(3000, 3), "rows"), Refused)
    with Client(config) as client:
        client.submit(torch.ones(4, 3), "rows")
with tacit.session(parties=("server0", "server1")):
    assert tacit.reveal(tacit.open_dataset("rows", BASE / "data")["x"].sum(), name="sum") == 27
""",
}


def _may_mount() -> bool:
    if sys.platform != "linux" or os.geteuid() or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("what", DOINGS)
def test_a_disk_that_takes_nothing_is_one_sentence_and_changes_nothing(what: str, how: str, tmp_path: Path) -> None:
    if not _may_mount():
        pytest.skip("file systems can be mounted by administrators only")
    (tmp_path / "base").mkdir()
    (tmp_path / "place.py").write_text(PLACE + DOINGS[what])
    script = f"mount -t tmpfs -o size=4m none {tmp_path}/base && exec {sys.executable} place.py base {how}"

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rotate", [True, False])
def test_a_key_that_cannot_be_written_leaves_the_old_one(
    rotate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "certs"
    make_certificate(folder, "alice")
    make_certificate(folder, "bob")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    fill: Callable[[Path, bytes], None] = private_files.fill

    def full(path: Path, content: bytes) -> None:
        fill(path, content[:10])
        if b"CERTIFICATE" in content:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_files, "fill", full)
    with pytest.raises(ConfigError, match="what was there before is as it was: No space left"):
        make_certificate(folder, "alice" if rotate else "carol", rotate=rotate)

    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    Identity.load(folder, "alice", ["bob"])
