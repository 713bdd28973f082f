"""The ATen operators on secrets, a file for each family. Importing this package registers them all."""

from tacit.aten import (
    activation,
    arithmetic,
    comparison,
    creation,
    loss,
    matrix,
    placement,
    reduction,
    smooth,
    softmax,
    structural,
)

creation.register_in_place()

__all__ = [
    "activation",
    "arithmetic",
    "comparison",
    "creation",
    "loss",
    "matrix",
    "placement",
    "reduction",
    "smooth",
    "softmax",
    "structural",
]
