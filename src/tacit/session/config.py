"""The config: who takes part, where they listen, and how this role wants its run.

A config is a JSON object of roles and addresses, with everything else under the key "tacit"::

    {"alice": "10.0.0.1:9000", "bob": "10.0.0.2:9000", "crypto-producer": "10.0.0.3:9000",
     "tacit": {"frac_bits": 16, "tls": "certs", "reveal": [{"name": "weight*", "to": ["alice"]}]}}

Two roles and no crypto-producer are a complete config, too: these two then compute alone, by the two-party protocol.
So is one role: a server that computes with each of its clients by that protocol.

Roles, addresses, the protocol, `frac_bits` and `seed` are *shared*: all roles must have the same, which they check when
they connect. The other settings are *local*: each role has its own. Relative paths start at the folder of the config
file. Which roles compute and which help is the protocol's to say (`tacit.session.roles`), and products have settings of
their own among the others (`tacit.session.registered`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from tacit.errors import ConfigError
from tacit.session.addresses import Address, is_loopback, no_duplicates, read_address, read_addresses
from tacit.session.literals import SETTINGS, no_constant, read_integer, read_path, read_seconds, show, unique_keys
from tacit.session.program import read_digest
from tacit.session.ranks import ONLY, Rank
from tacit.session.registered import GUEST, Block, block_kinds, outsiders
from tacit.session.roles import ALONE, DEFAULT, Scheme, default, scheme_named, scheme_names

__all__ = ["FRAC_BITS", "PARTIES", "ROLE_NAME", "SETTINGS", "Config", "RevealRule", "read_range"]

ROLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)
PARTIES = "parties"
"""In policies and reveals: all roles that compute, and none that helps them."""

PLAINTEXT_LOOPBACK = "insecure-plaintext"
PLAINTEXT_ANYWHERE = "insecure-plaintext-anywhere"

FRAC_BITS = range(1, 29)
"""More bits are more precise but leave less room above: a product holds 2 * frac_bits of them in 62 bits."""


BlockT = TypeVar("BlockT", bound=Block)


@dataclass(frozen=True, slots=True)
class RevealRule:
    """One line of a reveal policy: values whose name matches (as a file name pattern does) may go to these roles."""

    name: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A checked config. Make one with `load`, `parse` or `embedded`."""

    parties: tuple[str, ...]
    """The computing parties, in the order of the file."""
    helpers: tuple[str, ...]
    """The roles that help them and hold no data."""
    addresses: tuple[Address, ...] = ()
    """One for each of `roles`, but for a client; none when all roles live in one process. Those of this rank."""
    machines: tuple[tuple[Address, ...], ...] = ()
    """Of each of these roles the address, or one for each of its ranks, as the file has them."""
    rank: Rank = ONLY
    """Which of the processes that play the role this one is; see `at`."""

    protocol: str = DEFAULT
    """Shared. The [protocol](protocols.md) by which the parties compute; it says which other roles there are. Without
    one it follows from the roles: "additive" with a crypto-producer, "two-party" with two roles and none."""
    frac_bits: int = 16
    """Shared. Fractional bits of fixed-point numbers, 1 to 28. More are finer and leave less room: see
    [Mind the numbers](models.md#4-mind-the-numbers)."""
    round_bytes: int = 200_000
    """Shared. Bytes that a [round](costs.md#what-a-round-is-worth) is worth, 0 to 2^30: between hosts, the seconds of a
    round trip times the bytes a second of the link, 1750000 for 40 ms at 350 Mbit/s. More: fewer rounds, and more
    bytes."""
    seed: int | None = None
    """Shared. Seed of PyTorch's public randomness; without one, the first party draws it."""

    range_check: bool | float = False
    """Shared. Whether outputs, losses, gradients and parameters are checked to be within range, each time by revealing
    one bit, `within range`; or the magnitude they must stay below, 2^(31 - frac_bits) by default."""

    tls: str = "certs"
    """Folder of this role's private key and everybody's certificates, made by `tacit keygen`; or "insecure-plaintext"
    (no encryption, loopback only), or "insecure-plaintext-anywhere" (no encryption at all)."""
    revoked: tuple[str, ...] = ()
    """Fingerprints (SHA-256, as `tacit keygen` prints them) of certificates that this role refuses, of roles and of
    clients, though they are in its folders."""
    listen: Address | None = None
    """Where this role binds its port if not at its address above, say behind a router or in a container."""
    timeout: float = 60.0
    """Seconds without a sign of life after which a peer counts as stalled. Long computations do give signs of life."""
    port_stride: int = 10
    """Shared. Between the ports of two [ranks](many-machines.md) of a role that has one address: rank i listens at its
    port + i times this."""
    connect_timeout: float = 60.0
    """Seconds to wait for the other roles to start."""
    outbox_bytes: int = 1 << 28
    """How far a role that helps may run ahead of each party. More hides longer pauses and takes as much memory."""
    threads: int | None = None
    """Threads PyTorch may use at this role. Without one, roles on one machine share its cores, and a role that has a
    machine to itself leaves the choice to PyTorch; the variable OMP_NUM_THREADS comes first."""
    ledger: str | None = None
    """Folder in which this role writes what it took part in revealing, one JSON line each."""
    reveal: tuple[RevealRule, ...] | None = None
    """What this role allows to be revealed, and to whom: everything without a policy, nothing by an empty one."""
    checkpoints: str = "checkpoints"
    """Folder in which this role keeps its shares of the state of loops; see [long runs](resume.md)."""
    program: str | None = None
    """Digest of the program that this role has approved, "sha256:…" as `tacit run --dry-run` shows it; another is
    refused before any data is read."""
    environment: str | None = None
    """Digest of the versions of Python, Tacit and all that it needs, likewise."""
    used_stores: str = "used-stores"
    """Folder in which this role notes the [stores](prepare.md) that it has begun, so that none is used twice."""
    blocks: tuple[Block, ...] = ()
    """The settings of products, under the same key; `of` finds one's."""

    @property
    def scheme(self) -> Scheme:
        """What the protocol says of its roles."""
        return scheme_named(self.protocol)

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles: the computing parties, then those that help them."""
        return (*self.parties, *self.helpers)

    @property
    def settled(self) -> tuple[str, ...]:
        """The roles that have an address and keys: all but a client."""
        return tuple(role for role in self.roles if role != GUEST)

    @property
    def awaits_clients(self) -> bool:
        """Whether the other party is whoever comes: one role stands in the file."""
        return GUEST in self.parties

    def of(self, product: type[BlockT]) -> BlockT:
        """The settings of a product."""
        return next(block for block in self.blocks if isinstance(block, product))

    def address(self, role: str) -> Address:
        """Where a role listens."""
        return dict(zip(self.settled, self.addresses, strict=True))[self.check_role(role)]

    def at(self, rank: Rank) -> Config:
        """The config of one rank of each role: with its addresses, and the port it binds.

        A role has one address for all its ranks, from which their ports follow, or one for each of them.
        """
        listed = dict(zip(self.settled, self.machines, strict=False))
        for role, places in listed.items():
            if len(places) not in (1, rank.count):
                raise ConfigError(
                    f"{role!r} has {len(places)} addresses, one for each of its ranks, and this job has {rank.count}: "
                    f"start it by torchrun with that many processes"
                )
        if rank.count == 1:
            return self
        stride, everybody = self.port_stride, [Rank(index, rank.count) for index in range(rank.count)]
        names = tuple(each.of(role) for role in listed for each in everybody)
        places = tuple(
            places[0].shifted(each.index * stride) if len(places) == 1 else places[each.index]
            for places in listed.values()
            for each in everybody
        )
        no_duplicates(names, places, hint=f": choose other ports, or '{SETTINGS}.port_stride'")
        listen = None if self.listen is None else self.listen.shifted(rank.index * stride)
        return replace(self, rank=rank, addresses=places[rank.index :: rank.count], listen=listen)

    def check_role(self, role: str) -> str:
        """Return the role, or raise if the config does not have it."""
        if role not in self.settled:
            raise ConfigError(f"there is no role {role!r} in this config: its roles are {', '.join(self.settled)}")
        return role

    @property
    def on_one_machine(self) -> bool:
        """Whether all roles listen on loopback, so that they share the cores of one machine."""
        return bool(self.addresses) and all(is_loopback(address.host) for address in self.addresses)

    @property
    def plaintext(self) -> bool:
        """Whether connections are not encrypted, which a config has to ask for in words."""
        return self.tls in (PLAINTEXT_LOOPBACK, PLAINTEXT_ANYWHERE)

    @property
    def shared(self) -> dict[str, str]:
        """The part that all roles must have alike, as text by key. It holds nothing secret."""
        shared = {"the list of roles": ", ".join(self.roles)}
        shared |= {role: str(address) for role, address in zip(self.settled, self.addresses, strict=False)}
        if self.rank.count > 1:
            shared["the number of ranks"] = str(self.rank.count)
        keys = ("protocol", "frac_bits", "round_bytes", "seed", "range_check")
        return shared | {f"{SETTINGS}.{key}": json.dumps(getattr(self, key)) for key in keys}

    @staticmethod
    def load(path: str | Path) -> Config:
        """Read a config file; relative paths in it start at its folder."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"there is no config file {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"config file {path} cannot be read: {error}") from None
        try:
            return Config.parse(text, folder=path.parent)
        except ConfigError as error:
            raise ConfigError(f"config file {path}: {error}") from None

    @staticmethod
    def parse(text: str, folder: Path = Path()) -> Config:
        """Check the text of a config; relative paths in it start at `folder`."""
        try:
            literal = json.loads(text, object_pairs_hook=unique_keys, parse_constant=no_constant)
        except json.JSONDecodeError as error:
            raise ConfigError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
        except (RecursionError, ValueError):
            raise ConfigError("nested too deeply, or with too long a number, to be a config") from None
        if not isinstance(literal, dict):
            raise ConfigError('must be an object such as {"alice": "host:port", …}')
        settings = literal.pop(SETTINGS, {})
        scheme = _scheme(settings, literal)
        parties, helpers = _alone(literal) if scheme.name == ALONE and len(literal) == 1 else _roles(literal, scheme)
        settled = tuple(role for role in (*parties, *helpers) if role != GUEST)
        machines = tuple(read_addresses(role, literal[role]) for role in settled)
        addresses = tuple(places[0] for places in machines)
        no_duplicates([role for role, places in zip(settled, machines, strict=True) for _ in places], sum(machines, ()))
        if not scheme.networked:
            raise ConfigError(
                f"'{SETTINGS}.protocol' is {scheme.name!r}, which hides nothing and runs in one process only: leave it "
                f"out of a config with addresses"
            )
        checked = _settings(settings, scheme, parties, helpers, folder)
        if GUEST in parties:
            _check_alone(settings)
        config = Config(parties=parties, helpers=helpers, addresses=addresses, machines=machines, **checked)
        _check_plaintext(config)
        return config

    @staticmethod
    def embedded(
        parties: Sequence[str] = ("alice", "bob"), *, roles: Sequence[str] | None = None, **settings: object
    ) -> Config:
        """Return a config for all roles in one process: no addresses, and settings as under the key "tacit".

        Helpers come along with the parties. `roles` instead are all there are, as those of a config file.
        """
        scheme = _scheme(settings, roles)
        if roles is not None:
            parties = scheme.parties(roles)
        if len(set(parties)) != len(parties):
            raise ConfigError(f"parties must have different names, not {', '.join(map(repr, parties))}")
        for party in parties:
            if party in scheme.helping:
                raise ConfigError(
                    f"{party!r} is no name for a party: a role that helps in {scheme.name!r} is called so"
                )
        names, helpers = _roles((*parties, *scheme.helping), scheme)
        return Config(parties=names, helpers=helpers, **_settings(settings, scheme, names, helpers, Path()))


# --- roles and addresses ---------------------------------------------------------------------------------------------


def _scheme(settings: object, roles: Iterable[str] | None = None) -> Scheme:
    """The scheme that the settings name, or else that of all the roles; what else is wrong is found later."""
    name = settings.get("protocol") if isinstance(settings, Mapping) else None
    if name is None:
        name = DEFAULT if roles is None else default(tuple(roles))
    if not isinstance(name, str) or name not in scheme_names():
        raise ConfigError(f"'{SETTINGS}.protocol' must be one of {', '.join(scheme_names())}, not {show(name)}")
    return scheme_named(name)


def _alone(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """One role, and whoever comes."""
    names = tuple(names)
    _check_names(names)
    return (*names, GUEST), ()


def _check_alone(settings: Mapping[str, object]) -> None:
    """What only several roles can be told to do."""
    if settings.get("range_check"):
        raise ConfigError(f"'{SETTINGS}.range_check' tells a bit to all roles, and clients are told predictions only")
    if settings.get("clients"):
        raise ConfigError(f"'{SETTINGS}.clients' is for two servers: to one alone clients come at its own address")


def _roles(names: Iterable[str], scheme: Scheme) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parties among the roles, and the helpers that the scheme asks for, if it can do with these roles."""
    names = tuple(names)
    _check_names(names)
    return scheme.parties(names), scheme.helping


def _check_names(names: tuple[str, ...]) -> None:
    reserved = _reserved()
    for role in names:
        if not ROLE_NAME.fullmatch(role) or role in reserved:
            raise ConfigError(
                f"{role!r} cannot be the name of a role: use up to 63 letters, digits, '-', '_' and '.', "
                f"and none of {', '.join(map(repr, reserved))}"
            )


def _reserved() -> tuple[str, ...]:
    """What policies and ledgers call others than roles, so no role has such a name."""
    words = (word for outsider in outsiders() for word in (outsider.word, outsider.one))
    return tuple(dict.fromkeys((SETTINGS, *words, PARTIES, "all", "embedded")))


def _check_plaintext(config: Config) -> None:
    if config.tls != PLAINTEXT_LOOPBACK:
        return
    there = [(role, each) for role, row in zip(config.settled, config.machines, strict=True) for each in row]
    if config.listen is not None:
        there.append((f"{SETTINGS}.listen", config.listen))
    there += [bound for block in config.blocks for bound in block.listening(config.parties)]
    for role, address in there:
        if not is_loopback(address.host):
            raise ConfigError(
                f"'{SETTINGS}.tls' is \"{PLAINTEXT_LOOPBACK}\", which is for loopback only, but {role!r} is at "
                f'{address}: make certificates with `tacit keygen`, or write "{PLAINTEXT_ANYWHERE}" and mean it'
            )


# --- settings --------------------------------------------------------------------------------------------------------


def _settings(
    literal: object, scheme: Scheme, parties: tuple[str, ...], helpers: tuple[str, ...], folder: Path
) -> dict[str, Any]:
    """Check everything under the key "tacit"; absent settings keep their defaults, and so do those that are null."""
    if not isinstance(literal, dict):
        raise ConfigError(f"{SETTINGS!r} must be an object of settings, not {show(literal)}")
    known = {field.name for field in fields(Config)} - {"parties", "helpers", "addresses", "machines", "rank", "blocks"}
    known |= {field.name for kind in block_kinds() for field in fields(kind)}
    for key in literal:
        if key not in known:
            raise ConfigError(f"'{SETTINGS}.{key}' is not a setting: the settings are {', '.join(sorted(known))}")
    given = {key: value for key, value in literal.items() if value is not None}
    settings: dict[str, Any] = {"protocol": scheme.name}
    for key, (least, most) in _INTEGERS.items():
        if key in given:
            settings[key] = read_integer(key, given[key], least, most)
    if "range_check" in given:
        settings["range_check"] = read_range("range_check", given["range_check"], settings.get("frac_bits", 16))
    for key in ("timeout", "connect_timeout"):
        if key in given:
            settings[key] = read_seconds(key, given[key])
    if "revoked" in given:
        settings["revoked"] = _fingerprints(given["revoked"])
    if "listen" in given:
        settings["listen"] = read_address(f"{SETTINGS}.listen", given["listen"])
    if "ledger" in given:
        settings["ledger"] = read_path("ledger", given["ledger"], folder)
    settings["checkpoints"] = read_path("checkpoints", given.get("checkpoints", "checkpoints"), folder)
    for key in ("program", "environment"):
        if key in given:
            settings[key] = read_digest(f"{SETTINGS}.{key}", given[key])
    settings["used_stores"] = read_path("used_stores", given.get("used_stores", "used-stores"), folder)
    settings["blocks"] = tuple(kind.read(given, parties, folder) for kind in block_kinds())
    tls = given.get("tls", "certs")
    settings["tls"] = tls if tls in (PLAINTEXT_LOOPBACK, PLAINTEXT_ANYWHERE) else read_path("tls", tls, folder)
    if "reveal" in given:
        settings["reveal"] = _reveal(given["reveal"], parties, helpers)
    return settings


_INTEGERS = {
    "frac_bits": (FRAC_BITS.start, FRAC_BITS.stop - 1),
    "round_bytes": (0, 1 << 30),
    "seed": (0, (1 << 63) - 1),
    "outbox_bytes": (1 << 16, 1 << 40),
    "threads": (1, 4096),
    "port_stride": (1, 60000),
}


def read_range(key: str, value: object, frac_bits: int) -> bool | float:
    """Read whether ranges are checked: true, false, or the magnitude that numbers must stay below."""
    most = 2.0 ** (61 - frac_bits)
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not 2.0**-frac_bits <= value <= most:
        raise ConfigError(
            f"'{SETTINGS}.{key}' must be true, false or a magnitude up to {most:g} that numbers stay below, "
            f"not {show(value)}"
        )
    return float(value)


def _fingerprints(literal: object) -> tuple[str, ...]:
    """Read a list of fingerprints, with colons or without."""
    read = []
    for each in literal if isinstance(literal, list | tuple) else [None]:
        text = each.replace(":", "").lower() if isinstance(each, str) else ""
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise ConfigError(f"'{SETTINGS}.revoked' must be a list of SHA-256 fingerprints, not {show(literal)}")
        read.append(":".join(text[at : at + 2] for at in range(0, 64, 2)))
    return tuple(read)


def _reveal(literal: object, parties: tuple[str, ...], helpers: tuple[str, ...]) -> tuple[RevealRule, ...]:
    """Read a policy: a list of {"name": pattern, "to": [roles]}; "all" are all roles, "parties" those that compute."""
    roles = (*parties, *helpers)
    if not isinstance(literal, list | tuple):
        raise ConfigError(f'\'{SETTINGS}.reveal\' must be a list such as [{{"name": "weight*", "to": ["alice"]}}]')
    rules, words = [], {outsider.word: outsider.who for outsider in outsiders()}
    for place, rule in enumerate(literal, start=1):
        key = f"{SETTINGS}.reveal, rule {place}"
        if not isinstance(rule, dict) or rule.keys() != {"name", "to"}:
            raise ConfigError(f'\'{key}\' must have the keys "name" and "to" and no others, not {show(rule)}')
        to = [rule["to"]] if isinstance(rule["to"], str) else rule["to"]
        if not isinstance(rule["name"], str) or not rule["name"]:
            raise ConfigError(f'\'{key}\': "name" must be a pattern such as "weight*", not {show(rule["name"])}')
        if not isinstance(to, list | tuple) or not all(isinstance(role, str) for role in to):
            raise ConfigError(f"'{key}': \"to\" must be a list of roles, not {show(to)}")
        for role in to:
            if role not in (*roles, PARTIES, "all", *words):
                raise ConfigError(
                    f'\'{key}\': there is no role {role!r}; roles are {", ".join(roles)}, "parties" or "all" of them; '
                    + ", ".join(f'"{word}" stands for {who}' for word, who in words.items())
                )
        names = dict.fromkeys(name for role in to for name in (parties if role == PARTIES else (role,)))
        rules.append(RevealRule(rule["name"], tuple(names)))
    return tuple(rules)
