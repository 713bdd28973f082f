"""A training that goes on from its checkpoints, however it was ended.

Alice holds the columns of some rows and Bob their targets. Every ten steps each role keeps its shares of the model and
of the optimizer; start the program again with `--resume`, and it goes on from there:

    tacit local examples/long_runs/train.py --restart 5
"""

from __future__ import annotations

import torch
from torch import nn

import tacit

ROWS = 200


def main() -> None:
    """Share, train, and reveal the model to Alice."""
    slope = torch.tensor([[1.0], [-2.0], [0.5]])
    with tacit.session():
        known = torch.randn(ROWS, 3)  # from the public generator, so that both owners' parts fit together
        x = tacit.share(known if tacit.is_role("alice") else None, "alice", shape=(ROWS, 3))
        y = tacit.share(known @ slope if tacit.is_role("bob") else None, "bob", shape=(ROWS, 1))
        model = tacit.share(nn.Linear(3, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        saved = tacit.checkpoint(every=10, model=model, optimizer=optimizer)
        for rows, target in saved(tacit.batches(x, y, size=20, epochs=5)):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(rows), target).backward()
            optimizer.step()
        weight = tacit.reveal(model.weight, to="alice", name="weight")
        if tacit.is_role("alice"):
            print(f"after {saved.step} steps: {[round(w, 2) for w in weight.flatten().tolist()]}")


if __name__ == "__main__":
    main()
