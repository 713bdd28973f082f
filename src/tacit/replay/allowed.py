"""What a step may name to be recorded: PyTorch's functions, modules and optimizers of which we know what they read."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

__all__ = [
    "ATTRIBUTES",
    "BUILTINS",
    "CONTAINERS",
    "FUNCTIONAL",
    "GRADIENT_MODES",
    "LAYERS",
    "METHODS",
    "OPTIMIZERS",
    "function_named",
    "of_a_library",
]

_BOTH = [
    "abs",
    "absolute",
    "add",
    "addcdiv",
    "addcmul",
    "addmm",
    "addmv",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "baddbmm",
    "bmm",
    "broadcast_to",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "cos",
    "cumsum",
    "diff",
    "div",
    "divide",
    "dot",
    "einsum",
    "eq",
    "erf",
    "exp",
    "expm1",
    "flatten",
    "flip",
    "ge",
    "greater",
    "gt",
    "hstack",
    "le",
    "less",
    "log",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "lt",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "moveaxis",
    "movedim",
    "mul",
    "multiply",
    "mv",
    "narrow",
    "ne",
    "neg",
    "negative",
    "norm",
    "outer",
    "permute",
    "pow",
    "prod",
    "reciprocal",
    "relu",
    "reshape",
    "roll",
    "rsqrt",
    "select",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "std",
    "sub",
    "subtract",
    "sum",
    "swapaxes",
    "t",
    "tanh",
    "tensordot",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
    "vstack",
    "where",
    "cat",
    "chunk",
    "concat",
    "stack",
]
"""Functions of torch, and methods of tensors."""

FUNCTIONAL = [
    "avg_pool1d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv1d",
    "conv2d",
    "cross_entropy",
    "elu",
    "embedding",
    "gelu",
    "hardsigmoid",
    "hardtanh",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool1d",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "tanh",
    "unfold",
]

METHODS = frozenset(_BOTH) | frozenset(
    [
        "add_",
        "addcdiv_",
        "addcmul_",
        "backward",
        "bool",
        "clamp_",
        "clone",
        "contiguous",
        "copy_",
        "detach",
        "dim",
        "div_",
        "double",
        "expand",
        "expand_as",
        "float",
        "fill_",
        "int",
        "long",
        "mul_",
        "neg_",
        "ndimension",
        "numel",
        "repeat",
        "reshape_as",
        "size",
        "sub_",
        "type_as",
        "view",
        "view_as",
        "zero_",
    ]
)
"""Methods that may be called of whatever a step computes, which is tensors, numbers, and tuples of those."""

ATTRIBUTES = frozenset(["T", "mT", "ndim", "dtype", "shape", "values", "indices"])

BUILTINS: dict[str, Any] = {
    f.__name__: f for f in (range, len, enumerate, zip, float, int, bool, abs, tuple, list, sum)
}

GRADIENT_MODES = frozenset({"no_grad", "enable_grad", "inference_mode", "set_grad_enabled"})

CONTAINERS: tuple[type, ...] = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

LAYERS = frozenset[type](
    {nn.Linear, nn.Conv1d, nn.Conv2d, nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus}
    | {nn.LeakyReLU, nn.Hardtanh, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax, nn.Flatten, nn.Unflatten, nn.Identity}
    | {nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LayerNorm, nn.ZeroPad2d}
    | {nn.BCEWithLogitsLoss, nn.BCELoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.CrossEntropyLoss}
    | {nn.NLLLoss, nn.Embedding, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell}
)
"""Modules that read nothing but their arguments, parameters and numbers."""

OPTIMIZERS: tuple[type, ...] = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)

_FOLDERS = tuple(f"{module.__path__[0]}/" for module in (torch, __import__("tacit")))


def function_named(function: Any) -> str | None:
    """The name by which PyTorch has a function that a step may call; None if it is not one of these."""
    for module, names in _SPACES:
        for name in names:
            if vars(module).get(name) is function:
                return f"{module.__name__}.{name}" if of_a_library(function) else None
    return None


def of_a_library(function: Any) -> bool:
    """Whether nobody has put something of his own in its place."""
    if isinstance(function, FunctionType):
        return function.__code__.co_filename.startswith(_FOLDERS)
    return type(function).__name__ == "builtin_function_or_method" or type(function).__module__.startswith("torch")


_SPACES: tuple[tuple[ModuleType, list[str]], ...] = (
    (torch, _BOTH),
    (nn.functional, FUNCTIONAL),
    (torch.special, ["expit", "log_softmax", "softmax"]),
)
