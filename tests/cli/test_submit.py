"""From a file to a data set by commands alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import tacit
from tacit.cli.main import cli, main
from tacit.datasets.files import read_tensors
from tacit.errors import DataError
from tacit.session.trial import write_trial


def test_files_of_all_kinds_are_read(tmp_path: Path) -> None:
    images, labels = np.random.rand(3, 2).astype(">f4"), np.array([1, 0, 1], dtype=np.uint8)
    np.savez(tmp_path / "a.npz", image=images, label=labels)
    np.save(tmp_path / "a.npy", images[:, ::-1])
    save_file({"image": torch.from_numpy(images.astype("f4"))}, tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text("a,b,label\n1,2,0\n3,4.5,1\n")

    npz, npy = read_tensors(tmp_path / "a.npz"), read_tensors(tmp_path / "a.npy")
    tensors, table = read_tensors(tmp_path / "a.safetensors"), read_tensors(tmp_path / "a.csv", "label")

    assert np.array_equal(npz["image"].numpy(), images)
    assert npz["label"].tolist() == [1, 0, 1]
    assert np.array_equal(npy["x"].numpy(), images[:, ::-1])
    assert np.array_equal(tensors["image"].numpy(), images)
    assert (table["x"].tolist(), table["y"].tolist()) == ([[1, 2], [3, 4.5]], [0, 1])
    assert read_tensors(tmp_path / "a.csv")["x"].shape == (2, 3)


def test_files_that_cannot_be_submitted_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    for suffix in ("npz", "npy", "safetensors", "csv"):
        (tmp_path / f"junk.{suffix}").write_bytes(b"\x80junk" * 9)

    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError):
            read_tensors(path)
    with pytest.raises(DataError, match="there is no file"):
        read_tensors(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"files of \.npz"):
        read_tensors(tmp_path / "a.pickle")
    with pytest.raises(DataError, match="only a CSV file"):
        read_tensors(tmp_path / "a.npz", "label")


def test_two_servers_receive_what_is_submitted(tmp_path: Path) -> None:
    config = write_trial(tmp_path)
    x = np.random.rand(5, 3)
    np.savez(tmp_path / "images.npz", x=x)
    runner = CliRunner()
    tacit_ = [sys.executable, "-m", "tacit"]
    servers = [
        subprocess.Popen(
            [*tacit_, "receive", "--config", str(config), "--as", role], stdout=subprocess.PIPE, text=True
        )
        for role in ("server0", "server1")
    ]  # fmt: skip

    try:
        greetings = [server.stdout.readline() for server in servers if server.stdout]
        published = runner.invoke(
            cli, ["keygen", "--config", str(config), "--public", str(tmp_path / "public.json")]
        )  # fmt: skip
        submitted = runner.invoke(
            cli, ["submit", str(tmp_path / "images.npz"), "--to", str(tmp_path / "public.json"), "--dataset", "lesions"]
        )
        listed = runner.invoke(cli, ["datasets", "--config", str(config), "--as", "server1"])
        for server in servers:
            server.send_signal(signal.SIGTERM)
        texts = [server.communicate(timeout=20)[0] for server in servers]
    finally:
        for server in servers:
            server.kill()
    with tacit.session(parties=("server0", "server1")):
        back = tacit.reveal(tacit.open_dataset("lesions", tmp_path / "data")["x"])

    assert all("takes data in at 127.0.0.1:" in line for line in greetings)
    assert "SHA-256" in published.output
    assert submitted.output.startswith("5 rows are in lesions at server0 and server1 (submission ")
    assert "lesions" in listed.output
    assert all(text.startswith("lesions: 5 rows from anonymous") for text in texts)
    assert [server.returncode for server in servers] == [0, 0]
    assert np.abs(back.numpy() - x).max() <= 2**-16


def test_a_client_makes_a_key_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = CliRunner().invoke(cli, ["keygen", "--client", "clinic", "--out", str(tmp_path)])

    assert made.exit_code == 0
    assert (tmp_path / "clinic.key").stat().st_mode & 0o77 == 0
    assert "Send it to every server" in made.output
    for arguments in (["--client", "../x"], []):
        with pytest.raises(SystemExit):
            main(["keygen", *arguments])
    assert "cannot name a client" in capsys.readouterr().err
