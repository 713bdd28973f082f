"""From ten sites' digits to predictions on encrypted images: the whole walk, in one process.

Ten sites hold digits of 28 by 28 pixels, some many, some few. Each fits scikit-learn's LogisticRegression; Flower
federates it; the server learns the average of each round and no site's own update. The model is stored as plain
numbers, read again, and handed to a service that predicts on images it cannot see.

    python examples/federated/walk.py                 # drawn digits
    python examples/federated/walk.py --data real     # scikit-learn's handwritten digits
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from flwr.app import Context, RecordDict
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))

from digits import client_app, server_app
from digits.data import load

from tacit.federated import Identity, LocalGrid, Roster
from tacit.federated.parameters import load_arrays
from tacit.fhe.linear_model import LogisticRegression as EncryptedLogisticRegression


def federate(data: str, folder: Path, rounds: int, sites: int = 10) -> Path:
    """Train over all sites in this process; return the model's file."""
    identities = [Identity.generate(f"site-{i}") for i in range(sites)]
    Roster.of(identities).save(folder / "roster.json")
    nodes = [
        {
            "partition-id": i,
            "num-partitions": sites,
            "identity": str(identity.save(folder)),
            "roster": str(folder / "roster.json"),
        }
        for i, identity in enumerate(identities)
    ]
    config = {
        "data": data,
        "rounds": rounds,
        "sites": sites,
        "timeout": 60.0,
        "roster": str(folder / "roster.json"),
        "model": str(folder / "model.safetensors"),
    }
    grid = LocalGrid(client_app.app, nodes, run_config=config)
    server_app.app(grid, Context(1, 1, {}, RecordDict(), config))
    return folder / "model.safetensors"


def walk(data: str, rounds: int, encrypted: int) -> dict[str, float]:
    """Return the accuracy of pooled training, of the federated model, and of that model on encrypted images."""
    x, y, x_test, y_test = load(data)
    pooled = LogisticRegression(max_iter=1000, C=client_app.REGULARISATION / len(x)).fit(x, y)
    with tempfile.TemporaryDirectory() as folder:
        arrays = load_arrays(federate(data, Path(folder), rounds))
    model = server_app.model_of(arrays)
    service = EncryptedLogisticRegression.from_sklearn_model(model, x, n_bits=8)
    few = slice(0, encrypted)
    return {
        "images": len(x_test),
        "pooled": float(pooled.score(x_test, y_test)),
        "federated": float(model.score(x_test, y_test)),
        "quantised": float((service.predict(x_test, fhe="simulate") == y_test).mean()),
        "encrypted images": encrypted,
        "encrypted": float((service.predict(x_test[few], fhe="execute") == y_test[few]).mean()),
        "same images in clear": float((model.predict(x_test[few]) == y_test[few]).mean()),
    }


def main() -> None:
    """Walk, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=["drawn", "real"], default="drawn")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--encrypted", type=int, default=200, help="how many images to encrypt")
    options = parser.parse_args()
    with threadpool_limits(1):  # these matrices are small: more threads only wait for each other
        print(json.dumps(walk(options.data, options.rounds, options.encrypted), indent=1))


if __name__ == "__main__":
    main()
