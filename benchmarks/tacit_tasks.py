"""The tasks in Tacit: run it with `tacit local`, or let `tacit bench` do so.

    tacit local benchmarks/tacit_tasks.py -- --only op.mul --out rows.jsonl

The clock covers work on inputs that are shared already, up to settled outputs that are not yet revealed. The
crypto-producer cannot start before the clock does, so its work is inside. Every repetition gets freshly shared inputs:
a secret that was opened under a mask once would make the second run cheaper.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import measure
import numpy as np
import tasks
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit.session.session import Session

Program = Callable[..., list[Tensor]]


def tell(session: Session, source: str, message: bytes = b"") -> bytes:
    """Let all other roles, the crypto-producer included, wait for a message from one."""
    return session.announce(source, message if tacit.is_role(source) else None)


def time_task(session: Session, prepare: Callable[[], Sequence[Tensor]], program: Program) -> tuple[dict, list[Tensor]]:
    """Time a program on freshly prepared inputs; return the row and the last outputs."""
    outputs: list[Tensor] = []
    cost = session.meter.cost

    def once() -> float:
        nonlocal outputs, cost
        inputs = prepare()
        tell(session, "bob")
        before = session.meter.cost
        start = measure.time.perf_counter()
        tell(session, "alice")
        outputs = program(*inputs)
        for output in outputs:
            output.share.settle()
        tell(session, "bob")
        seconds = measure.time.perf_counter() - start
        cost = session.meter.cost - before
        return seconds

    row = measure.timed(once, lambda count: int(tell(session, "alice", str(count).encode())))
    row |= {"rounds": cost.rounds, "party_bytes": cost.online["alice"], "producer_bytes": cost.producer}
    return row, outputs


def share(value: object, owner: str) -> Tensor:
    """Share an array as its owner; the others know only its shape."""
    return tacit.share(torch.as_tensor(value), owner=owner, shape=torch.as_tensor(value).shape)


def train(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time logistic regression, written as anybody would."""
    epochs = tasks.TRAINING[task]
    features, labels = tasks.training_data()

    def prepare() -> Sequence[Tensor]:
        xa, xb = np.split(features, [tasks.ALICE_FEATURES], axis=1)
        return torch.cat([share(xa, "alice"), share(xb, "bob")], dim=1), share(labels, "bob")

    def program(x: Tensor, y: Tensor) -> list[Tensor]:
        model = nn.Linear(tasks.FEATURES, 1)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        model = tacit.share(model, owner="alice")
        optimizer = torch.optim.SGD(model.parameters(), lr=tasks.LEARNING_RATE)
        loop = tacit.batches(x, y, size=tasks.BATCH, epochs=epochs, shuffle=False, drop_last=True, progress=False)
        for batch, target in loop:
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(batch), target).backward()
            optimizer.step()
        return [model.weight.detach(), model.bias.detach()]

    row, outputs = time_task(session, prepare, program)
    w, b = (tacit.reveal(output).numpy() for output in outputs)
    return row, tasks.judge_training(w, b, epochs)


def infer(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time the multilayer perceptron."""
    images = tasks.images(tasks.INFERENCE[task])

    def prepare() -> Sequence[Tensor]:
        return [share(images, "alice"), *(share(value, "bob") for value in tasks.mlp_parameters())]

    def program(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> list[Tensor]:
        return [((x @ w1 + b1).relu() @ w2 + b2).argmax(dim=1)]

    with torch.no_grad():
        row, (classes,) = time_task(session, prepare, program)
    found = tacit.reveal(classes).numpy()
    return row, {"accuracy": float((found == tasks.mlp_plain(images)).mean())}


def operate(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time one operator."""
    operator: Callable[..., Tensor] = {
        "op.matmul.1024": torch.matmul,
        "op.relu.1e6": torch.relu,
        "op.sigmoid.1e5": torch.sigmoid,
        "op.argmax.1000x100": lambda x: x.argmax(dim=1),
        "op.mul.1e6": torch.mul,
        "op.square.1e6": torch.square,
    }[task]

    def prepare() -> Sequence[Tensor]:
        return [share(value, owner) for value, owner in zip(tasks.operands(task), ("alice", "bob"), strict=False)]

    row, (result,) = time_task(session, prepare, lambda *operands: [operator(*operands)])
    return row, tasks.judge_operator(task, tacit.reveal(result).numpy())


def main() -> None:
    """Run the chosen tasks; Alice writes a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="regular expression on the name of the task")
    parser.add_argument("--out", help="file to append rows to")
    options = parser.parse_args()
    with tacit.session() as session:
        rows = measure.Rows(
            options.out,
            system="tacit",
            version=tacit.__version__,
            threads=torch.get_num_threads(),
            frac_bits=session.config.frac_bits,
        )
        for task in tasks.chosen(options.only):
            kind = {"train": train, "infer": infer, "op": operate}[task.split(".")[0]]
            row, quality = kind(session, task)
            if tacit.is_role("alice"):
                rows.write(task=task, **row, **quality)


if __name__ == "__main__":
    main()
