"""What a task costs at least on this machine: the least work of the protocol, at the rates that the machine reaches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import tasks

Row = dict[str, Any]


def arithmetic_limits() -> dict[str, float]:
    """Measure the 64-bit matrix product that Tacit uses, on one thread, and a copy in memory (best of several)."""
    import torch

    from tacit.ring import kernels

    side = 512
    a, b = (torch.randint(-(2**62), 2**62, (side, side)) for _ in range(2))
    source = torch.zeros(1 << 24, dtype=torch.int64)
    target = torch.empty_like(source)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        product, torch_product = (_best(run) for run in (lambda: kernels.matmul(a, b), lambda: a @ b))
        copy = _best(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)
    return {"gmac_s": side**3 / min(product, torch_product) / 1e9, "copy_gb_s": 2 * source.nbytes / copy / 1e9}


def _best(run: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times + 1):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def seconds(row: Row, machine: Row) -> dict[str, float]:
    """Return the parts of a task's floor, in seconds; their sum is the floor.

    arithmetic: the ring products of `tasks.ring_multiply_adds`, on all cores that the three roles can use;
    memory:     every number in and out once at both parties, every byte sent written and read once;
    wire:       every byte sent once, at the rate of one loopback connection; or, over emulated links, the bytes of the
                busiest one, if the producer's were spread evenly;
    rounds:     half a round trip each, of processes that sleep or that look for the answer, whatever is shorter.

    What each role draws from its key streams is left out: some 8 bytes for each that is sent, at tens of GB/s.
    """
    cores = min(machine["cores"], 3 * row.get("threads", 1))
    sent = row["online_bytes"] + row["producer_bytes"]
    parts = {
        "arithmetic": tasks.ring_multiply_adds(row["task"]) / (machine["gmac_s"] * 1e9 * cores),
        "memory": (2 * 8 * tasks.values(row["task"]) + 2 * sent) / (machine["copy_gb_s"] * 1e9),
    }
    if "wan_rate" not in machine:
        return parts | {
            "wire": sent / (machine["bandwidth_gb_s"] * 1e9),
            "rounds": row["rounds"] * min(machine["rtt_us"], machine.get("rtt_looking_us", math.inf)) / 2 * 1e-6,
        }
    wire = travel(0, row["online_bytes"] / 2, row["producer_bytes"], machine["wan_round_trip"], machine["wan_rate"])
    return parts | {"wire": wire, "rounds": row["rounds"] * machine["wan_round_trip"] / 2}


def travel(rounds: int, party_bytes: float, producer_bytes: float, round_trip: float, rate: float) -> float:
    """Return the seconds of rounds, half a round trip each, and of the bytes of the busiest link.

    Each link has a rate of its own, and all work at once: one party's to the other, and the producer's to each, if its
    bytes were spread evenly.
    """
    return rounds * round_trip / 2 + max(party_bytes, producer_bytes / 2) / rate
