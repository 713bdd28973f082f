"""From a trained model to a program: a file for each family, and `assemble`, the last step of all."""
