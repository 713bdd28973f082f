"""Where roles listen, as configs write it: "host:port"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tacit.errors import ConfigError
from tacit.session.literals import show

__all__ = ["Address", "is_loopback", "no_duplicates", "read_address", "read_addresses"]


LAST_PORT = 65535


class Address(NamedTuple):
    """Where a role listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def shifted(self, ports: int) -> Address:
        """The address so many ports further, if there is one."""
        if self.port + ports > LAST_PORT:
            raise ConfigError(f"{self.host} has no port {self.port + ports}, which is {ports} after {self.port}")
        return self._replace(port=self.port + ports)


def read_addresses(key: str, value: object) -> tuple[Address, ...]:
    """Read an address, or a list of them: one for each rank."""
    if not isinstance(value, list):
        return (read_address(key, value),)
    if not value:
        raise ConfigError(f'{key!r} must be an address "host:port", or a list of one for each rank, not []')
    return tuple(read_address(f"{key}[{place}]", each) for place, each in enumerate(value))


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
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= LAST_PORT:
        raise ConfigError(f"{key!r}: the port must be a number from 1 to 65535, not {port[:40]!r}")
    return Address(host, int(port))


def no_duplicates(roles: Sequence[str], addresses: Sequence[Address], *, hint: str = "") -> None:
    """Raise if two roles have one address."""
    seen: dict[Address, str] = {}
    for role, address in zip(roles, addresses, strict=True):
        if address in seen:
            raise ConfigError(f"{seen[address]!r} and {role!r} have the same address, {address}{hint}")
        seen[address] = role


def is_loopback(host: str) -> bool:
    """Whether only programs on the same machine reach this host."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
