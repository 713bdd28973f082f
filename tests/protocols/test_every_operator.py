"""All that is above the protocols, by another scheme than the one it was written for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import tacit
from tacit.errors import ConfigError
from tacit.protocols.schemes import PROTOCOLS, protocol_of
from tacit.session.config import Config
from tacit.session.session import Session

from .world import Recorder

ROOT = Path(__file__).parents[2]
OTHERS = [name for name in PROTOCOLS if name != "additive"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_network_trains_alike_by_every_scheme(protocol: str) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
    x, y = torch.randn(12, 5), torch.randint(3, (12,))
    weights = []
    for secret in (False, True):
        with tacit.session(seed=1, protocol=protocol):
            share = tacit.share if secret else lambda v: v
            own = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
            own.load_state_dict(model.state_dict())
            own = share(own)
            optimizer = torch.optim.AdamW(own.parameters(), lr=0.01)
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.cross_entropy(own(share(x)), share(y)).backward()
                optimizer.step()
            weights.append([tacit.reveal(p.detach()) if secret else p.detach() for p in own.parameters()])

    for plain, trained in zip(*weights, strict=True):
        torch.testing.assert_close(trained, plain, atol=2e-3, rtol=0)


def test_the_plain_scheme_refuses_a_network() -> None:
    with pytest.raises(ConfigError, match="hides nothing and runs in one process only"):
        Config.parse('{"alice": "127.0.0.1:20000", "bob": "127.0.0.1:20001", "tacit": {"protocol": "plain"}}')
    config = Config.embedded(protocol="plain")
    with pytest.raises(ConfigError, match="hides nothing and runs in one process only"):
        protocol_of(Session(Recorder(("alice",)), config))


def test_a_scheme_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="must be one of additive, plain, two-party, not"):
        tacit.session(protocol="none")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("protocol", OTHERS)
@pytest.mark.parametrize("suite", ["tests/aten", "tests/models", "tests/test_training.py", "tests/test_precision.py"])
def test_the_suite_passes_by_every_scheme(suite: str, protocol: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "1200",
        "--protocol",
        protocol,
        suite,
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-4000:]
