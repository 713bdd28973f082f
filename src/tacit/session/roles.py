"""The roles of a run as data: what a scheme of protocols says of those that take part, before anything is computed.

A scheme is described here, below the protocols, because a config has to know which of its roles compute and which only
help, and a role that is missing has to be missed before anything connects. Protocols register their own description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tacit.errors import ConfigError
from tacit.session.registered import complete

__all__ = ["ALONE", "DEFAULT", "Helper", "Scheme", "default", "forget", "register", "scheme_named", "scheme_names"]

DEFAULT = "additive"
"""The scheme of a program that names none, and of a config that names none and has its helper."""

ALONE = "two-party"
"""The scheme of a config that names none and has no helper."""

_NUMBERS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True, slots=True)
class Helper:
    """A role that helps the parties to compute and holds no data."""

    name: str
    """What configs call it."""
    short: str
    """What it is called in a table, where there is little room."""
    does: str
    """What it is there for, as the end of a sentence: "makes the correlated randomness"."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a protocol declares of its roles: who has to be there, and who must not join forces with whom."""

    name: str
    """What a config calls it, under "protocol"."""
    threat: str
    """What is promised, in one sentence: against whom, and who must not collude with whom."""
    helpers: tuple[Helper, ...] = ()
    """The roles beside the parties, each of which has to be there."""
    least: int = 2
    """How many parties must compute at least."""
    most: int | None = None
    """How many parties may compute; without one, any number."""
    networked: bool = True
    """Whether it may run over a network. A stand-in that hides nothing says no."""
    prepares: bool = False
    """Whether its parties can make ahead of a run, together, what no input changes."""
    shares: str = ""
    """What its parties hold of a secret, by a name: schemes of one name load each other's checkpoints."""

    @property
    def helping(self) -> tuple[str, ...]:
        """The names of the helpers."""
        return tuple(helper.name for helper in self.helpers)

    def parties(self, roles: Sequence[str]) -> tuple[str, ...]:
        """The computing parties among the roles, in their order; raise if these roles cannot run the scheme."""
        for helper in self.helpers:
            if helper.name not in roles:
                raise ConfigError(f"the role {helper.name!r} is missing: it {helper.does} and holds no data")
        parties = tuple(role for role in roles if role not in self.helping)
        beside = f" beside {' and '.join(map(repr, self.helping))}" if self.helpers else ""
        if len(parties) < self.least:
            must = "party must" if self.least == 1 else "parties must"
            raise ConfigError(f"at least {_number(self.least)} {must} compute{beside}, not {len(parties)}")
        if self.most is not None and len(parties) > self.most:
            may = "party may" if self.most == 1 else "parties may"
            raise ConfigError(
                f"at most {_number(self.most)} {may} compute{beside} by the protocol {self.name!r}, not {len(parties)}"
                + self._strangers(parties)
            )
        return parties

    def _strangers(self, parties: Sequence[str]) -> str:
        """What to do about roles that help in another scheme, as the end of a sentence."""
        for scheme in _SCHEMES.values():
            for name in scheme.helping:
                if name in parties:
                    return f": {name!r} helps in {scheme.name!r}, so leave it out here, or let the config name that one"
        return ""


_SCHEMES: dict[str, Scheme] = {}


def register(scheme: Scheme) -> None:
    """Let configs name a scheme. `tacit.protocols.schemes` does this for every protocol there is."""
    if _SCHEMES.setdefault(scheme.name, scheme) != scheme:
        raise ValueError(f"there is another scheme named {scheme.name!r}")


def forget(name: str) -> None:
    """Take a scheme back that was registered for a while."""
    _SCHEMES.pop(name, None)


def default(roles: Sequence[str]) -> str:
    """The scheme of a config with these roles that names none: what helps is asked for by being there."""
    complete()
    helped, alone = _SCHEMES[DEFAULT], _SCHEMES[ALONE]
    if not set(helped.helping).isdisjoint(roles):
        return DEFAULT
    if alone.most is not None and len(roles) > alone.most:
        missing = " and ".join(map(repr, helped.helping))
        raise ConfigError(
            f"{_number(len(roles))} parties compute with the help of {missing}, and that role is missing: add it, or "
            f"leave all parties but {_number(alone.most)} out, who compute alone by the protocol {ALONE!r}"
        )
    return ALONE


def scheme_names() -> tuple[str, ...]:
    """What a config may write under "protocol"."""
    complete()
    return tuple(_SCHEMES)


def scheme_named(name: str) -> Scheme:
    """The description of a scheme that is registered."""
    complete()
    return _SCHEMES[name]


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
