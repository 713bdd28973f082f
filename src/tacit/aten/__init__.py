"""The ATen operators on secrets, a file for each family. Importing this package registers them all."""

from tacit.aten import (
    activation,
    approximate,
    arithmetic,
    attention,
    comparison,
    convolution,
    creation,
    embedding,
    foreach,
    labels,
    linalg,
    loss,
    matrix,
    normalization,
    optimizers,
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
    trigonometry,
    weights,
    whole,
)
from tacit.tensor.deferred import register_waiting
from tacit.tensor.in_place import register_in_place
from tacit.tensor.public import register_public

register_waiting()
register_public()
register_in_place()

__all__ = [
    "activation",
    "approximate",
    "arithmetic",
    "attention",
    "comparison",
    "convolution",
    "creation",
    "embedding",
    "foreach",
    "labels",
    "linalg",
    "loss",
    "matrix",
    "normalization",
    "optimizers",
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
    "trigonometry",
    "weights",
    "whole",
]
