"""A client's own account of the privacy that it has spent: no server can make it spend more."""

from __future__ import annotations

import json
from pathlib import Path

from flwr.app import ConfigRecord, Context

from tacit import private_files
from tacit.federated import turns
from tacit.federated.errors import BudgetError
from tacit.federated.privacy.accountant import Accountant
from tacit.federated.privacy.noise import Privacy

__all__ = ["charge", "check"]

RECORD = "tacit-budget"
FILE = "spent"
"""The key of a node's config that names the file of the account. Without one it lasts for a run, in a file beside that
which counts the run's messages, and without that, in a simulation, in the node's state."""


def check(context: Context, privacy: Privacy) -> None:
    """Raise `BudgetError` if another round would cost more than the budget."""
    _affordable(_spent(context), privacy, privacy.loss(privacy.clip))


def charge(context: Context, privacy: Privacy, rho: float) -> None:
    """Add a round's zero-concentrated privacy loss to the account, or raise `BudgetError` and add nothing.

    Called before anything of the round leaves the client, so that a crash in between errs on the safe side.
    """
    path = _path(context)
    if path is None:
        context.state[RECORD] = ConfigRecord({"rho": _affordable(_spent(context), privacy, rho)})
        return
    with turns.locked(path.with_name(f"{path.name}.lock")):  # messages that come at once pay one after the other
        total = _affordable(_spent(context), privacy, rho)
        private_files.write(path, json.dumps({"rho": total}).encode())


def _affordable(spent: float, privacy: Privacy, rho: float) -> float:
    total = spent + rho
    epsilon = Accountant(privacy.delta).spend(total)
    if epsilon > privacy.budget:
        raise BudgetError(
            f"this client's privacy budget is spent: another round would bring it to epsilon = {epsilon:.3g} at "
            f"delta = {privacy.delta:g}, and it allows {privacy.budget:g}"
        )
    return total


def _path(context: Context) -> Path | None:
    name = context.node_config.get(FILE)
    return turns.place(context, FILE) if name is None else Path(str(name))


def _spent(context: Context) -> float:
    path = _path(context)
    if path is None:
        record = context.state.config_records.get(RECORD)
        return 0.0 if record is None else float(record["rho"])  # type: ignore[arg-type]
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["rho"])
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError, TypeError, KeyError):
        raise BudgetError(f"{path}: the account of this client's privacy cannot be read, so nothing is spent") from None
