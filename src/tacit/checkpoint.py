"""Checkpoints: each role keeps its shares in a file of its own, and a later run goes on from exactly that state.

A checkpoint is a folder with one safetensors file a role: the role's share of every secret, public tensors in the
clear, and in the file's metadata, as JSON, the structure that was saved. One role's file says nothing about the
secrets of others. All files of a checkpoint carry the same random identity, and all roles must load the same one. Keys
are never stored: the next run has fresh ones, so no mask is ever used twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tacit import private_files
from tacit.api import active_protocol
from tacit.errors import DataError, tellable
from tacit.net.framing import printable
from tacit.protocols.protocol import Protocol
from tacit.protocols.values import Bits, Value
from tacit.session.ranks import Rank
from tacit.session.roles import DEFAULT, scheme_named, scheme_names
from tacit.session.store import IDENTITY, sync_folder
from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import fingerprint

__all__ = ["load", "load_files", "save", "save_files"]

FORMAT = "tacit-checkpoint-1"
Description = dict[str, Any]
Leaves = dict[str, Tensor | list[Tensor]]
"""The tensors of a structure by place: of a secret the fresh shares of the parties hosted here."""


def save(obj: Any, folder: str | Path) -> None:
    """Save secrets and public values so that a later session can `load` them.

    Every role calls this with the same structure and writes `<role>.safetensors` into `folder` on its own machine; an
    embedded session writes all of them. A file is replaced only once it is complete, and only its owner may read it.
    Where roles have several ranks, each rank that calls it writes a checkpoint of its own, `<role>[1].safetensors` and
    so on, and rank 0 one that sessions without ranks load as well.

    Args:
        obj: secret tensors, plain tensors, numbers, strings, None, in dicts, lists and tuples of any depth: a
            `state_dict()` of a module or of an optimizer, for example. Tuples come back as lists.
        folder: where this role keeps its file.

    Raises:
        DataError: for anything else, with its place.
    """
    protocol = active_protocol()
    session = protocol.session
    drawn = os.urandom(16) if session.parties[0] in session.transport.hosted else None
    save_files(protocol, obj, Path(folder), session.announce(session.parties[0], drawn).hex(), {})


def save_files(protocol: Protocol, obj: Any, folder: Path, identity: str, told: dict[str, str]) -> None:
    """Write the files of the roles of this process, with what else is to be told of them; see `save`."""
    session = protocol.session
    leaves: Leaves = {}
    structure = _flatten(obj, "", leaves)
    session.transcript.record(f"tacit.save({len(leaves)} tensors)", json.dumps(structure).encode())
    _make_folder(folder)
    for place, role in _files(protocol):
        metadata = {"format": FORMAT, "role": role, "identity": identity, "structure": json.dumps(structure)}
        metadata |= {"protocol": session.config.protocol, "parties": json.dumps(session.parties), **told}
        data = {name: _stored(leaf, place) for name, leaf in leaves.items()}
        metadata["digest"] = _digest(data)
        _write(folder / f"{session.rank.file(role)}.safetensors", data, metadata)


def load(folder: str | Path, rank: int | None = None) -> Any:
    """Return what `save` was given, as secrets of this session.

    The parties must be those that saved it. Two parties alone load what they have saved with a crypto-producer, too.

    Args:
        folder: where this role keeps its file.
        rank: whose checkpoint, where roles have several ranks; each loads its own without it. What one has saved, all
            may load: `tacit.load(folder, rank=0)`.

    Raises:
        DataError: if the file is not there, is damaged, or belongs to another role.
        DivergenceError: if another role loads another checkpoint.
    """
    protocol = active_protocol()
    if rank is not None and (type(rank) is not int or rank < 0):
        raise DataError(f"tacit.load(folder, rank=…) takes the number of a rank, 0 or more, not {rank!r}")
    own = protocol.session.rank if rank is None else Rank(rank)
    paths = {role: Path(folder) / f"{own.file(role)}.safetensors" for _, role in _files(protocol)}
    if rank is None and own.index and not any(path.exists() for path in paths.values()):
        raise DataError(
            f"there is no checkpoint of {own.of(next(iter(paths)))} in {folder}: "
            "write tacit.load(folder, rank=0) for what rank 0 has saved"
        )
    return load_files(protocol, paths)


def load_files(protocol: Protocol, paths: dict[str, Path], identity: str | None = None) -> Any:
    """Read what `save_files` wrote, of the roles of this process, which must be of one checkpoint."""
    files = [_read(paths[role], role) for _, role in _files(protocol)]
    folder = next(iter(paths.values())).parent
    first = files[0][1]
    structure = _structure(first, next(iter(paths.values())))
    if identity is not None and first["identity"] != identity:
        raise DataError(f"the files in {folder} belong to another checkpoint")
    _check_scheme(first, protocol, folder)
    if any(metadata["identity"] != first["identity"] for _, metadata in files):
        raise DataError(f"the files in {folder} belong to different checkpoints")
    protocol.session.transcript.record(f"tacit.load(checkpoint {first['identity']})", first["structure"].encode())
    try:
        return _rebuild(structure, lambda entry: _restored(protocol, entry, [data for data, _ in files]))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        if tellable(error):
            raise
        raise DataError(f"the checkpoint in {folder} is damaged") from None


def _structure(metadata: dict[str, str], path: Path) -> Any:
    """What was saved, as a file describes it."""
    try:
        structure, identity = json.loads(metadata["structure"]), metadata["identity"]
    except (ValueError, KeyError, RecursionError):
        raise DataError(f"the checkpoint {path} is damaged") from None
    if not IDENTITY.fullmatch(identity):
        raise DataError(f"the checkpoint {path} is damaged")
    return structure


def _names(text: str) -> list[str]:
    """The names that a file's list holds."""
    try:
        return [printable(str(name)) for name in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        return ["nobody"]


def _check_scheme(metadata: dict[str, str], protocol: Protocol, folder: str | Path) -> None:
    """Refuse what parties saved whose shares are not to be added up as those of this session are."""
    session = protocol.session
    by, here = metadata.get("protocol", DEFAULT), session.config.scheme
    alike = by in scheme_names() and here.shares and scheme_named(by).shares == here.shares
    if by != here.name and not (alike and "parties" in metadata):
        raise DataError(f"the checkpoint in {folder} was saved by the protocol {by!r}, which this session does not use")
    parties = metadata.get("parties", json.dumps(session.parties))
    if parties != json.dumps(session.parties):
        raise DataError(
            f"the checkpoint in {folder} is of the parties {', '.join(_names(parties))}, and those of this session are "
            f"{', '.join(session.parties)}"
        )


def _files(protocol: Protocol) -> list[tuple[int, str]]:
    """The files this process keeps: the place of the role's tensor in a share (-1 for a helper), and the role."""
    session = protocol.session
    parties = [(place, session.parties[index]) for place, index in enumerate(session.party_indices)]
    return parties + [(-1, role) for role in session.helpers if session.hosts(role)]


# --- structure --------------------------------------------------------------------------------------------------------


def _flatten(obj: Any, place: str, leaves: Leaves) -> Description:
    """Describe a structure in JSON and collect its tensors by place."""
    if isinstance(obj, SecretTensor):
        share = obj.share
        leaves[place] = obj._protocol.refresh(share)  # at every role, the helpers too, which keep none
        entry = {"kind": "bits" if isinstance(share, Bits) else "secret", "place": place, "dtype": _name(obj.dtype)}
        known = share.scale
        scale = {"scale": known.frac_bits, "headroom": known.headroom, "precise": known.precise}
        return entry | {"shape": list(obj.shape), **scale}
    if isinstance(obj, Tensor):
        leaves[place] = obj
        return {"kind": "public", "place": place, "digest": fingerprint(obj).hex()}
    if isinstance(obj, dict):
        items = [[_key(key, place), _flatten(value, f"{place}/{key}", leaves)] for key, value in obj.items()]
        return {"kind": "dict", "items": items}
    if isinstance(obj, list | tuple):
        return {"kind": "list", "items": [_flatten(value, f"{place}/{i}", leaves) for i, value in enumerate(obj)]}
    if obj is None or isinstance(obj, bool | int | float | str):
        return {"kind": "value", "value": obj}
    raise DataError(f"tacit.save cannot keep a {type(obj).__name__}, at {place or 'the top'}")


def _key(key: Any, place: str) -> Any:
    if isinstance(key, str | int):
        return key
    raise DataError(
        f"tacit.save keeps dicts whose keys are strings or whole numbers, not {key!r}, at {place or 'the top'}"
    )


def _rebuild(entry: Description, tensor: Callable[[Description], Tensor]) -> Any:
    kind = entry["kind"]
    if kind == "dict":
        return {key: _rebuild(value, tensor) for key, value in entry["items"]}
    if kind == "list":
        return [_rebuild(value, tensor) for value in entry["items"]]
    return entry["value"] if kind == "value" else tensor(entry)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- tensors ----------------------------------------------------------------------------------------------------------


def _stored(leaf: Tensor | list[Tensor], place: int) -> Tensor:
    """What a role's file holds for a tensor: its fresh share, or nothing at a helper; public tensors everywhere."""
    if isinstance(leaf, Tensor):
        return leaf.detach().contiguous()
    return torch.empty(0, dtype=torch.int64) if place < 0 else leaf[place].contiguous()


def _restored(protocol: Protocol, entry: Description, files: list[dict[str, Tensor]]) -> Tensor:
    name = entry["place"]
    if entry["kind"] == "public":
        return files[0][name].clone()
    shares = [data[name].clone() for data in files[: len(protocol.session.party_indices)]]
    shape, where = entry["shape"], f"{name} in the checkpoint"
    adopted: Value
    if entry["kind"] == "bits":
        adopted = protocol.adopt_bits(shares, shape, lasting=True, name=where)
    else:
        scale = {"headroom": entry["headroom"], "precise": entry["precise"]}
        adopted = protocol.adopt(shares, shape, entry["scale"], **scale, lasting=True, name=where)
    return SecretTensor(adopted, getattr(torch, entry["dtype"]))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be made: {error.strerror}") from None


def _write(path: Path, data: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file that only its owner may read, and put it in place in one step."""
    try:
        with private_files.replacing_by_folder(path) as partial:
            save_file(data, partial, metadata)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"the checkpoint {path} cannot be written, and what was there before is as it was: {error}"
        ) from None


def _digest(data: dict[str, Tensor]) -> str:
    """By which damage to the tensors shows; it is no proof of who wrote them."""
    total = blake2b(digest_size=16)
    for name in sorted(data):
        total.update(name.encode())
        total.update(data[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _read(path: Path, role: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if not private_files.is_private(path):
            raise DataError(f"{path} can be read by other users of this machine: run `chmod 600 {path}`")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            data = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except FileNotFoundError:
        raise DataError(f"there is no checkpoint of {role} at {path}") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"the checkpoint {path} cannot be read: {error}") from None
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path} is not a checkpoint of Tacit")
    if metadata.get("role") != role:
        raise DataError(f"{path} is the checkpoint of {metadata.get('role')}, not of {role}")
    if metadata.get("digest", _digest(data)) != _digest(data):
        raise DataError(f"the checkpoint {path} is damaged")
    return data, metadata
