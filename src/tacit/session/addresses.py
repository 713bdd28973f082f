"""Where roles listen, as configs write it: "host:port"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tacit.errors import ConfigError
from tacit.session.literals import show

__all__ = ["Address", "is_loopback", "no_duplicates", "read_address"]


class Address(NamedTuple):
    """Where a role listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(key: str, value: object) -> Address:
    """Read "host:port", with an IPv6 host in brackets."""
    if not isinstance(value, str):
        raise ConfigError(f'{key!r} must be an address "host:port", not {show(value)}')
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'{key!r}: write an IPv6 address in brackets, "[host]:port", not {show(value)}')
    if not colon or not host or re.search(r"[\s/@]", host):
        raise ConfigError(f'{key!r} must be an address "host:port", not {show(value)}')
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise ConfigError(f"{key!r}: the port must be a number from 1 to 65535, not {port[:40]!r}")
    return Address(host, int(port))


def no_duplicates(roles: Sequence[str], addresses: Sequence[Address]) -> None:
    """Raise if two roles have one address."""
    seen: dict[Address, str] = {}
    for role, address in zip(roles, addresses, strict=True):
        if address in seen:
            raise ConfigError(f"{seen[address]!r} and {role!r} have the same address, {address}")
        seen[address] = role


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine reach this host."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
