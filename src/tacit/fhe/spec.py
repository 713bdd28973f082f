"""The two halves of a compiled model, and their files.

A half is one safetensors file: arrays as tensors, everything else as JSON in its metadata under "tacit.fhe". Reading
one builds only the classes listed in `KINDS`, from checked fields: nothing in it can run.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tacit import private_files
from tacit.errors import FheError, MessageError
from tacit.fhe.encode import Affine, Encoder, LeafEncoder, MixedBits, MixedLeaves, Monomials, Quantizer, Thermometer
from tacit.fhe.fields import flags
from tacit.fhe.forest_program import ForestProgram, LeafProgram
from tacit.fhe.joint_heads import CalibratedHead, PairHead, VotingHead
from tacit.fhe.layout import Int, Layout, SpreadLayout
from tacit.fhe.parameters import Parameters
from tacit.fhe.program import LinearProgram, NeighborProgram, Program
from tacit.fhe.read import (
    Classes,
    ClassificationHead,
    ForestReader,
    Head,
    IsolationHead,
    NeighborHead,
    NeighborReader,
    PlainReader,
    Reader,
    RegressionHead,
    VoteReader,
)
from tacit.fhe.steps import Steps
from tacit.fhe.table import Front

FORMAT = 2
CLIENT_FILE = "client.safetensors"
SERVER_FILE = "server.safetensors"


@dataclass(frozen=True)
class ClientSpec:
    """What a client needs: how to encode a row, encrypt it, and read the answer. Holds no weight of the model."""

    model: str
    name: str
    parameters: Parameters
    bulk: bool
    front: Front
    encoder: Encoder
    reader: Reader
    head: Head

    def encode(self, x: Any) -> Int:
        """Return the integers of the rows of a user's table: what is encrypted."""
        return self.encoder.encode(self.front(x))


@dataclass(frozen=True)
class ServerSpec:
    """What a server needs: the forms and the parameters. Holds no key, and nothing that decodes an answer."""

    model: str
    name: str
    parameters: Parameters
    bulk: bool
    program: Program


KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        ClientSpec, ServerSpec, Parameters, Layout, SpreadLayout, Front, Steps, Classes, Affine, Quantizer, Thermometer,
        PlainReader, ForestReader, NeighborReader, RegressionHead, ClassificationHead, NeighborHead, LinearProgram,
        NeighborProgram, ForestProgram, LeafProgram, LeafEncoder, VoteReader, IsolationHead, Monomials,
        MixedBits, MixedLeaves, PairHead, VotingHead, CalibratedHead,
    )
}  # fmt: skip

Spec = TypeVar("Spec", ClientSpec, ServerSpec)

_DAMAGE = (
    SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, ZeroDivisionError,
    RecursionError,
)  # fmt: skip
"""What reading raises where a file holds something else than it should."""


def to_bytes(spec: ClientSpec | ServerSpec) -> bytes:
    """Return the file of one half."""
    tensors: dict[str, Any] = {}
    tree = _flatten(spec, "", tensors)
    text = json.dumps({"format": FORMAT, "spec": tree}, allow_nan=False)
    return bytes(save_tensors(tensors or {"empty": np.zeros(1)}, metadata={"tacit.fhe": text}))


def from_bytes(raw: bytes, kind: type[Spec]) -> Spec:
    """Return the half in a file, or say why it is not one."""
    try:
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        record = dict(json.loads(header["__metadata__"]["tacit.fhe"]))
        tensors = load_tensors(raw)
    except _DAMAGE as error:
        raise MessageError("this is not a tacit.fhe model file, or it is damaged") from error
    if record.get("format") != FORMAT:
        raise MessageError(f"this model file is of format {record.get('format')}; this program reads format {FORMAT}")
    try:
        spec = _rebuild(record["spec"], tensors)
        fits = isinstance(spec, kind) and _consistent(spec)
    except _DAMAGE as error:
        raise MessageError("this tacit.fhe model file is damaged: a field is missing or of the wrong kind") from error
    if not isinstance(spec, kind):
        raise MessageError(f"expected a {kind.__name__} file, got a {type(spec).__name__} one")
    if not fits:
        raise MessageError("this tacit.fhe model file is damaged: its parts do not belong together")
    return spec


def save(spec: ClientSpec | ServerSpec, folder: str | Path) -> Path:
    """Write one half into a folder; the server's file is readable by its owner only."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    client = isinstance(spec, ClientSpec)
    path = target / (CLIENT_FILE if client else SERVER_FILE)
    private_files.write(path, to_bytes(spec), 0o644 if client else private_files.OWNER_ONLY)
    return path


def load(folder: str | Path, kind: type[Spec]) -> Spec:
    """Read one half from a folder (or from the file itself)."""
    path = Path(folder)
    if path.is_dir():
        path = path / (CLIENT_FILE if kind is ClientSpec else SERVER_FILE)
    if not path.is_file():
        raise MessageError(f"there is no model file {path}")
    return from_bytes(path.read_bytes(), kind)


def _flatten(item: Any, name: str, tensors: dict[str, Any]) -> Any:
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        fields = {
            f.name: _flatten(getattr(item, f.name), f"{name}.{f.name}".lstrip("."), tensors)
            for f in dataclasses.fields(item)
        }
        return {"kind": type(item).__name__, **fields}
    if isinstance(item, np.ndarray):
        tensors[name] = np.ascontiguousarray(item)
        return {"tensor": name}
    if isinstance(item, tuple):
        return [_flatten(part, f"{name}.{i}", tensors) for i, part in enumerate(item)]
    return item.item() if isinstance(item, np.generic) else item


def _rebuild(tree: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return tuple(_rebuild(part, tensors) for part in tree)
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    kind = KINDS[tree["kind"]]
    return kind(**{key: _rebuild(value, tensors) for key, value in tree.items() if key != "kind"})


def _consistent(spec: ClientSpec | ServerSpec) -> bool:
    p = spec.parameters
    if not (isinstance(p, Parameters) and flags(spec.bulk) and all(type(s) is str for s in (spec.model, spec.name))):
        return False
    if isinstance(spec, ServerSpec):
        fits = isinstance(spec.program, Program) and p.layout.outputs == -(-spec.program.outputs // len(p.moduli))
        length = spec.program.length
    else:
        parts = (spec.front, Front), (spec.encoder, Encoder), (spec.reader, Reader), (spec.head, Head)
        if not all(isinstance(part, kind) for part, kind in parts):
            return False
        length, width = spec.encoder.length, spec.reader.width(p.layout.outputs, len(p.moduli))
        fits = length == p.layout.length and width > 0 and spec.head.fits(width) and _reads(spec, width)
    return len(bytes.fromhex(spec.model)) == 16 and p.layout.length == length and fits


def _reads(spec: ClientSpec, width: int) -> bool:
    """Return whether zeros make a prediction: what does not fit raises one of `_DAMAGE`."""
    zeros = np.zeros((1, width), dtype=np.int64), np.zeros((1, spec.encoder.length), dtype=np.int64)
    with np.errstate(all="ignore"):
        spec.head.scores(*zeros)
        made = len(spec.head.predict(*zeros))
        with suppress(FheError):  # not every model has probabilities
            spec.head.predict_proba(*zeros)
    return made == 1
