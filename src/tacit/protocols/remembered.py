"""What has been found out about a secret so far, and what its views have in common.

A value knows facts about its content (who knows it, comparisons already made, what its scheme has opened), so that no
later operation pays for them again. Facts follow a secret through views, indexing and other moves, in both directions:
opening `w.t()` opens `w`, and a batch of an opened data set is open.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from tacit.protocols.content import Known, TensorOp
from tacit.protocols.scale import WHOLE, Scale
from tacit.ring.short import widened

if TYPE_CHECKING:
    from tacit.protocols.values import Value

__all__ = ["Facts", "Lineage", "Owned", "Remembered", "Storage", "owned", "within"]

T = TypeVar("T")


class Storage:
    """What views of one secret have in common: how often it was written, its size, its scale."""

    __slots__ = ("lasting", "numel", "scale", "version")

    def __init__(self, numel: int, scale: Scale = WHOLE) -> None:
        self.version = 0
        self.numel = numel
        self.scale = scale
        self.lasting = False
        """Whether it is data or a parameter, of which one part after the other will be used."""


class Lineage(NamedTuple):
    """Where a value's content came from: `parent` by an operation that what is known of it follows through."""

    parent: Value
    facts: Facts
    step: Callable[[Known], Known]
    """From what is known of the parent to what is known of the child."""
    move: TensorOp | None
    """The operation itself, where it only moves elements."""
    depth: int
    cut: bool = False
    """Whether the parent was cut into parts, this one and others, all of which are likely to be opened."""


class Owned(NamedTuple):
    """A content that one party knows: its index and, in that party's process, the ring elements, as `kept`."""

    party: int
    kept: Tensor | None

    @property
    def value(self) -> Tensor | None:
        """The ring elements."""
        return None if self.kept is None else widened(self.kept)


class Facts:
    """What is known of one version of a value's content. Every role knows the same facts at the same time."""

    __slots__ = ("_name", "lineage", "memo", "owned", "public", "scheme", "within")

    def __init__(self) -> None:
        self.owned: Owned | None = None
        """Who shared the content, and knows it, if it is one party's."""
        self.scheme: Any = None
        """What the scheme knows, in a class of its own."""
        self.public: Tensor | None = None
        """The content itself, where it is made of public values only."""
        self.memo: dict[tuple[Remembered[Any], Hashable], Any] = {}
        """See `Remembered`, which reads and writes it."""
        self.lineage: Lineage | None = None
        self.within: range | None = None
        """Where integers are publicly known to lie: class labels that their owner has checked."""
        self._name: object = None

    @property
    def name(self) -> object:
        """What tells these facts from all others, for whoever asks later whether a content is still the one it was.

        To keep the facts themselves for that would keep all that is remembered, and often in a circle.
        """
        if self._name is None:
            self._name = object()
        return self._name


class Remembered(Generic[T]):
    """One kind of thing that is worked out of a content once; `key` tells several of a kind apart.

    Whoever works it out has one of these at the top of its file: it is the key that nobody else can use by accident,
    and says of what type the thing is.

    A thing must not lead back to the value that it is remembered of, by lineage or otherwise: such a circle holds
    memory until Python looks for circles, which it does seldom, and by the number of objects, however large these are.
    So what a backward pass wants of a forward pass is remembered of its result, not of its operand.
    """

    __slots__ = ("anew", "what")

    def __init__(self, what: str, *, anew: bool = False) -> None:
        self.what = what
        self.anew = anew
        """Whether a compiled step, see `tacit.replay`, works it out of what it is given or reads at each call."""

    def of(self, value: Value, key: Hashable = None) -> T | None:
        """What is remembered of a value's present content, if anything is."""
        found: T | None = value.facts.memo.get((self, key))
        return found

    def keep(self, value: Value, thing: T, key: Hashable = None) -> T:
        """Remember it, and return it."""
        value.facts.memo[self, key] = thing
        return thing

    def once(self, value: Value, make: Callable[[], T], key: Hashable = None) -> T:
        """What is remembered, or what `make` makes, which is remembered from then on."""
        memo, place = value.facts.memo, (self, key)
        if place not in memo:
            memo[place] = make()
        thing: T = memo[place]
        return thing

    def __repr__(self) -> str:
        return f"Remembered({self.what!r})"


def owned(facts: Facts) -> Owned | None:
    """Whose content it is: one party's own, or what a move has left of it."""
    lineage = facts.lineage
    if facts.owned is None and lineage is not None and lineage.move is not None:
        parent = owned(lineage.facts)
        if parent is not None:
            facts.owned = Owned(parent.party, None if parent.kept is None else lineage.move(parent.kept))
    return facts.owned


def within(facts: Facts) -> range | None:
    """Where integers lie, if that is public: moves leave them there."""
    lineage = facts.lineage
    if facts.within is None and lineage is not None and lineage.move is not None:
        facts.within = within(lineage.facts)
    return facts.within
