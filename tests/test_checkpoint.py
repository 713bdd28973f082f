"""Saving secrets, one file a role, and going on from them in another session."""

from __future__ import annotations

import copy
import stat
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.errors import DataError, TacitError


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_training_goes_on_where_it_stopped(kind: type, tmp_path: Path) -> None:
    settings = {"lr": 0.05, "momentum": 0.9} if kind is torch.optim.SGD else {"lr": 0.05}
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    plain = nn.Linear(3, 1)
    start = copy.deepcopy(plain)
    train(plain, kind(plain.parameters(), **settings), x, y, 6)

    with tacit.session():
        model = tacit.share(start)
        optimizer = kind(model.parameters(), **settings)
        train(model, optimizer, tacit.share(x, "alice"), tacit.share(y, "bob"), 3)
        tacit.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path)

    with tacit.session():
        state = tacit.load(tmp_path)
        model = tacit.share(nn.Linear(3, 1))
        model.load_state_dict(state["model"])
        optimizer = kind(model.parameters(), **settings)
        optimizer.load_state_dict(state["optimizer"])
        train(model, optimizer, tacit.share(x, "alice"), tacit.share(y, "bob"), 3)
        weight = tacit.reveal(model.weight)

    assert (weight - plain.weight).abs().max() < 1e-2


def test_all_kinds_of_values_come_back(tmp_path: Path) -> None:
    x, bits, counts = torch.randn(3, 2), torch.tensor([True, False]), torch.tensor([3, -4])

    with tacit.session():
        secrets = [tacit.share(v, "alice") for v in (x, bits, counts)]
        product = secrets[0] * secrets[0]
        tacit.save({"list": [*secrets, product, None, 1.5, "name"], 7: {"plain": x, "flag": True}}, tmp_path)
    with tacit.session():
        back = tacit.load(tmp_path)
        values = [tacit.reveal(v) for v in back["list"][:4]]

    assert (values[0] - x).abs().max() < 1e-4
    assert torch.equal(values[1], bits)
    assert torch.equal(values[2], counts)
    assert (values[3] - x * x).abs().max() < 1e-3
    assert back["list"][4:] == [None, 1.5, "name"]
    assert torch.equal(back[7]["plain"], x)
    assert back[7]["flag"] is True


@pytest.mark.priced
def test_one_file_tells_nothing_and_is_its_owners(tmp_path: Path) -> None:
    with tacit.session():
        tacit.save([tacit.share(torch.zeros(5000), "alice")], tmp_path)

    for role in ("alice", "bob"):
        path = tmp_path / f"{role}.safetensors"
        data = torch.frombuffer(bytearray(path.read_bytes()[-40_000:]), dtype=torch.uint8)
        counts = torch.bincount(data, minlength=256).double()
        assert float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 450
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "crypto-producer.safetensors").stat().st_size < 2000


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with tacit.session():
        x = tacit.share(torch.ones(3), "alice")
        tacit.save([x], one)
        tacit.save([x], other)
        with pytest.raises(DataError, match="cannot keep a object, at /0/odd"):
            tacit.save([{"odd": object()}], one)

        with pytest.raises(DataError, match="no checkpoint of alice"):
            tacit.load(tmp_path / "nowhere")
        (one / "bob.safetensors").write_bytes((other / "bob.safetensors").read_bytes())
        with pytest.raises(DataError, match="different checkpoints"):
            tacit.load(one)
        (other / "bob.safetensors").write_bytes((other / "alice.safetensors").read_bytes())
        with pytest.raises(DataError, match="is the checkpoint of alice, not of bob"):
            tacit.load(other)
        (one / "alice.safetensors").chmod(0o640)
        with pytest.raises(DataError, match="can be read by other users of this machine: run `chmod 600 "):
            tacit.load(one)
        (other / "bob.safetensors").write_bytes(b"damaged")
        with pytest.raises(DataError, match="cannot be read"):
            tacit.load(other)


def test_two_parties_go_on_alone_with_what_they_saved_beside_a_producer(tmp_path: Path) -> None:
    x, bits = torch.randn(5, 3), torch.rand(7) > 0.5
    with tacit.session(protocol="additive"):
        numbers = tacit.share(x, "alice") @ tacit.share(torch.eye(3), "bob")
        tacit.save({"x": numbers, "bits": tacit.share(bits, "bob"), "label": tacit.share(torch.arange(4))}, tmp_path)

    with tacit.session(protocol="two-party"):
        state = tacit.load(tmp_path)
        again = {name: tacit.reveal(value) for name, value in state.items()}
        tacit.save(state, tmp_path / "alone")

    assert (again["x"] - x).abs().max() < 2.0**-14
    assert torch.equal(again["bits"], bits)
    assert again["label"].tolist() == [0, 1, 2, 3]
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {"alice.safetensors", "bob.safetensors"}
    with tacit.session(protocol="two-party"):
        assert torch.equal(tacit.reveal(tacit.load(tmp_path / "alone")["bits"]), bits)
    with tacit.session(protocol="additive"), pytest.raises(DataError, match="no checkpoint of crypto-producer"):
        tacit.load(tmp_path / "alone")
    with tacit.session(protocol="plain"), pytest.raises(DataError, match="was saved by the protocol 'additive'"):
        tacit.load(tmp_path)


def test_a_checkpoint_is_for_the_parties_that_saved_it(tmp_path: Path) -> None:
    with tacit.session(parties=("alice", "bob", "carol"), protocol="additive"):
        tacit.save(tacit.share(torch.ones(2), "carol"), tmp_path)

    for arguments in ({"protocol": "additive"}, {"protocol": "two-party"}):
        with tacit.session(**arguments), pytest.raises(DataError, match="of the parties alice, bob, carol, and those"):
            tacit.load(tmp_path)


def test_without_a_session_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(TacitError, match="no session"):
        tacit.save([], tmp_path)
