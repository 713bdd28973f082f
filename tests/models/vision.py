"""ResNet-18 and ResNet-50 as people write them in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A convolution without a bias, and its batch norm."""
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """A branch beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.branch(x) + self.shortcut(x))


class Basic(Residual):
    """Two convolutions of 3×3."""

    widening = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        first, second = convolution(inputs, width, 3, stride), convolution(width, width, 3)
        super().__init__(inputs, width, stride, nn.Sequential(first, nn.ReLU(inplace=True), second))


class Bottleneck(Residual):
    """Convolutions of 1×1, 3×3 and 1×1."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        outputs = width * self.widening
        layers = convolution(inputs, width, 1), convolution(width, width, 3, stride), convolution(width, outputs, 1)
        relus = nn.ReLU(inplace=True), nn.ReLU(inplace=True), nn.Identity()
        branch = nn.Sequential(*(module for pair in zip(layers, relus, strict=True) for module in pair))
        super().__init__(inputs, outputs, stride, branch)


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, and a linear layer."""

    def __init__(
        self, block: type[Basic] | type[Bottleneck], depths: tuple[int, ...], width: int = 64, classes: int = 1000
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*convolution(3, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1))
        stages: list[nn.Module] = []
        inputs = width
        for place, depth in enumerate(depths):
            for layer in range(depth):
                stages.append(block(inputs, width << place, 2 if place and not layer else 1))
                inputs = (width << place) * block.widening
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))


def resnet18(width: int = 64) -> ResNet:
    return ResNet(Basic, (2, 2, 2, 2), width)


def resnet50(width: int = 64) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), width)


@torch.no_grad()
def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """The model in evaluation mode, its batch norms as after training: scales that differ, and statistics of images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the average of all it has seen
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.3, 0.3)
    model.train()(x)
    return model.eval()
