"""What users call: a session, and the two gates between plain and secret values, `share` and `reveal`."""

from __future__ import annotations

import atexit
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

import tacit.aten
import tacit.optim  # noqa: F401 - registers the operators, and what steps of optimizers need
from tacit.errors import ConfigError, DataError, RevealError, TacitError
from tacit.functions.labels import check_within
from tacit.functions.linear import unreachable
from tacit.functions.standardize import VARIANCE_BITS
from tacit.functions.whole import rounded
from tacit.net.alone import Alone
from tacit.net.in_process import InProcess
from tacit.net.transcript import Transcript
from tacit.protocols.number import Number
from tacit.protocols.protocol import Protocol
from tacit.protocols.remembered import Remembered
from tacit.protocols.schemes import protocol_of
from tacit.protocols.values import Bits, Value
from tacit.ring.fixed_point import decode, encode
from tacit.ring.given import real_tensor
from tacit.ring.memory import memory_bytes
from tacit.session.config import PARTIES, Config, read_range
from tacit.session.launch import Launch, connect, current, launched
from tacit.session.ledger import where
from tacit.session.preparation import check_prepares
from tacit.session.roles import DEFAULT
from tacit.session.session import Session
from tacit.session.store import Shelf
from tacit.session.unknown import Unknown, refuse, unknown
from tacit.tensor import SecretTensor
from tacit.tensor.dispatch import fingerprint
from tacit.tensor.nested import mapped, revealed_module, secrets_in, shared_module
from tacit.watch.precision import Precision, stop, warn
from tacit.watch.range import Range

__all__ = [
    "active_protocol",
    "adopted",
    "current_session",
    "embedded",
    "is_role",
    "release",
    "reveal",
    "role",
    "session",
    "share",
]

NAMES = ("alice", "bob")
"""Who computes in a program that does not say."""

MOST_DIMENSIONS = 64
"""PyTorch's own limit."""

MOST_BITS = 32
"""Fractional bits that a tensor may ask for. More: smaller numbers; fewer: larger ones, for 32 below 2^30."""

ROUNDED: Remembered[Number] = Remembered("rounded to be given out, by fractional bits")
ModuleT = TypeVar("ModuleT", bound=nn.Module)
_active: list[Protocol] = []


def session(
    config: str | Path | Config | None = None,
    role: str | None = None,
    *,
    parties: Sequence[str] = NAMES,
    roles: Sequence[str] | None = None,
    seed: int | None = None,
    frac_bits: int = 16,
    protocol: str | None = None,
    check: bool | str = False,
    range_check: bool | float | None = None,
    prepared: str | Path | None = None,
    resume: bool = False,
) -> Session:
    """Start a session and return it: use it in a `with` statement, or call its `close()` at the end.

    Without arguments the same program runs embedded, all roles in this process (a script, a notebook), or as the one
    role that `tacit run` or `tacit local` gave it. In a launched run the config decides, and of the other arguments
    only `range_check` counts, and `seed` where the config has none.

    Args:
        config: path of a config file, or a checked `Config`; with it comes a role.
        role: the role this process plays.
        parties: names of the computing parties when embedded; the roles that help them are there as well.
        roles: instead of `parties`, all roles that there are, as in a config: `["alice", "bob"]` compute alone.
        seed: seed of PyTorch's public generator at every role; drawn at random and agreed on if not given.
        frac_bits: fractional bits of numbers, when embedded.
        protocol: how they compute, when embedded: "additive", the default, with a crypto-producer; "two-party", by
            two parties alone; or "plain", which computes on plain integers, for trying a program: it is faster, hides
            nothing, and is refused over a network.
        check: compare every operator's result with PyTorch's on plain values, when embedded, and raise
            `PrecisionError` at the first that deviates by more than is documented; with "warn", warn and go on. For
            developing, on data that one may see: messages hold numbers.
        range_check: check securely that outputs of modules, losses, gradients and parameters are in range, and raise
            `PrecisionError` once they are not; a number is the magnitude they must stay below, half of what a square
            may have without one. Each check takes 6 rounds and reveals one bit to all, named "within range".
        prepared: a store that `tacit prepare` has made of this program, as `tacit run --prepared` takes it: the folder,
            or this party's file. The crypto-producer takes no part in the run.
        resume: let loops go on from their checkpoints, as `tacit run --resume` does; see `tacit.checkpoint`.

    Raises:
        ConfigError: for a config that cannot be used.
        ConnectError, AuthenticationError: if the other roles do not come or are not who they should be.
    """
    launch = current()
    if config is not None:
        checked = config if isinstance(config, Config) else Config.load(config)
        if role is None:
            raise ConfigError(
                f"a config needs a role: tacit.session(config, role=…) with one of {', '.join(checked.roles)}"
            )
        pinned = checked.program is not None or checked.environment is not None
        launch = launched(checked, role, sys.argv[0]) if pinned else Launch(checked, checked.check_role(role))
    if check not in (False, True, "warn"):
        raise ConfigError(f'tacit.session(check=…) takes True, False or "warn", not {check!r}')
    if launch is None:
        if roles is not None and tuple(parties) != NAMES:
            raise ConfigError("tacit.session takes `parties`, or `roles`, which are the parties and all that help them")
        settings = Config.embedded(
            parties,
            roles=roles,
            seed=seed,
            frac_bits=frac_bits,
            range_check=range_check,
            protocol=protocol or (DEFAULT if roles is None else None),
        )
        if prepared is not None:
            return _from_store(settings, prepared, seed)
        return embedded(settings, check=check, resume=resume)
    if check:
        raise ConfigError(
            f"tacit.session(check={check!r}) needs all shares in one process, and this one plays {launch.role!r}: run "
            f"the script by itself to check it, and leave `check` out here"
        )
    checked = launch.config
    if range_check is not None:
        checked = replace(checked, range_check=read_range("range_check", range_check, checked.frac_bits))
        launch = replace(launch, config=checked)
    _share_cores(checked)
    if launch.preparation is not None:
        alone = Alone(launch.role, checked.parties, Transcript())
        return _activate(Session(alone, checked, launch.preparation), seed)
    prepared = launch.prepared if prepared is None else prepared
    if prepared is not None:
        return _from_store(checked, prepared, seed, launch)
    return _activate(Session(connect(launch, Transcript()), checked, resume=launch.resume or resume), seed)


def _from_store(config: Config, prepared: str | Path, seed: int | None, launch: Launch | None = None) -> Session:
    """Start a session of the parties alone. The store is begun once all are there."""
    check_prepares(config)
    if launch is not None and launch.role not in config.parties:
        raise ConfigError(f"{launch.role} takes no part in a run from a store: start the parties alone")
    store = Shelf(prepared, config, config.parties if launch is None else (launch.role,))
    try:
        transport = InProcess(config.parties) if launch is None else connect(launch, Transcript(), store.identity)
    except BaseException:
        store.abandon()
        raise
    opened = Session(transport, config, store)
    try:
        store.agree(seed if config.seed is None else config.seed, config)  # before anything of it is spent
        store.begin(config)
    except BaseException as error:
        opened.end(error)
        raise
    return _activate(opened, seed)


def embedded(config: Config, *, check: bool | str = False, resume: bool = False) -> Session:
    """Start a session with all roles in this process, also where this process was launched as one of them."""
    opened = _activate(Session(InProcess(config.roles), config, resume=resume))
    if check:
        opened.watcher = Precision(warn if check == "warn" else stop)
    return opened


def _share_cores(config: Config) -> None:
    """Let PyTorch use the threads that the config says or, with all roles on one machine, this role's part of it."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif config.on_one_machine and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // len(config.roles)))


def _activate(opened: Session, seed: int | None = None) -> Session:
    try:
        opened.agree_seed(seed)
        protocol = protocol_of(opened)
        bound = opened.config.range_check
        if bound is not False:
            opened.guard = Range(protocol, None if bound is True else float(bound), reveal)
        _active.append(protocol)
    except BaseException as error:
        opened.end(error)
        raise
    return opened


def active_protocol() -> Protocol:
    """The protocol of the innermost open session. Raises `TacitError` if there is none."""
    while _active and _active[-1].session.closed:
        _active.pop()
    if not _active:
        raise TacitError("there is no session: write `with tacit.session():` around this")
    return _active[-1]


@atexit.register
def _close_all() -> None:
    for protocol in reversed(_active):
        protocol.session.end(getattr(sys, "last_value", None))


def _leave_behind() -> None:
    for protocol in _active:
        protocol.session.leave_behind()
    _active.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)


def current_session() -> Session:
    """The innermost open session. Raises `TacitError` if there is none."""
    return active_protocol().session


def role() -> str:
    """The name of the role that this process plays, or "embedded" where it plays all of them."""
    return current_session().role


def is_role(name: str) -> bool:
    """Whether this process plays the role: the condition for work that one role does alone.

    True for every role in the embedded mode. Work under it must touch no secret, because the others do not do it.
    """
    opened = current_session()
    roles = opened.transport.roles if opened.supply is None else opened.config.roles
    if name not in roles:
        raise ConfigError(f"there is no role {name!r} in this session; its roles are {', '.join(roles)}")
    return opened.embedded or opened.role == name


# --- in ---------------------------------------------------------------------------------------------------------------


@overload
def share(value: ModuleT, owner: str | None = None, *, name: str | None = None) -> ModuleT: ...
@overload
def share(
    value: Any,
    owner: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    classes: int | None = None,
    ignore_index: int | None = None,
    frac_bits: int | None = None,
) -> SecretTensor: ...


def share(
    value: Any,
    owner: str | None = None,
    *,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    name: str | None = None,
    classes: int | None = None,
    ignore_index: int | None = None,
    frac_bits: int | None = None,
) -> Any:
    """Make a secret of a tensor, or of all the floating-point parameters and buffers of a module (a copy of it).

    With `owner`, only that party's value counts, and nobody else learns it; the others pass None, or anything of the
    same shape (for a module: one of the same architecture). Sharing sends no bytes but, unless `shape` is given, a
    public message with shape and dtype. Without `owner`, every role must pass the same public value.

    Args:
        value: a tensor, an array, nested lists of numbers, or a module.
        owner: the party that knows the value.
        shape: the shape, where every role knows it.
        dtype: the dtype; float32, int64 or bool, or with `owner` what the owner's value has.
        name: what errors and the transcript call it.
        classes: of class labels, how many classes there are: the owner checks that all are 0 to classes - 1, and what
            is computed of them may rely on it.
        ignore_index: a label that is allowed beside the classes, -100 for what a loss shall leave out.
        frac_bits: fractional bits of this tensor, by default the session's; it keeps them when it is overwritten. A
            module has four more, for its weights' rounding adds up in every sum, and 32 for running variances.

    Raises:
        EncodingError: at the owner, for NaN, infinity or numbers out of range, with their index; the session ends.
        DataError: at the owner, for a label that is none of the classes, with its index; the session ends.
    """
    protocol = active_protocol()
    protocol.session.check_open()
    if isinstance(value, nn.Module):
        if frac_bits is not None:
            raise ConfigError("a module has fractional bits of its own: tacit.share(module) takes no frac_bits")
        return _share_module(protocol, value, owner, name)
    if isinstance(value, SecretTensor):
        raise DataError("this is a secret already")
    if isinstance(value, Unknown):
        refuse(value.revealed)
    if isinstance(value, (list, tuple)) and any(isinstance(x, SecretTensor) for x in value):
        raise DataError("there are secrets among these already: join them, and shared values, with torch.stack")
    if frac_bits is not None and not (type(frac_bits) is int and protocol.frac_bits <= frac_bits <= MOST_BITS):
        raise ConfigError(
            f"a tensor has from {protocol.frac_bits} fractional bits, the session's, to {MOST_BITS}, not {frac_bits!r}"
        )
    tensor = None if value is None else real_tensor(value, name or "what is shared")
    if dtype is not None and tensor is not None:
        tensor = tensor.to(dtype)
    if classes is not None:
        return _share_labels(tensor, owner, shape, name or "a tensor of class labels", classes, ignore_index)
    if ignore_index is not None:
        raise DataError("ignore_index is for class labels: say how many classes there are, too")
    name = name or "a tensor"
    if owner is None:
        if tensor is None:
            raise DataError("tacit.share(None) needs the owner of the value: tacit.share(None, owner=…)")
        scale = (frac_bits or protocol.frac_bits) if tensor.dtype.is_floating_point else 0
        described = f"tacit.share({name}: {tuple(tensor.shape)}, frac_bits={scale})"
        protocol.session.transcript.record(described, fingerprint(tensor), where())
        shared = _public(protocol, tensor, name, scale)
        if tensor.numel() and not tensor.dtype.is_floating_point and tensor.dtype != torch.bool:
            shared.facts.within = range(int(tensor.min()), int(tensor.max()) + 1)
        return _wrap(protocol, tensor, shared)
    mine = owner in protocol.session.transport.hosted
    if mine and tensor is None:
        raise DataError(f"{owner} owns {name} and must give its value")
    if shape is None and protocol.session.preparing:
        if tensor is None:
            raise ConfigError(
                f"{owner} would tell the others the shape of {name}, and nobody is there while a run is prepared: "
                f"write tacit.share(…, owner={owner!r}, shape=…, dtype=…)"
            )
        shape, dtype = tensor.shape, dtype or tensor.dtype
    elif shape is None:
        shape, dtype = _announce_shape(protocol.session, owner, tensor)
    elif mine and tensor is not None and tuple(tensor.shape) != tuple(shape):
        raise DataError(f"{name} of {owner} has shape {tuple(tensor.shape)}, but {tuple(shape)} was promised")
    dtype = dtype or (tensor.dtype if tensor is not None else torch.get_default_dtype())
    scale = (frac_bits or protocol.frac_bits) if dtype.is_floating_point else 0
    described = f"tacit.share({name}: {tuple(shape)}, {dtype}, owner={owner}, frac_bits={scale})"
    protocol.session.transcript.record(described, b"", where())
    return _wrap(protocol, tensor, _owned(protocol, tensor if mine else None, owner, shape, dtype, name, scale), dtype)


def _share_labels(
    tensor: Tensor | None,
    owner: str | None,
    shape: Sequence[int] | None,
    name: str,
    classes: int,
    ignore_index: int | None,
) -> SecretTensor:
    """Class labels as int64, checked by whoever knows them, and remembered as classes."""
    if classes < 1:
        raise DataError(f"{name}: there must be one class at least, not {classes}")
    if tensor is not None:
        labels = tensor.to(torch.int64)
        if not torch.equal(labels.to(tensor.dtype), tensor):
            raise DataError(f"{name} must hold whole numbers")
        check_within(labels, range(classes), name, ignore_index)
        tensor = labels
    out: SecretTensor = share(tensor, owner, shape=shape, dtype=torch.int64, name=name)
    if ignore_index is None or 0 <= ignore_index < classes:
        out.share.facts.within = range(classes)
    return out


def _announce_shape(opened: Session, owner: str, tensor: Tensor | None) -> tuple[tuple[int, ...], torch.dtype]:
    """The owner tells everybody shape and dtype, which are public."""
    message = None
    if owner in opened.transport.hosted:
        assert tensor is not None
        message = json.dumps([list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]).encode()
    return _announced(owner, opened.announce(owner, message))


def _announced(owner: str, message: bytes) -> tuple[tuple[int, ...], torch.dtype]:
    """Check the shape and dtype that another role's owner announced: it may be anything."""
    try:
        shape, kind = json.loads(message)
        sizes = tuple(shape)
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in sizes) or len(sizes) > MOST_DIMENSIONS:
            raise ValueError
        dtype = getattr(torch, kind, None)
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{owner} announced a tensor of an impossible shape") from None
    if not isinstance(dtype, torch.dtype):
        raise DataError(f"{owner} announced a tensor of an unknown dtype")
    if 8 * math.prod(sizes) > memory_bytes():
        raise DataError(f"{owner} announced a tensor of shape {sizes}, which is more than the memory of this machine")
    return sizes, dtype


def _public(protocol: Protocol, tensor: Tensor, name: str, frac_bits: int) -> Value:
    if tensor.dtype == torch.bool:
        return protocol.public_bits(tensor.to(torch.uint8))
    return protocol.public(encode(tensor, frac_bits, name=name).contiguous(), frac_bits)


def _owned(
    protocol: Protocol,
    tensor: Tensor | None,
    owner: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    name: str,
    frac_bits: int,
) -> Value:
    if dtype == torch.bool:
        return protocol.share_bits(None if tensor is None else tensor.to(torch.uint8).contiguous(), owner, shape)
    ring = None if tensor is None else encode(tensor, frac_bits, name=f"{name} of {owner}").contiguous()
    return protocol.share(ring, owner, shape, frac_bits)


def _wrap(protocol: Protocol, tensor: Tensor | None, shared: Value, dtype: torch.dtype | None = None) -> SecretTensor:
    shared.storage.lasting = True
    out = SecretTensor(shared, dtype or (tensor.dtype if tensor is not None else torch.get_default_dtype()))
    if tensor is not None and tensor.requires_grad:
        out.requires_grad_()
    if protocol.session.watcher is not None:
        protocol.session.watcher.shared(out)
    return out


def adopted(shared: Value, dtype: torch.dtype) -> SecretTensor:
    """A secret tensor around a value that a protocol has made of what an owner gave. Local."""
    return _wrap(shared.protocol, None, shared, dtype)


def _share_module(protocol: Protocol, module: nn.Module, owner: str | None, name: str | None) -> nn.Module:
    """A copy of a module with secret parameters and buffers; see `nested`."""

    def hidden(tensor: Tensor, label: str) -> Tensor:
        shape = None if owner is None else tensor.shape
        fine = VARIANCE_BITS if label.rpartition(".")[2] == "running_var" else protocol.parameter_bits
        out: Tensor = share(tensor, owner, shape=shape, name=label, frac_bits=fine)
        return out

    return shared_module(module, name, hidden, lambda buffer: unreachable(buffer, protocol) is not None)


# --- out --------------------------------------------------------------------------------------------------------------


def reveal(x: Any, to: str | Sequence[str] = PARTIES, *, name: str | None = None) -> Any:
    """Give the value of a secret to its receivers, and None to every other role. The only way out.

    Each role writes a line into its ledger, after its reveal policy, if it has one, has allowed the line. A value on
    which the program branches must go `to="all"`, also to roles that hold no data, because all run the same program.

    Args:
        x: a secret tensor, a module with secret parameters (the receivers get a plain copy), or a dict, list, tuple or
            dataclass of these, nested or not: a line for each secret, which is None at the other roles.
        to: a role, several of them, "parties" for all that compute, or "all".
        name: what the ledger calls it and the policy is asked about.

    Raises:
        RevealError: if this role's policy does not allow it; no share has left this role then.
    """
    if not isinstance(x, SecretTensor):
        return _reveal_all(x, to, name)
    protocol = x._protocol
    opened = protocol.session
    opened.check_open()
    receivers = _receivers(opened, to)
    name = name or "unnamed"
    opened.transcript.record(f"tacit.reveal({name}: {tuple(x.shape)}, to={', '.join(receivers)})", b"", where())
    opened.ledger.write(name, x.shape, receivers)
    held = x.share
    if opened.watcher is not None:
        opened.watcher.revealed(x)
    if isinstance(held, Number) and not held.storage.lasting and held.frac_bits > protocol.parameter_bits:
        held = _rounded(held, held.settled_bits)
    ring = protocol.reveal(held, receivers)
    if ring is None:
        return unknown(x.shape, x.dtype, name) if opened.preparing and to in ("all", PARTIES) else None
    if isinstance(held, Bits):
        return ring.to(torch.bool)
    out = decode(ring, held.scale.frac_bits, x.dtype)
    far = held.scale.far
    return torch.where(out.abs() >= far / 2, out.sign() * torch.inf, out) if far else out


def release(x: SecretTensor, to: str | Sequence[str], *, name: str | None = None) -> dict[str, Tensor]:
    """Give the shares of the parties in this process, to be handed to somebody who plays no role in this session.

    The shares of all parties sum up, mod 2^64, to the value as fixed point with the session's fractional bits, and are
    independent of everything else. It is written into the ledger, and asked of the policy, as a reveal to `to` is.

    Args:
        x: a secret of numbers.
        to: what the ledger calls the receiver, or several of them. The parties must know them; a role that holds no
            share writes no line where it names nobody.
        name: what the ledger calls the value.

    Raises:
        RevealError: if this role's policy does not allow it.
    """
    protocol = x._protocol
    opened = protocol.session
    opened.check_open()
    held = x.share
    receivers = (to,) if isinstance(to, str) else tuple(to)
    if not isinstance(held, Number) or not {*opened.transport.roles, PARTIES, "all"}.isdisjoint(receivers):
        raise RevealError("tacit.api.release gives numbers to somebody outside; for roles there is tacit.reveal")
    if opened.party_indices and not receivers:
        raise RevealError("tacit.api.release needs at least one receiver")
    opened.transcript.record(f"tacit.api.release({name}: {tuple(x.shape)})")
    if receivers:
        opened.ledger.write(name or "unnamed", x.shape, receivers)
    shares = protocol.refresh(_rounded(held, protocol.frac_bits).lifted(protocol.frac_bits))
    return {opened.parties[i]: t for i, t in zip(opened.party_indices, shares, strict=True)}


def _rounded(x: Number, frac_bits: int) -> Number:
    """What is given out of a number that is finer than that; worked out once."""
    return ROUNDED.once(x, lambda: rounded(x, frac_bits), frac_bits) if x.frac_bits > frac_bits else x


def _reveal_all(x: Any, to: str | Sequence[str], name: str | None) -> Any:
    """The values of all secrets in a module or a structure, once the policy has allowed every one of them."""
    found = secrets_in(x, name)
    if not found and not isinstance(x, nn.Module):
        raise RevealError(f"tacit.reveal takes a secret, a module, or a list or dict of these, not {_described(x)}")
    for label, secret in found:
        opened = secret._protocol.session
        opened.ledger.check(label or "unnamed", _receivers(opened, to))

    def shown(part: Any, label: str | None) -> Any:
        if isinstance(part, nn.Module):
            return revealed_module(part, label, shown)
        return reveal(part, to, name=label)

    return mapped(x, name, shown)


def _described(x: Any) -> str:
    return f"a plain {type(x).__name__}" if isinstance(x, Tensor) else f"a {type(x).__name__} without one"


def _receivers(opened: Session, to: str | Sequence[str]) -> tuple[str, ...]:
    roles = opened.transport.roles
    if to == "all":
        return roles
    if to == PARTIES:
        return opened.parties
    receivers = (to,) if isinstance(to, str) else tuple(to)
    for receiver in receivers:
        if receiver not in roles:
            raise ConfigError(
                f'tacit.reveal to {receiver!r}: there is no such role; roles are {", ".join(roles)}, "parties" or "all"'
            )
    if not receivers:
        raise ConfigError("tacit.reveal needs at least one receiver")
    return receivers
