"""The client for browsers (examples/fhe/web), in headless Chromium, against the service.

It needs Chromium and `npm ci` in that folder; without one of them these tests are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.preprocessing import StandardScaler

pytest.importorskip("fastapi")
from fastapi import FastAPI
from tests.fhe import chromium
from tests.fhe.serving import listening
from tests.hostile.mutations import mutated

from tacit.errors import DataError
from tacit.fhe import Pipeline, from_torch, parameters
from tacit.fhe.calibration import CalibratedClassifierCV
from tacit.fhe.encode import Encoder
from tacit.fhe.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from tacit.fhe.layout import SpreadLayout
from tacit.fhe.linear_model import LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from tacit.fhe.multiclass import OneVsOneClassifier
from tacit.fhe.naive_bayes import GaussianNB
from tacit.fhe.neighbors import KNeighborsClassifier, KNeighborsRegressor
from tacit.fhe.neural_network import MLPClassifier
from tacit.fhe.read import Head, Reader
from tacit.fhe.service import create_app
from tacit.fhe.spec import KINDS, to_bytes
from tacit.fhe.svm import SVC, LinearSVC
from tacit.fhe.tree import DecisionTreeClassifier, DecisionTreeRegressor

WEB = Path(__file__).parents[2] / "examples" / "fhe" / "web"
BROWSER = chromium.program()
pytestmark = pytest.mark.skipif(
    BROWSER is None or not (WEB / "node_modules" / "node-seal").is_dir(),
    reason="needs Chromium, and npm ci in the folder",
)
SETUP = """
(async () => {
  const [client, bytes, model, { default: SEAL }] = await Promise.all(
    ["/client.mjs", "/bytes.mjs", "/model.mjs", "/node_modules/node-seal/dist/index_throws.js"].map((m) => import(m)));
  const seal = await SEAL();
  const raw = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const text = (raw) => btoa(Array.from(raw, (byte) => String.fromCharCode(byte)).join(""));
  window.t = { ...client, ...bytes, ...model, seal, raw, text };
})()
"""


class Square(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


class Quiet(SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **{f".{kind}": f"text/{kind}" for kind in ("html", "css")},
        **dict.fromkeys((".js", ".mjs"), "text/javascript"),
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(WEB))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(origin: str) -> Iterator[chromium.Page]:
    with chromium.Page(str(BROWSER), origin) as page:
        page.run(SETUP)
        yield page


@contextlib.contextmanager
def served(models: dict[str, Any], folder: Path, origins: tuple[str, ...]) -> Iterator[str]:
    app = FastAPI()
    for name, model in models.items():
        model.save_server(folder / name)
        model.save_client(folder / name)
        app.mount(f"/{name}", create_app(folder / name, folder / name, folder / "keys" / name, origins))
    with listening(app) as url:
        yield url


def asked(page: chromium.Page, address: str, rows: Any, what: str = "predict") -> Any:
    call = f"t.Client.connect(t.seal, {json.dumps(address)}).then((c) => c.{what}({json.dumps(rows)}))"
    return json.loads(page.run(f"{call}.then(JSON.stringify)"))


def refusal(page: chromium.Page, expression: str) -> str:
    """Return the class and the message of what an expression throws."""
    thrown = "`${error.constructor.name}: ${error.message}`"
    return str(page.run(f"(async () => {{ try {{ await ({expression}); }} catch (error) {{ return {thrown}; }} }})()"))


def test_a_page_predicts_what_the_python_client_predicts(
    page: chromium.Page, origin: str, boosted: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = rng.normal(size=(5, 30))
    text = "\n".join(",".join(map(repr, row)) for row in rows.tolist())

    with served({"boosted": boosted}, tmp_path, (origin,)) as address:
        page.run(f"document.getElementById('address').value = {json.dumps(address + '/boosted')}")
        page.run(f"document.getElementById('rows').value = {json.dumps(text)}")
        page.run("document.querySelector('button').click()")
        page.wait("/Done|refused|no answer|cannot/.test(document.getElementById('status').textContent)")
        status = page.run("document.getElementById('status').textContent")
        shown = page.run("[...document.querySelectorAll('#answers li')].map((item) => JSON.parse(item.textContent))")

    assert status.startswith("Done: 5 predictions of GradientBoostingClassifier")
    assert shown == boosted.predict(rows, fhe="execute").tolist()


def test_pages_of_other_origins_may_not_ask(page: chromium.Page, linear: Any, tmp_path: Path) -> None:
    with served({"linear": linear}, tmp_path, ("https://app.example.org",)) as address:
        said = refusal(page, f"t.Client.connect(t.seal, '{address}/linear')")

    assert said.startswith("ServiceError: no answer from")
    assert "allow this page's origin" in said


def test_plain_http_beyond_this_machine_is_refused(page: chromium.Page) -> None:
    assert "neither https nor on this machine" in refusal(page, "t.Client.connect(t.seal, 'http://example.org')")


def voting(*members: Any, voting: str = "soft", weights: Any = None) -> VotingClassifier:
    return VotingClassifier([(str(i), member) for i, member in enumerate(members)], voting=voting, weights=weights)


def a_model_of_each_kind(seed: int) -> dict[str, tuple[Any, Any]]:
    """Compiled models whose encoders, readers and heads are all that there are, and rows to predict."""
    wine, kind = load_wine(return_X_y=True)
    sick, score = load_diabetes(return_X_y=True)
    words = np.array(["Barolo", "Grignolino", "Barbera"])[kind]
    trees = RandomForestClassifier(n_estimators=9, max_depth=3, random_state=seed)
    shown = RandomForestClassifier(n_estimators=9, max_depth=4, hide_structure=False, random_state=seed)
    named = pd.DataFrame(wine[:, :3], columns=["alcohol", "acid", "ash"])
    gaps = np.where(wine > 1e9, 0, wine)[:, :6]
    gaps[::7, 1], gaps[1::5, 3], gaps[:, 4] = np.nan, np.nan, np.round(gaps[:, 4]) % 5
    boost = partial(
        HistGradientBoostingClassifier, max_iter=3, max_depth=3, categorical_features=[4], random_state=seed
    )
    scale = ColumnTransformer([("scale", StandardScaler(), [0, 1, 2, 3]), ("as it is", "passthrough", [4, 5])])
    logistic = [LogisticRegression(C=c, max_iter=9000) for c in (0.01, 1, 9)]
    models = {
        "gaps": (boost(), gaps, kind),
        "gaps-only": (DecisionTreeClassifier(max_depth=1), gaps, np.isnan(gaps[:, 3])),
        "gaps-only-shown": (DecisionTreeClassifier(max_depth=1, hide_structure=False), gaps, np.isnan(gaps[:, 3])),
        "gaps-shown": (boost(hide_structure=False), gaps, kind),
        "gaps-scaled": (
            Pipeline([("scale", scale), ("boost", boost())]),
            np.nan_to_num(gaps),
            gaps[:, 4] % 2 + (wine[:, 1] > 2),
        ),
        "grown": (RandomForestRegressor(n_estimators=5, random_state=seed), sick[:120], score[:120]),
        "words": (LogisticRegression(max_iter=5000), wine, words),
        "names": (LogisticRegression(max_iter=5000), named, kind > 0),
        "numbers": (Ridge(), sick, score),
        "several": (Ridge(), wine[:, :6], wine[:, 6:9]),
        "counts": (PoissonRegressor(max_iter=1000), sick, score),
        "huber": (SGDClassifier(loss="modified_huber", random_state=seed), (wine - wine.mean(0)) / wine.std(0), kind),
        "squares": (GaussianNB(), wine, kind),
        "pairs": (MLPClassifier((4,), max_iter=20, random_state=seed), wine, kind),
        "near": (KNeighborsClassifier(3), wine[:40], kind[:40] * 1.5),
        "nearer": (KNeighborsRegressor(3, weights="distance"), wine[:40], wine[:40, 3]),
        "tree": (DecisionTreeClassifier(max_depth=4, random_state=seed), wine, words),
        "quantity": (DecisionTreeRegressor(max_depth=4, random_state=seed), sick, score),
        "scaled": (Pipeline([("scale", StandardScaler()), ("tree", trees)]), wine, kind),
        "votes": (RandomForestClassifier(n_estimators=5, max_depth=None, random_state=seed), wine, kind),
        "shown": (shown, wine, kind),
        "one-one": (OneVsOneClassifier(LogisticRegression(max_iter=5000)), wine, words),
        "margins": (SVC(kernel="linear", decision_function_shape="ovo"), wine[:, :4], kind),
        "two": (SVC(kernel="linear"), wine[:, :4], kind > 0),
        "soft": (voting(*logistic[:2], weights=[2, 1]), wine[:, :4], words),
        "hard": (voting(*logistic, voting="hard"), wine, words),
        "calibrated": (CalibratedClassifierCV(LogisticRegression(max_iter=5000), cv=2), wine, words),
        "calibrated-two": (CalibratedClassifierCV(LinearSVC(), cv=2), wine[:, :3], kind > 0),
        "bagged": (BaggingClassifier(n_estimators=4, random_state=seed), wine, words),
        "adapted": (AdaBoostClassifier(n_estimators=4, random_state=seed), wine, words),
        "odd": (IsolationForest(n_estimators=5, random_state=seed), wine, None),
    }
    made = {name: (model.fit(x, y).compile(x), x[:8]) for name, (model, x, y) in models.items()}
    made["gaps-scaled"] = made["gaps-scaled"][0], gaps[:8]  # missing values that it met nowhere
    network = torch.nn.Sequential(torch.nn.Linear(6, 4), Square(), torch.nn.Linear(4, 3))
    return {**made, "network": (from_torch(network, wine[:, :6], classes=["a", "b", "c"]), wine[:4, :6])}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:encrypted and clear predictions")
def test_every_kind_of_model_predicts_the_same(page: chromium.Page, origin: str, tmp_path: Path, seed: int) -> None:
    models = a_model_of_each_kind(seed)

    with served({name: model for name, (model, _) in models.items()}, tmp_path, (origin,)) as address:
        for name, (model, x) in models.items():
            rows = x.to_dict("records") if isinstance(x, pd.DataFrame) else x.tolist()
            there = asked(page, f"{address}/{name}", rows)
            here = model.predict(x, fhe="simulate").tolist()
            assert there == (pytest.approx(here, rel=1e-15) if name == "counts" else here), name
            if hasattr(model, "decision_function"):
                scores = asked(page, f"{address}/{name}", rows, "decision")
                assert scores == model.decision_function(x, fhe="simulate").tolist(), name
            if hasattr(model, "predict_proba"):
                chances = asked(page, f"{address}/{name}", rows, "probabilities")
                assert np.abs(chances - model.predict_proba(x, fhe="simulate")).max() < 1e-14, name

    specs = [model.client().spec for model, _ in models.values()]
    tried = {type(part) for spec in specs for part in (spec.encoder, spec.reader, spec.head)}
    known = {kind for kind in KINDS.values() if issubclass(kind, (Encoder, Reader, Head))}
    assert tried == known


@pytest.mark.parametrize("kind", [RandomForestClassifier, RandomForestRegressor])
def test_a_browser_makes_the_keys_of_a_model_that_spreads_its_inputs(
    kind: Any, page: chromium.Page, origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    wine, label = load_wine(return_X_y=True)
    monkeypatch.setattr(parameters, "RINGS", ())  # what makes a forest large is a question of minutes
    model = kind(n_estimators=4, random_state=seed).fit(wine, label).compile(wine)
    assert isinstance(model.client().spec.parameters.layout, SpreadLayout)

    with served({"spread": model}, tmp_path, (origin,)) as address:
        there = asked(page, f"{address}/spread", wine[::60].tolist())

    assert there == model.predict(wine[::60], fhe="simulate").tolist()


@pytest.mark.parametrize("hidden", [True, False])
def test_a_node_that_asks_for_missing_values_only_is_read(page: chromium.Page, hidden: bool) -> None:
    x = np.where(np.arange(40)[:, None] % 3 == [0, 9], np.nan, np.linspace(-1, 1, 80).reshape(40, 2))
    model = DecisionTreeClassifier(max_depth=1, hide_structure=hidden).fit(x, np.isnan(x[:, 0])).compile(x)
    spec = model.client().spec
    file = base64.b64encode(to_bytes(spec)).decode()
    rows = json.dumps(x[:6].tolist())  # with NaN, which JavaScript knows

    z = page.run(
        f"t.Client.of(t.seal, t.readModel(t.raw('{file}')), null).then((c) => c.encode({rows}).map((z) => [...z]))"
    )

    assert model.tree_.threshold[0] == np.inf
    assert z == spec.encode(x[:6]).tolist()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("gaps", [True, False])
def test_a_number_beyond_single_precision_is_refused_as_in_python(
    page: chromium.Page, hidden: bool, gaps: bool, rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(40, 2)), np.arange(40) % 2
    x[:3, 0] = np.nan if gaps else 0
    spec = DecisionTreeClassifier(max_depth=2, hide_structure=hidden).fit(x, y).compile(x).client().spec
    file = base64.b64encode(to_bytes(spec)).decode()
    largest = float(np.finfo(np.float32).max)

    def encoded(value: float) -> str:
        return f"t.Client.of(t.seal, t.readModel(t.raw('{file}')), null).then((c) => c.encode([[{value}, 0]]))"

    assert "too large for the single precision" in refusal(page, encoded(1e300))
    with pytest.raises(DataError, match="too large for the single precision"):
        spec.encode(np.array([[1e300, 0]]))
    assert refusal(page, encoded(largest)) == "None"


@pytest.mark.slow
def test_many_rows_go_in_bulk(
    page: chromium.Page, origin: str, linear: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = rng.normal(size=(4200, 30))  # one chunk in bulk, and the rest not
    assert linear.client().bulk(4096)

    with served({"linear": linear}, tmp_path, (origin,)) as address:
        there = asked(page, f"{address}/linear", rows.tolist(), "decision")

    assert there == linear.decision_function(rows, fhe="simulate").tolist()


def test_hostile_answers_are_refused(page: chromium.Page, linear: Any) -> None:
    server = linear.server()
    x = np.zeros((1, 30)).tolist()
    file = base64.b64encode(to_bytes(linear.client().spec)).decode()
    page.run(f"t.Client.of(t.seal, t.readModel(t.raw('{file}')), null).then((c) => {{ t.c = c; }})")
    page.run(f"t.c.encrypt(t.c.encode({json.dumps(x)})).then((query) => {{ t.q = query; }})")
    key, query = (base64.b64decode(page.run(f"t.text({it})")) for it in ("t.c.publicKey", "t.q"))
    server.register(key)
    answer = server.answer(query)

    def said(raw: bytes) -> str:
        return refusal(page, f"t.c.decrypt(t.raw('{base64.b64encode(raw).decode()}'), t.q)")

    def resealed(at: int, new: bytes) -> bytes:
        body = answer[:at] + new + answer[at + len(new) : -32]
        return body + hashlib.sha256(body).digest()

    longer = answer[:-32] + bytes(5)
    assert said(answer) == "None"
    for raw, message in [
        (b"junk", "not a tacit"),
        (answer[:-1], "digest does not match"),
        (answer[:90] + b"!" + answer[91:], "digest does not match"),
        (resealed(8, struct.pack("<H", 2)), "format version 2"),
        (resealed(10, b"\x05"), "kind 5"),
        (resealed(12, bytes(16)), "another model"),
        (resealed(28, bytes(16)), "another client"),
        (resealed(44, bytes(32)), "another query"),
        (resealed(76, struct.pack("<I", 2)), "more or fewer rows"),
        (resealed(84, b"\xff" * 12), "out of range"),
        (longer + hashlib.sha256(longer).digest(), "longer than its header says"),
        (answer[:500] + hashlib.sha256(answer[:500]).digest(), "shorter than its header says"),
    ]:
        assert message in said(raw), message


def test_hostile_bytes_are_never_read_as_something_else(page: chromium.Page, linear: Any, boosted: Any) -> None:
    files = [to_bytes(model.client().spec) for model in (linear, boosted)]
    draws = random.Random(
        seed := int(os.environ.get("TACIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    )
    wrong = [(b"Quantizer", b"Quantised"), (b"4096", b"2048"), (b"pairs", b"pears"), (b"tensor", b"sensor")]
    bad = [*(files[0].replace(*pair) for pair in wrong), *(mutated(draws, files) for _ in range(200))]

    kinds = page.run(
        f"{json.dumps([base64.b64encode(raw).decode() for raw in bad])}.map((raw) => {{"
        " try { return t.readModel(t.raw(raw)).model; } catch (error) { return error.constructor.name; } })"
    )

    assert kinds[: len(wrong)] == ["MessageError"] * len(wrong)
    assert {kind for kind in kinds if len(kind) != 32} == {"MessageError"}, f"seed {seed}"
