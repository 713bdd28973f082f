"""One role of the aggregation: a process that waits for rounds, checks them, and computes each in a session of its own.

A round that fails, here or at another role, ends that session and nothing else. A party takes part in each numbered
round once, also after it was started again: the difference of two aggregates of overlapping clients would tell on them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from tacit import private_files
from tacit.api import session
from tacit.errors import ConfigError, TacitError
from tacit.federated.errors import ForgeryError, RoundError
from tacit.federated.identity import Roster
from tacit.federated.parties.calls import METHOD, OPTIONS, pem
from tacit.federated.parties.computation import Outcome, compute, open_boxes
from tacit.federated.parties.directory import Aggregators, box_key
from tacit.federated.parties.terms import FRAC_BITS, Terms
from tacit.federated.parties.work import Work
from tacit.net.certificates import check_certificate
from tacit.session.config import Config

__all__ = ["Aggregator", "Rounds"]

LOG = logging.getLogger("tacit.federated")


class Rounds:
    """Which rounds a role has taken part in, in a file: the last number of each run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._last: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            if not isinstance(self._last, dict) or any(type(number) is not int for number in self._last.values()):
                raise ValueError
        except (OSError, ValueError, RecursionError):
            raise ConfigError(f"{path} does not hold the rounds that this role has taken part in") from None

    def enter(self, run: int, number: int) -> None:
        """Note a round, on disk, before anything is computed; raise `RoundError` if it is not a new one."""
        last = self._last.get(str(run), 0)
        if number <= last:
            raise RoundError(f"round {number} is over: this party took part in round {last} of the run")
        self._last[str(run)] = number
        self._path.parent.mkdir(parents=True, exist_ok=True)
        private_files.write(self._path, json.dumps(self._last).encode())


@dataclass
class Aggregator:
    """A computing party, or a role that helps, in its own process."""

    terms: Terms
    config: Config
    role: str
    aggregators: Aggregators
    roster: Roster
    rounds: Rounds
    _private: bytes = field(default=b"", repr=False)
    _server: grpc.Server | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.config.check_role(self.role)
        if self.config.parties != tuple(self.aggregators.keys):
            raise ConfigError(
                f"the config's parties are {', '.join(self.config.parties)}, and the aggregators "
                f"{', '.join(self.aggregators.keys)}: they must be the same, in this order"
            )
        if self.config.frac_bits != FRAC_BITS:
            raise ConfigError(f"aggregation is computed with {FRAC_BITS} fractional bits: leave frac_bits out")
        if self.config.plaintext:
            raise ConfigError("aggregation needs certificates: make them with `tacit keygen`")
        if self.is_party:
            self._private = box_key(Path(self.config.tls), self.role)

    @property
    def is_party(self) -> bool:
        """Whether this role holds shares; a helper holds none."""
        return self.role in self.config.parties

    def start(self) -> None:
        """Listen for Flower's server, and for nobody else."""
        certs = Path(self.config.tls)
        check_certificate(certs / f"{self.aggregators.server}.crt", self.aggregators.server, self.config.revoked)
        own = pem(certs, f"{self.role}.key"), pem(certs, f"{self.role}.crt")
        trusted = pem(certs, f"{self.aggregators.server}.crt")
        credentials = grpc.ssl_server_credentials([own], trusted, require_client_auth=True)
        service, method = METHOD.strip("/").split("/")
        handler = grpc.method_handlers_generic_handler(
            service, {method: grpc.stream_stream_rpc_method_handler(self._round)}
        )
        # one worker: a round at a time, the next one waits
        self._server = grpc.server(ThreadPoolExecutor(1), handlers=[handler], options=OPTIONS)
        address = self.aggregators.addresses[self.role]
        try:
            bound = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ConfigError(f"{self.role} cannot listen at {address}")
        self._server.start()
        LOG.info("%s waits for rounds at %s", self.role, address)

    def wait(self) -> None:
        """Work until the process ends."""
        assert self._server is not None
        self._server.wait_for_termination()

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.stop(grace=None).wait()

    def _round(self, request: Iterator[bytes], context: Any) -> Iterator[bytes]:
        try:
            work = _work(next(request, b""))
            boxes = list(request)
            outcome = self._compute(work, boxes)
        except TacitError as error:
            LOG.error("%s: %s", self.role, error)
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            return
        LOG.info("%s: round %d of %d clients", self.role, work.number, len(work.clients) - len(outcome.excluded))
        yield json.dumps({"excluded": outcome.excluded}).encode()
        for share in outcome.shares.values():
            yield share.tobytes()

    def _compute(self, work: Work, boxes: list[bytes]) -> Outcome:
        work.check(self.terms, self.roster, len(self.config.parties))
        if self.is_party and len(boxes) != len(work.clients):
            raise ForgeryError("the server did not send one box for each client")
        self.rounds.enter(work.run, work.number)
        opened = {}
        if self.is_party:
            party = self.config.parties.index(self.role)
            opened[self.role] = open_boxes(self._private, party, work, boxes)
        with session(self.config, self.role):
            return compute(self.terms, work, opened, self.terms.fewest(len(self.roster)))


def _work(head: bytes) -> Work:
    try:
        return Work.parse(json.loads(head))
    except (ValueError, RecursionError):
        raise ForgeryError("the description of a round is damaged") from None
