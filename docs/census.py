"""A census of PyTorch's public functions: each is called with small secrets, and works or says what to write.

Where PyTorch lists samples of an operator (`op_db`), those are taken; other names are tried with some plain arguments,
and the first that plain PyTorch takes counts.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import tacit
from tacit.errors import TacitError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

__all__ = ["COUNTS", "Answer", "answers", "calls", "counted", "summary"]

COUNTS = {"works": 977, "says what to write": 219}
"""As the slow test of `tests/aten/test_census.py` finds them: names, with all samples of one taken together."""

SAMPLES = 3
"""Samples of an operator that are taken. More: more kinds of arguments; each of them costs a tenth of a second."""

SKIPPED = {
    "align_as", "align_to", "apply_", "as_subclass", "autocast_decrement_nesting", "autocast_increment_nesting",
    "backward", "boolean_dispatch", "clear_autocast_cache", "compile", "cond", "cuda", "detach_", "dim_order",
    "fork", "from_file", "handle_torch_function", "has_torch_function", "hpu", "import_ir_module",
    "import_ir_module_from_buffer", "init_num_threads", "initial_seed", "ipu", "is_pinned", "is_shared", "load",
    "manual_seed", "map2_", "map_", "module_load", "mtia", "new", "parse_ir", "parse_schema", "pin_memory",
    "record_stream", "refine_names", "register_hook", "register_post_accumulate_grad_hook", "reinforce", "rename",
    "rename_", "requires_grad_", "resize", "resize_as", "retain_grad", "save", "seed", "set_",
    "set_anomaly_enabled", "set_autocast_cache_enabled", "set_autocast_dtype", "set_autocast_enabled",
    "set_default_device", "set_default_dtype", "set_default_tensor_type", "set_deterministic_debug_mode",
    "set_float32_matmul_precision", "set_flush_denormal", "set_grad_enabled", "set_num_interop_threads",
    "set_num_threads", "set_printoptions", "set_rng_state", "set_vital", "set_warn_always", "share_memory_",
    "thread_safe_generator", "to_mkldnn", "use_deterministic_algorithms", "vmap", "wait", "while_loop", "xpu",
}  # fmt: skip
"""They make no use of a tensor's values, change PyTorch itself, or need another device."""

FAMILIES: dict[str, Any] = {
    "torch": torch,
    "torch.Tensor": torch.Tensor,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.special": torch.special,
    "torch.fft": torch.fft,
}

X = torch.tensor([[0.5, 1.5, 1.0], [2.5, 0.25, 3.5], [1.25, 0.75, 2.0]])
PLACES = torch.tensor([[0, 2, 1], [1, 0, 2], [2, 1, 0]])
MASK = PLACES > 0
TRIES: list[tuple[Any, ...]] = [
    (X,), (X, X), (X, 1), (X, 0, 1), (X, 1.0), (X, X, X), (X, 0, PLACES), (X, 0, PLACES, X), (X, (3, 3)), (X, MASK),
    (X, MASK, X), (X, MASK, 1.0), (X, PLACES), (PLACES,), (PLACES, PLACES), (PLACES, 1), (MASK,), (MASK, MASK),
    (X[0],), (X[0], X[0]), (X[0], 2), (X[None],), (X[None], 2), (X[None, None],), (X[None, None], 2),
    (X[None, None], (3, 3)), (X[None, None], X[None, None]), ([X, X],), (X, torch.float64), (X, PLACES[0]),
    (X, 0, PLACES[0]), (X, 0, PLACES[0], X), (X, X[0]), (X, X[0], X[0]), (X, [3]), (X, 2, 1.0), (X, 0.5, True),
    (X, X, X, X),
]  # fmt: skip


class Answer(NamedTuple):
    """What a call with secrets came to."""

    kind: str
    """"works", "says what to write", or "fails"."""
    words: str


def names() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions of each family."""
    seen = set()
    for family, module in FAMILIES.items():
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if (
                name.startswith(("_", "fbgemm"))
                or name in SKIPPED
                or not callable(function)
                or inspect.isclass(function)
            ):
                continue
            if id(function) not in seen and (family == "torch.Tensor" or not inspect.ismodule(function)):
                seen.add(id(function))
                yield f"{family}.{name}", function


def calls(name: str, function: Callable[..., Any]) -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    """Calls of a function that plain PyTorch takes."""
    short = name.removeprefix("torch.").removeprefix("Tensor.")
    infos = [info for info in op_db if info.name == short and info.supports_dtype(torch.float32, "cpu")]
    found = []
    for info in infos[:1] if not name.startswith("torch.Tensor.") else []:
        for sample in itertools.islice(info.sample_inputs("cpu", torch.float32), SAMPLES):
            found.append((info.op, (sample.input, *sample.args), sample.kwargs))
    if found:
        return found
    if name.startswith("torch.Tensor."):
        function = _method(short)  # as a program calls it: what a secret has in place of a method is asked
    for arguments in TRIES:
        if _result(function, tree_map(_copy, arguments), {}) is not None:
            return [(function, arguments, {})]
    return []


def _method(name: str) -> Callable[..., Any]:
    return lambda x, *rest: getattr(x, name)(*rest)


def _copy(x: Any) -> Any:
    return x.detach().clone() if isinstance(x, Tensor) else x


def _result(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args, **kwargs)
        except Exception:
            return None


def answers(name: str, function: Callable[..., Any]) -> list[Answer]:
    """What each call of a function comes to with everything secret that can be."""
    found = []
    for call, args, kwargs in calls(name, function):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(*tree_map(_hidden, args), **tree_map(_copy, kwargs))
                found.append(Answer("works", ""))
            except (TacitError, NotImplementedError) as error:
                words = str(error)
                generic = "see the table of operators" in words or not isinstance(error, TacitError)
                found.append(Answer("fails" if generic or "prims." in words else "says what to write", words))
            except Exception as error:
                found.append(Answer("fails", f"{type(error).__name__}: {error}"))
    return found


def _hidden(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if (
        x.is_complex()
        or x.layout != torch.strided
        or not bool(x.double().abs().nan_to_num(torch.inf).lt(2.0**40).all())
    ):
        return x.detach()
    return tacit.share(x.detach())


def counted() -> tuple[dict[str, int], dict[str, list[Answer]]]:
    """How many names there are of each kind, and what fails."""
    counts = dict.fromkeys(COUNTS, 0)
    failing: dict[str, list[Answer]] = {}
    for name, function in names():
        with tacit.session(seed=1):
            found = answers(name, function)
        bad = [answer for answer in found if answer.kind == "fails"]
        if bad:
            failing[name] = bad
        elif found:
            counts["works" if any(a.kind == "works" for a in found) else "says what to write"] += 1
    return counts, failing


def summary() -> str:
    """The counts, as the tests hold them."""
    works, says = COUNTS.values()
    return (
        f"Of PyTorch's public functions and methods that take a tensor, {works + says} were called with small secrets: "
        f"{works} work, and {says} say in one sentence why not, and mostly what to write."
    )
