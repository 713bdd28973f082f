"""Pooling and its gradients, beside plain PyTorch, and what a choice costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.session.session import Session

aten = torch.ops.aten

COVERS = {
    aten.avg_pool2d.default,
    aten.avg_pool2d_backward.default,
    aten.avg_pool3d.default,
    aten.avg_pool3d_backward.default,
    aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool2d_backward.default,
    aten._adaptive_avg_pool3d.default,
    aten._adaptive_avg_pool3d_backward.default,
    aten.max_pool2d_with_indices.default,
    aten.max_pool2d_with_indices_backward.default,
    aten.max_pool3d_with_indices.default,
    aten.max_pool3d_with_indices_backward.default,
    aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool2d_backward.default,
    aten.adaptive_max_pool3d.default,
    aten.adaptive_max_pool3d_backward.default,
}

LAYERS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "average 1d": (nn.AvgPool1d(3, 2, padding=1), (2, 3, 9)),
    "average 2d": (nn.AvgPool2d(2), (2, 3, 6, 4)),
    "average 2d uneven": (nn.AvgPool2d((3, 2), (2, 1), padding=(1, 0)), (2, 2, 7, 5)),
    "average 2d without padding": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), (1, 2, 6, 7)),
    "average 2d ceil": (nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (1, 2, 6, 7)),
    "average 2d divisor": (nn.AvgPool2d(2, divisor_override=3), (1, 2, 4, 4)),
    "average 2d unbatched": (nn.AvgPool2d(2), (3, 4, 4)),
    "average 3d": (nn.AvgPool3d(2, (1, 2, 2)), (1, 2, 3, 4, 4)),
    "adaptive average 1d": (nn.AdaptiveAvgPool1d(3), (2, 2, 7)),
    "adaptive average 2d": (nn.AdaptiveAvgPool2d((3, 2)), (2, 2, 7, 6)),
    "adaptive average 3d": (nn.AdaptiveAvgPool3d((2, 3, 1)), (1, 2, 5, 4, 3)),
    "global average": (nn.AdaptiveAvgPool2d(1), (2, 3, 5, 4)),
    "max 1d": (nn.MaxPool1d(3, 2, padding=1), (2, 3, 8)),
    "max 2d": (nn.MaxPool2d(2), (2, 3, 6, 4)),
    "max 2d overlapping": (nn.MaxPool2d(3, 2, padding=1), (2, 2, 7, 6)),
    "max 2d dilated": (nn.MaxPool2d((2, 3), 1, dilation=(2, 1)), (1, 2, 5, 6)),
    "max 2d ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 2, 6, 6)),
    "max 2d of one": (nn.MaxPool2d(1), (1, 2, 3, 3)),
    "max 2d unbatched": (nn.MaxPool2d(2), (3, 4, 4)),
    "max 3d": (nn.MaxPool3d(2), (1, 2, 4, 4, 2)),
    "adaptive max 1d": (nn.AdaptiveMaxPool1d(3), (2, 2, 7)),
    "adaptive max 2d": (nn.AdaptiveMaxPool2d((3, 2)), (1, 2, 7, 5)),
    "adaptive max 3d": (nn.AdaptiveMaxPool3d(2), (1, 1, 4, 3, 4)),
    "global max": (nn.AdaptiveMaxPool2d(1), (2, 2, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_pytorch_forward_and_backward(name: str, session: Session, random: torch.Generator) -> None:
    layer, shape = LAYERS[name]
    plain = torch.randn(shape, generator=random).requires_grad_()
    expected = layer(plain)
    grad = torch.randn(expected.shape, generator=random)
    expected.backward(grad)

    x = tacit.share(plain.detach(), owner="alice").requires_grad_()
    y = layer(x)
    y.backward(tacit.share(grad, owner="bob"))

    close(y, expected)
    assert x.grad is not None
    close(x.grad, plain.grad)


@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d"])
def test_indices_are_those_of_the_first_maximum(name: str, session: Session, random: torch.Generator) -> None:
    plain = torch.randint(0, 3, (2, 2, *[6] * int(name[8])), generator=random).float()

    _, indices = getattr(F, name)(tacit.share(plain), 3, 2, 1, return_indices=True)

    _, expected = getattr(F, name)(plain, 3, 2, 1, return_indices=True)
    assert torch.equal(tacit.reveal(indices), expected)


@pytest.mark.priced
@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
def test_the_backward_pass_selects_by_the_bits_of_the_forward_pass(
    parties: tuple[str, ...], random: torch.Generator
) -> None:
    with tacit.session(parties=parties) as session:
        grad = sum(tacit.share(torch.randn(2, 3, 4, 4, generator=random), owner=p) for p in ("alice", "bob"))
        x = tacit.share(torch.randn(2, 3, 8, 8, generator=random), owner="alice").requires_grad_()
        start = session.meter.cost

        y = F.max_pool2d(x, 2)
        middle = session.meter.cost
        y.backward(grad)

        forward, back = middle - start, session.meter.cost - middle
        peers, outputs = len(parties) - 1, grad.numel()
        assert (
            forward.rounds == 3
        )  # all six pairs of a window at once, of elements that are open since they were shared
        assert forward.online["alice"] <= 60 * outputs * peers
        assert back.rounds == 1
        assert back.online["alice"] == 8 * outputs * peers


def test_averages_cost_nothing(session: Session, random: torch.Generator) -> None:
    x = tacit.share(torch.randn(1, 2, 6, 6, generator=random), owner="alice")
    before = session.meter.cost

    F.adaptive_avg_pool2d(F.avg_pool2d(x, 2), 2)

    cost = session.meter.cost - before
    assert cost.rounds == cost.producer == 0


def close(secret: Tensor, expected: Tensor | None) -> None:
    assert expected is not None
    torch.testing.assert_close(tacit.reveal(secret.detach()), expected.detach(), atol=2**-13, rtol=2**-13)
