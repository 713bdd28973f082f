"""quickstart: A Flower / NumPy app."""

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from quickstart.task import load_model

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Main entry point for the ServerApp."""
    # Load initial model
    arrays = ArrayRecord(list(load_model().values()))

    # Initialize FedAvg strategy
    strategy = FedAvg(fraction_train=context.run_config["fraction-train"])

    # Start strategy, run FedAvg for `num_rounds`
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=context.run_config["num-server-rounds"])

    # Save final model
    np.savez("final_model.npz", *result.arrays.to_numpy_ndarrays())
