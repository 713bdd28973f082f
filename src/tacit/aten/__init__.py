"""The ATen operators on secrets, a file for each family. Importing this package registers them all."""

from tacit.aten import (
    activation,
    arithmetic,
    attention,
    comparison,
    convolution,
    creation,
    embedding,
    loss,
    matrix,
    placement,
    pooling,
    recurrent,
    reduction,
    resampling,
    smooth,
    softmax,
    sorting,
    special,
    statistics,
    structural,
)

creation.register_in_place()

__all__ = [
    "activation",
    "arithmetic",
    "attention",
    "comparison",
    "convolution",
    "creation",
    "embedding",
    "loss",
    "matrix",
    "placement",
    "pooling",
    "recurrent",
    "reduction",
    "resampling",
    "smooth",
    "softmax",
    "sorting",
    "special",
    "statistics",
    "structural",
]
