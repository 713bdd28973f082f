"""What a round costs the computing parties, for each rule: rounds, bytes of a party and of the producer, seconds.

All roles in this process; seconds are of the processor and of all roles together. A client sends one box a party:
8 bytes a parameter to the first and 92 bytes to each other, whatever the rule.

    python benchmarks/federated/parties.py
    python benchmarks/federated/parties.py --cases 10x8000 --rules Median
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np

from tacit.api import embedded
from tacit.federated import ClippedMean, Median, NormFilter, Terms, TrimmedMean
from tacit.federated.parties.computation import compute
from tacit.federated.parties.rules import Rule
from tacit.federated.parties.submission import Submission
from tacit.federated.parties.terms import FRAC_BITS
from tacit.federated.parties.work import Work
from tacit.federated.update import Layout, Update
from tacit.session.config import Config
from tacit.session.meter import readable

RULES: list[Rule] = [ClippedMean(1.0), NormFilter(2.0), Median(), TrimmedMean(2)]
PARTIES = ("aggregator-1", "aggregator-2")


def measure(rule: Rule, clients: int, parameters: int) -> str:
    """Aggregate random updates once; return a line of the table."""
    terms, layout = Terms(rule, minimum=6), Layout((), (("w", (parameters,)),))
    rng = np.random.default_rng(1)
    updates = [Update(layout, 100.0, rng.normal(size=parameters) / parameters**0.5) for _ in range(clients)]
    vectors = [terms.encode(update) for update in updates]
    shares = [np.frombuffer(rng.bytes(8 * len(v)), dtype=np.uint64) for v in vectors]
    held = {
        PARTIES[0]: dict(enumerate(shares)),
        PARTIES[1]: {i: v - share for i, (v, share) in enumerate(zip(vectors, shares, strict=True))},
    }
    work = Work(1, 1, layout, tuple(Submission(i, layout, b"", b"", (), b"") for i in range(clients)))
    start = time.process_time()
    with embedded(Config.embedded(PARTIES, frac_bits=FRAC_BITS)) as session:
        compute(terms, work, held, 2)
        cost = session.meter.cost
    seconds = time.process_time() - start
    cells = [f"`{rule}`", f"{clients:,}", f"{parameters:,}", str(cost.rounds), readable(max(cost.online.values())),
             readable(cost.producer), f"{seconds:.2g} s"]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", default=["10x8000", "10x100000", "100x8000"])
    parser.add_argument("--rules", nargs="+", default=[type(rule).__name__ for rule in RULES])
    options = parser.parse_args()
    print("| rule | clients | parameters | rounds | a party sends | producer sends | all roles' work |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    measure(RULES[0], 10, 100)  # once, so that what is loaded on first use is not in the table
    for case in options.cases:
        clients, parameters = map(int, case.split("x"))
        for rule in RULES:
            if type(rule).__name__ in options.rules:
                print(measure(rule, clients, parameters), flush=True)


if __name__ == "__main__":
    main()
