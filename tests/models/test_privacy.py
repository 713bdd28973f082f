"""Who knows what decides what it costs: a public operand is never opened, and an owner's clear value is as cheap."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tacit

BYTES = 2 * 8
"""Of an opened number, from both parties."""
ROWS, WIDE, NARROW = 6, 10, 4


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(WIDE, NARROW), nn.ReLU(), nn.Linear(NARROW, 3))


@pytest.fixture
def x():
    return torch.randn(ROWS, WIDE)


def online(session, run):
    """What all parties send while something runs."""
    before = session.meter.cost
    out = run()
    if isinstance(out, tacit.SecretTensor):
        out.share.settle()
    return out, sum((session.meter.cost - before).online.values())


@pytest.mark.parametrize("who", ["model", "data", "both"])
def test_each_mix_gives_the_plain_output(who, model, x, session):
    secret_model = tacit.share(model, owner="bob") if who != "data" else model
    secret_x = tacit.share(x, owner="alice") if who != "model" else x

    with torch.no_grad():
        got = tacit.reveal(secret_model(secret_x))

    torch.testing.assert_close(got, model(x), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("who", ["model", "data", "both"])
def test_each_mix_gives_the_plain_gradients(who, model, x, session):
    secret_model = tacit.share(model, owner="bob") if who != "data" else model
    secret_x = tacit.share(x, owner="alice") if who != "model" else x.clone()
    model.zero_grad()
    model(x.requires_grad_()).square().sum().backward()
    want = [x.grad, *(p.grad for p in model.parameters())]
    if who == "data":  # plain parameters cannot hold a secret gradient: ask for that of the data
        secret_model = model.requires_grad_(False)

    secret_model(secret_x.requires_grad_()).square().sum().backward()

    got = [secret_x.grad, *(p.grad for p in secret_model.parameters())]
    for g, w in zip(got, want if who != "data" else want[:1], strict=False):
        g = tacit.reveal(g) if isinstance(g, tacit.SecretTensor) else g
        torch.testing.assert_close(g, w, atol=4e-3, rtol=4e-3)


@pytest.mark.priced
def test_a_public_operand_costs_no_opening(x, session):
    w = torch.randn(WIDE, NARROW)
    secret_x, secret_w = tacit.share(x), tacit.share(w)
    truncation = BYTES * ROWS * NARROW

    _, public_model = online(session, lambda: secret_x @ w)
    _, public_data = online(session, lambda: x @ secret_w)
    _, neither = online(session, lambda: secret_x @ secret_w)

    assert public_model == truncation
    assert public_data == truncation
    assert neither == truncation + BYTES * (x.numel() + w.numel())


@pytest.mark.priced
def test_each_owner_opens_what_it_knows_and_nothing_else(x, session):
    w = torch.randn(WIDE, NARROW)
    before = session.meter.cost
    secret_x, secret_w = tacit.share(x, owner="alice"), tacit.share(w, owner="bob")

    (secret_x @ secret_w).share.settle()

    cost = session.meter.cost - before
    truncation = BYTES / 2 * ROWS * NARROW  # of a result that nobody knows, both send their part
    assert cost.rounds == 2
    assert cost.online == {
        "alice": BYTES / 2 * x.numel() + truncation,
        "bob": BYTES / 2 * w.numel() + truncation,
    }


@pytest.mark.priced
@pytest.mark.parametrize("layer", ["linear", "convolution"])
def test_a_step_of_training_opens_a_public_operand_in_neither_pass(layer, session):
    make, shape = {
        "linear": (lambda: nn.Linear(WIDE, NARROW, bias=False), (ROWS, WIDE)),
        "convolution": (lambda: nn.Conv2d(2, 3, 3, bias=False), (ROWS, 2, 5, 5)),
    }[layer]
    model, data = make(), torch.randn(shape)
    size, outputs = sum(p.numel() for p in model.parameters()), model(data).numel()
    gradient = torch.randn(model(data).shape)

    def backward(module, x):
        y = module(x)
        y.backward(tacit.share(gradient))
        for p in [x, *module.parameters()]:
            if isinstance(p.grad, tacit.SecretTensor):
                p.grad.share.settle()
        return y

    on_secret_data = tacit.share(data).requires_grad_()
    public_model = online(session, lambda: backward(copy.deepcopy(model).requires_grad_(False), on_secret_data))[1]
    public_data = online(session, lambda: backward(tacit.share(copy.deepcopy(model)), data.clone()))[1]
    neither = online(session, lambda: backward(tacit.share(copy.deepcopy(model)), tacit.share(data).requires_grad_()))[
        1
    ]

    truncated = {"output": outputs, "gradient of data": data.numel(), "gradient of weights": size}
    assert public_model == BYTES * (truncated["output"] + truncated["gradient of data"])
    assert public_data == BYTES * (truncated["output"] + truncated["gradient of weights"])
    opened = size + data.numel() + outputs  # weights and data once for both passes, and what arrives from above
    assert neither == BYTES * (sum(truncated.values()) + opened)


def test_sums_and_choices_with_public_operands_are_free(x, session):
    secret_x = tacit.share(x)
    mask = x > 0

    for run in (
        lambda: secret_x + x,
        lambda: x - secret_x,
        lambda: secret_x * 3,
        lambda: secret_x * mask,
        lambda: torch.where(mask, secret_x, x),
        lambda: torch.cat([secret_x, x]),
        lambda: secret_x.masked_fill(mask, 0.0),
    ):
        assert online(session, run)[1] == 0


@pytest.mark.priced
def test_a_fixed_model_is_opened_once_for_all_predictions(model, x, session):
    shared, given = online(session, lambda: tacit.share(model, owner="bob"))

    with torch.no_grad():
        _, first = online(session, lambda: shared(tacit.share(x, owner="alice")))
        _, second = online(session, lambda: shared(tacit.share(x, owner="alice")))

    parameters = sum(p.numel() for p in model.parameters())
    assert given == BYTES / 2 * parameters  # of what bob knows, bob alone sends the masked value, when he shares it
    assert first == second
