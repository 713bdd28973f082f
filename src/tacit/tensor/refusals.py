"""What an operator is called in a program, and what to write where secrets do not have it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from tacit.errors import TacitError, UnsupportedOperator
from tacit.session.ledger import source_line
from tacit.tensor.libraries import advice

__all__ = ["ALTERNATIVES", "no_place_for_a_secret", "public_name", "unsupported", "unsupported_operator", "within"]

INTERNAL = {
    "_cdist_backward": "the gradient of torch.cdist",
    "_ctc_loss": "torch.nn.functional.ctc_loss",
    "_fft_c2c": "a Fourier transform",
    "_fft_c2r": "a Fourier transform",
    "_fft_r2c": "a Fourier transform",
    "_histogramdd_bin_edges": "torch.histogramdd",
    "_histogramdd_from_bin_tensors": "torch.histogramdd",
    "_is_all_true": "a check of values, such as torch.distributions makes,",
    "_is_any_true": "a check of values, such as anomaly detection makes,",
    "_linalg_eigh": "torch.linalg.eigh",
    "_linalg_eigvals": "torch.linalg.eigvals",
    "_linalg_svd": "torch.linalg.svd",
    "_local_scalar_dense": "x.item()",
    "_pin_memory": "x.pin_memory()",
    "_to_sparse": "x.to_sparse()",
    "_to_sparse_bsc": "x.to_sparse_bsc()",
    "_to_sparse_bsr": "x.to_sparse_bsr()",
    "_to_sparse_csc": "x.to_sparse_csc()",
    "_to_sparse_csr": "x.to_sparse_csr()",
    "_unique2": "torch.unique",
    "fractional_max_pool2d": "torch.nn.functional.fractional_max_pool2d",
    "fractional_max_pool3d": "torch.nn.functional.fractional_max_pool3d",
    "rrelu_with_noise": "torch.nn.functional.rrelu",
    "segment_reduce": "torch.segment_reduce",
    "unique_dim": "torch.unique",
    "max_unpool2d": "torch.nn.functional.max_unpool",
    "max_unpool3d": "torch.nn.functional.max_unpool",
}
"""Operators that PyTorch's functions end in, by the name of the function."""

PLACES = (
    ("torch.", torch),
    ("torch.nn.functional.", torch.nn.functional),
    ("torch.special.", torch.special),
    ("torch.linalg.", torch.linalg),
    ("torch.Tensor.", torch.Tensor),
)

SHAPES = "shapes are public, so a result whose size depends on secret values cannot exist"
REVEAL = "reveal the operand first, if it may be known"
DECOMPOSED = (
    "of the factorisations of matrices there is torch.linalg.cholesky; torch.linalg.solve, inv and lstsq need none; "
    "reveal the matrix first, if it may be known"
)
UNKNOWN = f"no protocol computes it yet; fit a polynomial to it (tacit.nn.Polynomial), or {REVEAL}"
SPARSE = "the places of a sparse tensor would be public; keep it dense"
FLOATS = "fixed point has neither exponents nor units in the last place of their own; " + REVEAL

ALTERNATIVES = {
    **dict.fromkeys(
        ("_fft_r2c", "_fft_c2c", "_fft_c2r"),
        "its result is complex, and secrets are real; it is linear, so write its parts as products with public "
        "matrices: x @ torch.fft.fft(torch.eye(n)).real, and .imag",
    ),
    "_local_scalar_dense": "it makes a plain number; write tacit.reveal(x, to=…) where it may be known",
    "_is_all_true": "a check of secret values would reveal them: construct distributions with validate_args=False",
    "_is_any_true": "a check of secret values would reveal them; secrets hold neither NaN nor infinity",
    "equal": "its answer is a plain bool; write tacit.reveal((x == y).all())",
    "allclose": "its answer is a plain bool; write tacit.reveal(((x - y).abs() <= tolerance).all())",
    "nonzero": f"{SHAPES}; use a mask",
    "nonzero_static": f"{SHAPES}; use a mask, or x.sort(descending=True)",
    "unique_dim": SHAPES,
    "_unique2": SHAPES,
    "unique_consecutive": f"{SHAPES}; x[1:] != x[:-1] says where a new one begins",
    "masked_select": f"{SHAPES}; multiply by the mask or use torch.where",
    "masked_scatter": "which elements go where is secret; use torch.where with the mask",
    "bincount": f"{SHAPES}; write torch.nn.functional.one_hot(x, n).sum(0) for counts of 0 to n - 1",
    "round": "compare with thresholds, torch.bucketize does, or reveal first",
    "floor": "compare with thresholds, torch.bucketize does, or reveal first",
    "mode": "count with (x[..., None] == x[..., None, :]).sum(-1), and take what torch.argmax of the counts points to",
    "binomial": "draw public randomness with torch.rand and compare: (torch.rand(n, *p.shape) < p).sum(0)",
    "bernoulli": "draw public randomness with torch.rand and compare: the mask of a dropout is public",
    "bernoulli_": "draw public randomness with torch.rand and compare: (torch.rand(p.shape) < p).float()",
    "poisson": "draw public randomness with torch.rand, and compare with the distribution function",
    "_standard_gamma": "draw public numbers with torch.distributions, of public parameters",
    "_sample_dirichlet": "draw public numbers with torch.distributions, of public parameters",
    "histogramdd": "count with torch.histc, a dimension at a time",
    "_histogramdd_bin_edges": "count with torch.histc, a dimension at a time",
    "_histogramdd_from_bin_tensors": "count with torch.histc, a dimension at a time",
    "linalg_matrix_exp": "scale and square: torch.linalg.matrix_power(torch.eye(n) + a / 2**k, 2**k)",
    **dict.fromkeys(
        (
            "_linalg_svd", "_linalg_eigh", "_linalg_eigvals", "linalg_eig", "linalg_eigvals", "linalg_qr", "geqrf",
            "linalg_householder_product", "ormqr", "linalg_lu", "linalg_lu_factor_ex", "linalg_lu_solve", "lu_unpack",
            "linalg_ldl_factor_ex", "linalg_ldl_solve", "linalg_lu_factor", "orgqr",
        ),
        DECOMPOSED,
    ),
    **dict.fromkeys(
        (
            "_to_sparse", "_to_sparse_csr", "_to_sparse_csc", "_to_sparse_bsr", "_to_sparse_bsc", "to_mkldnn",
            "_sparse_mask_helper", "sparse_mask",
        ),
        SPARSE,
    ),
    **dict.fromkeys(("frexp", "nextafter", "hash_tensor"), FLOATS),
    **dict.fromkeys(
        ("view_as_complex", "view_as_real", "complex", "polar"),
        "secrets are real; keep the real and the imaginary part as two tensors",
    ),
    **dict.fromkeys(
        (
            "lgamma", "digamma", "polygamma", "mvlgamma", "igamma", "igammac", "i0", "special_i0e", "special_i1",
            "special_i1e", "erfinv", "special_log_ndtr", "special_ndtri", "special_zeta", "special_erfcx",
            "special_airy_ai",
        ),
        UNKNOWN,
    ),
    "fractional_max_pool2d": "use max_pool2d, or adaptive_max_pool2d for an output of the size you want",
    "fractional_max_pool3d": "use max_pool3d, or adaptive_max_pool3d for an output of the size you want",
    "rrelu_with_noise": "use leaky_relu, or torch.where(x < 0, x * slopes, x) with public torch.rand slopes",
    "max_unpool2d": "with secret indices, use scatter; see torch.Tensor.scatter_",
    "set_": "a secret has no storage to name; write x.set_(y) or x.copy_(y)",
    **dict.fromkeys(("gcd", "lcm"), "its steps depend on the numbers; reveal them first, if they may be known"),
    **dict.fromkeys(
        ("fmod", "remainder", "floor_divide"),
        "whole quotients are not there with these arguments; compare with thresholds, as torch.bucketize does",
    ),
    **dict.fromkeys(
        ("bitwise_left_shift", "__lshift__"), "write x * 2**n for a public n, with the factor as a plain tensor"
    ),
    **dict.fromkeys(
        ("bitwise_right_shift", "__rshift__"), "compare with thresholds, as torch.bucketize does, or reveal first"
    ),
    "triangular_solve": "write torch.linalg.solve_triangular(a, b, upper=True)",
    "dequantize": "secrets are no quantized tensors; leave it out",
    "slice_inverse": "use torch.slice_scatter",
    "is_set_to": "compare objects with `is`",
    "resize_": "make a new tensor: x.new_zeros(shape), or x.reshape(shape)",
    "resize_as_": "make a new tensor: torch.zeros_like(y), or x.reshape(y.shape)",
    "index_reduce": "use index_add, or a loop over the rows with torch.maximum",
    "segment_reduce": "lengths are public: split the rows with torch.split and reduce each part",
    "_has_same_storage_numel": "forward-mode derivatives do not reach secrets; use torch.autograd.grad",
    "_new_zeros_with_same_feature_meta": "forward-mode derivatives do not reach secrets; use torch.autograd.grad",
    "_ctc_loss": "its paths are a recursion over a public target: write it with torch.logsumexp, or, where "
    "every frame has a label, use torch.nn.functional.cross_entropy",
    "grid_sampler_2d": "where a secret grid points is secret; give the grid in the clear, as affine_grid makes it",
    "grid_sampler_3d": "use two dimensions, or torch.nn.functional.interpolate",
    "quantize_per_tensor": "secrets are fixed point already; share the model before it is quantized",
    "quantize_per_channel": "secrets are fixed point already; share the model before it is quantized",
    "quantize_per_tensor_dynamic": "secrets are fixed point already; share the model before it is quantized",
    "fake_quantize_per_tensor_affine": "secrets are fixed point already; leave the fake quantization out",
    "fake_quantize_per_channel_affine": "secrets are fixed point already; leave the fake quantization out",
}  # fmt: skip
"""By the name of an ATen operator: what to write instead, or why there is nothing."""


def public_name(func: Any) -> str:
    """What a program calls an ATen operator: `torch.fmod` for `aten.fmod.Tensor`, `torch.linalg.inv` for its kernel."""
    return _public(func.__name__.partition(".")[0]) or str(func)


@cache
def _public(name: str) -> str | None:
    if name in INTERNAL:
        return INTERNAL[name]
    if name.endswith("_backward"):
        forward = _public(name.removesuffix("_backward"))
        return forward and f"the gradient of {forward}"
    for family in ("linalg", "special"):
        short = name.removeprefix(f"{family}_").removesuffix("_ex")
        if name.startswith(f"{family}_") and hasattr(getattr(torch, family), short):
            return f"torch.{family}.{short}"
    if name.startswith("_"):
        return None
    return next((where + name for where, module in PLACES if hasattr(module, name)), None)


def unsupported(what: Any, instead: str) -> UnsupportedOperator:
    """The error for something that secrets cannot do, with the user's line and what to write instead.

    `what` is an operator, or words.
    """
    name = what if isinstance(what, str) else public_name(what)
    message = f"{name} does not work on secrets ({source_line()}): {instead}{advice()}"
    return UnsupportedOperator(message, name, instead)


def unsupported_operator(func: Any, siblings: list[str]) -> UnsupportedOperator:
    """The error for an operator that is not there; `siblings` are overloads of it that are."""
    name = func.__name__.partition(".")[0]
    family = name.removeprefix("special_").partition("_")[0]
    if name in ALTERNATIVES:
        hint = ALTERNATIVES[name]
    elif name.startswith("_fused_"):
        return unsupported("an optimizer with fused=True", "construct it without fused=True; its default works")
    elif name.endswith("_") and name[:-1] in ALTERNATIVES:
        hint = ALTERNATIVES[name[:-1]]
    elif name.startswith("special_") and ("bessel" in name or "polynomial" in name or family == "zeta"):
        hint = UNKNOWN
    elif siblings:
        hint = f"with these arguments; what works is {', '.join(siblings)}"
    else:
        hint = f"see the table of operators in the docs for what works, or {REVEAL}"
    return unsupported(func, hint)


def within(func: Any, error: UnsupportedOperator, siblings: list[str]) -> UnsupportedOperator:
    """The error for an operator whose definition needs one that is not there: it names what the program called."""
    name = public_name(func)
    if error.what == name or error.what.startswith("prims.") or func.__name__.partition(".")[0] in ALTERNATIVES:
        return unsupported_operator(func, siblings)
    return unsupported(
        func, error.instead if error.instead.startswith("it needs") else f"it needs {error.what}: {error.instead}"
    )


def no_place_for_a_secret(what: str) -> TacitError:
    """The error for a plain tensor that a secret would be written into."""
    return TacitError(
        f"{what} ({source_line()}): make the target with torch.zeros_like(secret), or share what it belongs to, "
        f"tacit.share(module) before its optimizer is made{advice()}"
    )
