"""Who shares masks with whom: everybody with everybody, or each with k others. Ref: [BBGLR20] Sec. 3."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

__all__ = ["neighbours", "plan"]


def neighbours(participants: Iterable[int], degree: int | None, session: bytes) -> dict[int, tuple[int, ...]]:
    """Return each participant's neighbours: a Harary graph over an order that the session's name shuffles.

    Everyone who knows the participants computes the same graph, so the server cannot choose it. `degree=None`, or one
    that is no smaller than the others are many, is the complete graph.
    """
    everyone = sorted(set(participants))
    n = len(everyone)
    if degree is None or degree >= n - 1:
        return {u: tuple(v for v in everyone if v != u) for u in everyone}
    if degree < 2 or degree % 2:
        raise ValueError(f"the degree of the graph must be even and positive, not {degree}")
    order = sorted(everyone, key=lambda u: hashlib.sha256(b"tacit graph %d " % u + session).digest())
    half = degree // 2
    steps = [*range(-half, 0), *range(1, half + 1)]
    return {u: tuple(sorted(order[(i + step) % n] for step in steps)) for i, u in enumerate(order)}


def plan(
    clients: int, *, corrupt: float = 0.05, dropped: float = 0.3, security: int = 40, correctness: int = 20
) -> tuple[int, float]:
    """Return the smallest degree k, and a threshold as a fraction of k + 1, for random corruption and drop-outs.

    Except with probability 2^-security, no client's k neighbours hold so many corrupt ones that a server that tells
    different clients different survivors learns both secrets of one client: 2 t > k + 1 + corrupt. Except with
    probability 2^-correctness, every neighbourhood keeps t clients. Both by the hypergeometric tail and a union bound
    over clients. Ref: [BBGLR20] Def. 3.1 and Lemma 3.7.
    """
    bad, lost = math.ceil(corrupt * clients), math.ceil(dropped * clients)
    for degree in range(8, clients - 1, 2):
        most_bad = _quantile(clients - 1, bad, degree, 2.0**-security / clients)
        most_lost = _quantile(clients - 1, lost, degree, 2.0**-correctness / clients)
        threshold = (degree + 1 + most_bad) // 2 + 1
        if threshold <= degree - most_lost:
            return degree, (threshold - 0.5) / (degree + 1)
    raise ValueError(
        f"no graph over {clients} clients tolerates {corrupt:.0%} corrupt and {dropped:.0%} dropped: let all share "
        "masks with all (degree=None), or tolerate less"
    )


def _quantile(population: int, marked: int, draws: int, tail: float) -> int:
    """Return the smallest x with P[more than x of the draws are marked] <= tail (hypergeometric)."""

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    above = 0.0
    for x in range(min(marked, draws), max(0, draws - population + marked) - 1, -1):
        log_p = log_choose(marked, x) + log_choose(population - marked, draws - x) - log_choose(population, draws)
        above += math.exp(log_p)
        if above > tail:
            return x
    return 0
