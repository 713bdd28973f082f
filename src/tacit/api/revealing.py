"""The gate out: what is revealed to roles, and released as shares to whoever is outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, RevealError
from tacit.functions.whole import rounded
from tacit.protocols.number import Number
from tacit.protocols.remembered import Remembered
from tacit.protocols.values import Bits
from tacit.ring.fixed_point import decode
from tacit.session.config import PARTIES
from tacit.session.ledger import where
from tacit.session.session import Session
from tacit.session.unknown import unknown
from tacit.tensor import SecretTensor
from tacit.tensor.nested import mapped, revealed_module, secrets_in

__all__ = ["release", "reveal"]

ROUNDED: Remembered[Number] = Remembered("rounded to be given out, by fractional bits")


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
