"""Which modules and losses of `torch.nn` work on secrets: found out by running each, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import tacit
from tacit.errors import TacitError

CLOSE = 2.0**-7
"""How far a result may be from plain PyTorch's on these small inputs to count as working."""

MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(6, 3), (4, 6)),
    "Bilinear": (lambda: _Twice(nn.Bilinear(6, 6, 3)), (4, 6)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3), (2, 2, 8)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3), (2, 2, 6, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 2, 6, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 2, 6, 6)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(6), (8, 6)),
    "LayerNorm": (lambda: nn.LayerNorm(6), (4, 6)),
    "Dropout": (lambda: nn.Dropout(0.0), (4, 6)),
    "Flatten": (lambda: nn.Flatten(), (4, 2, 3)),
    "ReLU": (nn.ReLU, (4, 6)),
    "LeakyReLU": (nn.LeakyReLU, (4, 6)),
    "ELU": (nn.ELU, (4, 6)),
    "GELU": (nn.GELU, (4, 6)),
    "SiLU": (nn.SiLU, (4, 6)),
    "Softplus": (nn.Softplus, (4, 6)),
    "Sigmoid": (nn.Sigmoid, (4, 6)),
    "Tanh": (nn.Tanh, (4, 6)),
    "Hardtanh": (nn.Hardtanh, (4, 6)),
    "Softmax": (lambda: nn.Softmax(dim=1), (4, 6)),
    "LogSoftmax": (lambda: nn.LogSoftmax(dim=1), (4, 6)),
    "RNN": (lambda: _First(nn.RNN(6, 3)), (4, 2, 6)),
    "LSTM": (lambda: _First(nn.LSTM(6, 3)), (4, 2, 6)),
    "GRU": (lambda: _First(nn.GRU(6, 3)), (4, 2, 6)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), (4, 2, 6)),
}
LOSSES: dict[str, tuple[nn.Module, Callable[[], Tensor]]] = {
    "MSELoss": (nn.MSELoss(), lambda: torch.randn(4, 3)),
    "L1Loss": (nn.L1Loss(), lambda: torch.randn(4, 3)),
    "SmoothL1Loss": (nn.SmoothL1Loss(), lambda: torch.randn(4, 3)),
    "HuberLoss": (nn.HuberLoss(), lambda: torch.randn(4, 3)),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), lambda: torch.randint(0, 2, (4, 3)).float()),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), lambda: torch.softmax(torch.randn(4, 3), dim=1)),
    "NLLLoss": (nn.NLLLoss(), lambda: torch.randint(0, 3, (4,))),
    "KLDivLoss": (nn.KLDivLoss(reduction="batchmean"), lambda: torch.softmax(torch.randn(4, 3), dim=1)),
}


class _Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x)


class _First(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


def _agree(secret: Tensor, plain: Tensor) -> bool:
    return bool((tacit.reveal(secret.detach()) - plain.detach()).abs().max() < CLOSE)


def _try(module: nn.Module, x: Tensor, *target: Tensor) -> str:
    """Run a module on a secret and on plain numbers, forward and backward."""
    weights, shared = tacit.share(module), tacit.share(x, owner="alice").requires_grad_()
    plain = x.clone().requires_grad_()
    try:
        out = weights(shared, *(tacit.share(t, owner="bob") if t.is_floating_point() else t for t in target))
        expected = module(plain, *target)
        if not _agree(out, expected):
            return "wrong"
    except (TacitError, NotImplementedError, TypeError, RuntimeError, ValueError, IndexError):
        return "not yet"
    try:
        out.square().sum().backward()
        expected.square().sum().backward()
        return "forward and backward" if _agree(shared.grad, plain.grad) else "wrong"
    except (TacitError, NotImplementedError, TypeError, RuntimeError, ValueError, IndexError):
        return "forward"


def modules() -> dict[str, list[str]]:
    """Return names of modules by how far they work."""
    found: dict[str, list[str]] = {"forward and backward": [], "forward": [], "not yet": [], "wrong": []}
    with tacit.session(seed=1):
        for name, (make, shape) in MODULES.items():
            found[_try(make(), torch.randn(shape))].append(name)
        for name, (loss, target) in LOSSES.items():
            found[_try(loss, torch.randn(4, 3), target())].append(name)
    return found
