"""Each rank has a part of Alice's rows, and all have the sums of all: `tacit local --ranks 2 totals.py`."""

import torch
import torch.distributed as dist

import tacit

dist.init_process_group("gloo")
with tacit.session():
    part = torch.arange(4.0) + 10 * dist.get_rank() if tacit.is_role("alice") else None
    total = tacit.share(part, owner="alice", shape=(4,))
    dist.all_reduce(total)
    print(tacit.reveal(total, to="all"))
dist.destroy_process_group()
