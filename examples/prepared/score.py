"""Score Alice's customers by Bob's model, with the crypto-producer's work done the night before.

Shapes are stated, so that the crypto-producer can run the program by itself, without data: it needs them, and nothing
else. Scores go to Alice; everybody learns how many are high.

    tacit prepare examples/prepared/score.py --config config.json --out store     # the crypto-producer, ahead, alone
    tacit run examples/prepared/score.py --config config.json --as alice --prepared alice.store   # the parties, later
"""

from __future__ import annotations

import torch
from torch import nn

import tacit

ROWS, COLUMNS = 200, 8


def customers() -> torch.Tensor:
    """What Alice has."""
    return torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


def trained(model: nn.Module) -> nn.Module:
    """What Bob has: here, weights that say something."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.75, parameter.numel()).reshape(parameter.shape))
    return model


def main() -> None:
    """Share, score, and reveal."""
    with tacit.session() as session, torch.no_grad():
        x = tacit.share(customers() if tacit.is_role("alice") else None, "alice", shape=(ROWS, COLUMNS))
        model = nn.Sequential(nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, 1))
        model = tacit.share(trained(model) if tacit.is_role("bob") else model, "bob")
        scores = model(x).squeeze(1)

        mine = tacit.reveal(scores, to="alice", name="scores")
        high = tacit.reveal((scores > 9).sum(), name="how many are high")
        if tacit.is_role("alice"):
            print(f"the best score is {mine.max():.2f}")
        if high is not None:
            print(f"{high} scores are high")
        print(session.meter.cost)


if __name__ == "__main__":
    main()
