"""The config: who takes part, where they listen, and how this role wants its run.

A config is a JSON object of roles and addresses, with everything else under the key "tacit"::

    {"alice": "10.0.0.1:9000", "bob": "10.0.0.2:9000", "crypto-producer": "10.0.0.3:9000",
     "tacit": {"frac_bits": 16, "tls": "certs", "reveal": [{"name": "weight*", "to": ["alice"]}]}}

Roles, addresses, the protocol, `frac_bits` and `seed` are *shared*: all roles must have the same, which they check when
they connect. Which roles compute and which help is the protocol's to say (`tacit.session.roles`).
The other settings are *local*: each role has its own. Relative paths start at the folder of the config file. Parties
that also work for clients, who submit data or ask for predictions, have an address for them under "tacit.clients".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from tacit.errors import ConfigError
from tacit.session.roles import DEFAULT, Scheme, scheme_named, scheme_names

__all__ = [
    "CLIENTS",
    "FEDERATION",
    "FRAC_BITS",
    "ROLE_NAME",
    "SETTINGS",
    "Address",
    "Config",
    "RevealRule",
    "is_loopback",
    "read_address",
    "read_range",
]

SETTINGS = "tacit"
CLIENTS = "clients"
"""In a reveal policy: whoever asks a prediction service. "all" are the roles, and no clients."""
FEDERATION = "federation"
"""In a reveal policy and in the ledger: Flower's server, who is given the aggregates of rounds, and no role either."""
RESERVED = (SETTINGS, CLIENTS, FEDERATION, "client", "all", "embedded")
"""What policies and ledgers call others than roles, so no role has such a name."""
ROLE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}", re.ASCII)
PLAINTEXT_LOOPBACK = "insecure-plaintext"
PLAINTEXT_ANYWHERE = "insecure-plaintext-anywhere"

FRAC_BITS = range(1, 29)
"""More bits are more precise but leave less room above: a product holds 2 * frac_bits of them in 62 bits."""


class Address(NamedTuple):
    """Where a role listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
    """One for each of `roles`; none when all roles live in one process."""

    protocol: str = DEFAULT
    """Shared. The [protocol](protocols.md) by which the parties compute; it says which other roles there are."""
    frac_bits: int = 16
    """Shared. Fractional bits of fixed-point numbers, 1 to 28. More are finer and leave less room: see
    [Mind the numbers](models.md#4-mind-the-numbers)."""
    seed: int | None = None
    """Shared. Seed of PyTorch's public randomness; without one, the first party draws it."""

    range_check: bool | float = False
    """Shared. Whether outputs, losses, gradients and parameters are checked to be within range, each time by revealing
    one bit, `within range`; or the magnitude they must stay below, 2^(31 - frac_bits) by default."""

    tls: str = "certs"
    """Folder of this role's private key and everybody's certificates, made by `tacit keygen`; or "insecure-plaintext"
    (no encryption, loopback only), or "insecure-plaintext-anywhere" (no encryption at all)."""
    listen: Address | None = None
    """Where this role binds its port if not at its address above, say behind a router or in a container."""
    timeout: float = 60.0
    """Seconds without a sign of life after which a peer counts as stalled. Long computations do give signs of life."""
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
    clients: tuple[Address, ...] = ()
    """Where each party takes data and requests from clients, `{"alice": "host:port", …}` with all parties."""
    listen_clients: Address | None = None
    """Where this role binds the port for clients if not at its address above."""
    providers: str | None = None
    """Folder of the certificates of the clients that this role works for; without one, it works for anybody."""
    data: str = "data"
    """Folder in which this role keeps its shares of the data sets that clients submit."""

    @property
    def scheme(self) -> Scheme:
        """What the protocol says of its roles."""
        return scheme_named(self.protocol)

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles: the computing parties, then those that help them."""
        return (*self.parties, *self.helpers)

    def address(self, role: str) -> Address:
        """Where a role listens."""
        return dict(zip(self.roles, self.addresses, strict=True))[self.check_role(role)]

    def check_role(self, role: str) -> str:
        """Return the role, or raise if the config does not have it."""
        if role not in self.roles:
            raise ConfigError(f"there is no role {role!r} in this config: its roles are {', '.join(self.roles)}")
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
        shared |= {role: str(address) for role, address in zip(self.roles, self.addresses, strict=False)}
        keys = ("protocol", "frac_bits", "seed", "range_check")
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
            literal = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise ConfigError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
        except (RecursionError, ValueError):
            raise ConfigError("nested too deeply, or with too long a number, to be a config") from None
        if not isinstance(literal, dict):
            raise ConfigError('must be an object such as {"alice": "host:port", …}')
        settings = literal.pop(SETTINGS, {})
        scheme = _scheme(settings)
        parties, helpers = _roles(literal, scheme)
        addresses = tuple(read_address(role, literal[role]) for role in (*parties, *helpers))
        _no_duplicates((*parties, *helpers), addresses)
        if not scheme.networked:
            raise ConfigError(
                f"'{SETTINGS}.protocol' is {scheme.name!r}, which hides nothing and runs in one process only: leave it "
                f"out of a config with addresses"
            )
        config = Config(
            parties=parties, helpers=helpers, addresses=addresses, **_settings(settings, parties, helpers, folder)
        )
        _check_plaintext(config)
        return config

    @staticmethod
    def embedded(parties: Sequence[str] = ("alice", "bob"), **settings: object) -> Config:
        """Return a config for all roles in one process: no addresses, and settings as under the key "tacit"."""
        scheme = _scheme(settings)
        roles = (*parties, *scheme.helping)
        if len(set(roles)) != len(roles):
            raise ConfigError(f"parties must have different names, not {', '.join(map(repr, parties))}")
        names, helpers = _roles(roles, scheme)
        return Config(parties=names, helpers=helpers, **_settings(settings, names, helpers, Path()))


# --- roles and addresses ---------------------------------------------------------------------------------------------


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ConfigError(f"key {key!r} is there twice")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise ConfigError(f"{name} is not a number that a config may hold")


def _scheme(settings: object) -> Scheme:
    """The scheme that the settings name; whatever else is wrong with them is found later."""
    name = settings.get("protocol") if isinstance(settings, Mapping) else None
    if name is None:
        name = DEFAULT
    if not isinstance(name, str) or name not in scheme_names():
        raise ConfigError(f"'{SETTINGS}.protocol' must be one of {', '.join(scheme_names())}, not {_show(name)}")
    return scheme_named(name)


def _roles(names: Iterable[str], scheme: Scheme) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parties among the roles, and the helpers that the scheme asks for, if it can do with these roles."""
    names = tuple(names)
    for role in names:
        if not ROLE_NAME.fullmatch(role) or role in RESERVED:
            raise ConfigError(
                f"{role!r} cannot be the name of a role: use up to 63 letters, digits, '-', '_' and '.', "
                f"and none of {', '.join(map(repr, RESERVED))}"
            )
    return scheme.parties(names), scheme.helping


def read_address(key: str, value: object) -> Address:
    """Read "host:port", with an IPv6 host in brackets."""
    if not isinstance(value, str):
        raise ConfigError(f'{key!r} must be an address "host:port", not {_show(value)}')
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'{key!r}: write an IPv6 address in brackets, "[host]:port", not {_show(value)}')
    if not colon or not host or re.search(r"[\s/@]", host):
        raise ConfigError(f'{key!r} must be an address "host:port", not {_show(value)}')
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise ConfigError(f"{key!r}: the port must be a number from 1 to 65535, not {port[:40]!r}")
    return Address(host, int(port))


def _no_duplicates(roles: Sequence[str], addresses: Sequence[Address]) -> None:
    seen: dict[Address, str] = {}
    for role, address in zip(roles, addresses, strict=True):
        if address in seen:
            raise ConfigError(f"{seen[address]!r} and {role!r} have the same address, {address}")
        seen[address] = role


def _check_plaintext(config: Config) -> None:
    if config.tls != PLAINTEXT_LOOPBACK:
        return
    bound = {f"{SETTINGS}.listen": config.listen, f"{SETTINGS}.listen_clients": config.listen_clients}
    there = [*zip(config.roles, config.addresses, strict=True), *zip(config.parties, config.clients, strict=False)]
    there += [(key, address) for key, address in bound.items() if address is not None]
    for role, address in there:
        if not is_loopback(address.host):
            raise ConfigError(
                f"'{SETTINGS}.tls' is \"{PLAINTEXT_LOOPBACK}\", which is for loopback only, but {role!r} is at "
                f'{address}: make certificates with `tacit keygen`, or write "{PLAINTEXT_ANYWHERE}" and mean it'
            )


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine reach this host."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


# --- settings --------------------------------------------------------------------------------------------------------


def _settings(literal: object, parties: tuple[str, ...], helpers: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Check everything under the key "tacit"; absent settings keep their defaults, and so do those that are null."""
    if not isinstance(literal, dict):
        raise ConfigError(f"{SETTINGS!r} must be an object of settings, not {_show(literal)}")
    known = {field.name for field in fields(Config)} - {"parties", "helpers", "addresses"}
    for key in literal:
        if key not in known:
            raise ConfigError(f"'{SETTINGS}.{key}' is not a setting: the settings are {', '.join(sorted(known))}")
    given = {key: value for key, value in literal.items() if value is not None}
    settings: dict[str, Any] = {"protocol": _scheme(given).name}
    for key, (least, most) in _INTEGERS.items():
        if key in given:
            settings[key] = _integer(key, given[key], least, most)
    if "range_check" in given:
        settings["range_check"] = read_range("range_check", given["range_check"], settings.get("frac_bits", 16))
    for key in ("timeout", "connect_timeout"):
        if key in given:
            settings[key] = _seconds(key, given[key])
    for key in ("listen", "listen_clients"):
        if key in given:
            settings[key] = read_address(f"{SETTINGS}.{key}", given[key])
    for key in ("ledger", "providers"):
        if key in given:
            settings[key] = _path(key, given[key], folder)
    settings["data"] = _path("data", given.get("data", "data"), folder)
    if "clients" in given:
        settings["clients"] = _clients(given["clients"], parties)
    tls = given.get("tls", "certs")
    settings["tls"] = tls if tls in (PLAINTEXT_LOOPBACK, PLAINTEXT_ANYWHERE) else _path("tls", tls, folder)
    if "reveal" in given:
        settings["reveal"] = _reveal(given["reveal"], (*parties, *helpers))
    return settings


_INTEGERS = {
    "frac_bits": (FRAC_BITS.start, FRAC_BITS.stop - 1),
    "seed": (0, (1 << 63) - 1),
    "outbox_bytes": (1 << 16, 1 << 40),
    "threads": (1, 4096),
}


def _clients(literal: object, parties: tuple[str, ...]) -> tuple[Address, ...]:
    """Read where clients reach each of the parties."""
    if not isinstance(literal, dict) or set(literal) != set(parties):
        names = ", ".join(f'"{party}": "host:port"' for party in parties)
        raise ConfigError(f"'{SETTINGS}.clients' must have an address for each party: {{{names}}}")
    addresses = tuple(read_address(f"{SETTINGS}.clients.{party}", literal[party]) for party in parties)
    _no_duplicates([f"{SETTINGS}.clients.{party}" for party in parties], addresses)
    return addresses


def _integer(key: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ConfigError(f"'{SETTINGS}.{key}' must be a whole number from {least} to {most}, not {_show(value)}")
    return value


def _seconds(key: str, value: object) -> float:
    if type(value) not in (int, float) or not 0.1 <= value <= 1e6:  # type: ignore[operator]
        raise ConfigError(f"'{SETTINGS}.{key}' must be a number of seconds from 0.1 to 1000000, not {_show(value)}")
    return float(value)  # type: ignore[arg-type]


def read_range(key: str, value: object, frac_bits: int) -> bool | float:
    """Read whether ranges are checked: true, false, or the magnitude that numbers must stay below."""
    most = 2.0 ** (61 - frac_bits)
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float) or not 2.0**-frac_bits <= value <= most:
        raise ConfigError(
            f"'{SETTINGS}.{key}' must be true, false or a magnitude up to {most:g} that numbers stay below, "
            f"not {_show(value)}"
        )
    return float(value)


def _path(key: str, value: object, folder: Path) -> str:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ConfigError(f"'{SETTINGS}.{key}' must be the path of a folder, not {_show(value)}")
    return str(folder / Path(value).expanduser())


def _reveal(literal: object, roles: tuple[str, ...]) -> tuple[RevealRule, ...]:
    """Read a policy: a list of {"name": pattern, "to": [roles]}, where "all" stands for all roles."""
    if not isinstance(literal, list | tuple):
        raise ConfigError(f'\'{SETTINGS}.reveal\' must be a list such as [{{"name": "weight*", "to": ["alice"]}}]')
    rules = []
    for place, rule in enumerate(literal, start=1):
        key = f"{SETTINGS}.reveal, rule {place}"
        if not isinstance(rule, dict) or rule.keys() != {"name", "to"}:
            raise ConfigError(f'\'{key}\' must have the keys "name" and "to" and no others, not {_show(rule)}')
        to = [rule["to"]] if isinstance(rule["to"], str) else rule["to"]
        if not isinstance(rule["name"], str) or not rule["name"]:
            raise ConfigError(f'\'{key}\': "name" must be a pattern such as "weight*", not {_show(rule["name"])}')
        if not isinstance(to, list | tuple) or not all(isinstance(role, str) for role in to):
            raise ConfigError(f"'{key}': \"to\" must be a list of roles, not {_show(to)}")
        for role in to:
            if role not in (*roles, "all", CLIENTS, FEDERATION):
                raise ConfigError(
                    f"'{key}': there is no role {role!r}; roles are {', '.join(roles)}, or \"all\" of them; "
                    f'"{CLIENTS}" stands for whoever asks a service, "{FEDERATION}" for Flower\'s server'
                )
        rules.append(RevealRule(rule["name"], tuple(to)))
    return tuple(rules)


def _show(value: object) -> str:
    """A value as the user typed it, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:57] + "…"
