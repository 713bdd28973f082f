"""What PyTorch's optimizers do differently where their parameters are secret."""

from tacit.optim import hooks

__all__ = ["hooks"]
