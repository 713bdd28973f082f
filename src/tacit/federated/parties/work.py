"""One round as the computing parties are told of it: who takes part, signed by each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from tacit.federated.errors import ForgeryError, ThresholdError, UpdateError
from tacit.federated.identity import Roster
from tacit.federated.parties.submission import Submission, session_name
from tacit.federated.parties.terms import Terms
from tacit.federated.update import Layout

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """One round, as all roles know it: all of it is public."""

    run: int
    number: int
    layout: Layout
    submissions: tuple[Submission, ...]

    def check(self, terms: Terms, roster: Roster, parties: int) -> None:
        """Raise `FederatedError` unless enough clients of the roster, all different, signed for exactly this round.

        What one party checks, each of them checks: no server can make up clients, or aggregate fewer of them.
        """
        if len(set(self.clients)) != len(self.clients):
            raise ForgeryError("a client is in the round twice")
        fewest, agreed = terms.fewest(len(roster)), terms.agreed(roster)
        if len(self.clients) < fewest:
            raise ThresholdError(f"{len(self.clients)} clients are in the round, {fewest} are needed")
        for submission in self.submissions:
            if submission.layout != self.layout:
                raise ForgeryError(f"client {submission.client} signed for another layout")
            submission.verify(roster, session_name(self.run, self.number), parties)
            if submission.agreed != agreed:
                raise ForgeryError(f"client {submission.client} signed for other terms, or another roster")
            if submission.view != self.submissions[0].view:
                raise ForgeryError(
                    f"clients {self.clients[0]} and {submission.client} computed from different models or settings: an "
                    "average over these would tell of single clients"
                )
        if terms.privacy is not None and self.layout.metrics:
            raise UpdateError("metrics have no noise: with differential privacy there are none")

    def literal(self) -> dict[str, Any]:
        """Return the round as JSON can hold it."""
        return {"run": self.run, "number": self.number, "submissions": [s.literal() for s in self.submissions]}

    @classmethod
    def parse(cls, literal: Any) -> Self:
        """Read what `literal` returned."""
        try:
            submissions = tuple(Submission.parse(entry) for entry in literal["submissions"])
            return cls(int(literal["run"]), int(literal["number"]), submissions[0].layout, submissions)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError):
            raise ForgeryError("the description of a round is damaged") from None

    @property
    def clients(self) -> tuple[int, ...]:
        """The clients, in the order of the rows."""
        return tuple(submission.client for submission in self.submissions)

    def without(self, bad: set[int]) -> Work:
        """Return the round without some clients."""
        return replace(self, submissions=tuple(s for s in self.submissions if s.client not in bad))
