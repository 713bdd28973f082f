"""Hybrid models: the client runs what is not linear, the server the encrypted linear layers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from tacit.errors import DataError, FheError, MessageError
from tacit.fhe import spec
from tacit.fhe.client import Client
from tacit.fhe.compile.assemble import Circuit
from tacit.fhe.encode import Float
from tacit.fhe.estimator import MODES, Mode, checked_bits
from tacit.fhe.hybrid import files
from tacit.fhe.hybrid.files import Layer
from tacit.fhe.hybrid.layer import EncryptedLinear, Kept, LinearMap, lowered
from tacit.fhe.remote import Remote
from tacit.fhe.server import Server


class Hybrid(nn.Module):
    """A model whose `layers` (names, or patterns as "h.*.attn.c_attn"; all linear ones if None) run on ciphertexts.

    It is called as the model is. In one process it is client and server both, and `fhe` ("execute", "simulate",
    "disable") says how those layers run; `save` takes it apart, `tacit serve-fhe` serves one half, and
    `Hybrid.connect` is the client. With `gradients`, the server multiplies by the transposed weights too, and adapters
    (`adapt`) can be trained at the client.

    The server learns how many rows (tokens) each layer is asked for. **The client sees the inputs and outputs of every
    layer**: after as many linearly independent tokens as a layer has inputs (and one for its bias) it can solve for
    the layer's quantised weights. This protects the client's data, not the model.

    Error: see `layer.py`; `EncryptedLinear.error_bound` computes it.

    Raises:
        DataError: for names that are no linear layers, and for weights that the client would have anyway.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | None = None,
        *,
        gradients: bool = False,
        n_bits: int | None = None,
    ) -> None:
        super().__init__()
        bits = checked_bits(n_bits)
        chosen = _chosen(model, layers)
        _refuse_shared(model, chosen)
        self.model = copy.deepcopy(model)
        self._circuits: dict[str, Circuit] = {}
        found = []
        for number, name in enumerate(chosen):
            original = self.model.get_submodule(name)
            weight, bias = _weights(original)
            maps, facts = [], []
            sides = [(weight, bias), (weight.T, None)][: 1 + gradients]
            for path, (matrix, constant) in zip((str(number), f"{number}-back"), sides, strict=False):
                circuit, told = lowered(f"{type(model).__name__}.{name}", matrix, constant, bits)
                self._circuits[path] = circuit
                facts.append(told)
                maps.append(LinearMap(told, circuit.client, circuit.server_spec.program))
            found.append(Layer(name, facts[0], facts[1] if gradients else None))
            stand_in = EncryptedLinear(name, (maps[0], maps[1] if gradients else None))
            stand_in.clear = Kept(original)
            _replace(self.model, name, stand_in)
        _call_layers(self.model)
        self._layers = tuple(found)

    @classmethod
    def connect(
        cls, model: nn.Module, where: str | Path, *, server: str | Path | None = None, timeout: float | None = None
    ) -> Self:
        """Return the client of a hybrid model: `where` is the address of a service, or a client's folder with the
        `server`'s folder beside it.

        `model` is a module of the same class and configuration, whose weights do not matter.

        Raises:
            MessageError: if the files are damaged, or are of a model of other shapes.
        """
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        self._circuits = {}
        self.model = copy.deepcopy(model)
        source = _Source(where, server, timeout)
        self._layers, rest = files.from_bytes(source.file())
        for number, layer in enumerate(self._layers):
            original = _linear(self.model, layer.name)
            outputs, inputs = _weights(original)[0].shape
            if (inputs, outputs) != (layer.forward.inputs, layer.forward.outputs):
                raise MessageError(f"{layer.name} has other shapes in this model than in the one that is served")
            forward, back = layer.paths(number)
            maps = (
                LinearMap(layer.forward, source.client(forward)),
                None if layer.backward is None or back is None else LinearMap(layer.backward, source.client(back)),
            )
            _replace(self.model, layer.name, EncryptedLinear(layer.name, maps))
        _call_layers(self.model)
        try:
            self.model.load_state_dict(rest)
        except RuntimeError as error:
            raise MessageError(
                "the weights of this hybrid model are those of another class or configuration"
            ) from error
        return self

    @property
    def fhe(self) -> Mode:
        """How the layers run: on ciphertexts, in the same integers in clear, or as they were."""
        return next(layer for _, layer in self.encrypted()).fhe

    @fhe.setter
    def fhe(self, mode: Mode) -> None:
        if mode not in MODES:
            raise FheError(f"fhe must be one of {', '.join(MODES)}, not {mode!r}")
        for _, layer in self.encrypted():
            layer.fhe = mode

    def encrypted(self) -> Iterator[tuple[str, EncryptedLinear]]:
        """Yield the encrypted layers and their names in the model."""
        for module in self.model.modules():
            if isinstance(module, EncryptedLinear):
                yield module.name, module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.model(*args, **kwargs)

    def adapt(self, rank: int = 8, alpha: float = 16.0) -> list[nn.Parameter]:
        """Put a low-rank adapter beside each encrypted layer, freeze everything else, and return what is trained.

        The adapters, their gradients and the optimiser are the client's, in clear; the server sees none of them.
        """
        if not 1 <= rank <= 4096:
            raise DataError(f"the rank of an adapter is between 1 and 4096, not {rank}")
        if any(isinstance(module, Adapted) for module in self.model.modules()):
            raise FheError("this model has adapters already")
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        like = next(self.model.parameters(), torch.zeros(0))
        trained = []
        for name, layer in list(self.encrypted()):
            adapted = Adapted(layer, rank, alpha / rank).to(like.device, like.dtype)
            _replace(self.model, name, adapted)
            trained += [adapted.down, adapted.up]
        return trained

    def save(self, folder: str | Path) -> Path:
        """Write `folder/client` and `folder/server`, for `tacit serve-fhe folder/server --client folder/client`."""
        if not self._circuits:
            raise FheError("only whoever has the model can save it to be served")
        if any(isinstance(module, Adapted) for module in self.model.modules()):
            raise FheError("save the model before adapt: adapters are the client's (torch.save them as they are)")
        target = Path(folder)
        files.write(target / "client", files.to_bytes(self._layers, self.model.state_dict()))
        for path, circuit in self._circuits.items():
            spec.save(circuit.client_spec, target / "client" / path)
            spec.save(circuit.server_spec, target / "server" / path)
        return target


class Adapted(nn.Module):
    """An encrypted layer with a low-rank adapter beside it: W x + b + scale U D x, with U = 0 at first."""

    def __init__(self, layer: EncryptedLinear, rank: int, scale: float) -> None:
        super().__init__()
        facts = layer.maps[0].facts
        self.layer, self.scale = layer, scale
        self.down = nn.Parameter(torch.randn(rank, facts.inputs) / facts.inputs**0.5)
        self.up = nn.Parameter(torch.zeros(facts.outputs, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both."""
        out: torch.Tensor = self.layer(x) + self.scale * (x @ self.down.T @ self.up.T)
        return out


class _Source:
    """Where a client's files come from, and who answers it."""

    def __init__(self, where: str | Path, server: str | Path | None, timeout: float | None) -> None:
        self._address = where if isinstance(where, str) and where.startswith(("http://", "https://")) else None
        self._client = None if self._address else Path(where)
        self._server = None if server is None else Path(server)
        self._timeout = timeout
        if self._client is not None and self._server is None:
            raise FheError("give the address of a service, or both folders: Hybrid.connect(model, client, server=...)")

    def file(self) -> bytes:
        """Return the client's file."""
        if self._client is not None:
            return files.read(self._client)
        remote = Remote(str(self._address), self._timeout)
        try:
            return remote.hybrid_file()
        finally:
            remote.close()

    def client(self, path: str) -> Client:
        """Return a client, with a key of its own, for one map."""
        if self._client is None or self._server is None:
            return Client(f"{str(self._address).rstrip('/')}/layers/{path}", timeout=self._timeout)
        return Client(self._client / path, server=Server(self._server / path))


def _kinds() -> tuple[type[nn.Module], ...]:
    """Return the classes of linear layers: PyTorch's, and that of GPT-2 if transformers is loaded. A class derived from
    one of them may compute something else (or be read by its owner without being called), so it is none."""
    extra = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return (nn.Linear,) if extra is None else (nn.Linear, extra)


def _linear(model: nn.Module, name: str) -> nn.Module:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise DataError(f"this model has no layer {name!r}") from error
    if not name or type(module) not in _kinds():
        raise DataError(
            f"{name or 'the model itself'} is a {type(module).__name__}, and only linear layers are encrypted"
        )
    return module


def _chosen(model: nn.Module, layers: Sequence[str] | None) -> list[str]:
    """Return the names of the chosen layers, in the model's order."""
    if not isinstance(model, nn.Module):
        raise DataError(f"Hybrid takes a torch module, not a {type(model).__name__}")
    if isinstance(layers, str):
        raise DataError(f"give layers as a list of names: [{layers!r}]")
    names = [name for name, module in model.named_modules() if name and type(module) in _kinds()]
    for pattern in layers or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            _linear(model, pattern)
    chosen = names if layers is None else [n for n in names if any(fnmatchcase(n, p) for p in layers)]
    if not chosen:
        raise DataError("this model has no linear layer, or none was named")
    return chosen


def _refuse_shared(model: nn.Module, chosen: list[str]) -> None:
    """Refuse a layer whose weights also stand elsewhere, where the client would have them in clear."""
    places: dict[int, list[str]] = {}
    for name, tensor in [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]:
        if tensor.numel():
            places.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    mine = tuple(f"{name}." for name in chosen)
    for names in places.values():
        ours = [name for name in names if name.startswith(mine)]
        if ours and len(ours) < len(names):
            other = next(name for name in names if not name.startswith(mine))
            raise DataError(
                f"{ours[0]} and {other} are one tensor, which the client would have in clear: leave that layer to the "
                "client, or give it weights of its own"
            )


def _weights(layer: nn.Module) -> tuple[Float, Float | None]:
    """Return W (outputs, inputs) and b."""
    if set(layer._parameters) != {"weight", "bias"} or layer._forward_hooks or layer._forward_pre_hooks:
        raise DataError(f"this {type(layer).__name__} has hooks or parametrisations: fold them into its weight first")
    weight = layer.get_parameter("weight").detach().cpu().double().numpy()
    bias = None if layer._parameters["bias"] is None else layer.get_parameter("bias").detach().cpu().double().numpy()
    turned = weight if isinstance(layer, nn.Linear) else np.ascontiguousarray(weight.T)  # GPT-2's are (inputs, outputs)
    return turned, bias


def _call_layers(model: nn.Module) -> None:
    """Keep PyTorch's transformers from reading the weights of layers that have none any more: their fast path in
    evaluation does, in place of calling them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and any(
            isinstance(m, EncryptedLinear) for m in module.modules()
        ):
            module.activation_relu_or_gelu = 0  # of neither, the fast path is not tried
        elif isinstance(module, nn.TransformerEncoder):
            module.enable_nested_tensor = module.use_nested_tensor = False


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
