"""How the cost of inference grows: run by `growth.py` with `tacit local`, once for each number of parties.

A perceptron of `depth` hidden layers of `width` with ReLU, on `batch` rows of 256 numbers: Bob's model on Alice's data.
"""

from __future__ import annotations

import argparse
import json

import measure
import torch
from tacit_tasks import share, time_task
from torch import Tensor, nn

import tacit

FEATURES = 256


def perceptron(width: int, depth: int) -> nn.Sequential:
    """Return the model, with the same weights at every role."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inputs = FEATURES
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def main() -> None:
    """Time each of the given points and write a row for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", required=True, help="JSON: [{study, value, batch, width, depth}, ...]")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with tacit.session() as session, torch.no_grad():
        rows = measure.Rows(options.out, threads=torch.get_num_threads(), parties=len(session.parties))
        for point in json.loads(options.points):
            generator = torch.Generator().manual_seed(1)
            plain, x = (
                perceptron(point["width"], point["depth"]),
                torch.rand(point["batch"], FEATURES, generator=generator),
            )

            def prepare(plain: nn.Module = plain, x: Tensor = x) -> list[object]:
                return [tacit.share(plain, owner="bob"), share(x, "alice")]

            row, (scores,) = time_task(session, prepare, lambda model, rows: [model(rows)])
            error = float((tacit.reveal(scores, to="all") - plain(x)).abs().max())
            if tacit.is_role("alice"):
                rows.write(**point, **row, max_abs_err=error)


if __name__ == "__main__":
    main()
