"""Models as data: what is traced is what PyTorch computes, and what a stranger sends is a graph or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.api import active_protocol
from tacit.errors import ConfigError, DataError, RevealError, UnsupportedOperator
from tacit.outside.graph.form import Graph
from tacit.outside.graph.run import check, run
from tacit.outside.graph.trace import Traced, sizes, traced
from tacit.outside.pairing import secrets_of

MIXED = torch.tensor([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]])


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutional() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(3 * 9, 4), nn.Softmax(-1))


def tied() -> nn.Module:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3, bias=False)
            self.register_buffer("positions", torch.tensor([2, 0, 1]))
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            y = F.linear(self.inner(x).relu(), self.inner.weight.t())
            return (y[:, self.positions] + self.mask).softmax(-1).add_(1.0)

    return Tied()


def function(x: Tensor) -> Tensor:
    """No module: its weights are the tensors that it finds."""
    first, second = (x @ MIXED).split(1, dim=1)
    return torch.cat([first.relu(), second * 2.5, torch.arange(len(x))[:, None] * first], 1)


CASES: list[tuple[Callable[[], Any], tuple[int, ...], float]] = [
    (lambda: nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), (6,), 2.0**-12),
    (perceptron, (3, 4), 2.0**-10),
    (convolutional, (1, 14, 14), 2.0**-10),
    (tied, (3,), 2.0**-9),
    (lambda: function, (3,), 2.0**-10),
]


def answers(found: Traced, rows: Tensor, roles: tuple[str, str] = ("server", "guest")) -> Tensor:
    """What both compute in one process, by the graph that has travelled."""
    graph = Graph.parse(found.graph.text)
    with tacit.session(roles=roles):
        weights = secrets_of(active_protocol(), graph, found.weights)
        out: Tensor = tacit.reveal(run(graph, tacit.share(rows, owner=roles[1]), weights), to=roles[1])
    return out


@pytest.mark.parametrize(("make", "shape", "error"), CASES, ids=["logistic", "perceptron", "cnn", "tied", "function"])
def test_a_graph_computes_what_the_model_does(make: Any, shape: tuple[int, ...], error: float) -> None:
    model = make()
    if isinstance(model, nn.Module):
        model.eval()
    rows = torch.randn(2, *shape)

    found = traced(model, shape, "float32", 2)

    with torch.no_grad():
        expected = model(rows)
    assert (answers(found, rows) - expected).abs().max() < error
    assert check(found.graph) == {n: ((n, *expected.shape[1:]), torch.float32) for n in (1, 2)}


@pytest.mark.slow
def test_a_layer_of_a_transformer_as_a_graph() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    rows = torch.randn(2, 5, 16)

    found = traced(layer, (5, 16), "float32", 2)

    with torch.no_grad():
        assert (answers(found, rows) - layer(rows)).abs().max() < 2.0**-8


def test_numbers_of_rows_are_powers_of_two() -> None:
    assert [sizes(n) for n in (1, 2, 8, 12)] == [[1], [1, 2], [1, 2, 4, 8], [1, 2, 4, 8, 12]]


def test_no_weight_is_in_the_graph() -> None:
    model = perceptron()

    found = traced(model, (3, 4), "float32", 1)

    changed = perceptron()
    assert traced(changed, (3, 4), "float32", 1).graph.text == found.graph.text  # whatever the weights hold
    assert [w.name for w in found.graph.weights] == ["1.weight", "1.bias", "3.weight", "3.bias"]
    assert not found.graph.constants
    assert not traced(function, (3,), "float32", 1).graph.constants[0].dtype.is_floating_point
    assert "hidden" in repr(found)
    assert "tensor" not in repr(found)


def test_masks_and_positions_are_public_and_each_weight_is_there_once() -> None:
    graph = traced(tied(), (3,), "float32", 2).graph

    assert [w.name for w in graph.weights] == ["inner.weight"]
    assert [c.tolist() for c in graph.constants] == [[2, 0, 1], [0.0, -torch.inf, 0.0]]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.add_(1.0)
        return x * self.weight


@pytest.mark.parametrize(
    ("model", "error", "why"),
    [
        (lambda x: x * 2 if x.sum() > 0 else x, RevealError, "plain value"),
        (lambda x: x * x.mean().item(), RevealError, "plain value"),
        (lambda x: F.dropout(x), DataError, r"random numbers.*call .eval\(\)"),
        (lambda x: x + torch.randn(3), DataError, "random numbers"),
        (lambda x: torch.ones(len(x), 2), DataError, "rows"),
        (lambda x: x.sum(), DataError, "rows"),
        (lambda x: (x, x), DataError, "rows"),
        (lambda x: torch.lgamma(x), UnsupportedOperator, "lgamma"),
        (Counting(), DataError, "overwrites a weight"),
    ],
    ids=["branch", "item", "dropout", "noise", "public", "scalar", "tuple", "unsupported", "counting"],
)
def test_what_no_graph_can_say_is_refused_where_the_server_starts(model: Any, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        traced(model, (3,), "float32", 2)


def test_a_secret_model_is_refused() -> None:
    with tacit.session():
        secret = tacit.share(perceptron(), owner="alice")

        with pytest.raises(ConfigError, match=r"leave tacit\.share out"):
            traced(secret, (3, 4), "float32", 1)


def test_the_program_s_own_random_numbers_go_on() -> None:
    model = perceptron()
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)

    traced(model, (3, 4), "float32", 1)

    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


# --- what a hostile server could send ---------------------------------------------------------------------------------


def literal() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(traced(function, (3,), "float32", 1).graph.text)
    return found


def changed(path: list[Any], value: Any) -> bytes:
    whole = literal()
    at: Any = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(whole).encode()


NODES = ["rows", "1", "nodes"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        changed(["format"], 2),
        changed(["input"], [[-1], "float32"]),
        changed(["input"], [[3], "complex64"]),
        changed(["weights"], [["w", [3, 2], "float32", 99]]),
        changed(["weights"], []),
        changed(["constants", 0, 2], "AAAA"),
        changed(["constants", 0, 0], "qint8"),
        changed(["rows"], {}),
        changed(["rows"], {"1": {"nodes": [], "result": {"c": 0}}}),
        changed([*NODES, 0, 0], "os.system"),
        changed([*NODES, 0, 0], "aten.from_file.default"),
        changed([*NODES, 0, 0], "aten.mm.out.more"),
        changed([*NODES, 0, 0], "aten.__class__.default"),
        changed([*NODES, 0, 0], "prims.add.default"),
        changed([*NODES, 0, 0], 7),
        changed([*NODES, 0, 1], [{"v": 99}, {"w": 0}]),
        changed([*NODES, 0, 1], [{"v": -1}, {"w": 0}]),
        changed([*NODES, 0, 1], [{"c": 0}, {"c": 0}]),
        changed([*NODES, 0, 1], [{"d": "Tensor"}, {"w": 0}]),
        changed([*NODES, 0, 1], [{"v": 0, "w": 0}]),
        changed([*NODES, 0, 1], [[[[[[[[{"v": 0}]]]]]]]]),
        changed([*NODES, 0, 3], 1 << 40),
        changed(["rows", "1", "result"], {"v": 99}),
        changed(["rows", "1", "result"], {"w": 0}),
    ],
)
def test_what_is_no_graph_is_refused(text: bytes) -> None:
    with pytest.raises(DataError):
        Graph.parse(text)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ([*NODES, 0, 1], [{"v": 0}, {"v": 0}], "cannot be computed"),
        ([*NODES, 0, 1], [{"v": 0}, "x"], "cannot be computed"),
        ([*NODES, 0, 3], 2, "results"),
        (["rows", "1", "result"], {"w": 0}, "no graph"),
        ([*NODES, 0], ["aten.expand.default", [{"v": 0}, [1 << 20, 1 << 20, 3]], {}, 1], "memory"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_anything_is(path: list[Any], value: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        check(Graph.parse(changed(path, value)))


# --- what is public of a model ----------------------------------------------------------------------------------------

LAYER = np.array([[0.11, 0.22], [0.33, 0.44], [0.55, 0.66]], dtype=np.float32)
QUANTISED = torch.tensor([[3, 5], [7, 9], [2, 4]], dtype=torch.int8)
HIDES = torch.tensor([False, True, False])
FAR = torch.tensor([0.0, -torch.inf, 0.0])


def written(x: Tensor) -> Tensor:
    kept = torch.zeros(3)
    kept[:2].copy_(QUANTISED[:2, 0])
    return x * kept


def one_by_one(x: Tensor) -> Tensor:
    kept = torch.zeros(3)
    for k, w in enumerate(LAYER[:, 0].tolist()):
        kept[k] = w
    return x * kept


def stored(x: Tensor) -> Tensor:
    return x @ torch.empty(0).set_(torch.from_numpy(LAYER).untyped_storage(), 0, (3, 2), (2, 1))


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "from numpy": lambda x: x @ torch.from_numpy(LAYER),
    "as tensor": lambda x: x @ torch.as_tensor(LAYER),
    "asarray": lambda x: x @ torch.asarray(LAYER),
    "tensor of numpy": lambda x: x @ torch.tensor(LAYER),
    "list": lambda x: x @ torch.tensor(LAYER.tolist()),
    "one element": lambda x: x * torch.tensor([0.11]),
    "twice": lambda x: x @ (torch.from_numpy(LAYER) * 2),
    "turned": lambda x: x @ torch.from_numpy(LAYER.T.copy()).T,
    "stacked": lambda x: x[:, :2] * torch.stack([torch.from_numpy(row) for row in LAYER])[1],
    "stacked numbers": lambda x: x * torch.stack([torch.tensor(w) for w in LAYER[:, 0].tolist()]),
    "joined numbers": lambda x: x * torch.cat([torch.full((1,), w) for w in LAYER[:, 0].tolist()]),
    "quantised": lambda x: x @ (QUANTISED.float() * 0.01),
    "whole numbers of a list": lambda x: x * torch.tensor([3, 5, 7]).float(),
    "written": written,
    "storage": stored,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_layer_is_a_weight_however_the_model_makes_it(name: str) -> None:
    model, rows = WEIGHTS[name], torch.rand(1, 3)

    found = traced(model, (3,), "float32", 1)

    assert not any(c.dtype.is_floating_point for c in found.graph.constants)
    assert found.graph.told[1] == 0
    assert found.graph.weights
    assert (answers(found, rows) - model(rows)).abs().max() < 1e-2


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "buffer": lambda x: (x + FAR).softmax(-1),
    "list": lambda x: (x + torch.tensor([0.0, -torch.inf, 0.0])).softmax(-1),
    "filled": lambda x: (x + torch.zeros(3).masked_fill(HIDES, -1e9)).softmax(-1),
    "chosen": lambda x: (x + torch.where(HIDES, torch.tensor(-torch.inf), torch.tensor(0.0))).softmax(-1),
    "least": lambda x: (x + torch.full((3, 3), torch.finfo(torch.float32).min).triu(1)[1]).softmax(-1),
    "truth values": lambda x: x * HIDES.float(),
    "positions": lambda x: x + torch.arange(3).float(),
    "a number": lambda x: x * torch.tensor(0.5),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_positions_and_single_numbers_stay_public(name: str) -> None:
    assert not traced(MASKS[name], (3,), "float32", 1).graph.weights


@pytest.mark.parametrize("kept", [[0.731, -torch.inf, 0.42], [0.731, 1e30, 0.42], [0.0, 1e30, -torch.inf, 1e31]])
def test_a_weight_that_is_a_mask_too_is_refused_and_not_told(kept: list[float]) -> None:
    bias = torch.tensor(kept)

    for model in (lambda x: x + bias, lambda x: x + torch.tensor(kept)):
        with pytest.raises(DataError, match=r"keep them apart") as refusal:
            traced(model, (len(kept),), "float32", 1)
        assert "731" not in str(refusal.value)


def test_a_layer_that_is_written_number_by_number_is_refused() -> None:
    with pytest.raises(DataError, match="overwrites a weight"):
        traced(one_by_one, (3,), "float32", 1)


def test_a_server_knows_how_many_numbers_it_tells() -> None:
    def model(x: Tensor) -> Tensor:
        return (x * 0.37 + 0.37 + 1.0)[:, torch.tensor([2, 0, 1])] + FAR

    assert traced(model, (3,), "float32", 2).graph.told == (1, 1)


def test_values_that_are_there_together_have_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    many = traced(lambda x: torch.cat([x.exp() for _ in range(20)], 1).sum(1, keepdim=True), (3,), "float32", 1).graph
    monkeypatch.setattr("tacit.outside.graph.run.memory_bytes", lambda: 70 * 16)

    with pytest.raises(DataError, match="all in all"):
        check(many)
    assert check(traced(lambda x: x.exp().exp().exp(), (20,), "float32", 1).graph)


MANY = [
    ["aten.unbind.int", [{"v": 0}, 1], {}, 4],
    ["aten.split.Tensor", [{"v": 0}, 1, 1], {}, 4],
    ["aten.split_with_sizes.default", [{"v": 0}, [0] * (1 << 16) + [1 << 24], 1], {}, 4],
]


@pytest.mark.parametrize("node", MANY, ids=lambda node: str(node[0]))
def test_a_graph_that_would_fill_memory_with_pieces_is_refused_at_once(node: list[Any]) -> None:
    steps = {"nodes": [node], "result": {"v": 1}}
    literal = {"format": 1, "input": [[1 << 24], "float32"], "weights": [], "constants": [], "rows": {"2": steps}}

    with pytest.raises(DataError, match="gives more than 65536 results"):
        check(Graph.parse(json.dumps(literal).encode()))


REFUSED = [
    ["aten.clone.default", [{"v": 0}], {"memory_format": -1}, 1],
    ["aten.ones_like.default", [{"v": 0}], {"layout": 3}, 1],
    ["aten._to_copy.default", [{"v": 0}], {"dtype": 1 << 40}, 1],
    ["aten._to_copy.default", [{"v": 0}], {"device": "meta"}, 1],
    ["aten._foreach_copy.out", [[], [{"v": 0}], True], {"out": [{"v": 0}]}, 1],
    ["aten.exp.out", [{"v": 0}], {"out": {"v": 0}}, 1],
    ["aten.chunk.default", [{"v": 0}, 2], {}, 2],
    ["aten.add.default", [{"v": 0}, 1], {}, 1],
    ["aten.as_strided_.default", [{"v": 0}, [-1, 2, 1 << 40], [1, 1, 1]], {}, 1],
]


@pytest.mark.parametrize("node", REFUSED, ids=lambda node: str(node[0]))
def test_what_would_crash_pytorch_or_comes_from_no_program_is_refused(node: list[Any]) -> None:
    steps = {"nodes": [node], "result": {"v": 1}}
    literal = {"format": 1, "input": [[4], "float32"], "weights": [], "constants": [], "rows": {"2": steps}}

    with pytest.raises(DataError):
        check(Graph.parse(json.dumps(literal).encode()))
