"""The tasks in CrypTen: two parties over gloo, correlated randomness by a trusted first party.

    python benchmarks/peers/crypten_tasks.py --only op.mul --out rows.jsonl

Runs in an environment of its own, which benchmarks/README.md describes. The clock covers work on inputs that are shared
already, up to outputs that are not yet opened, of the party that is last.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import hosts
import measure
import tasks

PARTIES = 2


def load_crypten() -> tuple[Any, Any]:
    """Import CrypTen 0.4.1, which asks for a module that newer PyTorch no longer has: give it an empty one."""
    import torch

    stub = types.ModuleType("torch.onnx.symbolic_registry")
    stub._registry = {}
    sys.modules.setdefault("torch.onnx.symbolic_registry", stub)
    torch.onnx.symbolic_registry = stub
    warnings.filterwarnings("ignore")
    import crypten

    return torch, crypten


class Party:
    """One party's process: CrypTen, initialised, and a way to time a function."""

    def __init__(self, rank: int, meeting_point: str, options: argparse.Namespace) -> None:
        os.environ |= {
            "WORLD_SIZE": str(PARTIES),
            "RANK": str(rank),
            "RENDEZVOUS": f"file://{meeting_point}",
            "DISTRIBUTED_BACKEND": "gloo",
            "GLOO_SOCKET_IFNAME": hosts.device(),
        }
        self.torch, self.crypten = load_crypten()
        self.torch.set_num_threads(options.threads)
        self.crypten.cfg.mpc.provider = "TFP"
        self.crypten.init()
        self.torch.manual_seed(0)
        import crypten.communicator

        self.communicator = crypten.communicator.get()
        self.rank = rank
        self.rows = measure.Rows(options.out if rank == 0 else None, version="0.4.1", threads=options.threads)

    def share(self, value: np.ndarray, owner: int) -> Any:
        """Share an array that one party knows."""
        return self.crypten.cryptensor(self.torch.from_numpy(np.ascontiguousarray(value)), src=owner)

    def tell(self, source: int, number: float) -> float:
        """Let the others wait for a number from one party."""
        shared = self.torch.tensor([number], dtype=self.torch.float64)
        self.torch.distributed.broadcast(shared, source, group=self.communicator.main_group)
        return float(shared)

    def time(
        self, task: str, run: Callable[[], Any], judge: Callable[[Any], dict[str, float]], *, gradients: bool = False
    ) -> None:
        """Time a function, let `judge` open and judge its last result, and write a row at the first party."""
        result = None

        def once() -> float:
            nonlocal result
            self.communicator.barrier()
            start = self.tell(0, measure.appointment())
            measure.wait_until(start)
            with contextlib.nullcontext() if gradients else self.crypten.no_grad():
                result = run()
            end = measure.time.perf_counter()
            return max(self.tell(source, end) for source in range(PARTIES)) - start

        row = measure.timed(once, lambda count: int(self.tell(0, count)))
        quality = judge(result)
        if self.rank == 0:
            self.rows.write(task=task, **row, **quality)


def train(party: Party, task: str) -> None:
    """Time logistic regression."""
    epochs = tasks.TRAINING[task]
    x, y = tasks.training_data()
    halves = [party.share(x[:, : tasks.ALICE_FEATURES], 0), party.share(x[:, tasks.ALICE_FEATURES :], 1)]
    features, label = party.crypten.cat(halves, dim=1), party.share(y, 1)
    rate = tasks.LEARNING_RATE / tasks.BATCH

    def run() -> tuple[Any, Any]:
        w = party.share(np.zeros((tasks.FEATURES, 1), np.float32), 0)
        b = party.share(np.zeros((1, 1), np.float32), 0)
        for _ in range(epochs):
            for start in range(0, tasks.ROWS - tasks.BATCH + 1, tasks.BATCH):
                rows = slice(start, start + tasks.BATCH)
                error = (features[rows].matmul(w) + b).sigmoid() - label[rows]
                w = w - features[rows].t().matmul(error) * rate
                b = b - error.sum(0, keepdim=True) * rate
        return w, b

    def judge(result: tuple[Any, Any]) -> dict[str, float]:
        w, b = (value.get_plain_text().numpy() for value in result)
        return tasks.judge_training(w, b, epochs)

    party.time(task, run, judge)


def train_network(party: Party, task: str) -> None:
    """Time steps of training network A."""
    _, steps = tasks.NETWORKS[task]
    nn, torch = party.crypten.nn, party.torch
    images, labels = (party.share(value, owner) for owner, value in enumerate(tasks.network_data(steps)))
    parameters = tasks.perceptron_parameters()

    def linears(model: Any) -> list[Any]:
        return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]

    def run() -> Any:
        model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        for layer, weight, bias in zip(linears(model), parameters[::2], parameters[1::2], strict=True):
            layer.set_parameter("weight", torch.from_numpy(weight.T.copy()))
            layer.set_parameter("bias", torch.from_numpy(bias))
        model = model.encrypt(src=0)
        model.train()
        loss, optimizer = nn.CrossEntropyLoss(), party.crypten.optim.SGD(model.parameters(), lr=tasks.LEARNING_RATE)
        for step in range(steps):
            rows = slice(step * tasks.BATCH, (step + 1) * tasks.BATCH)
            optimizer.zero_grad()
            loss(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        return model

    def judge(model: Any) -> dict[str, float]:
        found = []
        for layer in linears(model):
            found += [layer.weight.get_plain_text().numpy().T, layer.bias.get_plain_text().numpy()]
        return tasks.judge_parameters(found, tasks.perceptron_trained(steps))

    party.time(task, run, judge, gradients=True)


def classify(party: Party, task: str) -> None:
    """Time LeNet."""
    plain = tasks.lenet_images(tasks.LENET[task])
    c1, e1, c2, e2, w1, b1, w2, b2 = (party.share(value, 1) for value in tasks.lenet_parameters())
    x = party.share(plain, 0)

    def run() -> Any:
        h = (x.conv2d(c1) + e1.view(1, -1, 1, 1)).relu().max_pool2d(2, stride=2)
        h = (h.conv2d(c2) + e2.view(1, -1, 1, 1)).relu().max_pool2d(2, stride=2)
        return (h.flatten(start_dim=1).matmul(w1) + b1).relu().matmul(w2) + b2

    party.time(task, run, lambda scores: tasks.judge_scores(scores.get_plain_text().numpy(), plain))


def infer(party: Party, task: str) -> None:
    """Time the multilayer perceptron."""
    w1, b1, w2, b2 = (party.share(value, 1) for value in tasks.mlp_parameters())
    plain = tasks.images(tasks.INFERENCE[task])
    x, expected = party.share(plain, 0), tasks.mlp_plain(plain)

    def judge(result: Any) -> dict[str, float]:
        return {"accuracy": float((result.get_plain_text().numpy().argmax(1) == expected).mean())}

    party.time(task, lambda: ((x.matmul(w1) + b1).relu().matmul(w2) + b2).argmax(dim=1, one_hot=True), judge)


def operate(party: Party, task: str) -> None:
    """Time one operator."""
    x, *more = (party.share(value, owner) for owner, value in enumerate(tasks.operands(task)))
    run = {
        "op.matmul.1024": lambda: x.matmul(*more),
        "op.relu.1e6": lambda: x.relu(),
        "op.sigmoid.1e5": lambda: x.sigmoid(),
        "op.softmax.1000x100": lambda: x.softmax(1),
        "op.argmax.1000x100": lambda: x.argmax(dim=1, one_hot=True),
        "op.mul.1e6": lambda: x.mul(*more),
        "op.square.1e6": lambda: x.square(),
    }[task]

    def judge(result: Any) -> dict[str, float]:
        value = result.get_plain_text().numpy()
        return tasks.judge_operator(task, value.argmax(1) if task.startswith("op.argmax") else value)

    party.time(task, run, judge)


def play(rank: int, meeting_point: str, options: argparse.Namespace) -> None:
    """Be one party and run the chosen tasks."""
    hosts.enter(rank)
    party = Party(rank, meeting_point, options)
    for task in tasks.chosen(options.only):
        if task in tasks.TACIT_ONLY:
            continue
        run = {"logreg": train, "network": train_network, "mlp": infer, "lenet": classify, "operator": operate}
        run[tasks.kind(task)](party, task)
    party.crypten.uninit()


def main() -> None:
    """Start both parties and wait for them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="regular expression on the name of the task")
    parser.add_argument("--out", help="file to append rows to")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        arguments = (str(Path(folder) / "meet"), options)
        parties = [context.Process(target=play, args=(rank, *arguments)) for rank in range(PARTIES)]
        for party in parties:
            party.start()
        for party in parties:
            party.join()
    sys.exit(max(abs(party.exitcode or 0) for party in parties))


if __name__ == "__main__":
    main()
