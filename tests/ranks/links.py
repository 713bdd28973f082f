"""One rank of one role, over sockets with TLS: what it computes with the others, keeps and finds again, as JSON."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import torch
import torch.distributed as dist

import tacit
from tacit.errors import DataError

dist.init_process_group("gloo")
HERE, folder = dist.get_rank(), Path(sys.argv[1])
found = {}
with tacit.session() as session:
    me = session.role
    found["name"] = session.rank.of(me)
    keys = {peer: session.transport.pair_key(me, peer) for peer in session.transport.roles if peer != me}
    found["keys"] = {peer: sha256(key).hexdigest() for peer, key in keys.items()}
    found["run"] = session.identity
    part = torch.arange(4.0) + 10 * HERE if me == "alice" else None
    x = tacit.share(part, owner="alice", shape=(4,))
    total = x * x
    dist.all_reduce(total)
    found["total"] = tacit.reveal(total, to="all").tolist()
    tacit.save({"x": x}, folder / "own")
    dist.barrier()
    found["own"] = tacit.reveal(tacit.load(folder / "own")["x"], to="all").tolist()
    found["first"] = tacit.reveal(tacit.load(folder / "own", rank=0)["x"], to="all").tolist()
    if HERE == 0:
        tacit.save({"x": x}, folder / "of the first")
    dist.barrier()
    try:
        tacit.load(folder / "of the first")
    except DataError as refusal:
        found["refused"] = str(refusal)
    saved = tacit.checkpoint(every=1, model=tacit.share(torch.nn.Linear(1, 1)))
    found["loop"] = list(saved(range(2)))
dist.destroy_process_group()
print(json.dumps(found))
