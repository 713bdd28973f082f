"""How a kernel slides over an input, and what size comes out: plain numbers, no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

__all__ = ["Geometry"]


class Geometry(NamedTuple):
    """How a kernel slides over an input: a number for each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
    ) -> Self:
        """From PyTorch's lists, in which one number may stand for all dimensions."""

        def each(numbers: Sequence[int]) -> tuple[int, ...]:
            return tuple(numbers) * (len(kernel) if len(numbers) == 1 else 1)

        return cls(tuple(kernel), each(stride), each(padding), each(dilation), groups)

    def outputs(self, size: Sequence[int]) -> tuple[int, ...]:
        """How many places the kernel has in an input of this size."""
        along = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in along)

    def inputs(self, size: Sequence[int], output_padding: Sequence[int]) -> tuple[int, ...]:
        """The size of the input that a transposed convolution makes of an output of this size."""
        extra = tuple(output_padding) * (len(size) if len(output_padding) == 1 else 1)
        along = zip(size, self.kernel, self.stride, self.padding, self.dilation, extra, strict=True)
        return tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in along)
