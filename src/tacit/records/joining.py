"""Rows of several owners' tables that belong together, found without showing who is there."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from tacit.api import active_protocol, share
from tacit.api import reveal as tacit_reveal
from tacit.errors import ConfigError, DataError, UnusableTable
from tacit.protocols.matching import DIGEST_WORDS, ascending
from tacit.protocols.protocol import Protocol
from tacit.protocols.schemes import matcher_of
from tacit.records.joined import Joined
from tacit.records.shards import check_shards
from tacit.records.table import Held, Records, announced
from tacit.session.announced import whole
from tacit.session.session import Session

__all__ = ["join", "single"]

NUMBER, MEMBERS, ORDER = "rows in common", "members", "rows in the same order"
"""What ledgers call what a join reveals."""

FINGERPRINT_WORDS = 4
"""Words of 32 bits that orders of keys are compared by."""


def join(
    first: Records,
    *others: Records,
    reveal: str = "members",
    how: str = "inner",
    duplicates: str = "error",
    aligned: bool = False,
) -> Joined:
    """Bring rows of several owners' tables together that have the same key, in an order that says nothing.

    Args:
        first, others: tables as `tacit.read_table` returns them, with `key=…`, each of another owner.
        reveal: "members": each owner learns which of its own rows matched, and nothing about any other. "size": nobody
            learns a member; the rows are picked blindly, and all that becomes known is how many they are. "nothing":
            not even that; there are as many rows as there could be, and `weight` is 0, secretly, for those of nobody.
        how: "inner": the people whom all tables have. "left": all rows of the first one; where another table does not
            have somebody, its columns are zero, and `matched` says so, secretly.
        duplicates: what becomes of several rows of one table with the same key: an "error", which its owner is told
            with their number, or the "first" of them stays. Of alternative keys, one of them the same is enough.
        aligned: the tables are in the same order already, and nothing is matched. That it is so is checked, by
            digests of all keys that are compared in secret; one bit is revealed.

    Returns:
        The rows that belong together: `x`, `y` and `weight` are secret tensors, `common` is how many they are.

    Keys are brought to one form at their owners: see docs/records.md. The order of rows is drawn anew in each join. Of
    tables that were read with shard="key" each rank joins the people who fall to it, apart from the others; what is
    revealed is so of each rank's rows.

    Reveals: to all roles, how many rows belong together, "rows in common", unless reveal="nothing" or how="left"; with
    reveal="members", to each owner which of its rows do, "members of …": ledgers and policies have all of this. A
    helper that compares keys learns how many each two tables have in common, and none of them.

    Raises:
        ConfigError: for tables that cannot be joined, at every role.
        DataError: if no row belongs to another, where that is known; and at the other roles if an owner cannot use
            its table.
        UnusableTable: at an owner whose table has duplicates.
    """
    tables = (first, *others)
    protocol = active_protocol()
    session = protocol.session
    _check(session, tables, reveal, how, duplicates, aligned=aligned)
    form = f"{reveal}, {how}" if not aligned else "aligned"
    session.transcript.record(f"tacit.join({', '.join(t.owner for t in tables)}: {form})")
    if aligned:
        return _aligned(session, tables)
    if session.supply is not None:
        raise ConfigError("tacit.join matches keys while the program runs, and this run was prepared ahead of it")
    return _matched(protocol, tables, reveal, left=how == "left", first=duplicates == "first")


def _check(
    session: Session, tables: tuple[Records, ...], reveal: str, how: str, duplicates: str, *, aligned: bool
) -> None:
    session.check_open()
    for name, given, choices in (
        ("reveal", reveal, ("members", "size", "nothing")),
        ("how", how, ("inner", "left")),
        ("duplicates", duplicates, ("error", "first")),
    ):
        if given not in choices:
            listed = " or ".join(f'"{choice}"' for choice in choices)
            raise ConfigError(f"tacit.join({name}=…) takes {listed}, not {given!r}")
    if any(not isinstance(table, Records) for table in tables):
        raise ConfigError("tacit.join takes tables as tacit.read_table returns them")
    if len(tables) < 2:
        raise ConfigError("tacit.join takes two tables or more")
    owners = [table.owner for table in tables]
    if len(set(owners)) < len(owners):
        raise ConfigError("tacit.join takes tables of different owners: join those of one owner by a query=… there")
    for table in tables:
        if not table.parts:
            raise ConfigError(f"{table.name} has no key: say which column it is, tacit.read_table(…, key=…)")
    check_shards([table.shard for table in tables], aligned=aligned)
    if len({len(table.alternatives) for table in tables}) > 1:
        raise ConfigError("tables are joined by as many keys of each, in the same order: see tacit.either")
    if len({table.alternatives for table in tables}) > 1:
        raise ConfigError(f"keys of {' and '.join(str(t.parts) for t in tables)} columns can never be the same")


def _matched(protocol: Protocol, tables: tuple[Records, ...], reveal: str, *, left: bool, first: bool) -> Joined:
    session, owners = protocol.session, [table.owner for table in tables]
    matcher = matcher_of(protocol)
    lines: list[tuple[str, tuple[int, ...], tuple[str, ...]]] = []
    if reveal != "nothing" and not left:
        lines.append((NUMBER, (), session.transport.roles))
    if reveal == "members":
        lines += [
            (f"{MEMBERS} of {t.owner}", (len(t),), (t.owner,)) for t in tables[left:]
        ]  # all of the first are kept
    for name, _, receivers in lines:
        session.ledger.check(name, receivers)
    for name, shape, receivers in lines:
        session.ledger.write(name, shape, receivers)
    tables = tuple(single(table, first=first) for table in tables)
    digests = {t.owner: t.held.digests for t in tables if t.held is not None and t.held.digests is not None}
    sizes = [len(table) for table in tables]
    match = matcher.match(owners, sizes, digests, left=left, reveal=reveal, alternatives=len(tables[0].alternatives))
    if match.common == 0:
        others = " and ".join(owners[1:])
        raise DataError(f"no key of {owners[0]} is one of {others}: keys are compared as text, in which 007 is not 7")
    if reveal != "members":
        return Joined(tables, match.rows, match, {}, left=left)
    return Joined(tables, match.rows, None, match.told(), left=left)


def single(table: Records, *, first: bool) -> Records:
    """A table in which each key is there once."""
    held, public = announced(
        table.owner,
        table.name,
        lambda: _without_duplicates(table, first=first),
        lambda rows: whole(rows, 1, len(table)),
    )
    return table if public == len(table) else table.shortened(public, held)


def _without_duplicates(table: Records, *, first: bool) -> tuple[Held, int]:
    """At the owner: what is left, and how many rows that is."""
    held = table.held
    assert held is not None
    assert held.digests is not None
    repeated = torch.zeros(len(table), dtype=torch.bool)
    for digests in held.digests.split(DIGEST_WORDS, dim=1):
        repeated |= _repeated(digests)
    count = int(repeated.sum())
    if not count:
        return held, len(table)
    if not first:
        raise UnusableTable(
            f"{held.source} has {count} {'row' if count == 1 else 'rows'} whose key an earlier one has: mend it, or "
            f'write tacit.join(…, duplicates="first") to leave them out'
        )
    kept = torch.nonzero(~repeated).squeeze(1)
    return held.subset(kept), len(kept)


def _repeated(digests: Tensor) -> Tensor:
    """Which rows have a digest that an earlier one has."""
    out = torch.zeros(len(digests), dtype=torch.bool)
    heads = np.sort(digests[:, 0].contiguous().numpy())
    if (heads[1:] == heads[:-1]).any():
        order = ascending(digests)
        there = digests[order]
        out[order[1:]] = (there[1:] == there[:-1]).all(dim=1)
    return out


def _aligned(session: Session, tables: tuple[Records, ...]) -> Joined:
    """Rows that are in one order already, which is checked: fingerprints of all keys are compared as secrets."""
    counts = [len(table) for table in tables]
    if len(set(counts)) > 1:
        raise DataError(
            f"aligned tables have the same number of rows, not {' and '.join(map(str, counts))}: leave aligned=True "
            f"out to have their keys matched"
        )
    prints = []
    for table in tables:
        held = table.held
        digest = None
        if held is not None and held.digests is not None:
            data = sha256(held.digests.numpy().tobytes()).digest()[: 4 * FINGERPRINT_WORDS]
            digest = torch.frombuffer(bytearray(data), dtype=torch.int32).long()
        name = f"the order of keys of {table.owner}"
        prints.append(share(digest, table.owner, shape=(FINGERPRINT_WORDS,), dtype=torch.int64, name=name))
    same = torch.stack([other == prints[0] for other in prints[1:]]).all()
    if not bool(tacit_reveal(same, to="all", name=ORDER)):
        raise DataError(
            "the rows of these tables are not in the same order: leave aligned=True out to have their keys matched"
        )
    places = {table.owner: torch.arange(len(table)) for table in tables if table.held is not None}
    return Joined(tables, counts[0], None, places)
