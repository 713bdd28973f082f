"""What watches a run: which module an operator belongs to, and what is claimed of its results."""
