"""Train on encrypted images beside the plain twin: accuracy, seconds, rounds, bytes.

    python benchmarks/private_images.py --act relu                      # the whole network, on all ten digits
    python benchmarks/private_images.py --logits revealed               # what the private softmax costs
    python benchmarks/private_images.py --act relu --gradients          # of one step only: how far they are off
    python benchmarks/private_images.py --act polynomial --plain        # only the twin, and how large arguments get
    python benchmarks/private_images.py --transfer images --images 1500 --epochs 4
    python benchmarks/private_images.py --transfer features --images 1500 --epochs 4

All roles run in this process. The twin starts from the same weights and sees the same batches and dropout masks. Both
are tested on 1,000 other images, the secret one after it has been revealed for that.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
import tacit.nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "private_images"))
from network import NEW, OLD, classifier, draw, features

ACTS: dict[str, Callable[[], nn.Module]] = {
    "fourier": lambda: tacit.nn.FourierSigmoid(centred=True),
    "polynomial": lambda: tacit.nn.PolynomialSigmoid(9, centred=True),
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def network(act: str, width: int) -> nn.Sequential:
    """The whole network for ten digits; ReLU comes with max-pooling."""
    pool = nn.MaxPool2d if act == "relu" else nn.AvgPool2d
    return nn.Sequential(features(width, ACTS[act], pool), classifier(10, width, ACTS[act]))


def pretrained() -> nn.Module:
    """Feature layers, trained in the clear on the old digits."""
    model = nn.Sequential(features(), classifier(len(OLD)))
    x, y = draw(2000, seed=1, of=OLD)
    fit(model, x, y, torch.optim.Adam(model.parameters(), lr=1e-3), epochs=3, batch=32)
    return model[0].eval().requires_grad_(False)


def revealing(logits: Tensor, labels: Tensor) -> Tensor:
    """The same gradient as that of cross-entropy, from revealed logits: softmax in the clear; labels stay secret."""
    shown = tacit.reveal(logits.detach(), to="all", name="logits").softmax(1)
    slope = (shown - F.one_hot(labels, shown.shape[1])) / len(shown)
    return (logits * slope.detach()).sum()


def fit(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, epochs: int, batch: int,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy, clip: float | None = None, seed: int = 7,
) -> None:  # fmt: skip
    """Train, the same program for both."""
    torch.manual_seed(seed)
    model.train()
    for rows in (r for _ in range(epochs) for r in torch.randperm(len(y)).split(batch)):
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, of: range) -> float:
    """On images that neither has seen."""
    x, y = draw(1000, seed=2, of=of)
    return float((model.eval()(x).argmax(1) == y).float().mean())


def rehearse(options: argparse.Namespace) -> None:
    """Train in the clear only; print the largest argument of an activation function, and the accuracy."""
    torch.manual_seed(3)
    plain = network(options.act, options.width)
    x, y = draw(options.images, seed=1)
    reach: list[float] = []
    for act in (m for m in plain.modules() if isinstance(m, type(ACTS[options.act]()))):
        act.register_forward_pre_hook(lambda _, args: reach.append(float(args[0].detach().abs().max())))
    optimizer = torch.optim.SGD(plain.parameters(), lr=options.rate, momentum=0.9)
    for epoch in range(1, options.epochs + 1):
        fit(plain, x, y, optimizer, 1, options.batch, clip=options.clip, seed=6 + epoch)
        print(f"epoch {epoch}: {accuracy(plain, range(10)):.3f}, arguments up to {max(reach):.1f}", flush=True)


def gradients(options: argparse.Namespace) -> None:
    """Of one step on one batch, from equal weights: print ‖secret - plain‖ / ‖plain‖ of each weight."""
    torch.manual_seed(3)
    plain = network(options.act, options.width)
    x, y = draw(options.batch, seed=1)
    with tacit.session(seed=1):
        model = tacit.share(copy.deepcopy(plain))
        for each, a, b in ((plain, x, y), (model, tacit.share(x), tacit.share(y))):
            torch.manual_seed(7)
            F.cross_entropy(each(a), b).backward()
        for (name, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
            if p.dim() > 1:
                off = (tacit.reveal(q.grad, to="all") - p.grad).norm() / p.grad.norm()
                print(f"{options.act}, {options.batch} images: {name} {tuple(p.shape)}: {off:.2%}")


class Watch:
    """Prints what a piece of work took."""

    def __init__(self) -> None:
        self._session = tacit.current_session()
        self._start()

    def _start(self) -> None:
        self._cost, self._wall, self._cpu = self._session.meter.cost, time.perf_counter(), time.process_time()

    def report(self, what: str, count: int) -> None:
        """Print it, divided by a count, and start again."""
        cost, wall, cpu = self._session.meter.cost - self._cost, time.perf_counter(), time.process_time()
        sent, dealt = max(cost.online.values()), cost.producer
        print(
            f"{what}: {(cpu - self._cpu) / count:.2f} s of CPU, {(wall - self._wall) / count:.2f} s, "
            f"{cost.rounds / count:.1f} rounds, {sent / count / 1e6:.2f} MB a party, "
            f"{dealt / count / 1e6:.2f} MB from the producer",
            flush=True,
        )
        self._start()


def main() -> None:
    """Train both, and compare."""
    parser = argparse.ArgumentParser(description="Train on encrypted images, beside the plain twin.")
    parser.add_argument("--act", choices=list(ACTS), default="fourier")
    parser.add_argument("--transfer", choices=["images", "features"], help="fine-tune a classifier; what is submitted")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--width", type=int, default=32, help="channels of the convolutions of the whole network")
    parser.add_argument("--clip", type=float, help="the largest norm of the gradients of a step")
    parser.add_argument("--logits", choices=["secret", "revealed"], default="secret")
    parser.add_argument("--plain", action="store_true", help="train the plain twin only, and watch its arguments")
    parser.add_argument("--gradients", action="store_true", help="compare the gradients of one step, and no more")
    options = parser.parse_args()
    if options.gradients or options.plain:
        return gradients(options) if options.gradients else rehearse(options)
    of = NEW if options.transfer else range(10)
    x, y = draw(options.images, seed=1, of=of)
    torch.manual_seed(3)
    layers = pretrained() if options.transfer else nn.Identity()
    plain = classifier(len(NEW)) if options.transfer else network(options.act, options.width)
    loss = F.cross_entropy if options.logits == "secret" else revealing
    steps = options.epochs * -(-options.images // options.batch)
    with tacit.session(seed=1):
        model = tacit.share(copy.deepcopy(plain))
        found = tacit.share(layers(x) if options.transfer == "features" else x, owner="alice")
        watch = Watch()
        if options.transfer == "images":
            frozen = tacit.share(layers, owner="bob")
            with torch.no_grad():
                found = torch.cat([frozen(part) for part in found.split(50)])
            watch.report("features, an image", options.images)
        optimizer = torch.optim.SGD(model.parameters(), lr=options.rate, momentum=0.9)
        fit(model, found, tacit.share(y, owner="alice"), optimizer, options.epochs, options.batch, loss, options.clip)
        watch.report("training, a step", steps)
        got = accuracy(nn.Sequential(layers, tacit.reveal(model, to="all", name="model")), of)
    optimizer = torch.optim.SGD(plain.parameters(), lr=options.rate, momentum=0.9)
    fit(plain, layers(x), y, optimizer, options.epochs, options.batch, clip=options.clip)
    print(f"{options}: {got:.3f}, plain {accuracy(nn.Sequential(layers, plain), of):.3f}", flush=True)


if __name__ == "__main__":
    main()
