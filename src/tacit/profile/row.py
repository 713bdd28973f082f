"""A line of a profile."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One operator in one module, forward or backward: what all its calls cost together."""

    root: str
    """Class of the outermost module, or of the optimizer; empty outside of both."""
    module: str
    """Path from there, as in `named_modules`; empty for the outermost module itself."""
    phase: str
    """`forward`, `backward`, or `step` for an optimizer's."""
    operator: str
    """ATen overload, or `tacit.reveal`."""
    calls: int
    rounds: int
    online: int
    """Bytes that one party sent to its peers; of the busiest one, where they differ."""
    helped: dict[str, int]
    """Bytes that each helper sent to all parties together, by its short name."""
    seconds: float
    """Spent in the operator at this role, waiting for peers included; embedded, this is the work of all roles."""
    prepared: int = 0
    """Bytes that one party sent and no input changes; of the busiest one, where they differ."""
    ahead_seconds: float = 0.0
    """Of the seconds, those in which what these bytes are for was made, which might be done before."""

    @property
    def producer(self) -> int:
        """Bytes that the helpers sent: the crypto-producer, to all parties together."""
        return sum(self.helped.values())

    @property
    def local(self) -> bool:
        """Whether it cost no round and no bytes."""
        return not (self.rounds or self.online or self.prepared or any(self.helped.values()))
