"""How far an operator's result may be from PyTorch's: what is claimed of it, and what rounding explains."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit.functions import exponential, logarithm, reciprocal, roots, sigmoid, softmax
from tacit.watch.claims import CLAIMS, Claim

__all__ = ["Documented", "base", "documented", "widened"]

OTHERWISE = Claim(2.0**-10)
"""What is taken for operators that are in no list of PyTorch's samples: the parts that autograd is made of."""

NAMED = {
    "_scaled_dot_product_flash_attention_for_cpu": "nn.functional.scaled_dot_product_attention",
    "_native_multi_head_attention": "nn.functional.multi_head_attention_forward",
    "_transformer_encoder_layer_fwd": "nn.functional.multi_head_attention_forward",
    "convolution": "nn.functional.conv2d",
    "mkldnn_rnn_layer": "tanh",
    "rnn_tanh": "tanh",
    "linalg_vector_norm": "linalg.vector_norm",
    "nll_loss2d": "nn.functional.nll_loss",
    "sigmoid": "sigmoid",
}
"""The names in PyTorch's list of samples of operators that are called otherwise in ATen."""

FUNCTIONS = {
    name: f
    for module in (exponential, logarithm, reciprocal, roots, sigmoid)
    for name, f in inspect.getmembers(module, inspect.isfunction)
    if f.__module__ == module.__name__
} | {"softmax": softmax.Softmax.value}

DOCUMENTED = {"div": "quotient", "true_divide": "quotient", "erf": "erf", "softplus": "softplus", "gelu": "erf"}
"""Functions whose docstring has the domain of an operator, beside those that the claims name."""


class Documented(NamedTuple):
    """What the documentation says of an operator."""

    claim: Claim
    name: str
    """In PyTorch's list of samples; empty if it is in none."""
    domain: str


@cache
def documented(func: Any) -> Documented:
    """The claim about an ATen overload, or about the operator whose gradient it is a part of."""
    packet = func.__name__.partition(".")[0]
    bare = re.sub(r"^_foreach_|_backward(_data)?$|_forward$|(?<=[a-z0-9])_$", "", packet)
    for name in dict.fromkeys([packet, bare, re.sub(r"_backward(_data)?$|_forward$", "", bare.strip("_"))]):
        short = name.removeprefix("native_")
        for candidate in (NAMED.get(name), name, short, f"nn.functional.{short}", short.replace("linalg_", "linalg.")):
            if candidate in CLAIMS:
                claim = CLAIMS[candidate]
                function = claim.function or DOCUMENTED.get(candidate, candidate.rpartition(".")[2])
                return Documented(claim, candidate, _domain(function))
    return Documented(OTHERWISE, "", _domain(DOCUMENTED.get(bare, bare)))


def _domain(function: str) -> str:
    """The part of a function's docstring that states domain and error."""
    text = " ".join((getattr(FUNCTIONS.get(function), "__doc__", None) or "").split())
    found = re.search(r"(Domain: .*?)(?: Cost:| Reveals:| Ref:|$)", text)
    return found[1] if found else ""


def base(func: Any, want: Tensor, frac_bits: int) -> Tensor:
    """The claimed error at each element: relative to the element or 1 if elements stand for themselves, else to the
    largest element or 1. With fewer fractional bits than 16, as much larger as a unit is."""
    error = documented(func).claim.error * 2.0 ** max(0, 16 - frac_bits)
    size = want.double().abs().nan_to_num(0.0, 0.0, 0.0)
    if torch.Tag.pointwise not in func.tags and want.numel():
        size = size.max().expand(want.shape)
    return error * size.clamp(min=1.0)


def widened(tolerance: Tensor, want: Tensor, spread: Sequence[Tensor], *, pointwise: bool) -> Tensor:
    """The tolerance and what roundings of the operands explain, seen at results with moved operands."""
    if not spread:
        return tolerance
    effects = [(moved.double() - want.double()).abs() for moved in spread if moved.shape == want.shape]
    effect = torch.stack(effects).amax(0).nan_to_num(torch.inf, torch.inf) if effects else torch.zeros_like(want)
    if not pointwise and effect.numel():
        finite = effect[effect.isfinite()]
        effect = effect + (finite.mean() if finite.numel() else 0.0)  # where two effects cancel out by chance
    return tolerance + effect
