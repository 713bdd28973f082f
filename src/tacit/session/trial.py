"""A deployment for trying out: all roles on this machine, with fresh certificates and free ports."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from tacit.errors import ConfigError
from tacit.net.certificates import make_certificate
from tacit.session.config import SETTINGS, Config
from tacit.session.registered import block_kinds

__all__ = ["free_ports", "write_trial"]

PORTS = range(20000, 32768)
"""Below what operating systems give to outgoing connections, so that none of those can take a port meanwhile."""


def write_trial(
    folder: str | Path,
    parties: Sequence[str] = ("server0", "server1"),
    settings: Mapping[str, object] | None = None,
    *,
    ranks: int = 1,
) -> Path:
    """Write certificates and a config with free ports of the loopback interface, and return the config's path.

    The folder then holds the private keys of all roles: it is for trying out on one machine only.

    Args:
        folder: where `config.json` and `certs/` go.
        parties: the computing parties; the roles that help them come with them. One alone computes with its clients.
        settings: what the config holds under the key "tacit", beside the addresses that products want.
        ranks: how many processes each role is; each has an address.
    """
    folder = Path(folder)
    protocol = (settings or {}).get("protocol")
    roles = tuple(parties) if len(parties) == 1 else Config.embedded(parties, protocol=protocol).roles
    for role in roles:
        make_certificate(folder / "certs", role)
    ports = _free_ports()

    def address() -> str:
        return f"127.0.0.1:{next(ports)}"

    literal: dict[str, object] = {
        role: address() if ranks == 1 else [address() for _ in range(ranks)] for role in roles
    }
    products = [kind.trial(parties, address) for kind in block_kinds()]
    literal[SETTINGS] = {**{key: value for product in products for key, value in product.items()}, **(settings or {})}
    text = json.dumps(literal, indent=1)
    Config.parse(text, folder)
    path = folder / "config.json"
    path.write_text(text + "\n", encoding="utf-8")
    return path


def free_ports(count: int, besides: Collection[int] = ()) -> list[int]:
    """Choose different ports that nobody listens at, other than those that somebody is going to."""
    return list(islice((port for port in _free_ports() if port not in besides), count))


def _free_ports() -> Iterator[int]:
    """Different ports, each of which nobody listens at when it is asked for."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
    raise ConfigError(f"this machine has no more free ports between {PORTS.start} and {PORTS.stop - 1}")
