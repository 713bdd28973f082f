"""Ranks with all roles in each: a loop that was ended goes on at all of them from the last step that all have kept."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import tacit
import tacit.resume
from tacit.errors import ConfigError, DataError, DivergenceError

dist.init_process_group("gloo")
HERE = dist.get_rank()
os.chdir(sys.argv[1])
torch.manual_seed(3)
PLAIN, X, Y = nn.Linear(4, 1), torch.randn(4, 12, 4), torch.randn(4, 12, 1)


def in_the_plain() -> torch.Tensor:
    model = nn.Linear(4, 1)
    model.load_state_dict(PLAIN.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in zip(X, Y, strict=True):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model.weight.detach()


def train(until: int, *, resume: bool) -> tuple[int, torch.Tensor]:
    """The step that it went on from, and the weights at the end."""
    with tacit.session(resume=resume):
        model = DistributedDataParallel(tacit.share(PLAIN))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        saved = tacit.checkpoint(every=1, model=model, optimizer=optimizer)
        begun = saved.step
        for x, y in saved(zip(X.chunk(2, 1)[HERE][:until], Y.chunk(2, 1)[HERE][:until], strict=True)):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(tacit.share(x, owner="alice")), tacit.share(y, owner="bob")).backward()
            optimizer.step()
        return begun, tacit.reveal(model.module.weight)


def refused(kind: type[Exception], words: str, **how: Any) -> None:
    with pytest.raises(kind, match=words):
        train(4, **how)
    dist.barrier()


def files(step: int) -> list[Path]:
    end = f"[{HERE}].safetensors" if HERE else ".safetensors"
    return [
        path
        for path in Path("checkpoints/training").glob(f"{step:08d}-*/*.safetensors")
        if path.name.endswith(end) and (HERE or "[" not in path.name)
    ]


keeping, tacit.resume._forget = tacit.resume._forget, lambda each: None
assert train(3, resume=False)[0] == 0
assert [len(files(step)) for step in (1, 2, 3)] == [3, 3, 3]
dist.barrier()
refused(ConfigError, "have checkpoints of training from a run before", resume=False)
refused(ConfigError, ("and embedded", "some ranks were told")[1], resume=HERE == 0)
for path in files(3) if HERE else []:  # as if rank 1 had been killed while it wrote its last one
    path.unlink()
dist.barrier()
tacit.resume._forget = keeping
begun, weights = train(4, resume=True)
assert begun == 2, begun
assert (weights - in_the_plain()).abs().max() < 2e-3
assert [len(files(step)) for step in (1, 2, 3, 4)] == [0, 0, 0, 3]
dist.barrier()
for path in files(4) if HERE else []:
    path.unlink()
dist.barrier()
refused(DataError, "none", resume=True)

with tacit.session():  # ranks whose loops have run apart
    model = tacit.share(nn.Linear(2, 1))
    with pytest.raises(DivergenceError, match=r"step 1.* step 2|step 2.* step 1"):
        list(tacit.checkpoint("apart", every=1 + HERE, model=model)(range(4)))
print("as it should be")
os._exit(0)
