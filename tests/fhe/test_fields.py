"""Files of a client's half that somebody changed: refused when they are read, whatever the field."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tacit.errors import MessageError
from tacit.fhe.discriminant_analysis import LinearDiscriminantAnalysis
from tacit.fhe.encode import Affine, Thermometer
from tacit.fhe.ensemble import RandomForestRegressor
from tacit.fhe.fields import dtype_named
from tacit.fhe.joint_heads import CalibratedHead, PairHead, VotingHead
from tacit.fhe.linear_model import LogisticRegression, RidgeClassifier
from tacit.fhe.naive_bayes import GaussianNB
from tacit.fhe.neighbors import KNeighborsRegressor
from tacit.fhe.read import (
    Classes,
    ClassificationHead,
    ForestReader,
    IsolationHead,
    NeighborHead,
    RegressionHead,
    VoteReader,
)
from tacit.fhe.spec import ClientSpec, from_bytes, to_bytes
from tacit.fhe.tree import DecisionTreeClassifier

ONE, THREE = np.ones(1), Classes(("a", "b", "c"), "<U1")
SCORE = ClassificationHead(ONE, ONE, THREE, "softmax")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Classes((1, [2]), "int64"),
        lambda: Classes(("a", 2), "<M8[s]"),
        lambda: Classes((1, 2), "complex128"),
        lambda: Classes((1 << 70,), "int64"),
        lambda: ForestReader((3, 3), (1,), 1),
        lambda: ForestReader((3.0,), (1,), 1),
        lambda: ForestReader((-3,), (1,), 1),
        lambda: ForestReader((3,), (1,), 0),
        lambda: VoteReader(3, True, 2),
        lambda: VoteReader(3, 1, 0),
        lambda: RegressionHead(np.ones(0), ONE, False, True),
        lambda: RegressionHead(ONE * np.nan, ONE, False, True),
        lambda: RegressionHead(np.ones(1, dtype=np.int64), ONE, False, True),
        lambda: RegressionHead(ONE, ONE, 1, True),
        lambda: ClassificationHead(ONE, ONE, THREE, "certain"),
        lambda: ClassificationHead(ONE, ONE, ("a", "b"), "none"),
        lambda: IsolationHead(ONE, ONE, 0.0, 0.5),
        lambda: IsolationHead(ONE, ONE, 1.0, float("inf")),
        lambda: NeighborHead(0, False, THREE, 1.0, 0.0),
        lambda: NeighborHead(3, False, THREE, "1", 0.0),
        lambda: PairHead(ONE, ONE, THREE, 2.0, True, True),
        lambda: VotingHead((SCORE,), (3, 3), ONE, THREE, True),
        lambda: VotingHead((), (), ONE, THREE, True),
        lambda: VotingHead((SCORE,), (3,), np.ones(2), THREE, True),
        lambda: VotingHead(("SCORE",), (3,), ONE, THREE, True),
        lambda: CalibratedHead((SCORE,), (3,), ONE, ONE, THREE),
        lambda: CalibratedHead((SCORE,), (3,), np.ones((1, 3)), np.ones((1, 2)), THREE),
        lambda: Affine(np.ones((2, 2)), np.ones(3)),
        lambda: Thermometer(2, np.array([0, 2]), np.zeros(2), True),
        lambda: Thermometer(2.0, np.array([0, 1]), np.zeros(2), True),
        lambda: Thermometer(1 << 40, np.array([0, 1]), np.zeros(2), True),
        lambda: VotingHead((SCORE, SCORE), (3, 3), np.array([1.0, -1.0]), THREE, True),
    ],
)
def test_parts_that_do_not_fit_are_refused(make: Any) -> None:
    with pytest.raises(MessageError, match="model file"):
        make()


@pytest.mark.parametrize(
    ("head", "width"),
    [
        (RegressionHead(np.ones(2), ONE, False, False), 3),
        (RegressionHead(ONE, ONE, False, True), 2),
        (ClassificationHead(np.ones(2), ONE, THREE, "softmax"), 3),
        (ClassificationHead(ONE, ONE, THREE, "softmax"), 4),
        (ClassificationHead(ONE, ONE, THREE, "fractions"), 3),
        (ClassificationHead(ONE, ONE, THREE, "samme"), 1),
        (IsolationHead(ONE, ONE, 1.0, 0.0), 2),
        (NeighborHead(3, False, THREE, 1.0, 0.0), 4),
        (NeighborHead(3, False, THREE, 1.0, 0.0), 7),
        (PairHead(ONE, ONE, THREE, 1, True, True), 4),
        (VotingHead((SCORE, SCORE), (3, 3), np.ones(2), THREE, True), 5),
        (VotingHead((SCORE, SCORE), (3, 4), np.ones(2), THREE, True), 7),
    ],
)
def test_heads_do_not_fit_other_numbers_of_scores(head: Any, width: int) -> None:
    assert not head.fits(width)


@pytest.mark.parametrize("model", [GaussianNB(), RidgeClassifier(), LinearDiscriminantAnalysis()], ids=repr)
def test_models_of_one_class_can_be_read(model: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(30, 3))
    model.fit(x, np.full(30, "only")).compile(x)

    head = from_bytes(to_bytes(model.client().spec), ClientSpec).head

    assert head.predict(np.zeros((2, 1), np.int64), np.zeros((2, 1), np.int64)).tolist() == ["only"] * 2


def with_fields(raw: bytes, **changes: Any) -> bytes:
    """Return a file with other values in its JSON, by the path of each: reader__trees=…"""
    size = struct.unpack("<Q", raw[:8])[0]
    record = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["tacit.fhe"])
    for path, value in changes.items():
        *where, last = path.split("__")
        at = record["spec"]
        for name in where:
            at = at[name]
        at[last] = value
    return bytes(save(load(raw), metadata={"tacit.fhe": json.dumps(record)}))


@pytest.fixture(scope="module")
def files(datasets: Any) -> dict[str, bytes]:
    x, _, y, _ = datasets["wine"]
    models = {
        "lines": LogisticRegression(),
        "tree": DecisionTreeClassifier(max_depth=2),
        "forest": RandomForestRegressor(2, max_depth=2),
        "near": KNeighborsRegressor(2),
    }
    return {name: to_bytes(model.fit(x, y).compile(x).client().spec) for name, model in models.items()}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lines", {"front": None}),
        ("lines", {"front__names": [1, 2]}),
        ("lines", {"bulk": 1}),
        ("lines", {"name": 7}),
        ("lines", {"reader": {"kind": "NeighborReader"}}),
        ("lines", {"reader": {"kind": "VoteReader", "leaves": 3, "trees": 1, "labels": 3}}),
        ("lines", {"head__classes__values": [1, 2]}),
        ("lines", {"head__proba": "fractions"}),
        ("lines", {"encoder": {"kind": "PlainReader"}}),
        ("lines", {"parameters__trim_bits": 46}),
        ("lines", {"parameters__layout__samples": 1.0}),
        ("lines", {"parameters__layout__degree": 8192}),
        ("tree", {"reader__values": 3}),
        ("tree", {"reader__leaves": [1]}),
        ("forest", {"reader__trees": [2, 2]}),
        ("forest", {"head__flat": None}),
        ("near", {"head__k": 1 << 20}),
    ],
)
def test_a_file_whose_parts_do_not_belong_together_is_refused(name: str, changes: Any, files: dict[str, bytes]) -> None:
    from_bytes(with_fields(files[name]), ClientSpec)

    with pytest.raises(MessageError):
        from_bytes(with_fields(files[name], **changes), ClientSpec)


@pytest.mark.parametrize("name", ["float64", "<f8", "|b1", "<U7", "object", "|O", "<M8[ns]", "<m8[25s]", ">i4", "int8"])
def test_types_of_labels_are_read_as_numpy_writes_them(name: str) -> None:
    assert dtype_named(name, "biufUOMm", "another") == np.dtype(name)


@pytest.mark.parametrize(
    "name",
    [",i4", "i4,", "(2,)i4", "i4,(1,", "<U999999999", "<M8[x]", "<f9", "complex128", "V8", "", "os", 3, None, []],
)
def test_other_types_are_refused_without_being_looked_into(name: object) -> None:
    with pytest.raises(MessageError, match="this model file names another"):
        dtype_named(name, "biufUOMm", "another")
