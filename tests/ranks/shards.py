"""Ranks with all roles in each, of whom each reads its own rows of tables that all of them can see."""

import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
import torch.distributed as dist
from pyarrow import parquet
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import tacit
from tacit.errors import ConfigError, UnusableTable

dist.init_process_group("gloo")
HERE, COUNT, folder, seed = dist.get_rank(), dist.get_world_size(), Path(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(seed)
keys = rng.permutation(1000)[:120]
BANK = {"no": keys[:90], "a": rng.normal(size=90), "b": rng.normal(size=90)}
BUREAU = {"id": keys[30:].astype(str), "c": rng.normal(size=90), "good": rng.choice(["yes", "no"], 90)}
BUREAU["good"][:2] = "yes", "no"
both = np.isin(BANK["no"], keys[30:90])


def tables(**how):
    bank = tacit.read_table(BANK, "alice", key="no", **how)
    return bank, tacit.read_table(BUREAU, "bob", key="id", label="good", **how)


def all_ranks(t: torch.Tensor) -> torch.Tensor:
    """Of rows that each rank has, those of all."""
    parts: list = [None] * COUNT
    dist.all_gather_object(parts, t)
    return torch.cat(parts)


with tacit.session(seed=seed + HERE) as session:
    bank, bureau = tables(shard="key")
    assert bureau.classes == 2
    assert torch.equal(all_ranks(torch.tensor([len(bank)])).sum(), torch.tensor(90))
    for reveal in ("members", "size") if seed % 2 else ("members", "nothing"):
        people = tacit.join(*tables(shard="key"), reveal=reveal)
        x = tacit.reveal(people.x * people.weight[:, None])
        x = all_ranks(x)
        x = x[x.abs().sum(1) > 1e-3]
        wanted = torch.tensor(np.stack([BANK["a"], BANK["b"]], axis=1)[both])
        found = x[x[:, 0].argsort()]
        assert len(found) == both.sum(), (len(found), both.sum())
        assert (found[:, :2] - wanted[wanted[:, 0].argsort()]).abs().max() < 1e-3
    left = tacit.join(*tables(shard="key"), how="left")
    assert int(all_ranks(torch.tensor([len(left)])).sum()) == 90

    people = tacit.join(*tables(shard="key"))
    rows = people.rows_of("alice")
    assert torch.equal(all_ranks(rows).sort().values, torch.from_numpy(np.nonzero(both)[0]))
    steps = [len(x) for x, y in people.batches(size=7, epochs=2, progress=False)]
    assert torch.equal(all_ranks(torch.tensor([len(steps)])), torch.full((COUNT,), len(steps)))
    assert torch.equal(all_ranks(torch.tensor([sum(steps)])), torch.full((COUNT,), sum(steps)))
    model = DistributedDataParallel(tacit.share(nn.Linear(3, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in people.batches(size=5, progress=False, drop_last=True):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y.float()).backward()
        optimizer.step()

    whole = tacit.read_table(BANK, "alice", columns=["a", "b"])
    part = tacit.read_table(BANK, "alice", columns=["a", "b"], shard="rows", on_disk=folder)
    assert (all_ranks(tacit.reveal(part.x)) - tacit.reveal(whole.x)).abs().max() < 1e-3
    assert part.held is not None
    assert torch.equal(all_ranks(part.held.origin), torch.arange(90))
    same = tacit.join(
        tacit.read_table(BANK, "alice", key="no", shard="rows"),
        tacit.read_table({"no": BANK["no"], "d": BANK["b"]}, "bob", key="no", shard="rows"),
        aligned=True,
    )
    assert int(all_ranks(torch.tensor([len(same)])).sum()) == 90

    file = folder / "bank.parquet"
    if HERE == 0:
        parquet.write_table(pyarrow.table(BANK), file, row_group_size=20)
    dist.barrier()
    for how in ("key", "rows"):
        table = tacit.read_table(file, "alice", key="no", shard=how)
        assert table.held is not None
        origin = all_ranks(table.held.origin)
        assert torch.equal(origin.sort().values, torch.arange(90))
        assert (
            all_ranks(tacit.reveal(table.x)) - torch.tensor(np.stack([BANK["a"], BANK["b"]], 1))[origin]
        ).abs().max() < 1e-3
    own = folder / f"{HERE}.parquet"
    parquet.write_table(pyarrow.table({**BANK, "a": BANK["a"] + (HERE == COUNT - 1)}), own)
    for source in (own, {**BANK, "a": BANK["a"] + (HERE == 0)}, {n: c[: 90 - HERE] for n, c in BANK.items()}):
        with pytest.raises(UnusableTable, match=r"is not the same at all ranks: rank \d .*found"):
            tacit.read_table(source, "alice", key="no", shard="key")

    holes = {"no": [*range(20), *[None] * 20], "a": np.arange(40.0)}
    left = tacit.join(
        tacit.read_table(holes, "alice", key="no", shard="key"),
        tacit.read_table({"no": range(20), "e": np.arange(20.0)}, "bob", key="no", shard="key"),
        how="left",
    )
    every = all_ranks(tacit.reveal(left.x[:, 0])).round().sort().values
    assert torch.equal(every, torch.arange(40.0)), "rows without a key are lost, or there twice"

    for words, act in (
        ("same shard", lambda: tacit.join(bank, tables()[1])),
        ('shard="key", by which', lambda: tacit.join(*tables(shard="rows"))),
        ("by one key", lambda: tacit.read_table(BANK, "alice", shard="key")),
        ('"rows" or "key"', lambda: tacit.read_table(BANK, "alice", shard="rank")),
        ("fit one on the whole table", lambda: bank.prepared(tacit.prepare.Table(), train=slice(None))),
    ):
        with pytest.raises(ConfigError, match=words):
            act()
with tacit.session():
    if HERE < COUNT - 1:
        with pytest.raises(UnusableTable, match="use fewer ranks"):
            tacit.read_table({"no": [1], "a": [2.0]}, "alice", key="no", shard="rows")
    else:
        assert len(tacit.read_table({"no": [1], "a": [2.0]}, "alice", key="no", shard="rows")) == 1
print("as it should be")
