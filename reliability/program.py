"""The program whose roles are disturbed: it shares, trains with checkpoints and reveals, and says where it is.

At the beginning of each phase a role writes a file named after the phase and itself, and waits for a moment, so that
whoever disturbs it does so there.
"""

import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

import tacit

HERE = Path(sys.argv[1])
PAUSE = float(sys.argv[2])
ONLY = sys.argv[3]
ROLE = os.environ["RELIABILITY_ROLE"]


def phase(name: str) -> None:
    """Say that a phase begins, and wait where somebody is to be disturbed in it."""
    (HERE / f"{name}.{ROLE}").touch()
    if name == ONLY:
        time.sleep(PAUSE)


generator = torch.Generator().manual_seed(4)
x, y = torch.randn(16, 3, generator=generator), torch.randn(16, 1, generator=generator)
torch.manual_seed(2)
plain = nn.Linear(3, 1)
phase("meeting")
with tacit.session():
    phase("sharing")
    rows = tacit.share(x, owner="alice", shape=x.shape)
    target = tacit.share(y, owner="bob", shape=y.shape)
    model = tacit.share(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    saved = tacit.checkpoint(every=2, model=model, optimizer=optimizer)
    for step in saved(range(6)):
        if step == 3:
            phase("training")
        optimizer.zero_grad()
        nn.functional.mse_loss(model(rows), target).backward()
        optimizer.step()
        if step == 3:
            phase("keeping")
    phase("revealing")
    weight = tacit.reveal(model.weight, to="alice", name="weight")
    if weight is not None:
        torch.save(weight, HERE / "weight.pt")
