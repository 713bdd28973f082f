"""Schemes that compute nothing, for what knows roles by what a scheme declares and no further."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tacit.protocols.protocol import Prices, Protocol
from tacit.protocols.schemes import PROTOCOLS
from tacit.session.roles import Helper, Scheme, forget, register

ALONE = Scheme(name="alone", threat="nothing is promised", least=1, most=3)
ATTENDED = Scheme(
    name="attended",
    threat="nothing is promised",
    helpers=(Helper("dice-thrower", "dice", "throws dice"), Helper("timekeeper", "clock", "looks at the clock")),
)
PRICES = Prices(compared=1, again=1, chosen=1, few=1, again_factor=1)
INSECURE = Scheme(name="insecure", threat="nothing is promised", networked=False)


@contextmanager
def registered(*schemes: Scheme) -> Iterator[None]:
    """Let configs and sessions use these schemes for a while, by protocols that have no primitives."""
    try:
        for scheme in schemes:
            body = {"scheme": scheme, "costs": {}, "prices": PRICES, **dict.fromkeys(Protocol.__abstractmethods__)}
            PROTOCOLS[scheme.name] = type("Fake", (Protocol,), body)
            register(scheme)
        yield
    finally:
        for scheme in schemes:
            PROTOCOLS.pop(scheme.name, None)
            forget(scheme.name)
