"""From a trained torch module to polynomials of its input: what torch.fx writes down, run on polynomials.

Affine layers are read off zero and the unit vectors, so padding, strides, groups and folded statistics are PyTorch's
own. What is neither affine nor a product is gathered and refused, all at once.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sparse
import torch
from torch import fx, nn
from torch.nn import functional

from tacit.errors import DataError
from tacit.fhe.compile.polynomial import Polynomials

PIECE = 1 << 22
"""Numbers of unit vectors that are put through a layer at a time: 32 MB."""

AFFINE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Flatten, nn.Unflatten, nn.Identity,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.PixelShuffle,
)  # fmt: skip
AFFINE_FUNCTIONS: tuple[Any, ...] = (
    functional.linear, torch.conv1d, torch.conv2d, functional.avg_pool1d, functional.avg_pool2d,
    functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d, torch.flatten, torch.reshape, torch.permute,
    torch.transpose, torch.mean, torch.sum, torch.squeeze, torch.unsqueeze,
)  # fmt: skip
AFFINE_METHODS = ("view", "reshape", "flatten", "permute", "transpose", "mean", "sum", "squeeze", "unsqueeze",
                  "contiguous", "double", "float")  # fmt: skip
OPERATORS: dict[Any, str] = {
    operator.add: "add", operator.iadd: "add", torch.add: "add", "add": "add", "add_": "add",
    operator.sub: "sub", operator.isub: "sub", torch.sub: "sub", "sub": "sub",
    operator.mul: "mul", operator.imul: "mul", torch.mul: "mul", "mul": "mul", torch.multiply: "mul",
    operator.truediv: "div", torch.div: "div", "div": "div", operator.neg: "neg", torch.neg: "neg", "neg": "neg",
    operator.pow: "pow", torch.pow: "pow", "pow": "pow", torch.square: "square", "square": "square",
    operator.matmul: "matmul", torch.matmul: "matmul", "matmul": "matmul",
}  # fmt: skip
LINEAR: dict[str, Callable[..., Any]] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "neg": torch.neg, "matmul": torch.matmul,
}  # fmt: skip


class _Rows:
    """How many rows a batch has: x.size(0), which no polynomial may depend on but to keep its rows apart."""


def polynomials(module: nn.Module, columns: Polynomials) -> Polynomials:
    """Return the outputs of a module (in eval mode, in double precision) on polynomials.

    Raises:
        DataError: if something in the module is no polynomial.
    """
    for name, part in module.named_modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) and part.running_mean is None:
            raise DataError(f"{name} normalises by the batch that it sees, which one encrypted row is not part of")
    try:
        graph = fx.symbolic_trace(module)
    except Exception as error:
        raise DataError(
            f"torch.fx cannot follow the forward of this {type(module).__name__} ({type(error).__name__}): write it "
            "without branches on values"
        ) from error
    reading = _Reading(graph, columns)
    out = reading.run(columns)
    if reading.unknown:
        raise DataError(
            f"no polynomials: {', '.join(reading.unknown)}. Train the network with squares (x * x) in their place, or "
            "run it as it is on secrets in a tacit.session"
        )
    if not isinstance(out, Polynomials):
        raise DataError("this network does not return one tensor that depends on its input")
    return out


class _Reading(fx.Interpreter):
    """Runs a graph on polynomials in place of tensors; after something that polynomials have not (NotImplementedError)
    it goes on with its input, to gather all such things."""

    def __init__(self, graph: fx.GraphModule, columns: Polynomials) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors here are ours, and say what there is to say
        self.unknown: list[str] = []
        self._columns = columns

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        try:
            return super().run_node(n)
        except DataError:
            raise
        except NotImplementedError as error:
            if str(error) not in self.unknown:
                self.unknown.append(str(error))
            return self._columns
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            if self.unknown:  # it followed something unknown
                return self._columns
            raise DataError(
                f"{n.name} of this network does not take rows of this shape: give X as it takes it"
            ) from error

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A layer of torch.nn."""
        part = self.fetch_attr(target)
        if not isinstance(part, AFFINE_MODULES):
            raise NotImplementedError(f"{type(part).__name__} ({target})")
        return _probed(lambda x, *rest: part(x, *rest), args, kwargs)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A function or an operator."""
        if not _has((args, tuple(kwargs.values())), Polynomials, _Rows):
            return super().call_function(target, args, kwargs)
        if target in (getattr, operator.getitem):
            return _fact(target, args)
        if target is functional.dropout and not kwargs.get("training", True):
            return args[0]
        if target in OPERATORS:
            return _operator(OPERATORS[target], args, kwargs)
        if target in AFFINE_FUNCTIONS and not _has((args[1:], tuple(kwargs.values())), Polynomials):
            return _probed(target, args, kwargs)
        raise NotImplementedError(getattr(target, "__name__", str(target)))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A method of a tensor."""
        if not _has((args, tuple(kwargs.values())), Polynomials, _Rows):
            return super().call_method(target, args, kwargs)
        if target == "size" and isinstance(args[0], Polynomials):
            size = (_Rows(), *args[0].shape)
            return size if len(args) == 1 else size[args[1]]
        if target in OPERATORS:
            return _operator(OPERATORS[target], args, kwargs)
        if target in AFFINE_METHODS and not _has((args[1:], tuple(kwargs.values())), Polynomials):
            return _probed(lambda x, *rest, **more: getattr(x, target)(*rest, **more), args, kwargs)
        raise NotImplementedError(f".{target}()")


def _has(item: Any, *kinds: type) -> bool:
    if isinstance(item, (tuple, list)):
        return any(_has(part, *kinds) for part in item)
    return isinstance(item, kinds)


def _fact(target: Any, args: Any) -> Any:
    item, which = args
    if target is getattr and which == "shape":
        return (_Rows(), *item.shape)
    if target is getattr and which == "ndim":
        return 1 + len(item.shape)
    if target is operator.getitem and isinstance(item, tuple):
        return item[which]
    raise NotImplementedError("indexing" if target is operator.getitem else f".{which}")


def _operator(name: str, args: Any, kwargs: Any) -> Any:
    """Return an arithmetic operation of polynomials and constants."""
    left, *rest = args
    if kwargs:
        raise NotImplementedError(f"{name} with {', '.join(kwargs)}")
    if name == "square" or name == "pow":
        return _power(left, 2 if name == "square" else rest[0])
    if not rest or not all(isinstance(one, Polynomials) for one in (left, rest[0])):
        if name == "div" and not isinstance(left, Polynomials):
            raise NotImplementedError("division by what depends on the input")
        return _probed_at(LINEAR[name], args)
    right = rest[0]
    if name not in ("add", "sub", "mul") or left.shape != right.shape:
        raise NotImplementedError(f"{name} of shapes {left.shape} and {right.shape}")
    return left.times(right) if name == "mul" else left.plus(right, 1 if name == "add" else -1)


def _power(base: Any, exponent: Any) -> Polynomials:
    whole = isinstance(exponent, (int, float)) and exponent == int(exponent) and 1 <= exponent <= 16
    if not isinstance(base, Polynomials) or not whole:
        raise NotImplementedError(f"a power of {exponent if isinstance(exponent, (int, float)) else 'another kind'}")
    out = base
    for _ in range(int(exponent) - 1):
        out = out.times(base)
    return out


def _probed_at(function: Callable[..., Any], args: Any) -> Polynomials:
    """Return an operation that is affine in its one polynomial argument, wherever that stands."""
    at = next(i for i, one in enumerate(args) if isinstance(one, Polynomials))
    constants = [one.double() if isinstance(one, torch.Tensor) and one.is_floating_point() else one for one in args]

    def applied(x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = function(*(x if i == at else one for i, one in enumerate(constants)))
        return out

    return _probed(applied, (args[at],), {})


def _probed(function: Callable[..., Any], args: Any, kwargs: Any) -> Polynomials:
    """Return an affine function of polynomials, read off zero and the unit vectors; it must keep rows apart."""
    p, *rest = args
    if not isinstance(p, Polynomials):
        raise NotImplementedError("a layer whose first argument is not the input")

    def applied(x: torch.Tensor) -> Any:
        out = function(x, *_with_rows(rest, len(x)), **kwargs)
        if out.shape[:1] != x.shape[:1]:
            raise NotImplementedError("an operation that mixes the rows of a batch")
        return out

    inputs = p.coefficient.shape[0]
    with torch.no_grad():
        zero = applied(torch.zeros(3, *p.shape, dtype=torch.float64))  # three: no row is a dimension of one
        shape = tuple(zero.shape[1:])
        offset = zero[0].reshape(-1).numpy()
        rows = [_compressed(applied(x) - zero[0]) for x in _units(inputs, p.shape)]
    matrix = sparse.csr_array(sparse.vstack(rows).T)
    return p.affine(matrix, offset, shape)


def _units(inputs: int, shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    step = max(2, PIECE // max(inputs, 1))
    for start in range(0, inputs, step):
        which = torch.arange(start, min(start + step, inputs))
        x = torch.zeros(len(which), inputs, dtype=torch.float64)
        x[torch.arange(len(which)), which] = 1.0
        yield x.reshape(len(which), *shape)


def _compressed(rows: torch.Tensor) -> Any:
    return sparse.csr_array(rows.reshape(len(rows), -1).numpy())


def _with_rows(item: Any, rows: int) -> Any:
    if isinstance(item, (list, tuple)):
        return type(item)(_with_rows(part, rows) for part in item)
    return rows if isinstance(item, _Rows) else item


def double_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module on the CPU, in eval mode and double precision."""
    return copy.deepcopy(module).cpu().eval().double()


def outputs(module: nn.Module, x: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Any:
    """Return what a module (in double precision) gives for rows, each flattened."""
    with torch.no_grad():
        return module(torch.from_numpy(np.ascontiguousarray(x)).reshape(len(x), *shape)).numpy()
