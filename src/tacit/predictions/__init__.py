"""Predictions for clients: `questions` takes requests at a door, `queue` holds them, `service` answers them in batches,
and `load` measures it. Where there is one server, `host` takes clients in and `attendant` computes with each."""
