"""Convolutions and their gradients, beside plain PyTorch, and what they open."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tacit
from tacit.ring.convolution import convolve, input_gradient, weight_gradient
from tacit.ring.geometry import Geometry
from tacit.session.session import Session

aten = torch.ops.aten

COVERS = {
    aten.convolution.default,
    aten.convolution_backward.default,
}

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(3, 4, 3, stride=2, padding=1), (2, 3, 9)),
    "1d same": (nn.Conv1d(2, 3, 5, dilation=2, padding="same"), (2, 2, 7)),
    "2d": (nn.Conv2d(3, 4, 3), (2, 3, 6, 5)),
    "2d pointwise": (nn.Conv2d(3, 5, 1, bias=False), (2, 3, 4, 4)),
    "2d uneven": (nn.Conv2d(2, 4, (3, 2), stride=(2, 3), padding=(2, 1), dilation=(1, 2)), (2, 2, 7, 8)),
    "2d grouped": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
    "2d depthwise": (nn.Conv2d(4, 4, 3, groups=4, dilation=2), (1, 4, 7, 7)),
    "2d rest of a stride": (nn.Conv2d(2, 2, 2, stride=3), (1, 2, 7, 6)),
    "2d unbatched": (nn.Conv2d(2, 3, 3), (2, 5, 5)),
    "2d reflecting": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (1, 2, 5, 5)),
    "2d replicating": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"), (1, 2, 5, 5)),
    "2d circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (1, 2, 5, 5)),
    "3d": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=(0, 1, 1)), (1, 2, 4, 5, 3)),
    "transposed 1d": (nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 5)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), (2, 4, 3, 4)),
    "transposed and padded by more than a stride": (
        nn.ConvTranspose2d(4, 4, (4, 5), stride=(3, 2), padding=(1, 2), output_padding=(2, 3), groups=2, dilation=4),
        (2, 4, 4, 4),
    ),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2, bias=False), (1, 2, 3, 2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_pytorch_forward_and_backward(name: str, session: Session, random: torch.Generator) -> None:
    layer, shape = LAYERS[name]
    plain = torch.randn(shape, generator=random).requires_grad_()
    grad = torch.randn(layer(plain).shape, generator=random)
    layer.zero_grad()
    expected = layer(plain)
    expected.backward(grad)

    module = tacit.share(layer)
    x = tacit.share(plain.detach(), owner="alice").requires_grad_()
    y = module(x)
    y.backward(tacit.share(grad, owner="bob"))

    close(y, expected)
    close(x.grad, plain.grad)
    for mine, theirs in zip(module.parameters(), layer.parameters(), strict=True):
        close(mine.grad, theirs.grad)


@pytest.mark.parametrize("secret", ["input", "weight", "gradient"])
def test_a_public_operand_costs_no_opening(secret: str, session: Session, random: torch.Generator) -> None:
    x, w, grad = (torch.randn(s, generator=random) for s in ((2, 3, 5, 5), (4, 3, 3, 3), (2, 4, 3, 3)))
    dx, dw, _ = backward(grad, x, w)

    shared = tacit.share({"input": x, "weight": w, "gradient": grad}[secret], owner="alice")
    rounds = session.meter.cost.rounds
    if secret == "gradient":
        found = backward(shared, x, w)
        pairs = [(found[0], dx), (found[1], dw)]
    else:
        pairs = [
            (
                nn.functional.conv2d(*((shared, w) if secret == "input" else (x, shared))),
                nn.functional.conv2d(x, w),
            )
        ]

    assert session.meter.cost.rounds == rounds
    for mine, theirs in pairs:
        close(mine, theirs)


@pytest.mark.priced
@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
def test_a_training_step_opens_input_weight_and_gradient_once(
    parties: tuple[str, ...], random: torch.Generator
) -> None:
    with tacit.session(parties=parties) as session:
        x, w, grad = (
            sum(tacit.share(torch.randn(s, generator=random), owner=p) for p in ("alice", "bob"))
            for s in ((2, 3, 6, 6), (4, 3, 3, 3), (2, 4, 4, 4))
        )
        meter, peers = session.meter, len(parties) - 1

        start = meter.cost
        torch.convolution(x, w, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        middle = meter.cost
        backward(grad, x, w)
        forward, back = middle - start, meter.cost - middle

        assert (forward.rounds, forward.online["alice"]) == (1, 8 * peers * (x.numel() + w.numel()))
        assert (back.rounds, back.online["alice"]) == (1, 8 * peers * grad.numel())


def test_kernels_are_exact_modulo_two_to_the_64(random: torch.Generator) -> None:
    g = Geometry((3, 2), (2, 1), (1, 2), (1, 2), 2)
    x, w = (torch.randint(-(2**63), 2**63 - 1, s, generator=random) for s in ((2, 4, 7, 5), (6, 2, 3, 2)))
    dy = torch.randint(-(2**63), 2**63 - 1, (2, 6, *g.outputs((7, 5))), generator=random)

    y, dx, dw = convolve(x, w, g), input_gradient(dy, w, g, (7, 5)), weight_gradient(dy, x, g)

    total = int((y * dy).sum())  # <conv(x, w), dy> = <x, dx> = <w, dw>, wrapping around alike
    assert total == int((x * dx).sum()) == int((w * dw).sum())
    small, weight = x >> 54, w >> 54
    expected = nn.functional.conv2d(small.double(), weight.double(), None, g.stride, g.padding, g.dilation, g.groups)
    assert torch.equal(convolve(small, weight, g), expected.long())


def backward(grad: Tensor, x: Tensor, w: Tensor) -> Any:
    return aten.convolution_backward(grad, x, w, [4], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True])


def close(secret: Tensor | None, expected: Tensor | None) -> None:
    assert secret is not None
    assert expected is not None
    torch.testing.assert_close(tacit.reveal(secret.detach()), expected.detach(), atol=2**-9, rtol=2**-12)
