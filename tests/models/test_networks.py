"""Training the networks A to D on secret images ends where plain training on the same batches ends."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from yardstick import BATCH, NETWORKS, OPTIMIZERS, step

import tacit
from tacit.protocols.additive.protocol import LESS

POINT = 0.01
ADAM_EPOCHS = {"A": 3, "B": 5, "C": 1, "D": 3}
"""Of ten steps each, which take C minutes: it has 430,000 weights, and Adam divides by a root for each of them. B
gains ten points an epoch after three, when slightly other steps are two points."""


@pytest.fixture(scope="module")
def images(drawn):
    def draw(count, seed):
        pixels, labels = drawn.digits(count, seed)
        return torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels)

    return draw


def train(model, x, y, optimizer, epochs=1, batch=BATCH):
    """The same program for both: what is secret is decided by its arguments."""
    optimizer = optimizer(model.parameters())
    order = torch.Generator().manual_seed(5)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=order).split(batch):
            step(model, x[rows], y[rows], optimizer)
    return model


def twins(name):
    """A network, and the same one on secrets."""
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    return plain, tacit.share(copy.deepcopy(plain))


@torch.no_grad()
def accuracy(model, x, y):
    """The share of images that are recognised; of a secret model, counted on secrets."""
    correct = model(x).argmax(1).eq(y).sum()
    return float(tacit.reveal(correct) if isinstance(correct, tacit.SecretTensor) else correct) / len(y)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_few_steps_give_the_plain_weights(name, images, session):
    x, y = images(48, seed=1)
    plain, secret = twins(name)

    train(plain, x, y, OPTIMIZERS["SGD"], batch=16)
    train(secret, tacit.share(x), tacit.share(y), OPTIMIZERS["SGD"], batch=16)

    for want, got in zip(plain.parameters(), secret.parameters(), strict=True):
        assert (tacit.reveal(got.detach()) - want).abs().max() < 5e-4


def agree_on_accuracy(name, optimizer, count, epochs, images):
    """Train both on the same batches; they recognise as many of 1,000 others, to a point."""
    x, y = images(count, seed=1)
    held_out = images(1000, seed=2)
    plain, secret = twins(name)

    train(plain, x, y, OPTIMIZERS[optimizer], epochs)
    train(secret, tacit.share(x), tacit.share(y), OPTIMIZERS[optimizer], epochs)

    want, got = accuracy(plain, *held_out), accuracy(secret, *map(tacit.share, held_out))
    print(f"{name}, {optimizer}, {epochs} epochs of {count}: {want:.1%} plain, {got:.1%} on secrets")
    assert want > 0.3  # it has learned something
    assert abs(got - want) < POINT + 1e-6


def test_accuracy_is_within_a_point(images, session):
    agree_on_accuracy("A", "SGD", 640, 12, images)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_accuracy_is_within_a_point_after_more_training(name, images, session):
    agree_on_accuracy(name, "SGD", 6016, 2, images)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_accuracy_is_within_a_point_with_adam(name, images, session):
    agree_on_accuracy(name, "Adam", 1280, ADAM_EPOCHS[name], images)


@pytest.mark.priced
@pytest.mark.parametrize("name", NETWORKS)
def test_the_backward_pass_compares_nothing(name, images, session):
    x, y = images(8, seed=1)
    _, secret = twins(name)
    compared = []
    protocol = next(secret.parameters())._protocol
    less = protocol.less

    loss = F.cross_entropy(secret(tacit.share(x)), y)
    protocol.less = lambda *args, **kwargs: compared.append(args) or less(*args, **kwargs)
    loss.backward()

    open_now = [args for args in compared if any(LESS.of(args[0], t) is None for t in args[1])]
    assert not open_now
