"""A rank of a role whose rank 1 has the other party's MASTER_PORT, by mistake."""

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

import tacit
from tacit.errors import TacitError

role, rank, folder = os.environ["TACIT_ROLE"], int(os.environ["RANK"]), Path(sys.argv[1])
other = {"alice": "bob", "bob": "alice"}.get(role, role)
if rank == 0:
    part = folder / f"{role}.part"
    part.write_text(os.environ["MASTER_PORT"])
    part.rename(folder / f"{role}.port")
else:
    port = folder / f"{other}.port"
    while not port.exists():
        time.sleep(0.02)
    os.environ["MASTER_PORT"] = port.read_text()
dist.init_process_group("gloo")
try:
    with tacit.session():
        x = tacit.share(torch.ones(2) if role == "alice" else None, owner="alice", shape=(2,))
        dist.all_reduce(x)
        print("a sum of shares of two parties", tacit.reveal(x, to="all"))
except TacitError as refusal:
    print(refusal)
dist.destroy_process_group()
