"""The secret tensor, and what PyTorch's operators on it go through."""

from tacit.tensor.tensor import SecretTensor

__all__ = ["SecretTensor"]
