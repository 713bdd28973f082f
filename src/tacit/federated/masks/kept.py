"""What a client keeps between two messages: the session that it is in, and the keys of one that comes next.

It lies in the node's own context, because Flower may run each message in a process of its own. In a run a session's
number is taken once, whether the session is led to its end or not: so no two sets of keys of one client have one name.
"""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, Context, RecordDict

from tacit.federated import records
from tacit.federated.errors import RoundError

__all__ = ["Kept"]


@dataclass
class Kept:
    """Numbers and members, as bytes that `Member.load` reads."""

    number: int = -1
    member: bytes = b""
    ahead: int = -1
    """The number of the session that keys were made for in advance."""
    prepared: bytes = b""

    @classmethod
    def of(cls, context: Context) -> Kept:
        """Read what the node's context holds."""
        record = context.state.config_records.get(records.kept(context))
        if record is None:
            return cls()
        state = RecordDict({records.RECORD: record})
        return cls(
            records.get(state, "number", int), records.get(state, "member", bytes),
            records.get(state, "ahead", int), records.get(state, "prepared", bytes),
        )  # fmt: skip

    def save(self, context: Context) -> None:
        """Write it to the node's context."""
        context.state[records.kept(context)] = ConfigRecord(
            {"number": self.number, "member": self.member, "ahead": self.ahead, "prepared": self.prepared}
        )

    def begin(self, number: int) -> None:
        """Take the number of a session, which is above all that were taken, or raise `RoundError`."""
        self.check(number)
        self.number, self.ahead, self.prepared = number, -1, b""

    def check(self, number: int) -> None:
        """Raise `RoundError` if a number was taken before."""
        if number <= max(self.number, self.ahead):
            raise RoundError(f"session {number} is over: this client took part in session {self.number}")

    def enter(self, number: int) -> None:
        """Go on with the session of this number: the one this client is in, or the next, whose keys it made ahead."""
        if number == self.ahead and self.prepared:
            self.number, self.member, self.prepared = number, self.prepared, b""
        if number != self.number or not self.member:
            where = (
                f"in session {self.number}"
                if self.number >= 0
                else "in none: its node was restarted, or lost its state"
            )
            raise RoundError(f"a message of session {number} came to a client {where}")
