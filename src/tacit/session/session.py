"""A session: the roles that live in this process, their links, their keys, and what they have spent and revealed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tacit.errors import ConfigError, NetworkError, TacitError, tellable
from tacit.net.certificates import fingerprint, signing_key
from tacit.net.transport import Parcel, Transport
from tacit.ring.memory import keep_freed
from tacit.ring.prg import Stream, derive_key
from tacit.session import changes, circles, eager  # noqa: F401 - which make such changes
from tacit.session.config import Config
from tacit.session.kept import newest_seed
from tacit.session.ledger import Ledger
from tacit.session.meter import Meter
from tacit.session.preparation import Preparation
from tacit.session.registered import GUEST
from tacit.session.store import Shelf
from tacit.session.watcher import Guard, Watcher

if TYPE_CHECKING:
    from tacit.session.among import Pulse

__all__ = ["Session"]

IDENTITY_BYTES = 16
SEED_BYTES = 7

_NUMBERS = itertools.count()

NOBODY = "nobody"
"""The role of parties that prepare a run: they have no data."""


class Session:
    """One run of one program by all roles. Protocols ask it for links, key streams and the meter.

    `party_indices` are the computing parties hosted here, by their place in the config: one in a distributed run
    (none at a helper), all of them when embedded. `supply` is where a helper's work is put, or is taken from, if it is
    done ahead of the run.
    """

    def __init__(
        self, transport: Transport, config: Config, supply: Shelf | Preparation | None = None, *, resume: bool = False
    ) -> None:
        keep_freed()
        self.transport = transport
        self.config = config
        self.supply = supply
        self.resume = resume
        """Whether loops go on from their checkpoints."""
        self.seed = 0
        """Of PyTorch's public generator, at the beginning."""
        self.parties: tuple[str, ...] = tuple(config.parties)
        self.helpers: tuple[str, ...] = tuple(config.helpers)
        self.links = transport.links
        """By which travels what no input changes."""
        self.party_indices = tuple(i for i, role in enumerate(self.parties) if role in self.links.hosted)
        self.embedded = len(transport.hosted) == len(transport.roles)
        self.role = "embedded" if self.embedded else next(iter(transport.hosted), NOBODY)
        self.rank = config.rank
        """Which process of its role this is."""
        self.number = next(_NUMBERS)
        """How many sessions this process has had before, as all ranks of a role have."""
        self.pulse: Pulse | None = None
        """By which the other ranks of this role know that it is there, once it has told them something."""
        self.meter = Meter(self.parties, config.scheme.helpers)
        self.preparing = isinstance(supply, Preparation)
        """Whether nothing is computed now: a helper, or the parties, work for a run to come."""
        self.ahead: Callable[[int, int | None], bool] | None = None
        """What makes, between the parties, what no input changes: see `prepare_ahead`."""
        self.identity = ""
        """Of this run, drawn at random: the same at all roles, and of no other run."""
        self.ledger = _ledger(config, self.role, embedded=self.embedded, preparing=self.preparing)
        self.transcript = transport.transcript
        self.watcher: Watcher | None = None
        self.guard: Guard | None = None
        self.closed = False
        self.left_behind = False
        self._out_of_step = False
        self._requests = 0
        self._streams: dict[tuple[str, str, str], Stream] = {}
        self._compared = False
        changes.begin()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"Session({state}, role={self.role!r}, parties={self.parties!r}, {self.meter.cost})"

    def hosts(self, role: str) -> bool:
        """Whether this process plays the role."""
        return role in self.transport.hosted

    # --- keys ------------------------------------------------------------------------------------------------------

    def stream(self, here: str, peer: str, purpose: str) -> Stream:
        """The key stream that `here`, a role of this process, shares with `peer` for one purpose.

        Both ends draw from streams of their own with one key, so they must draw the same amounts in the same order.
        """
        self._requests += 1
        stream = self._streams.get((here, peer, purpose))
        if stream is None:
            stream = Stream(derive_key(self.transport.pair_key(here, peer), purpose))
            self._streams[here, peer, purpose] = stream
        return stream

    def agreed(self, here: str, peer: str, purpose: str, key: bytes) -> None:
        """Take the stream that `here` shares with `peer` for a purpose from a key that they were given."""
        self._streams[here, peer, purpose] = Stream(derive_key(key, purpose))

    # --- public messages -------------------------------------------------------------------------------------------

    def announce(self, source: str, message: bytes | None) -> bytes:
        """Give every role the same small public message from `source`; the others pass None."""
        return self.promise(source, message)()

    def promise(self, source: str, message: bytes | None) -> Callable[[], bytes]:
        """`announce`, but that the other roles do not wait for the message before they call what this returns."""
        self.check_open()
        if source not in self.transport.roles:
            raise ConfigError(
                f"there is no role {source!r} in this session; roles are {', '.join(self.transport.roles)}"
            )
        return self.transport.promise(source, message)

    def agree_seed(self, seed: int | None = None) -> None:
        """Seed PyTorch's public generator alike at every role: initial weights, shuffles and dropout masks agree.

        The config's seed comes first, then the program's; without either, the first party draws one, or whoever
        prepares the run. It draws the identity of the run, too.
        """
        seed = seed if self.config.seed is None else self.config.seed
        if isinstance(self.supply, Shelf):
            seed = self.supply.agree(seed, self.config)
        own = None
        if self.resume and seed is None:
            own = newest_seed(Path(self.config.checkpoints), self.transport.hosted, self.rank)
        first, drawn = self.parties[0], os.urandom(IDENTITY_BYTES + SEED_BYTES)
        if own is not None:  # that of the run which goes on, so that all before its loops is the same
            drawn = drawn[:IDENTITY_BYTES] + own.to_bytes(SEED_BYTES, "little")
        if self.party_indices or not self.preparing:
            drawn = self.links.announce(first, drawn if first in self.links.hosted else None)
        if len(drawn) != IDENTITY_BYTES + SEED_BYTES:
            raise NetworkError(f"{first} announced an identity of the run that is none")
        self.identity = drawn[:IDENTITY_BYTES].hex()
        self.ledger.begin(self.identity, self.transcript, self._facts() if self.ledger.kept else {})
        self.seed = int.from_bytes(drawn[IDENTITY_BYTES:], "little") if seed is None else seed
        if isinstance(self.supply, Preparation):
            self.supply.begin(self.seed, self.config, self.identity)
        torch.manual_seed(self.seed)

    def _facts(self) -> dict[str, object]:
        """What a ledger says of a run: who takes part, by which certificates, in which versions."""
        config, certified = self.config, {}
        if not (self.embedded or self.preparing or config.plaintext):
            known = (role for role in self.transport.roles if role != GUEST)
            certified = {role: fingerprint(Path(config.tls) / f"{role}.crt") for role in known}
        return {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "tacit": version("tacit"),
            "protocol": config.protocol,
            "parties": list(self.parties),
            "roles": list(self.transport.roles),
            "certificates": certified,
            **({"rank": config.rank.index, "ranks": config.rank.count} if config.rank.count > 1 else {}),
        }

    # --- what no input changes -------------------------------------------------------------------------------------

    def prepare_ahead(self, steps: int = 1, most: int | None = None) -> bool:
        """Make what the next steps will need that no input changes, before they need it; all roles call it alike.

        What was needed since the last call (or the beginning) is a step: so much is made, `steps` times, as long as
        there is room in memory, and is used when the program asks for the same again. Two parties alone make
        transfers so, in messages of their own that are no rounds. A crypto-producer works ahead by itself, so with one
        nothing is done here, and nothing in a run from a store.

        Args:
            steps: how many steps to come to work for.
            most: transfers to make now, about; the rest at calls to come. Without it, all.

        Returns: whether a rest is left.
        """
        self.check_open()
        if type(steps) is not int or steps < 1 or (most is not None and (type(most) is not int or most < 1)):
            raise ConfigError(f"prepare_ahead takes one step or more, and one transfer or more, not {steps}, {most}")
        if self.ahead is None or self.supply is not None:
            return False
        self.transcript.record(f"session.prepare_ahead({steps}, {most})")
        return self.ahead(steps, most)

    # --- moving tensors --------------------------------------------------------------------------------------------

    def gather(self, sent: Sequence[torch.Tensor], sizes: Sequence[int] | None = None) -> dict[int, list[torch.Tensor]]:
        """One round among the parties: each sends its tensor to all others.

        `sent` holds one contiguous tensor for each hosted party: of one shape and dtype everywhere or, where `sizes`
        says how many bytes each party sends (to each of its peers), of bytes. Returns, for each hosted party, the
        tensors of all the parties in their order, its own included.
        """
        self.check_open()
        names = self.parties
        parcels, received, arrivals = [], {}, []
        for here, tensor in zip(self.party_indices, sent, strict=True):
            row = []
            for other, peer in enumerate(names):
                if other == here:
                    row.append(tensor)
                    continue
                if tensor.numel():
                    parcels.append(Parcel(names[here], peer, tensor))
                like = torch.empty_like(tensor) if sizes is None else torch.empty(sizes[other], dtype=torch.uint8)
                if like.numel():
                    arrivals.append(Parcel(peer, names[here], like))
                row.append(like)
            received[here] = row
        if parcels or arrivals:
            self.transport.exchange(parcels, arrivals)
        return received

    def compare_openings(self) -> None:
        """Let three parties or more find out if one of them tells two others two things; see `witness`.

        Two parties alone open what each of them has told the other, and have nobody to compare with.
        """
        self._compared = len(self.parties) > 2 and len(self.party_indices) == 1
        if self._compared:
            self.transport.compare_openings(self.parties)

    def witness(self, *opened: torch.Tensor | None) -> None:
        """Note what all parties now hold alike. From the next frame on they compare it, and refuse the frame."""
        if self._compared:
            for value in opened:
                if value is not None:
                    self.transcript.witness(value.contiguous().view(-1).view(torch.uint8).numpy().data)

    # --- the end --------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise if the session has ended: a secret does not outlive the session that shared it."""
        if not self.closed:
            if self._out_of_step:
                raise TacitError(
                    "an operation on secrets broke off in the middle, by an error or Ctrl-C, so what its parties have "
                    "may not fit together any more: begin a new session"
                )
            return
        if self.left_behind:
            raise TacitError(
                "this process was forked from one in a session, whose secrets and keys stay there: write "
                "DataLoader(…, num_workers=0), and let no other process that this program forks touch a secret"
            )
        raise TacitError("this session has ended: use its secrets inside of `with tacit.session():`")

    @property
    def steps(self) -> int:
        """Grows with whatever both ends of a link have to do alike: requests to key streams, and rounds."""
        return self._requests + self.meter.rounds

    def fall_out_of_step(self) -> None:
        """Say that something broke off in the middle of such steps: what comes after would not fit together."""
        self._out_of_step = True

    def leave_behind(self) -> None:
        """In a process that was forked from this session's: a stream of keys is never used twice, so it has none."""
        self.closed = self.left_behind = True
        self._streams.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)

    def close(self) -> None:
        """End the session in agreement with all other roles."""
        self.end(None)

    def end(self, error: BaseException | None) -> None:
        """Close the links: in agreement with all peers, or, after an error, by telling them why."""
        if self.closed:
            return
        self.closed = True
        changes.end()
        for beside in (self.watcher, self.guard):
            if beside is not None:
                beside.close()
        self._streams.clear()
        if self.pulse is not None:
            self.pulse.end("has ended its session" if error is None else f"stopped: {_reason(error)}")
        try:
            self.ledger.end("in agreement" if error is None else f"by {type(error).__name__}")
            if error is None and isinstance(self.supply, Shelf):
                self.supply.finish(self.transcript)
        except BaseException as unfinished:
            self._abandon()
            self.transport.abort(_reason(unfinished))
            raise
        try:
            if error is None:
                self.transport.close()
                if isinstance(self.supply, Preparation):  # once all parties have agreed that it is whole
                    self.supply.finish(self.transcript)
            else:
                self.transport.abort(_reason(error))
        finally:
            self._abandon()

    def _abandon(self) -> None:
        if self.supply is not None:
            self.supply.abandon()


def _reason(error: BaseException) -> str:
    """What the peers are told: messages that are known to hold nothing secret."""
    if tellable(error):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted by its user"
    return f"{type(error).__name__} in its program (see its own log)"


def _ledger(config: Config, role: str, *, embedded: bool, preparing: bool) -> Ledger:
    """The role's ledger: in memory and, where the config names a folder, in a file, signed with the role's key."""
    if config.ledger is None or preparing:
        return Ledger(role, config.reveal, None, name=config.rank.of(role))
    key = None if embedded or config.plaintext else signing_key(Path(config.tls), role)
    name = config.rank.of(role)
    return Ledger(role, config.reveal, Path(config.ledger) / f"{name}.jsonl", key, name=name)
