"""The tasks in Tacit: run it with `tacit local`, or let `tacit bench` do so.

    tacit local benchmarks/tacit_tasks.py -- --only op.mul --out rows.jsonl

The clock covers work on inputs that are shared already, up to settled outputs that are not yet revealed, of the party
that is last. The crypto-producer cannot start before the clock does, so its work is inside; so is what two parties
prepare who are alone, but for what is left over of the warm-up. Every repetition gets freshly shared inputs: a secret
that was opened under a mask once would make the second run cheaper.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import measure
import numpy as np
import tasks
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d, cross_entropy, max_pool2d, relu

import tacit
from tacit.api import active_protocol
from tacit.protocols.number import Number
from tacit.ring import kernels
from tacit.session.session import Session
from tacit.tensor import SecretTensor

Program = Callable[..., list[Tensor]]


def tell(session: Session, source: str, message: bytes = b"") -> bytes:
    """Let all other roles, the crypto-producer included, wait for a message from one."""
    return session.announce(source, message if tacit.is_role(source) else None)


def most(session: Session, mine: int) -> int:
    """Return the largest of a number that each party has."""
    return max(int(tell(session, party, str(mine).encode())) for party in session.parties)


def time_task(session: Session, prepare: Callable[[], Sequence[Tensor]], program: Program) -> tuple[dict, list[Tensor]]:
    """Time a program on freshly prepared inputs; return the row and the last outputs."""
    outputs: list[Tensor] = []
    cost, work = session.meter.cost, 0.0
    prepared: list[int] = []
    ahead: list[float] = []

    def once() -> float:
        nonlocal outputs, cost, work
        inputs = prepare()
        before = session.meter.cost
        if PREPARED:
            session.prepare_ahead()
        tell(session, "bob")
        made = session.meter.cost
        start = float(tell(session, "alice", str(measure.appointment()).encode()))
        measure.wait_until(start)
        worked = measure.time.process_time()
        outputs = program(*inputs)
        for output in outputs:
            output.share.settle()
        end, work = measure.time.perf_counter(), measure.time.process_time() - worked
        cost, whole = session.meter.cost - made, session.meter.cost - before
        prepared.append(sum(whole.prepared.values()))
        ahead.append(whole.ahead_seconds)
        return max(float(tell(session, party, str(end).encode())) for party in session.parties) - start

    base = most(session, measure.peak_bytes())
    row = measure.timed(once, lambda count: int(tell(session, "alice", str(count).encode())))
    row |= {"base_bytes": base, "peak_bytes": most(session, measure.peak_bytes())}
    row |= {"rounds": cost.rounds, "party_bytes": max(cost.online.values()), "online_bytes": sum(cost.online.values())}
    row |= {"producer_bytes": cost.producer, "prepared_bytes": sum(prepared) // len(prepared)}
    row |= {"prepared_seconds": sum(ahead) / len(ahead), "late_bytes": sum(cost.prepared.values())}
    helped = sum(float(tell(session, helper, str(work).encode())) for helper in session.helpers)
    return row | {"producer_cpu_seconds": helped}, outputs


OWNED = "--owned" in sys.argv
"""Whether owners keep what they know where a scheme lets them. Without, everything is cut into random shares."""

PREPARED = "--prepared" in sys.argv
"""Whether two parties alone make transfers before the clock starts, as many as the run before took."""


def share(value: object, owner: str) -> Tensor:
    """Share an array as its owner; the others know only its shape. Two parties alone do not keep whose it is."""
    x = owned(value, owner)
    return x if active_protocol().scheme.helpers else scattered(x)


def owned(value: object, owner: str) -> Tensor:
    """Share an array as its owner."""
    return tacit.share(torch.as_tensor(value), owner=owner, shape=torch.as_tensor(value).shape)


def scattered(x: Tensor) -> Tensor:
    """The same secret, known to no party: two parties alone would else compute with what its owner knows, and with a
    crypto-producer an operator would find open what its owner has sent before the clock started."""
    protocol = active_protocol()
    if OWNED or not isinstance(x.share, Number):
        return x
    parts = protocol.refresh(x.share)
    again = protocol.adopt(parts, x.shape, x.share.frac_bits, precise=x.share.scale.precise, lasting=True)
    return SecretTensor(again, x.dtype)


def shared_model(model: nn.Module) -> nn.Module:
    """Share a model's parameters."""
    secret = tacit.share(model, owner="alice")
    if active_protocol().scheme.helpers:
        return secret
    secret.load_state_dict({name: scattered(value) for name, value in secret.state_dict().items()}, assign=True)
    return secret


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
        model = shared_model(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=tasks.LEARNING_RATE)
        loop = tacit.batches(x, y, size=tasks.BATCH, epochs=epochs, shuffle=False, drop_last=True, progress=False)
        for batch, target in loop:
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(batch), target).backward()
            optimizer.step()
        return [model.weight.detach(), model.bias.detach()]

    row, outputs = time_task(session, prepare, program)
    w, b = (tacit.reveal(output, to="all").numpy() for output in outputs)
    return row, tasks.judge_training(w, b, epochs)


class Network(nn.Sequential):
    """One of the four networks by which the field measures secure training, for images of 28 x 28 pixels."""

    def __init__(self, letter: str) -> None:
        convolutions = {"B": (16, 16), "C": (20, 50)}
        layers: list[nn.Module] = []
        if letter == "D":
            layers += [nn.Conv2d(1, 5, 5, stride=2, padding=2), nn.ReLU()]
        for inputs, outputs in pairwise((1, *convolutions.get(letter, ()))):
            layers += [nn.Conv2d(inputs, outputs, 5), nn.ReLU(), nn.MaxPool2d(2)]
        layers.append(nn.Flatten())
        widths = {"A": (784, 128, 128, 10), "B": (256, 100, 10), "C": (800, 500, 10), "D": (980, 100, 10)}
        for inputs, outputs in pairwise(widths[letter]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        torch.manual_seed(0)
        super().__init__(*layers[:-1])
        if letter == "A":
            linear = [layer for layer in self if isinstance(layer, nn.Linear)]
            values = iter(map(torch.from_numpy, tasks.perceptron_parameters()))
            with torch.no_grad():
                for layer in linear:
                    layer.weight.copy_(next(values).T)
                    layer.bias.copy_(next(values))


def steps_of(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> list[Tensor]:
    """Train on one batch a step, written as anybody would, and return the parameters."""
    optimizer = torch.optim.SGD(model.parameters(), lr=tasks.LEARNING_RATE)
    for step in range(steps):
        rows = slice(step * tasks.BATCH, (step + 1) * tasks.BATCH)
        optimizer.zero_grad()
        cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def train_network(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time steps of training."""
    letter, steps = tasks.NETWORKS[task]
    images, labels = tasks.network_data(steps)
    if letter != "A":
        images = images.reshape(-1, 1, 28, 28)

    def prepare() -> Sequence[Any]:
        return share(images, "alice"), share(labels, "bob"), shared_model(Network(letter))

    row, outputs = time_task(session, prepare, lambda x, y, model: steps_of(model, x, y, steps))
    found = [tacit.reveal(output, to="all").numpy() for output in outputs]
    plain = steps_of(Network(letter), torch.from_numpy(images), torch.from_numpy(labels), steps)
    if letter == "A":
        expected = tasks.perceptron_trained(steps)
        plain = [torch.from_numpy(value.T if value.ndim == 2 else value) for value in expected]
    return row, tasks.judge_parameters(found, [value.numpy() for value in plain])


def classify(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time LeNet."""
    images = tasks.lenet_images(tasks.LENET[task])

    def prepare() -> Sequence[Tensor]:
        return [share(images, "alice"), *(share(value, "bob") for value in tasks.lenet_parameters())]

    def program(x: Tensor, *parameters: Tensor) -> list[Tensor]:
        c1, e1, c2, e2, w1, b1, w2, b2 = parameters
        h = max_pool2d(relu(conv2d(x, c1, e1)), 2)
        h = max_pool2d(relu(conv2d(h, c2, e2)), 2)
        return [relu(h.flatten(1) @ w1 + b1) @ w2 + b2]

    with torch.no_grad():
        row, (scores,) = time_task(session, prepare, program)
    return row, tasks.judge_scores(tacit.reveal(scores, to="all").numpy(), images)


def infer(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time the multilayer perceptron."""
    images = tasks.images(tasks.INFERENCE[task])

    def prepare() -> Sequence[Tensor]:
        return [share(images, "alice"), *(share(value, "bob") for value in tasks.mlp_parameters())]

    def program(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> list[Tensor]:
        return [((x @ w1 + b1).relu() @ w2 + b2).argmax(dim=1)]

    with torch.no_grad():
        row, (classes,) = time_task(session, prepare, program)
    found = tacit.reveal(classes, to="all").numpy()
    return row, {"accuracy": float((found == tasks.mlp_plain(images)).mean())}


def operate(session: Session, task: str) -> tuple[dict, dict[str, float]]:
    """Time one operator."""
    operator: Callable[..., Tensor] = {
        "op.matmul.1024": torch.matmul,
        "op.relu.1e6": torch.relu,
        "op.sigmoid.1e5": torch.sigmoid,
        "op.softmax.1000x100": lambda x: x.softmax(dim=1),
        "op.argmax.1000x100": lambda x: x.argmax(dim=1),
        "op.mul.1e6": torch.mul,
        "op.square.1e6": torch.square,
    }[task]

    def prepare() -> Sequence[Tensor]:
        owners = ("alice", "bob")
        return [scattered(owned(value, owner)) for value, owner in zip(tasks.operands(task), owners, strict=False)]

    row, (result,) = time_task(session, prepare, lambda *operands: [operator(*operands)])
    return row, tasks.judge_operator(task, tacit.reveal(result, to="all").numpy())


def main() -> None:
    """Run the chosen tasks; Alice writes a row for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="regular expression on the name of the task")
    parser.add_argument("--out", help="file to append rows to")
    parser.add_argument("--owned", action="store_true", help="two parties alone compute with what each of them knows")
    parser.add_argument(
        "--prepared", action="store_true", help="two parties alone make transfers before the clock starts"
    )
    options = parser.parse_args()
    with tacit.session() as session:
        rows = measure.Rows(
            options.out,
            version=tacit.__version__,
            threads=torch.get_num_threads(),
            frac_bits=session.config.frac_bits,
            kernels=kernels.describe(),
        )
        for task in tasks.chosen(options.only):
            run = {"logreg": train, "network": train_network, "mlp": infer, "lenet": classify, "operator": operate}
            row, quality = run[tasks.kind(task)](session, task)
            if tacit.is_role("alice"):
                rows.write(task=task, **row, **quality)


if __name__ == "__main__":
    main()
