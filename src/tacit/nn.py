"""Modules of `torch.nn`'s kind: activation functions for secrets that need one round and no comparison, and layers that
are shared when they run.

On plain tensors the activations compute the same approximations, so that a network can be trained in the clear and on
secrets and compared. Which to choose, and what each costs: docs/activations.md. Layers: docs/models.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from numpy.polynomial import chebyshev
from torch import Tensor, nn

import tacit.aten  # noqa: F401 - registers the operators
from tacit.api import share
from tacit.errors import ConfigError
from tacit.protocols.series import Polynomial as Series

__all__ = ["FourierSigmoid", "Polynomial", "PolynomialSigmoid", "Transient"]


class Polynomial(nn.Module):
    """Apply Σ_k c_k x^k, in one round whatever the degree: `functions.powers`.

    Args:
        coefficients: c_0, c_1, … , public.
        window: a power of two that |x| stays below. Larger numbers give wrong results on secrets, without notice, for
            nobody sees them; plain tensors with such numbers give a warning. A smaller window is more precise.

    Shape: any.   Domain: -window <= x < window.
    Cost: 1 round; with its gradient 8 bytes an element and party, and 16 for each degree from the producer.
    """

    def __init__(self, coefficients: Sequence[float], window: int = 16) -> None:
        super().__init__()
        self.coefficients = [float(c) for c in coefficients]
        self.window = window
        if not self.coefficients or not all(map(math.isfinite, self.coefficients)):
            raise ValueError("a polynomial has at least one coefficient, and all of them are finite")
        if window < 1 or window & (window - 1):
            raise ValueError(f"the window is a power of two, as 8 and 16 are, not {window}")
        scaled = tuple(c * float(window) ** k for k, c in enumerate(self.coefficients))
        _ = Series(window, scaled).frac_bits  # raises if it gets too large

    @classmethod
    def fit(cls, function: Callable[[Tensor], Tensor], degree: int, bound: float, window: int | None = None) -> Self:
        """Approximate a function on [-bound, bound] by its Chebyshev expansion, close to the best of that degree.

        Args:
            function: takes and returns a float64 tensor.
            degree: of the polynomial.
            bound: the end of the interval.
            window: see the class; if not given, the smallest power of two that is at least `bound`.
        """
        count = 8 * (degree + 1)
        angle = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
        values = function(bound * angle.cos()).tolist()
        series = [
            2 / count * sum(v * math.cos(k * a) for v, a in zip(values, angle.tolist(), strict=True))
            for k in range(degree + 1)
        ]
        series[0] /= 2
        rounded = [round(float(c), 10) for c in chebyshev.cheb2poly(series)]  # the same at roles with other libraries
        coefficients = [c / bound**k for k, c in enumerate(rounded)]
        return cls(coefficients, window or 1 << max(math.ceil(math.log2(bound)), 0))

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate it elementwise."""
        return torch.ops.tacit.polynomial(x, self.coefficients, self.window)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Degree and window."""
        return f"degree={len(self.coefficients) - 1}, window={self.window}"


class PolynomialSigmoid(Polynomial):
    """Apply the polynomial closest to 1 / (1 + exp(-x)) on [-8, 8], of degree 3, 5, 7 or 9.

    Beyond 8 it leaves [0, 1], slowly first: of degree 9, it is 1.5 at 9 and 4.5 at 10.

    Args:
        degree: of the polynomial.
        window: see `Polynomial`.
        centred: apply 4 s(x) - 2, as `FourierSigmoid` does; the error is four times as large.

    Shape: any.   Domain: |x| <= 8.   Error: 0.09, 0.041, 0.019 and 0.009 for the four degrees.
    """

    COEFFICIENTS = {  # noqa: RUF012 - read only
        3: (0.15583081, -0.00163367456),
        5: (0.196596433, -0.00482113128, 4.38282818e-05),
        7: (0.220557209, -0.00855552212, 0.000174370337, -1.24789457e-06),
        9: (0.234143431, -0.0120256367, 0.000393541279, -6.17067584e-06, 3.60436281e-08),
    }
    """Of x, x³, …: the minimax polynomials (Lawson's iteration); the constant is 1/2."""

    def __init__(self, degree: int = 9, window: int = 16, *, centred: bool = False) -> None:
        if degree not in self.COEFFICIENTS:
            raise ValueError(f"PolynomialSigmoid has degree 3, 5, 7 or 9, not {degree}; see Polynomial.fit for others")
        scale = 4.0 if centred else 1.0
        coefficients = [0.0 if centred else 0.5] + [0.0] * degree
        coefficients[1::2] = [scale * c for c in self.COEFFICIENTS[degree]]
        super().__init__(coefficients, window)


class FourierSigmoid(nn.Module):
    """Apply a Fourier series of six terms for 1 / (1 + exp(-x)), in one round: `functions.sigmoid`.

    Closer than a polynomial, cheaper, and it stays within [-0.005, 1.005] wherever x is. Its gradient is y (1 - y).

    Args:
        centred: apply 4 s(x) - 2 = 2 tanh(x / 2) in its place, which like tanh is zero at zero, with slope 1. Networks
            of several layers train with that; with s itself, whose mean is 1/2, they often stand still. Costs nothing.

    Shape: any.   Domain: |x| <= 10.   Error: 0.0043.
    Cost: 1 round; with its gradient 8 bytes an element and party, and 96 from the producer.
    """

    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """Evaluate it elementwise."""
        y: Tensor = torch.ops.tacit.fourier_sigmoid(x)
        return 4 * y - 2 if self.centred else y

    def extra_repr(self) -> str:
        """Whether it is centred."""
        return f"centred={self.centred}"


class Transient(nn.Module):
    """Share a module each time it runs, and forget it after: of a large model, one layer is in memory at a time.

    It has no parameters of its own, so `tacit.share` of a model leaves it as it is. For predictions: nothing trains
    what is shared anew each time, and gradients would keep it. So it is in evaluation mode until `train()` says
    otherwise, whatever mode the module is made in.

    Args:
        make: returns the module, at its owner with its weights (read from a file, say); at other roles its parameters
            may be on the meta device. Drawing initial weights changes nothing of PyTorch's generator.
        owner: the party whose weights it has.

    Cost: that of the module, and of sharing it: 8 bytes a weight to each other party, each time.
    """

    def __init__(self, make: Callable[[], nn.Module], owner: str) -> None:
        super().__init__()
        if not callable(make) or isinstance(make, nn.Module):
            raise ConfigError("tacit.nn.Transient takes a function that returns a module, not a module: lambda: layer")
        self.make = make
        self.owner = owner
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module makes of these arguments."""
        with torch.random.fork_rng(devices=[]):
            made = self.make()
        if not isinstance(made, nn.Module):
            raise ConfigError(f"tacit.nn.Transient takes a function that returns a module, not a {type(made).__name__}")
        module = share(made, owner=self.owner).train(self.training)
        del made
        return module(*args, **kwargs)

    def extra_repr(self) -> str:
        """Whose it is."""
        return f"owner={self.owner!r}"
