"""Sessions of 12 to 28 fractional bits: operators, layers and training, against plain PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tacit

BITS = [12, 20, 24, 28]
OPERATORS = {
    "softmax": lambda x: F.softmax(x, -1),
    "layer norm": lambda x: F.layer_norm(x, (x.shape[-1],)),
    "group norm": lambda x: F.group_norm(x, 2),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "cross-entropy": lambda x: F.cross_entropy(x, torch.arange(len(x)) % x.shape[1]),
    "mean squared error": lambda x: F.mse_loss(x, x.flip(0)),
    "convolution": lambda x: F.conv2d(x.view(1, 3, 8, 4), x.reshape(-1)[:54].view(2, 3, 3, 3)),
    "max-pool": lambda x: F.max_pool2d(x.view(1, 3, 8, 4), 2),
    "norm": lambda x: x.norm(dim=1),
    "sum of squares": lambda x: (x * x).sum(),
    "mean of squares": lambda x: x.square().mean(1),
    "variance": lambda x: x.var(1),
    "mean": lambda x: x.mean(1),
    "quotient": lambda x: x / (x.abs() + 1),
    "exponential": lambda x: (x / 4).exp(),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sigmoid of a product": lambda x: (x * x / 16).sigmoid(),
    "softplus of a product": lambda x: F.softplus(x * x / 16),
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "root": lambda x: (x.abs() + 0.1).sqrt(),
    "logarithm": lambda x: (x.abs() + 0.1).log(),
    "matrix product": lambda x: x @ x.T,
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
}


@pytest.fixture(scope="module", params=BITS)
def session(request):
    with tacit.session(seed=0, frac_bits=request.param) as opened:
        yield opened


def off(got, want):
    got = tacit.reveal(got.detach()) if isinstance(got, tacit.SecretTensor) else got
    return float((got - want.detach()).abs().max() / want.detach().abs().max())


def check(function, x, bits, most):
    secret, plain = tacit.share(x, owner="alice").requires_grad_(), x.clone().requires_grad_()

    got, want = function(secret), function(plain)
    weight = torch.rand(want.shape) + 0.1
    (got * weight).sum().backward()
    (want * weight).sum().backward()

    allowed = max(2.0 ** (6 - bits), 2.0**-12) * most
    assert off(got, want) < allowed
    assert off(secret.grad, plain.grad) < 2 * allowed


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_and_their_gradients_are_right_at_any_number_of_fractional_bits(name, session):
    torch.manual_seed(1)

    check(OPERATORS[name], torch.randn(8, 12), session.config.frac_bits, 1)


@pytest.mark.parametrize(
    "name", ["layer norm", "group norm", "batch norm", "norm", "gelu", "gelu, tanh", "softmax", "sigmoid"]
)
def test_what_is_squared_inside_of_an_operator_may_be_large(name, session):
    torch.manual_seed(2)

    check(OPERATORS[name], 30 * torch.randn(8, 12), session.config.frac_bits, 8)


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_many_elements_are_normalised_at_any_number_of_fractional_bits(kind, session):
    x = 10 * torch.randn((2, 4096) if kind == "layer" else (4096, 2))

    norm = OPERATORS[f"{kind} norm"]

    assert off(norm(tacit.share(x, owner="alice")), norm(x)) < 2.0**-10


def test_products_of_fine_sessions_have_room_up_to_2_to_the_10(session):
    x, y = torch.tensor([31.0, -500.0, 1.0]), torch.tensor([32.0, 2.0, -1020.0])

    assert off(tacit.share(x, owner="alice") * tacit.share(y, owner="bob"), x * y) < 2.0**-10


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(4, 2, batch_first=True), nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(self.attention(x, x, x, need_weights=False)[0]).mean(1))


def convolutional():
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers)


MODELS = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), (8, 4)),
    "convolution": (convolutional, (8, 1, 6, 6)),
    "lstm": (Recurrent, (4, 3, 4)),
    "attention": (Attentive, (4, 3, 4)),
}
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-1),
}


def train(name, optimizer, bits, steps, clip=False):
    torch.manual_seed(3)
    make, shape = MODELS[name]
    plain = make()
    secret = tacit.share(copy.deepcopy(plain), owner="bob")
    ours, theirs = OPTIMIZERS[optimizer](secret.parameters()), OPTIMIZERS[optimizer](plain.parameters())

    for _ in range(steps):
        x, y = torch.randn(shape), torch.randint(3, shape[:1])
        for model, step, data in ((plain, theirs, x), (secret, ours, tacit.share(x, owner="alice"))):
            step.zero_grad()
            F.cross_entropy(model(data), y).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            step.step()

    for key, want in plain.state_dict().items():
        if want.is_floating_point():
            got = tacit.reveal(secret.state_dict()[key].detach())
            assert (got - want).abs().max() < max(2.0 ** (5 - bits), 2.0**-9), key


@pytest.mark.parametrize(("name", "optimizer"), [("linear", "adam"), ("convolution", "sgd")])
def test_training_is_right_at_any_number_of_fractional_bits(name, optimizer, session):
    train(name, optimizer, session.config.frac_bits, 2, clip=optimizer == "sgd")


def test_an_lstm_and_attention_train_at_any_number_of_fractional_bits(session):
    train("lstm", "sgd", session.config.frac_bits, 1)
    train("attention", "sgd", session.config.frac_bits, 1)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [14, 16, 18, *range(20, 29)])
def test_all_models_train_with_all_optimizers_at_any_number_of_fractional_bits(bits):
    with tacit.session(seed=0, frac_bits=bits):
        for name in MODELS:
            for optimizer in OPTIMIZERS:
                train(name, optimizer, bits, 3, clip=True)
                train(name, optimizer, bits, 3)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [14, 16, 18, *range(20, 29)])
def test_all_operators_are_right_at_any_number_of_fractional_bits(bits):
    torch.manual_seed(4)
    with tacit.session(seed=0, frac_bits=bits):
        for function in OPERATORS.values():
            check(function, torch.randn(8, 12), bits, 1)
