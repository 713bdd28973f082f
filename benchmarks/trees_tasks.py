"""How the cost of a boosted tree grows: run by `trees.py` with `launch.py`, once for each scheme and link.

Two owners with half of the columns each, labels at one of them; random columns, labels that depend on three.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import measure
import torch

import tacit
from tacit.ensemble import GradientBoostingClassifier
from tacit.session.meter import Cost
from tacit.session.session import Session


def data(session: Session, rows: int, columns: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The owners' columns and the labels, as secrets."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, columns, generator=generator)
    y = (x[:, 0] + x[:, 1] * x[:, -1] + torch.randn(rows, generator=generator) > 0).long()
    half = columns // 2
    parts = []
    for party, part in zip(session.parties, (x[:, :half], x[:, half:]), strict=True):
        mine = part.contiguous() if tacit.is_role(party) else None
        parts.append(tacit.share(mine, party, shape=part.shape, dtype=torch.float32))
    owner = session.parties[1]
    return parts, tacit.share(y if tacit.is_role(owner) else None, owner, shape=y.shape, dtype=torch.int64)


def grown(session: Session, point: dict[str, int], trees: int) -> tuple[float, float, Cost]:
    """Seconds, CPU seconds of this process, and cost of so many trees."""
    parts, y = data(session, point["rows"], point["columns"])
    model = GradientBoostingClassifier(
        n_estimators=trees, max_depth=point["depth"], max_bins=point["bins"], base_score=0.5, progress=False
    )
    before, cpu, start = session.meter.cost, time.process_time(), time.perf_counter()
    model.fit(parts, y)
    return time.perf_counter() - start, time.process_time() - cpu, session.meter.cost - before


def main() -> None:
    """Time a tree beyond the first at each of the given points, and write a row for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", required=True, help="JSON: [{study, value, rows, columns, depth, bins}, ...]")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    with tacit.session() as session:
        sink = measure.Rows(options.out)
        small = {"rows": 100, "columns": 4, "depth": 2, "bins": 4}
        grown(session, small, 1)
        for point in json.loads(options.points):
            foreign = measure.Foreign()
            if "trees" in point:
                seconds, cpu, cost = grown(session, point, point["trees"])
                if tacit.is_role(session.parties[0]):
                    sent = cost.online[session.parties[0]] / point["trees"]
                    sink.write(
                        **point,
                        seconds=seconds,
                        cpu_seconds=cpu,
                        rounds=cost.rounds / point["trees"],
                        online_bytes=sent,
                        foreign_cpus=foreign.cpus(),
                    )
                continue
            first, many = grown(session, point, 1), grown(session, point, 3)
            one = many[2] - first[2]
            if tacit.is_role(session.parties[0]):
                sink.write(
                    **point,
                    seconds=(many[0] - first[0]) / 2,
                    cpu_seconds=(many[1] - first[1]) / 2,
                    first_seconds=first[0],
                    rounds=one.rounds / 2,
                    online_bytes=one.online[session.parties[0]] / 2,
                    producer_bytes=(one.producer + sum(one.prepared.values())) / 2,
                    first_bytes=first[2].online[session.parties[0]] - one.online[session.parties[0]] / 2,
                    memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    foreign_cpus=foreign.cpus(),
                )


if __name__ == "__main__":
    main()
