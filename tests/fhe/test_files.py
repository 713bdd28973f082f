"""The two halves on disk: what is in each, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from safetensors.numpy import load, save

from tacit.errors import FheError, KeyMismatchError, MessageError
from tacit.fhe import Client, Server, spec
from tacit.fhe.ensemble import GradientBoostingClassifier
from tacit.fhe.linear_model import LogisticRegression
from tacit.fhe.tree import DecisionTreeClassifier

ROWS = np.linspace(-2, 2, 90).reshape(3, 30)


@pytest.mark.parametrize("which", ["linear", "boosted"])
def test_saved_halves_predict_as_the_model_does(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    model.save_server(tmp_path / "server")
    model.save_client(tmp_path / "client")

    client = Client(tmp_path / "client", server=Server(tmp_path / "server"))

    assert (client.predict(ROWS) == model.predict(ROWS, fhe="simulate")).all()
    assert (client.predict_proba(ROWS) == model.predict_proba(ROWS, fhe="execute")).all()
    assert (client.decision_function(ROWS) == model.decision_function(ROWS, fhe="simulate")).all()


def test_the_clients_half_holds_no_weight_and_the_servers_no_key(linear: LogisticRegression, tmp_path: Path) -> None:
    client_file, server_file = linear.save_client(tmp_path), linear.save_server(tmp_path)

    names = {path.name: set(load(path.read_bytes())) for path in (client_file, server_file)}

    assert names["server.safetensors"] == {"program.weights", "program.bias", "program.limits"}
    assert names["client.safetensors"] == {"encoder.center", "encoder.step", "head.scale", "head.shift"}
    weights = load(server_file.read_bytes())["program.weights"]
    assert weights.tobytes()[:64] not in client_file.read_bytes()
    assert server_file.stat().st_mode & 0o077 == 0
    assert not any(
        linear._circuit.client._secret.secret_bytes()[i : i + 32] in server_file.read_bytes() for i in (40, 4000)
    )


@pytest.mark.filterwarnings("ignore:encrypted and clear")
def test_hidden_thresholds_are_the_grids_not_the_models(datasets: dict) -> None:
    x, _, y, _ = datasets["wine"]
    model = DecisionTreeClassifier(max_depth=4, random_state=0, hide_thresholds=True, n_bits=3).fit(x, y).compile(x)

    listed = model.client().spec.encoder

    assert (np.bincount(listed.feature, minlength=13) == 7).all()
    assert (model.predict(x, fhe="simulate")[:20] == model.predict(x[:20], fhe="execute")).all()
    assert (model.predict(x, fhe="simulate") == y).mean() > 0.9


@pytest.mark.parametrize("change", ["cut", "junk", "format", "kind", "field", "shape", "parameters"])
def test_damaged_files_are_named(change: str, linear: LogisticRegression, tmp_path: Path) -> None:
    path = linear.save_server(tmp_path)
    raw = path.read_bytes()
    tensors, header = load(raw), json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    record = json.loads(header["__metadata__"]["tacit.fhe"])
    match change:
        case "format":
            record["format"] = 99
        case "kind":
            record["spec"]["program"]["kind"] = "os.system"
        case "field":
            del record["spec"]["program"]["bias"]
        case "shape":
            tensors["program.weights"] = tensors["program.weights"][:, :-1].copy()
        case "parameters":
            record["spec"]["parameters"]["degree"] = 1024
    raw = raw[:1000] if change == "cut" else b"junk" if change == "junk" else _file(tensors, record)
    path.write_bytes(raw)

    with pytest.raises(MessageError):
        Server(tmp_path)


def _file(tensors: dict, record: dict) -> bytes:
    return save(tensors, metadata={"tacit.fhe": json.dumps(record)})


def test_halves_are_not_mixed_up(
    linear: LogisticRegression, boosted: GradientBoostingClassifier, tmp_path: Path
) -> None:
    linear.save_client(tmp_path / "client")
    boosted.save_server(tmp_path / "server")

    with pytest.raises(MessageError, match="no model file"):
        Server(tmp_path / "client")
    with pytest.raises(MessageError, match="expected a ServerSpec"):
        spec.load(tmp_path / "client" / "client.safetensors", spec.ServerSpec)
    with pytest.raises(KeyMismatchError, match="another model"):
        Client(tmp_path / "client", server=Server(tmp_path / "server")).predict(ROWS)


@pytest.mark.parametrize("which", ["linear", "boosted"])
@pytest.mark.parametrize("by", ["pickle", "deepcopy", "joblib"])
def test_a_copied_model_predicts_with_keys_of_its_own(
    which: str, by: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(which)
    secret = model._circuit.client._secret.secret_bytes()

    raw = pickle.dumps(model)
    match by:
        case "pickle":
            again = pickle.loads(raw)
        case "deepcopy":
            again = copy.deepcopy(model)
        case "joblib":
            joblib.dump(model, tmp_path / "model")
            again = joblib.load(tmp_path / "model")

    assert (again.predict(ROWS, fhe="execute") == model.predict(ROWS, fhe="simulate")).all()
    assert again.fhe_report().agreement == model.fhe_report().agreement
    assert again._circuit.client.public_key != model._circuit.client.public_key
    assert secret[1000:1032] not in raw


def test_a_copy_of_a_model_that_changed_since_compile_must_be_compiled_again(linear: LogisticRegression) -> None:
    changed = copy.deepcopy(linear)
    changed.coef_ *= -1

    again = pickle.loads(pickle.dumps(changed))

    with pytest.raises(FheError, match="call compile"):
        again.predict(ROWS, fhe="execute")
