"""Predictions for clients: `questions` takes requests at a door, `queue` holds them, `service` answers them in batches,
and `load` measures it."""
