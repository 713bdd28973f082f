"""Who takes part in a run, where, and what it has cost and revealed."""
