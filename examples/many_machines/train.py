"""A model of Alice's columns and Bob's labels, trained by as many ranks of each as the job has.

    tacit local --ranks 2 examples/many_machines/train.py
    torchrun --nproc-per-node 2 -m tacit run examples/many_machines/train.py --config config.json --as alice

An ordinary program of DistributedDataParallel: each rank computes on its part of every batch, and what the ranks of a
role send each other are shares. The numbers are made up, and the model finds the rule behind them.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import tacit

ROWS, COLUMNS, EPOCHS = 256, 6, 4


def made_up() -> tuple[torch.Tensor, torch.Tensor]:
    """Columns, and a label that follows from them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, COLUMNS, generator=generator)
    rule = torch.randn(COLUMNS, 1, generator=generator)
    return x, (x @ rule > 0).float()


def main() -> None:
    """Train, and tell everybody how many rows the model gets right."""
    dist.init_process_group("gloo")
    columns, labels = made_up()
    with tacit.session():
        x = tacit.share(columns if tacit.is_role("alice") else None, owner="alice", shape=(ROWS, COLUMNS))
        y = tacit.share(labels if tacit.is_role("bob") else None, owner="bob", shape=(ROWS, 1))
        data = TensorDataset(x, y)
        sampler = DistributedSampler(data)
        loader = DataLoader(data, batch_size=64 // dist.get_world_size(), sampler=sampler)
        model = DistributedDataParallel(tacit.share(nn.Linear(COLUMNS, 1)))
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        for epoch in range(EPOCHS):
            sampler.set_epoch(epoch)
            for rows, wanted in loader:
                optimizer.zero_grad()
                binary_cross_entropy_with_logits(model(rows), wanted).backward()
                optimizer.step()
        mine = slice(dist.get_rank(), None, dist.get_world_size())
        with torch.no_grad():
            right = ((model(x[mine]) > 0) == (y[mine] > 0.5)).sum()
        dist.all_reduce(right)
        print(f"{tacit.reveal(right, to='all', name='rows predicted rightly')} of {ROWS} rows")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
