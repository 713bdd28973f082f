"""What more machines a party bring: a training step of 1, 2 and 4 ranks, beside a model of its cost.

    python benchmarks/ranks.py                                            # eight minutes; needs Tacit and PyTorch only
    python benchmarks/ranks.py --links 20ms,50mbit --out results/ranks.json
    python benchmarks/wan.py 20ms,50mbit 6 python benchmarks/ranks.py     # two ranks of three roles, on hosts (root)

One step of SGD under DistributedDataParallel, on a batch that the ranks divide. The model, all of whose numbers come
from runs of ONE rank at a time or of several that know nothing of each other, and from collectives alone:

    seconds(n)  =  T + reduce(n)
    T           =  max( own + links + (beside - own) · beside / T,   dealt / rate )
    links       =  rounds · trip / 2 + sent / rate

`own` is what one rank takes at a batch of B/n on fast links, waiting for the others' computation included; `beside`,
what it takes while n - 1 others do the same on this machine, the slowest of them at each step, less `reduce`: what they
take from each other where 3 n processes share a few cores, by turns of waiting and by caches that are no longer theirs.
They are n sessions of one rank that know nothing of each other, but that after each step as many numbers are summed as
ranks sum: so they wait for the slowest as often as ranks do. They take cores from each other as often as they compute,
which over slow links is less of the time: so the factor beside / T. `sent` are the bytes from
party to party; `dealt` those of the crypto-producer to the party that gets most, which come ahead and by links of their
own; `reduce` what a step's collectives take, in all roles at once. With a machine for each rank of each role nothing is
shared, and `reduce` is a ring's over their network. Everything is measured several times, in turns, and the least of
each counts: what else a machine does only adds.

Only what Tacit needs is imported: where nothing is installed but PyTorch, `pip install --target vendor cryptography
safetensors click rich` elsewhere, take that folder along, and set PYTHONPATH=src:vendor. Processes are forks of this
one, each bound to a thread. The machine must have nothing else to do: the model knows of no others.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from multiprocessing import Barrier
from pathlib import Path
from typing import Any

import hosts
import torch

import tacit.api
from tacit.net.emulation import Conditions, Relay
from tacit.net.waiting import Waiting
from tacit.session.among import Among
from tacit.session.config import Config
from tacit.session.ranks import Rank
from tacit.session.trial import free_ports, write_trial

ROWS, COLUMNS, HIDDEN = 512, 64, 128
"""Of a batch of all ranks, and of the network."""

WITHIN = 0.2
"""How far a row may be from the model before this says so."""

LAN = Conditions(0.0002, 10e9 / 8)
"""Between the machines of one party, for what is said of more machines than there are here."""

WIDE = Conditions(0.02, 350e6 / 8)
"""Between parties, for the same."""


@dataclass(frozen=True)
class Row:
    """What a step of so many ranks takes."""

    ranks: int
    batch: int
    """Rows of each rank."""
    seconds: float
    waiting: float
    """Of them, those in which a party's rank waits for its links, which is for the other roles' computation, too."""
    collectives: float
    busy: float
    """Processor seconds of all processes, of one rank of each role."""
    rounds: float
    sent: float
    """Bytes from the party that sends most to the other."""
    dealt: float
    """Bytes from the crypto-producer to the party that gets most."""
    weights: list[float]
    """Of the model at the end, some."""
    collected: list[tuple[str, int]]
    """The collectives of a step among the ranks of a role, and the words of each."""

    @property
    def compute(self) -> float:
        """What is left of the seconds."""
        return max(0.0, self.seconds - self.waiting - self.collectives)


# --- one rank of one role ---------------------------------------------------------------------------------------------


WAITS = (Waiting.for_frame, Waiting.until_written)
"""What a rank does while it waits for its links: named here, so that who moves them hears of it."""


def timed(owner: type, inner: Any, clock: list[float]) -> None:
    """Add up the seconds that are spent in a method."""

    def outer(*arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return inner(*arguments)
        finally:
            clock[0] += time.perf_counter() - start

    setattr(owner, inner.__name__, outer)


def listed(inner: Any, found: list[tuple[str, int]]) -> None:
    """Write down how many words are in a collective."""
    name = inner.__name__

    def outer(among: Among, t: torch.Tensor, *arguments: Any) -> Any:
        found.append((name, max(1, t.nbytes // 8)))
        return inner(among, t, *arguments)

    setattr(Among, name, outer)


def train(batch: int, steps: int, gate: Any, meeting: Callable[[], Callable[[], None]] | None = None) -> dict[str, Any]:
    """Steps of one rank, the first ones not counted. At the gate all processes of the measurement meet.

    A meeting makes what is done at the end of each step, with others that this rank knows nothing of.
    """
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    waiting, collectives = [0.0], [0.0]
    for method in WAITS:
        timed(Waiting, method, waiting)
    timed(Among, Among._do, collectives)
    collected: list[tuple[str, int]] = []
    for method in COLLECTIVES:
        listed(method, collected)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(COLUMNS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
    data = torch.randn(2, batch * ranks, COLUMNS)
    x = data[:, rank * batch : (rank + 1) * batch]
    y = x[:, :, :1] - x[:, :, 1:2].relu()
    times, marks = [], []
    meet = meeting() if meeting is not None else None
    with tacit.session() as session:
        model = DistributedDataParallel(tacit.share(plain))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for step in range(steps + 2):
            if step == 2:
                gate.wait()
            collected.clear()
            if step >= 2:
                marks.append((waiting[0], collectives[0], time.process_time(), session.meter.cost, carried(session)))
                start = time.perf_counter()
            part = tacit.share(x[step % 2] if tacit.is_role("alice") else None, owner="alice", shape=(batch, COLUMNS))
            wanted = tacit.share(y[step % 2] if tacit.is_role("bob") else None, owner="bob", shape=(batch, 1))
            optimizer.zero_grad()
            nn.functional.mse_loss(model(part), wanted).backward()
            optimizer.step()
            if meet is not None:
                meet()
            if step >= 2:
                times.append(time.perf_counter() - start)
        cost, wait, summing, busy = session.meter.cost - marks[0][3], waiting[0], collectives[0], time.process_time()
        collected_in_step = list(collected)
        links = {pair: count - marks[0][4][pair] for pair, count in carried(session).items()}
        weights = tacit.reveal(model.module[2].weight.flatten()[:8], to="all").tolist()
    dist.destroy_process_group()
    return {
        "times": times,
        "waiting": (wait - marks[0][0]) / steps,
        "collectives": (summing - marks[0][1]) / steps,
        "busy": (busy - marks[0][2]) / steps,
        "rounds": cost.rounds / steps,
        "sent": max((c for (a, _), c in links.items() if not a.startswith("crypto")), default=0) / steps,
        "dealt": max((c for (a, _), c in links.items() if a.startswith("crypto")), default=0) / steps,
        "weights": weights,
        "collected": collected_in_step,
    }


def carried(session: Any) -> dict[tuple[str, str], int]:
    """Bytes of this role's links until now."""
    return dict(session.transport.wire_bytes)


COLLECTIVES = (Among.sum, Among.gather, Among.broadcast, Among.exchange)


def collect(collected: Sequence[tuple[str, int]], times: int, gate: Any) -> dict[str, Any]:
    """Seconds of the collectives of a step, which do nothing else."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    ranks, spent = dist.get_world_size(), []
    for turn in range(times + 1):
        if turn == 1:
            gate.wait()
        start = time.perf_counter()
        for name, words in collected:
            t = torch.zeros(words, dtype=torch.int64)
            if name == "sum":
                dist.all_reduce(t)
            elif name == "gather":
                dist.all_gather([torch.empty_like(t) for _ in range(ranks)], t)
            elif name == "broadcast":
                dist.broadcast(t, 0)
            else:
                t = torch.zeros(words // ranks * ranks, dtype=torch.int64)
                dist.all_to_all_single(torch.empty_like(t), t)
        spent.append(time.perf_counter() - start)
    dist.destroy_process_group()
    return {"times": spent[1:]}


def meeting(port: int, index: int, count: int, collected: Sequence[tuple[str, int]]) -> Callable[[], None]:
    """The collectives of a step, among processes that have no other group in common."""
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", port, count, is_master=index == 0, wait_for_workers=False)
    group = dist.ProcessGroupGloo(store, index, count, timedelta(seconds=120))

    def meet() -> None:
        for name, words in collected:
            t = torch.zeros(words, dtype=torch.int64)
            if name == "sum":
                group.allreduce([t]).wait()
            else:
                group.allgather([[torch.empty_like(t) for _ in range(count)]], [t]).wait()

    return meet


def move(megabytes: int) -> dict[str, Any]:
    """Bytes a second that a rank's links carry: Alice's rows become shares that Bob gets whole, in turns of 4 MB."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rows, turns = 1 << 19, max(1, megabytes // 4)
    with tacit.session() as session:
        a, b = (tacit.share(torch.ones(rows), name="a") for _ in range(2))
        (a * b).sum()
        dist.barrier()
        start, before = time.perf_counter(), session.meter.cost
        for _ in range(turns):
            c = a * b
            a = c + 0
        tacit.reveal(a.sum(), to="all")
        dist.barrier()
        seconds, cost = time.perf_counter() - start, session.meter.cost - before
    dist.destroy_process_group()
    return {"seconds": seconds, "sent": max(cost.online.values())}


# --- processes --------------------------------------------------------------------------------------------------------


def child(environment: dict[str, str], host: int, work: Callable[[], Any]) -> tuple[int, int]:
    """Fork; the number of the process, and where its result can be read."""
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(writer)
        return number, reader
    code = 1
    try:
        os.environ |= environment
        torch.set_num_threads(1)
        hosts.enter(host)
        with os.fdopen(writer, "w") as file:
            json.dump(work(), file)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


Children = dict[str, tuple[int, int]]


def started(roles: Sequence[str], ranks: int, config: dict[str, Path] | None, work: Callable[[], Any]) -> Children:
    """The processes of each role."""
    ports, children = free_ports(len(roles)), {}
    for place, role in enumerate(roles):
        for index in range(ranks):
            name, host = Rank(index, ranks).of(role), place * ranks + index
            job = {"MASTER_ADDR": hosts.address(place * ranks), "MASTER_PORT": str(ports[place]), "RANK": str(index)}
            job |= {"WORLD_SIZE": str(ranks), "LOCAL_RANK": str(index), "OMP_NUM_THREADS": "1"}
            if hosts.namespaces():
                job["GLOO_SOCKET_IFNAME"] = hosts.device()
            if config is not None:
                job |= {"TACIT_CONFIG": str(config[name]), "TACIT_ROLE": role}
            children[name] = child(job, host, work)
    return children


def ended(children: Children) -> dict[str, Any]:
    """What each process returns."""
    found = {}
    for name, (number, reader) in children.items():
        with os.fdopen(reader) as file:
            text = file.read()
        if os.waitpid(number, 0)[1]:
            sys.exit(f"{name} has failed")
        found[name] = json.loads(text)
    return found


def jobs(roles: Sequence[str], ranks: int, config: dict[str, Path] | None, work: Callable[[], Any]) -> dict[str, Any]:
    """What each process of each role returns."""
    return ended(started(roles, ranks, config, work))


@contextmanager
def deployed(ranks: int, link: Conditions | None) -> Iterator[tuple[Sequence[str], dict[str, Path]]]:
    """Roles, and the config of each process of them; relays of a link are in a process of their own."""
    with tempfile.TemporaryDirectory(prefix="tacit-") as folder:
        path = write_trial(folder, ["alice", "bob"], {"threads": 1}, ranks=ranks)
        config, literal = Config.load(path), json.loads(path.read_text())
        behind = [config.at(Rank(index, ranks)) for index in range(ranks)]
        real = {role: [there.address(role).port for there in behind] for role in config.roles}
        seen, network = real, None
        if link is not None:
            before = free_ports(ranks * len(real), [port for ports in real.values() for port in ports])
            seen = {role: before[at * ranks : (at + 1) * ranks] for at, role in enumerate(real)}
            network = relayed(link, [pair for role in real for pair in zip(seen[role], real[role], strict=True)])
        paths = {}
        for place, role in enumerate(config.roles):
            at = [hosts.address(place * ranks + index) for index in range(ranks)]
            listed = [f"{host}:{port}" for host, port in zip(at, seen[role], strict=True)]
            literal[role] = listed if ranks > 1 else listed[0]
        for index, there in enumerate(behind):
            for place, role in enumerate(config.roles):
                own = real[role][index] - index * there.port_stride
                listen = {"listen": f"{hosts.address(place * ranks + index)}:{own}"}
                paths[Rank(index, ranks).of(role)] = target = path.with_name(f"{role}{index}.json")
                target.write_text(json.dumps(literal | {"tacit": literal["tacit"] | listen}))
        try:
            yield config.roles, paths
        finally:
            if network is not None:
                os.close(network[1])
                os.waitpid(network[0], 0)


def relayed(link: Conditions, pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """A process that carries what comes to the first of each two ports to the second, until a pipe is closed."""
    begun, begin = os.pipe()
    reader, writer = os.pipe()
    number = os.fork()
    if number:
        os.close(begin)
        os.close(reader)
        os.read(begun, 1)
        os.close(begun)
        return number, writer
    os.close(writer)
    relays = [Relay(link, target, port) for port, target in pairs]
    os.write(begin, b"!")
    os.read(reader, 1)
    del relays
    os._exit(0)


# --- measuring --------------------------------------------------------------------------------------------------------


def usual(times: Sequence[Sequence[float]]) -> float:
    """What the slowest process takes for a step, of the faster half of steps: the median of these."""
    slowest = sorted(map(max, zip(*times, strict=True)))
    return statistics.median(slowest[: (len(slowest) + 1) // 2 + 1])


def measured(ranks: int, batch: int, steps: int, link: Conditions | None = None) -> Row:
    """A row: of so many ranks with so many rows each."""
    gate = Barrier(3 * ranks)
    with deployed(ranks, link) as (roles, config):
        found = jobs(roles, ranks, config, lambda: train(batch, steps, gate))
    firsts = [each for name, each in found.items() if name.startswith(("alice", "bob"))]
    mean = {key: statistics.fmean(each[key] for each in firsts) for key in ("waiting", "collectives")}
    return Row(
        ranks,
        batch,
        usual([each["times"] for each in firsts]),
        **mean,
        busy=sum(each["busy"] for each in found.values()) / ranks,
        rounds=firsts[0]["rounds"],
        sent=max(each["sent"] for each in found.values()),
        dealt=max(each["dealt"] for each in found.values()),
        weights=firsts[0]["weights"],
        collected=[(name, words) for name, words in firsts[0]["collected"]],
    )


def side_by_side(count: int, batch: int, steps: int, collected: Sequence[tuple[str, int]]) -> float:
    """Seconds of a step of single ranks of sessions of their own, so many at once, and of its sums: the slowest's."""
    gate = Barrier(3 * count)
    with ExitStack() as stack:
        there = [stack.enter_context(deployed(1, None)) for _ in range(count)]
        places = dict(zip(there[0][0], free_ports(3), strict=True))

        def work(index: int) -> Callable[[], Any]:
            return lambda: train(
                batch, steps, gate, lambda: meeting(places[os.environ["TACIT_ROLE"]], index, count, collected)
            )

        begun = [started(roles, 1, config, work(index)) for index, (roles, config) in enumerate(there)]
        found = [each for children in begun for name, each in ended(children).items() if name in ("alice", "bob")]
    return usual([each["times"] for each in found])


def together(ranks: int, collected: Sequence[tuple[str, int]], times: int) -> float:
    """Seconds of a step's collectives in three roles at once."""
    if ranks == 1:
        return 0.0
    gate = Barrier(3 * ranks)
    found = jobs(["alice", "bob", "carol"], ranks, None, lambda: collect(collected, times, gate))
    return usual([each["times"] for each in found.values()])


def predicted(one: Row, beside: float, reduce: float, link: Conditions | None = None) -> float:
    """Seconds of a step of n ranks; `one` is of one rank, with a batch of B/n, `beside` that of n side by side."""
    own, least, beside = one.seconds, 0.0, beside - reduce
    if link is not None:
        own += one.rounds * link.round_trip / 2 + one.sent / link.rate
        least = one.dealt / link.rate
    more = max(0.0, beside - one.seconds) * beside  # T = own + more / T
    return max((own + math.sqrt(own**2 + 4 * more)) / 2, least) + reduce


def ring(elements: int, ranks: int, link: Conditions) -> float:
    """Seconds of an all-reduce of ring elements over a network."""
    if ranks == 1:
        return 0.0
    return 2 * (ranks - 1) * (link.round_trip / 2 + 8 * elements / ranks / link.rate)


def line(row: Row, guess: float, link: str) -> str:
    """A row of the table."""
    off = row.seconds / guess - 1
    mark = "" if abs(off) <= WITHIN else "  (!)"
    return (
        f"| {link} | {row.ranks} | {row.batch} | {row.seconds * 1e3:.0f} | {row.compute * 1e3:.0f} | "
        f"{row.waiting * 1e3:.0f} | {row.collectives * 1e3:.0f} | {row.rounds:.0f} | {row.sent / 1e6:.2f} | "
        f"{row.dealt / 1e6:.2f} | "
        f"{guess * 1e3:.0f} | {off:+.0%}{mark} |"
    )


@dataclass
class Found:
    """The least of each measurement until now, by the number of ranks."""

    ones: dict[int, Row]
    besides: dict[int, float]
    reduces: dict[int, float]
    rows: dict[tuple[int, Conditions | None], Row]

    def improve(
        self, ranks: Sequence[int], rows: int, steps: int, links: Sequence[Conditions | None], *, apart: bool
    ) -> None:
        """Measure everything once more, each after the other."""

        def least(of: dict[Any, Any], key: Any, value: Any, size: Callable[[Any], float]) -> None:
            if key not in of or size(value) < size(of[key]):
                of[key] = value

        for n in ranks if not apart else ():
            least(self.ones, n, measured(1, rows // n, steps), _seconds)
            one = self.ones[n]
            least(self.reduces, n, together(n, one.collected, 4 * steps), float)
            least(self.besides, n, side_by_side(n, rows // n, steps, one.collected) if n > 1 else one.seconds, float)
        for link in links:
            for n in ranks:
                if apart or n > 1 or link is not None:
                    least(self.rows, (n, link), measured(n, rows // n, steps, link), _seconds)


def _seconds(row: Row) -> float:
    return row.seconds


HEAD = (
    "| links | ranks | rows a rank | ms a step | compute | waiting | collectives | rounds | MB to a party | MB dealt | "
    "predicted | off |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Measure, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=Conditions.parse, default=Conditions.parse("20ms,100mbit"))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=8, help="of each measurement")
    parser.add_argument("--passes", type=int, default=3, help="measurements of each number, of which the least counts")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a step, of all ranks together")
    parser.add_argument("--out", type=Path, help="a file for all numbers, in JSON")
    options = parser.parse_args()
    apart = bool(hosts.namespaces())
    cores, rows = len(os.sched_getaffinity(0)), options.rows
    elements = COLUMNS * HIDDEN + HIDDEN + HIDDEN + 1
    begun = time.monotonic()
    if apart:
        options.ranks = [n for n in options.ranks if 3 * n <= len(hosts.namespaces())]
    print(f"{cores} cores; one step on {rows} rows: {COLUMNS}-{HIDDEN}-1, {elements} parameters\n\n{HEAD}")
    links = (None, options.links) if not apart else (None,)
    found = Found({}, {}, {}, {})
    for _ in range(options.passes):
        found.improve(options.ranks, rows, options.steps, links, apart=apart)
    ones, besides, reduces = found.ones, found.besides, found.reduces
    result: dict[str, Any] = {"cores": cores, "reduce": reduces, "beside": besides, "rows": []}
    result["alone"] = {n: one.seconds for n, one in ones.items()}
    worst, models = 0.0, {}
    for link in links:
        for n in options.ranks:
            row = ones[1] if n == 1 and link is None and ones else found.rows[n, link]
            models[n, link] = row.weights
            if not ones:
                print(line(row, row.seconds, "of hosts"), flush=True)
                continue
            guess = predicted(ones[n], besides[n], reduces[n], link)
            print(line(row, guess, str(link) if link else "of this machine"), flush=True)
            result["rows"].append(asdict(row) | {"link": str(link), "predicted": guess})
            worst = max(worst, abs(row.seconds / guess - 1))
    apart_by = max(abs(a - b) for w in models.values() for a, b in zip(w, next(iter(models.values())), strict=True))
    if ones:
        told = "; ".join(
            f"{n}: {ones[n].seconds * 1e3:.0f}, {besides[n] * 1e3:.0f}, {reduces[n] * 1e3:.0f}" for n in ones
        )
        print(f"\nms of a rank alone, of n side by side, of collectives: {told}")
    print(f"\nweights of all models differ by at most {apart_by:.1e}; predictions are off by at most {worst:.0%}")
    moved(options, apart, result)
    if ones:
        ahead(ones, elements, rows, result)
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    if options.out:
        options.out.write_text(json.dumps(result | {"apart_by": apart_by}, indent=1) + "\n")
    return 0


def moved(options: argparse.Namespace, apart: bool, result: dict[str, Any]) -> None:
    """Bytes a second of one and of two ranks over links of limited bandwidth."""
    rates = {}
    for n in (1, 2):
        if apart and 3 * n > len(hosts.namespaces()):
            continue
        with deployed(n, None if apart else options.links) as (roles, config):
            found = [each for name, each in jobs(roles, n, config, lambda: move(16)).items() if name[:3] == "bob"]
        rates[n] = sum(each["sent"] for each in found) / max(each["seconds"] for each in found)
        print(f"{n} rank{'s' * (n > 1)}: {rates[n] * 8 / 1e6:.0f} Mbit/s from each party to the other", flush=True)
    if len(rates) == 2:
        print(f"two ranks move {rates[2] / rates[1]:.2f} times the bytes of one in a second")
    result["moved"] = rates


def ahead(ones: dict[int, Row], elements: int, rows: int, result: dict[str, Any]) -> None:
    """What the model says of more machines than there are, each with cores for one rank of one role.

    Own seconds and bytes grow with the rows by lines through the smallest and the largest batch measured.
    """
    few, many = ones[max(ones)], ones[min(ones)]
    print(f"\nwith a machine for each rank, {WIDE} between parties and {LAN} within one, by the model:\n")
    print("| rows a step | ranks | ms a step | rows a second | times one rank |\n|---|---|---|---|---|")
    for size in (rows, 64 * rows):
        first = 0.0
        for n in (1, 2, 8, 64):
            at = max(1, size // n)

            def of(key: str, at: int = at) -> float:
                a, b = getattr(few, key), getattr(many, key)
                slope = max(0.0, (b - a) / (many.batch - few.batch))
                return float(max(a + slope * (at - few.batch), 0.0 if key != "seconds" else a))

            one = Row(1, at, of("seconds"), 0, 0, 0, few.rounds, of("sent"), of("dealt"), [], [])
            seconds = predicted(one, one.seconds, ring(elements, n, LAN), WIDE)
            first = first or seconds
            print(f"| {size} | {n} | {seconds * 1e3:.0f} | {size / seconds:.0f} | {first / seconds:.1f} |")
            result.setdefault("ahead", []).append([size, n, seconds])


if __name__ == "__main__":
    sys.exit(main())
