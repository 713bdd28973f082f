"""How fast the ring kernels are on this machine, native beside reference: `python benchmarks/kernels.py`.

Prints a Markdown table, a thread, the least processor time of several runs; G stands for 10^9. `--threads N` takes wall
time instead, of N threads; `--isa avx512` does without newer instructions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import torch

from tacit.protocols.additive import kernels
from tacit.protocols.additive.kernels import Reference
from tacit.protocols.additive.kernels.waves import Term, Waves
from tacit.ring import convolution, windows
from tacit.ring import kernels as ring_kernels
from tacit.ring.geometry import Geometry

Run = Callable[[], object]


class Task(NamedTuple):
    """Something to time, both ways, and what it gets through."""

    name: str
    amount: float
    unit: str
    native: Run
    reference: Run


def ring(*shape: int) -> torch.Tensor:
    """A random ring tensor."""
    return torch.randint(-(2**63), 2**63 - 1, shape)


def planes(*shape: int) -> torch.Tensor:
    """Random bytes."""
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def products(native: Reference, reference: Reference) -> list[Task]:
    """Matrix products, of shapes from the networks of the benchmark among them."""
    tasks = []
    shapes = [(1024, 1024, 1024), (128, 784, 128), (128, 128, 10), (16, 400, 18432), (1, 784, 500), (4000, 32, 1)]
    for m, k, n in shapes:
        x, y, yt = ring(m, k), ring(k, n), ring(n, k).T
        for name, right in (("", y), (" transposed", yt)):
            tasks.append(
                Task(
                    f"product {m}×{k} · {k}×{n}{name}",
                    m * k * n,
                    "G products/s",
                    lambda x=x, right=right: native.matmul(x, right),
                    lambda x=x, right=right: reference.matmul(x, right),
                )
            )
    return tasks


def convolutions() -> list[Task]:
    """Convolutions and their gradients: gathered, and as a matrix of windows."""
    cases = [(128, 1, 16, 28, 5), (128, 16, 16, 12, 5), (32, 20, 50, 12, 5), (8, 64, 64, 32, 3)]
    return [task for case in cases for task in convolution_tasks(*case)]


def convolution_tasks(batch: int, c: int, o: int, size: int, k: int) -> list[Task]:
    """The three forms of one convolution."""
    g = Geometry((k, k), (1, 1), (0, 0), (1, 1))
    places = g.outputs((size, size))
    x, w, dy = ring(batch, c, size, size), ring(o, c, k, k), ring(batch, o, *places)
    name, count = f"convolution {batch}×{c}×{size}², {o} of {k}²", batch * o * c * k * k * places[0] * places[1]

    def task(form: str, gathered: Run, written: Run) -> Task:
        return Task(f"{name}, {form}", count, "G products/s", gathered, written)

    return [
        task("output", lambda: windows.convolve(x, w, g, places), lambda: convolution.convolve(x, w, g)),
        task(
            "input's gradient",
            lambda: windows.input_gradient(dy, w, g, (size, size)),
            lambda: convolution.input_gradient(dy, w, g, (size, size)),
        ),
        task(
            "weight's gradient",
            lambda: windows.weight_gradient(dy, x, g),
            lambda: convolution.weight_gradient(dy, x, g),
        ),
    ]


def passes(native: Reference, reference: Reference) -> list[Task]:
    """Passes over memory: key streams, tables, planes."""
    n = 1_000_000
    plane = (n + 7) // 8
    a, tables = ring(n), torch.randint(-(2**15), 2**15, (16, n), dtype=torch.int16)
    opened, masks, monomials, less = planes(7, 4, plane), planes(7, 4, plane), planes(22, 4, plane), planes(4, plane)
    bits, share = torch.randint(0, 2, (n,), dtype=torch.uint8), ring(n)
    packed = reference.pack_bits(bits)
    waves = Waves(27 << 38, odd=True, terms=[Term(3.0**-k, 0.0, 18 - k, 18 + k, 5 - k // 5) for k in range(9)])
    words = planes(waves.width * n)
    b, c, d, numbers = ring(n), ring(n), ring(n), torch.randn(n)
    wrap, bit, m = torch.empty(n, dtype=torch.int16), torch.randint(0, 2, (n,), dtype=torch.uint8), 1 << 48
    here, there = native.key_stream(bytes(16)), reference.key_stream(bytes(16))
    both: list[tuple[str, float, Callable]] = [
        ("tables of masks", 40 * n, lambda k: k.thermometer(a)),
        ("look-up in tables", 44 * n, lambda k: k.lookup(tables, a, leader=True)),
        ("monomials of a tree level", 29 * 4 * plane, lambda k: k.node_expand(masks, top=False)),
        (
            "nodes of a tree level",
            39 * 4 * plane,
            lambda k: k.node_evaluate(opened, masks, monomials, less, top=False, leader=True),
        ),
        ("waves of a mask, 9 terms", (8 + waves.width) * n, lambda k: k.wave_table(waves, a, words)),
        ("sum of waves, 9 terms", (16 + waves.width) * n, lambda k: k.wave_sum(waves, a, words)),
        ("ring elements to words of 5 bytes", 13 * n, lambda k: k.narrow(a, 5, words[: 5 * n])),
        ("words of 5 bytes to ring elements", 13 * n, lambda k: k.widen(words[: 5 * n], 5)),
        ("numbers to ring elements", 12 * n, lambda k: k.encode(numbers, 2.0**16)),
        ("ring elements to numbers", 12 * n, lambda k: k.decode(a, 2.0**-16, torch.float32)),
        ("share of products", 48 * n, lambda k: k.multiply_add(share, a, b, c, d, leader=True)),
        ("parts of a truncation", 18 * n, lambda k: k.scaled_parts(a, m, c, wrap)),
        ("share of a truncation", 26 * n, lambda k: k.scaled_share(a, m, c, wrap, leader=True)),
        ("share of a selection", 43 * n, lambda k: k.selected(a, bit, b, c, d, m, wrap)),
        ("bits to planes", 1.125 * n, lambda k: k.pack_bits(bits)),
        ("planes to bits", 1.125 * n, lambda k: k.unpack_bits(packed, n)),
    ]
    tasks = [Task(name, size, "GB/s", lambda f=f: f(native), lambda f=f: f(reference)) for name, size, f in both]
    tasks.append(Task("key stream", 8 * n, "GB/s", lambda: here.next(8 * n), lambda: there.next(8 * n)))
    tasks.append(
        Task(
            "value less key stream",
            8 * n,
            "GB/s",
            lambda: here.subtract_from(share),
            lambda: there.subtract_from(share),
        )
    )
    return tasks


def least(run: Run, clock: Callable[[], float]) -> float:
    """The least seconds of several runs, over a fifth of a second or so."""
    run()
    best, spent, times = float("inf"), 0.0, 0
    while times < 3 or (spent < 0.2 and times < 30):
        start = clock()
        run()
        seconds = clock() - start
        best, spent, times = min(best, seconds), spent + seconds, times + 1
    return max(best, 1e-9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", default="best", help="amx, avx512, avx2 or portable, to compare them")
    options = parser.parse_args()
    threads = options.threads
    if ring_kernels.BACKEND != "native":
        sys.exit("the native kernels are not installed, or TACIT_KERNELS says to do without them")
    from tacit.ring.kernels.native import has_aes, isa, use_isa

    use_isa(options.isa)
    native, reference = kernels.at("cpu"), Reference()
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    print(f"Instruction set: {isa()}, AES instructions: {has_aes()}, threads: {threads}.\n")
    print("| kernel | unit | native | reference | ratio |\n|---|---|---:|---:|---:|")
    for task in products(native, reference) + convolutions() + passes(native, reference):
        fast = task.amount / least(task.native, clock) / 1e9
        with mock.patch.object(ring_kernels, "on", return_value=reference):  # convolutions write their windows
            slow = task.amount / least(task.reference, clock) / 1e9
        print(f"| {task.name} | {task.unit} | {fast:.2f} | {slow:.2f} | {fast / slow:.1f} |", flush=True)


if __name__ == "__main__":
    main()
