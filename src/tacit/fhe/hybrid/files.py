"""The files of a hybrid model: what the client keeps, what the server keeps, what a service says.

::

    client/hybrid.safetensors           the weights that are not encrypted, and the facts of each layer
    client/0/client.safetensors         how to encrypt for layer 0; 0-back/ its gradient, 1/ the next one
    server/0/server.safetensors         the weights of layer 0 as integers

A client builds the model's class itself; nothing in a file can run.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from tacit import private_files
from tacit.errors import MessageError
from tacit.fhe.hybrid.layer import Facts

FILE = "hybrid.safetensors"
FORMAT = 1
_KEY = "tacit.fhe.hybrid"
MOST_LAYERS = 10_000
MOST_NAME = 300
_DAMAGE = (
    SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError,
    RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One encrypted layer: its name in the model, its forward map, and its gradient's if that is served."""

    name: str
    forward: Facts
    backward: Facts | None

    def __post_init__(self) -> None:
        """Refuse what does not fit."""
        back = self.backward
        fits = back is None or (
            back.inputs == self.forward.outputs and back.outputs == self.forward.inputs and back.constant == 0
        )
        if not isinstance(self.name, str) or not 0 < len(self.name) <= MOST_NAME or not fits:
            raise MessageError("the layers of this hybrid model are damaged")

    def paths(self, number: int) -> tuple[str, str | None]:
        """Return the names of its folders, which are its addresses at a service too."""
        return str(number), None if self.backward is None else f"{number}-back"


def to_bytes(layers: tuple[Layer, ...], rest: dict[str, torch.Tensor]) -> bytes:
    """Return the client's file."""
    text = json.dumps({"format": FORMAT, "layers": [dataclasses.asdict(layer) for layer in layers]}, allow_nan=False)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in rest.items()}
    return bytes(save_tensors(tensors or {"": torch.zeros(1)}, metadata={_KEY: text}))


def from_bytes(raw: bytes) -> tuple[tuple[Layer, ...], dict[str, torch.Tensor]]:
    """Return the layers and the other weights in a client's file, or say what is wrong with it."""
    try:
        size = int.from_bytes(raw[:8], "little")
        record = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"][_KEY])
        if record["format"] != FORMAT:
            raise MessageError(f"this hybrid model is of another format than {FORMAT}")
        layers = tuple(_layer(entry) for entry in record["layers"][: MOST_LAYERS + 1])
        tensors = load_tensors(raw)
    except _DAMAGE as error:
        if isinstance(error, MessageError):
            raise
        raise MessageError("this is not a hybrid model of tacit.fhe, or it is damaged") from error
    if not 0 < len(layers) <= MOST_LAYERS or len({layer.name for layer in layers}) != len(layers):
        raise MessageError("the layers of this hybrid model are damaged")
    tensors.pop("", None)
    return layers, tensors


def _layer(entry: Any) -> Layer:
    back = entry["backward"]
    return Layer(entry["name"], Facts(**entry["forward"]), None if back is None else Facts(**back))


def write(folder: Path, raw: bytes) -> Path:
    """Write the client's file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    private_files.write(folder / FILE, raw, 0o644)
    return folder / FILE


def read(folder: Path) -> bytes:
    """Return the client's file in a folder."""
    path = folder / FILE
    if not path.is_file():
        raise MessageError(f"there is no hybrid model {path}")
    return path.read_bytes()


def parts(folder: Path, file: str) -> list[str]:
    """Return the names of the folders of all maps in a server's or a client's folder; none if it is no hybrid one."""
    found = [path.parent.name for path in folder.glob(f"*/{file}")]
    return sorted(name for name in found if name.removesuffix("-back").isdecimal())
