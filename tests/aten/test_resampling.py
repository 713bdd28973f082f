"""Padding, interpolation, shuffles and dropout: elements go where plain PyTorch puts them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.session.session import Session

aten = torch.ops.aten
FORWARD = [
    *(f"{kind}_pad{d}d" for kind in ("reflection", "replication") for d in (1, 2, 3)),
    *(f"{kind}{d}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for d in (1, 2, 3)),
]
INTERPOLATIONS = ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"]

COVERS = {
    *(getattr(aten, name).default for name in FORWARD),
    *(getattr(aten, f"{name}_backward").default for name in [*FORWARD, *INTERPOLATIONS]),
}

PLACED: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    **{
        f"pad {d}d {mode}": (lambda x, d=d, mode=mode: F.pad(x, (2, 1, 1, 0, 0, 1)[: 2 * d], mode), (1, 2, *[4] * d))
        for d in (1, 2, 3)
        for mode in ("constant", "reflect", "replicate", "circular")
    },
    **{
        f"interpolate {d}d {mode}": (
            lambda x, d=d, mode=mode: F.interpolate(x, [5, 7, 2][:d], mode=mode),
            (1, 2, *[4] * d),
        )
        for d, kind in ((1, "linear"), (2, "bilinear"), (2, "bicubic"), (3, "trilinear"))
        for mode in ("nearest", "nearest-exact", kind)
    },
    "pad with ones": (lambda x: F.pad(x, (1, 2, 0, 1), value=1.0), (2, 3, 4)),
    "pad without batch": (nn.ReflectionPad2d(2), (2, 4, 3)),
    "scale": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True), (1, 2, 4, 6)),
    "pixel shuffle": (nn.PixelShuffle(2), (1, 8, 3, 2)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (1, 2, 4, 6)),
    "channel shuffle": (nn.ChannelShuffle(2), (1, 4, 3, 3)),
    "unfold": (nn.Unfold((2, 3), padding=1, stride=2), (2, 2, 5, 6)),
    "fold": (nn.Fold((4, 5), (2, 2)), (2, 8, 12)),
}


@pytest.mark.parametrize("name", PLACED)
def test_elements_go_where_pytorch_puts_them(name: str, session: Session, random: torch.Generator) -> None:
    op, shape = PLACED[name]
    plain = torch.randn(shape, generator=random).requires_grad_()
    expected = op(plain)
    grad = torch.randn(expected.shape, generator=random)
    expected.backward(grad)

    x = tacit.share(plain.detach(), owner="alice").requires_grad_()
    y = op(x)
    y.backward(tacit.share(grad, owner="bob"))

    close(y, expected)
    close(x.grad, plain.grad)


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), nn.Dropout2d(0.4), nn.AlphaDropout(0.4)])
def test_dropout_draws_the_public_mask_that_pytorch_draws(
    layer: nn.Module, session: Session, random: torch.Generator
) -> None:
    plain = torch.randn(3, 4, 5, 5, generator=random).requires_grad_()
    grad = torch.randn(plain.shape, generator=random)
    state = torch.get_rng_state()
    expected = layer(plain)
    expected.backward(grad)
    torch.set_rng_state(state)

    x, shared = tacit.share(plain.detach(), owner="alice").requires_grad_(), tacit.share(grad, owner="bob")
    rounds = session.meter.cost.rounds
    y = layer(x)
    y.backward(shared)

    assert session.meter.cost.rounds == rounds
    close(y, expected)
    close(x.grad, plain.grad)


def close(secret: Tensor | None, expected: Tensor | None) -> None:
    assert secret is not None
    assert expected is not None
    torch.testing.assert_close(tacit.reveal(secret.detach()), expected.detach(), atol=2**-12, rtol=2**-12)
