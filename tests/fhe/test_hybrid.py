"""Hybrid models: a tiny GPT-2 whose linear layers run on ciphertexts, and adapters that a client trains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fhe.serving import listening
from torch import nn
from torch.nn import functional

from tacit.errors import DataError, FheError, MessageError, ServiceError
from tacit.fhe import Client, Hybrid
from tacit.fhe.hybrid import files
from tacit.fhe.hybrid.layer import Facts, LinearMap, lowered

transformers = pytest.importorskip("transformers")
LAYERS = ["transformer.h.*.attn.c_*", "transformer.h.*.mlp.c_*"]


def gpt2() -> nn.Module:
    """A model of GPT-2's class, with biases that are not zero."""
    torch.manual_seed(5)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=30, n_positions=12, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return gpt2()


@pytest.fixture(scope="module")
def hybrid(model: nn.Module) -> Hybrid:
    return Hybrid(model, LAYERS, gradients=True)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.arange(7)[None] * 3


@pytest.fixture(scope="module")
def folder(hybrid: Hybrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hybrid.save(tmp_path_factory.mktemp("hybrid"))


@pytest.fixture
def address(folder: Path, tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("fastapi")
    from tacit.fhe.service import create_app

    app = create_app(folder / "server", folder / "client", tmp_path / "keys")
    with listening(app) as url:
        yield url


def test_a_transformer_runs_on_ciphertexts(hybrid: Hybrid, model: nn.Module, ids: torch.Tensor) -> None:
    clear = model(ids).logits

    modes = {}
    for mode in ("disable", "simulate", "execute"):
        hybrid.fhe = mode
        modes[mode] = hybrid(ids).logits.detach()

    assert torch.equal(modes["disable"], clear)
    assert torch.equal(modes["execute"], modes["simulate"])
    assert (modes["execute"] - clear).abs().max() < 0.02 * clear.abs().max()
    assert [name for name, _ in hybrid.encrypted()] == [
        f"transformer.h.0.{name}" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert "weight" not in "".join(name for name in hybrid.model.state_dict() if ".c_" in name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of nested tensors, by the model in clear
@pytest.mark.parametrize("gradients", [False, True])
def test_pytorchs_own_transformer_calls_its_layers(gradients: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 1).eval()
    x, padded = torch.randn(2, 3, 8), torch.tensor([[False, False, False], [False, False, True]])
    hybrid = Hybrid(model)

    with torch.set_grad_enabled(gradients):
        expected = model(x, src_key_padding_mask=padded)
        for fhe in ("simulate", "disable"):
            hybrid.fhe = fhe
            seen = hybrid(x, src_key_padding_mask=padded)
            assert (seen - expected)[~padded].abs().max() < 0.05

    assert {name for name, _ in hybrid.encrypted()} == {"layers.0.linear1", "layers.0.linear2"}


def test_a_client_elsewhere_gets_the_same(address: str, hybrid: Hybrid, ids: torch.Tensor, folder: Path) -> None:
    hybrid.fhe = "simulate"
    expected = hybrid(ids).logits
    blank = transformers.GPT2LMHeadModel(hybrid.model.config).eval()

    remote, local = Hybrid.connect(blank, address), Hybrid.connect(blank, folder / "client", server=folder / "server")

    assert torch.equal(remote(ids).logits, expected)
    assert torch.equal(local(ids).logits, expected)
    remote.fhe = "simulate"
    with pytest.raises(FheError, match="only whoever has the model can simulate"):
        remote(ids)
    remote.fhe = "disable"
    with pytest.raises(FheError, match="in clear"):
        remote(ids)
    with pytest.raises(FheError, match="can save it"):
        remote.save(folder / "again")


def test_layers_share_what_keys_may_take_on_disk(
    folder: Path, hybrid: Hybrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, httpx, anyio = (pytest.importorskip(name) for name in ("tacit.fhe.service", "httpx", "anyio"))
    layers = len(hybrid._circuits)
    clients = {path: [hybrid._circuits[path].client.spec for _ in range(3)] for path in ("0", "1-back")}
    keys = {path: [Client(half).public_key for half in halves] for path, halves in clients.items()}
    size = max(len(key) for many in keys.values() for key in many)
    monkeypatch.setattr(service, "MOST_KEY_BYTES", 2 * size * layers + layers)

    async def register() -> None:
        app = service.create_app(folder / "server", None, tmp_path)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            for path, many in keys.items():
                for key in many:
                    assert (await http.put(f"/layers/{path}/v1/keys", content=key)).status_code == 200

    anyio.run(register)

    for path, many in keys.items():
        assert sum(file.stat().st_size for file in (tmp_path / path).iterdir()) == 2 * len(many[0])


def test_adapters_are_trained_at_the_client(model: nn.Module, ids: torch.Tensor) -> None:
    hybrid = Hybrid(model, ["transformer.h.*.attn.c_attn", "transformer.h.*.mlp.c_fc"], gradients=True)
    trained = hybrid.adapt(rank=2)
    weights = [p for p in hybrid.parameters() if p.requires_grad]
    assert {id(p) for p in weights} == {id(p) for p in trained}
    adam = torch.optim.Adam(trained, 0.02)

    losses, gradients = [], {}
    for mode in ("disable", "execute"):
        hybrid.fhe = mode
        adam.zero_grad()
        hybrid(ids, labels=ids).loss.backward()
        gradients[mode] = torch.cat([p.grad.flatten() for p in trained])
    for _ in range(4):
        adam.zero_grad()
        loss = hybrid(ids, labels=ids).loss
        loss.backward()
        adam.step()
        losses.append(loss.item())

    assert (gradients["execute"] - gradients["disable"]).norm() < 0.05 * gradients["disable"].norm()
    assert losses[-1] < losses[0] - 0.05
    with pytest.raises(FheError, match="adapters already"):
        hybrid.adapt()
    with pytest.raises(FheError, match="before adapt"):
        hybrid.save("nowhere")


@pytest.mark.parametrize("bits", [4, None])
@pytest.mark.parametrize("bias", [0.0, 1e-3, 50.0])
def test_errors_stay_within_their_bound(bits: int | None, bias: float, rng: np.random.Generator) -> None:
    layer = nn.Linear(9, 5).double()
    with torch.no_grad():
        layer.bias.mul_(bias)
    hybrid = Hybrid(nn.Sequential(layer), n_bits=bits)
    hybrid.fhe = "simulate"
    rows = rng.normal(size=(60, 9)) * 10.0 ** rng.integers(-8, 9, size=(60, 1))
    rows[0] = 0
    rows[1, 1:] = 0
    x = torch.from_numpy(rows)

    error = (hybrid(x) - layer(x)).abs()
    bound = next(layer for _, layer in hybrid.encrypted()).error_bound(x)

    assert (error <= bound * (1 + 1e-9) + 1e-12).all()
    assert bound[2:].max() > 0


def test_ends_of_the_range(rng: np.random.Generator) -> None:
    weight = rng.normal(size=(3, 4))
    weight[1] = 0
    circuit, facts = lowered("ends", weight, None, None)
    layer = LinearMap(facts, circuit.client, circuit.server_spec.program)

    assert (layer(np.zeros((2, 4)), "execute") == 0).all()
    assert layer(np.zeros((0, 4)), "execute").shape == (0, 3)
    for size in (1e-300, 1e300):
        rows = np.full((1, 4), size)
        assert np.abs(layer(rows, "simulate") - rows @ weight.T).max() <= 0.01 * size
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="not finite"):
            layer(np.array([[bad, 0, 0, 0]]), "execute")
    with pytest.raises(DataError, match="not finite"):
        lowered("bad", weight + np.nan, None, None)


def test_the_client_can_solve_for_a_layer_after_as_many_tokens_as_it_has_inputs(rng: np.random.Generator) -> None:
    """What the threat model says, so that nobody takes a hybrid for a way to hide weights."""
    circuit, facts = lowered("open", rng.normal(size=(3, 6)), rng.normal(size=3), None)
    layer = LinearMap(facts, circuit.client, circuit.server_spec.program)
    z, _ = layer.quantised(rng.normal(size=(facts.inputs + 1, 6)))

    found = np.linalg.solve(z.astype(np.float64), layer.client.values_of(z).astype(np.float64))

    assert (np.rint(found.T) == layer.program.weights).all()  # type: ignore[union-attr]


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first


class Child(nn.Linear):
    """Linear by name, not by nature."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(super().forward(x))


@pytest.mark.parametrize(
    ("make", "layers", "says"),
    [
        (gpt2, ["lm_head"], "are one tensor"),
        (gpt2, ["lm_heat"], "no layer 'lm_heat'"),
        (gpt2, ["transformer.wte"], "only linear layers"),
        (gpt2, "lm_head", "as a list"),
        (gpt2, [], "none was named"),
        (lambda: nn.ReLU(), None, "no linear layer"),
        (Twice, ["first"], "are one tensor"),
        (lambda: nn.Sequential(Child(2, 2)), ["0"], "only linear layers"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), None, "linear layer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_split_is_refused(make: Any, layers: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Hybrid(make(), layers)


def test_misuse_is_named(model: nn.Module, hybrid: Hybrid, folder: Path, tmp_path: Path, ids: torch.Tensor) -> None:
    plain = Hybrid(nn.Sequential(nn.Linear(3, 2)))
    x = torch.ones(1, 3, requires_grad=True)

    with pytest.raises(FheError, match="gradients=True"):
        plain(x).sum().backward()
    with pytest.raises(DataError, match="3 in the last dimension"):
        plain(torch.ones(1, 4))
    with pytest.raises(DataError, match="3 in the last dimension"):
        plain(torch.ones(1, 3, dtype=torch.int64))
    with pytest.raises(FheError, match="fhe must be one of"):
        plain.fhe = "on"  # type: ignore[assignment]
    with pytest.raises(DataError, match="torch module"):
        Hybrid("model")  # type: ignore[arg-type]
    with pytest.raises(FheError, match="both folders"):
        Hybrid.connect(model, folder / "client")
    with pytest.raises(MessageError, match="no hybrid model"):
        Hybrid.connect(model, tmp_path, server=tmp_path)
    with pytest.raises(DataError, match="no layer"):
        Hybrid.connect(nn.Linear(2, 2), folder / "client", server=folder / "server")
    with pytest.raises(ServiceError, match="neither https"):
        Hybrid.connect(model, "http://models.example.org")


def test_a_model_of_other_shapes_is_refused(hybrid: Hybrid, folder: Path) -> None:
    config = transformers.GPT2Config(**{**hybrid.model.config.to_dict(), "n_embd": 8})
    with pytest.raises(MessageError, match="other shapes"):
        Hybrid.connect(transformers.GPT2LMHeadModel(config), folder / "client", server=folder / "server")
    config = transformers.GPT2Config(**{**hybrid.model.config.to_dict(), "vocab_size": 31})
    with pytest.raises(MessageError, match="another class or configuration"):
        Hybrid.connect(transformers.GPT2LMHeadModel(config), folder / "client", server=folder / "server")


def test_parts_of_another_layer_are_refused(hybrid: Hybrid) -> None:
    one, other = (hybrid._circuits[path] for path in ("0", "1"))
    facts = hybrid._layers[0].forward

    LinearMap(facts, one.client)
    with pytest.raises(MessageError, match="do not belong together"):
        LinearMap(facts, other.client)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), "1", None])
def test_hostile_facts_are_refused(wrong: Any) -> None:
    with pytest.raises(MessageError, match="damaged"):
        Facts(3, 2, wrong, 1.0)
    with pytest.raises(MessageError, match="damaged"):
        Facts(wrong, 2, 0.0, 1.0)
    with pytest.raises(MessageError, match="damaged"):
        files.Layer("x" * 400, Facts(3, 2, 0.0, 1.0), None)
    with pytest.raises(MessageError, match="damaged"):
        files.Layer("x", Facts(3, 2, 0.0, 1.0), Facts(3, 2, 0.0, 1.0))
