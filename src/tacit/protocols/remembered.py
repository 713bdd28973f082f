"""What has been found out about a secret so far, and what its views have in common.

A share knows facts about its content (a mask it was opened under, its truncated form, comparisons already made), so
that no later operation pays for them again. Facts follow a secret through views, indexing and other moves, in both
directions: opening `w.t()` opens `w`, and a batch of an opened data set is open.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from tacit.protocols.additive.masks import Form, Premask

if TYPE_CHECKING:
    from tacit.protocols.values import Value

__all__ = ["Facts", "Lineage", "Owned", "Storage", "TensorOp", "owned", "within"]

TensorOp = Callable[[Tensor], Tensor]


class Storage:
    """What views of one secret have in common: how often it was written, its size, its fixed-point scale."""

    __slots__ = (
        "bounded",
        "far",
        "frac_bits",
        "headroom",
        "lasting",
        "numel",
        "origin",
        "positive",
        "precise",
        "premask",
        "version",
        "whole",
        "wide",
    )

    def __init__(self, numel: int, frac_bits: int = 0, headroom: int = 0) -> None:
        self.premask: Premask | None = None
        """The mask that is in the shares, `whole`, of all its views, until somebody needs true shares."""
        self.whole: list[Tensor] = []
        self.origin: list[Tensor] | None = None
        """The shares that are all of it. Those of several secrets may lie in one buffer, at each party in another
        place, so an offset counts from here."""
        self.version = 0
        self.numel = numel
        self.frac_bits = frac_bits
        self.headroom = headroom
        """Of a gradient: the bits that it is smaller by than that of a sum would be, for its loss is a mean; up to
        `SLACK_BITS`. A truncation leaves that many fractional bits more, so the range stays that of a sum."""
        self.lasting = False
        """Whether it is data or a parameter, of which one part after the other will be opened: see `Part`."""
        self.precise = False
        """Whether it keeps `PRECISE_BITS` fractional bits, in every later write too, and what is computed from it does:
        gradients in an optimizer's hands, their averages and those of their squares, which would vanish otherwise."""
        self.far = 0.0
        """What stands for infinity in it, if anything may: attention's masks, what a maximum shall leave out. Numbers
        from half of that on mean "out of reach"; see `functions.linear`."""
        self.wide = False
        """Whether it has more fractional bits than the session although nothing bounds it: a root, a quotient. Sums and
        comparisons use them; a product, which would be the smaller for them, truncates it first."""
        self.positive = False
        """Whether it is at least zero by construction, but for two units: a divisor then needs half the comparisons."""
        self.bounded = False
        """Whether it is at most 1 in magnitude by construction: as a factor it keeps all its bits."""


class Lineage(NamedTuple):
    """Where a share's content came from: `parent` by an operation that maps masks to masks."""

    parent: Value
    facts: Facts
    mask: Callable[[Any], Any]
    """From a masked form of the parent to one of the child."""
    move: TensorOp | None
    """The operation itself, where it only moves elements."""
    depth: int


class Owned(NamedTuple):
    """A content that one party knows: its index and, in that party's process, the ring elements."""

    party: int
    value: Tensor | None


class Facts:
    """What is known of one version of a share's content. Every role knows the same facts at the same time."""

    __slots__ = ("form", "lineage", "mask", "memo", "owned", "parts", "public", "within")

    def __init__(self) -> None:
        self.owned: Owned | None = None
        """Who shared the content, and knows it, if it is one party's."""
        self.parts: Any = None
        """Of lasting data: what has been opened of it, element by element, by the protocol that keeps it."""
        self.mask: Any = None
        """The simple `Mask` of an arithmetic share, the `BitMask` of a binary one."""
        self.form: Form | None = None
        """A masked form with more than one term, left by a truncation."""
        self.public: Tensor | None = None
        """The content itself, where it is made of public values only."""
        self.memo: dict[Hashable, Any] = {}
        self.lineage: Lineage | None = None
        self.within: range | None = None
        """Where integers are publicly known to lie: class labels that their owner has checked."""


def owned(facts: Facts) -> Owned | None:
    """Whose content it is: one party's own, or what a move has left of it."""
    lineage = facts.lineage
    if facts.owned is None and lineage is not None and lineage.move is not None:
        parent = owned(lineage.facts)
        if parent is not None:
            facts.owned = Owned(parent.party, None if parent.value is None else lineage.move(parent.value))
    return facts.owned


def within(facts: Facts) -> range | None:
    """Where integers lie, if that is public: moves leave them there."""
    lineage = facts.lineage
    if facts.within is None and lineage is not None and lineage.move is not None:
        facts.within = within(lineage.facts)
    return facts.within
