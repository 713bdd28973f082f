"""The modules and losses of `torch.nn`, each with a small reference input, for the table of what works on secrets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["CASES", "Case", "everything"]

Draw = Callable[[], Tensor]


class Case(NamedTuple):
    """How a module is made, and what it is called with; floating-point inputs are secret, others public."""

    make: Callable[[], nn.Module]
    inputs: tuple[Draw, ...]


def case(make: Callable[[], nn.Module], *inputs: tuple[int, ...] | Draw) -> Case:
    """A case; a shape stands for normally distributed numbers."""
    return Case(make, tuple(normal(x) if isinstance(x, tuple) else x for x in inputs))


def normal(shape: tuple[int, ...]) -> Draw:
    """Normally distributed numbers."""
    return lambda: torch.randn(shape)


def index(below: int, *shape: int) -> Draw:
    """Whole numbers from 0."""
    return lambda: torch.randint(below, shape)


def signs(*shape: int) -> Draw:
    """-1 and 1."""
    return lambda: torch.randint(2, shape) * 2 - 1


def unit(*shape: int) -> Draw:
    """Numbers well between 0 and 1."""
    return lambda: torch.rand(shape) * 0.8 + 0.1


def probabilities(*shape: int) -> Draw:
    """Rows that sum to 1."""
    return lambda: torch.randn(shape).softmax(1)


def labels(*rows: list[int]) -> Draw:
    """Given classes, -1 after the last."""
    return lambda: torch.tensor(rows)


class _Unpooled(nn.Module):
    """The largest of each window, put back where they came from."""

    def __init__(self, pool: nn.Module, unpool: nn.Module) -> None:
        super().__init__()
        self.pool, self.unpool = pool, unpool

    def forward(self, x: Tensor) -> Tensor:
        y, where = self.pool(x)
        result: Tensor = self.unpool(y, where)
        return result


FLAT, ROWS, SERIES, IMAGE, VOLUME = (4, 6), (4, 2, 6), (2, 2, 8), (2, 2, 6, 6), (1, 2, 4, 4, 4)
SPATIAL = {1: SERIES, 2: IMAGE, 3: VOLUME}


def spatial(name: str, make: Callable[[type[nn.Module]], nn.Module]) -> dict[str, Case]:
    """The same module in one, two and three dimensions."""
    return {f"{name}{d}d": case(partial(make, getattr(nn, f"{name}{d}d")), shape) for d, shape in SPATIAL.items()}


LAYERS = {
    "Linear": case(lambda: nn.Linear(6, 3), FLAT),
    "Bilinear": case(lambda: nn.Bilinear(6, 5, 3), FLAT, (4, 5)),
    "Embedding": case(lambda: nn.Embedding(7, 3), index(7, 4, 5)),
    "EmbeddingBag": case(lambda: nn.EmbeddingBag(7, 3), index(7, 4, 5)),
    **spatial("Conv", lambda cls: cls(2, 3, 3)),
    **spatial("ConvTranspose", lambda cls: cls(2, 3, 3, stride=2)),
    "Fold": case(lambda: nn.Fold((4, 4), 2), (1, 12, 9)),
    "Unfold": case(lambda: nn.Unfold(2), IMAGE),
    "Flatten": case(nn.Flatten, IMAGE),
    "Unflatten": case(lambda: nn.Unflatten(1, (2, 3)), FLAT),
    "Identity": case(nn.Identity, FLAT),
    "ChannelShuffle": case(lambda: nn.ChannelShuffle(2), (1, 4, 3, 3)),
    "PixelShuffle": case(lambda: nn.PixelShuffle(2), (1, 4, 3, 3)),
    "PixelUnshuffle": case(lambda: nn.PixelUnshuffle(2), IMAGE),
    "Upsample": case(lambda: nn.Upsample(scale_factor=2), IMAGE),
    "UpsamplingNearest2d": case(lambda: nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
    "UpsamplingBilinear2d": case(lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
}
POOLING = {
    **spatial("MaxPool", lambda cls: cls(2)),
    **spatial("AvgPool", lambda cls: cls(2)),
    **spatial("LPPool", lambda cls: cls(2, 2)),
    **spatial("AdaptiveMaxPool", lambda cls: cls(2)),
    **spatial("AdaptiveAvgPool", lambda cls: cls(2)),
    "MaxUnpool1d": case(lambda: _Unpooled(nn.MaxPool1d(2, return_indices=True), nn.MaxUnpool1d(2)), SERIES),
    "MaxUnpool2d": case(lambda: _Unpooled(nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)), IMAGE),
    "MaxUnpool3d": case(lambda: _Unpooled(nn.MaxPool3d(2, return_indices=True), nn.MaxUnpool3d(2)), VOLUME),
    "FractionalMaxPool2d": case(lambda: nn.FractionalMaxPool2d(2, 3), IMAGE),
    "FractionalMaxPool3d": case(lambda: nn.FractionalMaxPool3d(2, 2), VOLUME),
}
PADDING = {
    **spatial("ZeroPad", lambda cls: cls(1)),
    **spatial("ConstantPad", lambda cls: cls(1, 0.5)),
    **spatial("ReflectionPad", lambda cls: cls(1)),
    **spatial("ReplicationPad", lambda cls: cls(1)),
    **spatial("CircularPad", lambda cls: cls(1)),
}
NORMALIZATION = {
    **spatial("BatchNorm", lambda cls: cls(2)),
    **spatial("InstanceNorm", lambda cls: cls(2)),
    "LayerNorm": case(lambda: nn.LayerNorm(6), FLAT),
    "GroupNorm": case(lambda: nn.GroupNorm(2, 6), FLAT),
    "RMSNorm": case(lambda: nn.RMSNorm(6), FLAT),
    "LocalResponseNorm": case(lambda: nn.LocalResponseNorm(2), IMAGE),
    "CrossMapLRN2d": case(lambda: nn.CrossMapLRN2d(2), IMAGE),
    "Dropout": case(nn.Dropout, FLAT),
    **spatial("Dropout", lambda cls: cls()),
    "AlphaDropout": case(nn.AlphaDropout, FLAT),
    "FeatureAlphaDropout": case(nn.FeatureAlphaDropout, IMAGE),
}
SIMPLE = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU),
    *(nn.LogSigmoid, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus),
    *(nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink),
)
ACTIVATIONS = {
    **{cls.__name__: case(cls, FLAT) for cls in SIMPLE},
    "Threshold": case(lambda: nn.Threshold(0.1, 0.5), FLAT),
    "Softmax": case(lambda: nn.Softmax(dim=1), FLAT),
    "Softmax2d": case(nn.Softmax2d, IMAGE),
    "Softmin": case(lambda: nn.Softmin(dim=1), FLAT),
    "LogSoftmax": case(lambda: nn.LogSoftmax(dim=1), FLAT),
}
SEQUENCES = {
    "RNN": case(lambda: nn.RNN(6, 3), ROWS),
    "LSTM": case(lambda: nn.LSTM(6, 3), ROWS),
    "GRU": case(lambda: nn.GRU(6, 3), ROWS),
    "RNNCell": case(lambda: nn.RNNCell(6, 3), FLAT),
    "LSTMCell": case(lambda: nn.LSTMCell(6, 3), FLAT),
    "GRUCell": case(lambda: nn.GRUCell(6, 3), FLAT),
    "MultiheadAttention": case(lambda: nn.MultiheadAttention(6, 2), ROWS, ROWS, ROWS),
    "TransformerEncoderLayer": case(lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0), ROWS),
    "TransformerDecoderLayer": case(lambda: nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0), ROWS, ROWS),
    "TransformerEncoder": case(
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), 2), ROWS
    ),
    "TransformerDecoder": case(
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0), 2), ROWS, ROWS
    ),
    "Transformer": case(lambda: nn.Transformer(6, 2, 1, 1, 8, dropout=0.0, batch_first=True), ROWS, ROWS),
}
SCORES = (4, 3)
LOSSES = {
    **{name: case(getattr(nn, name), SCORES, SCORES) for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss")},
    "CrossEntropyLoss": case(nn.CrossEntropyLoss, SCORES, index(3, 4)),
    "LinearCrossEntropyLoss": case(lambda: nn.LinearCrossEntropyLoss(6, 3), FLAT, index(3, 4)),
    "AdaptiveLogSoftmaxWithLoss": case(lambda: nn.AdaptiveLogSoftmaxWithLoss(6, 7, [3]), FLAT, index(7, 4)),
    "NLLLoss": case(nn.NLLLoss, SCORES, index(3, 4)),
    "BCELoss": case(nn.BCELoss, unit(4, 3), unit(4, 3)),
    "BCEWithLogitsLoss": case(nn.BCEWithLogitsLoss, SCORES, unit(4, 3)),
    "KLDivLoss": case(lambda: nn.KLDivLoss(reduction="batchmean"), SCORES, probabilities(4, 3)),
    "PoissonNLLLoss": case(nn.PoissonNLLLoss, SCORES, unit(4, 3)),
    "GaussianNLLLoss": case(nn.GaussianNLLLoss, SCORES, SCORES, unit(4, 3)),
    "SoftMarginLoss": case(nn.SoftMarginLoss, SCORES, signs(4, 3)),
    "MultiMarginLoss": case(nn.MultiMarginLoss, SCORES, index(3, 4)),
    "MultiLabelMarginLoss": case(nn.MultiLabelMarginLoss, (2, 3), labels([0, 2, -1], [1, -1, 0])),
    "MultiLabelSoftMarginLoss": case(nn.MultiLabelSoftMarginLoss, SCORES, unit(4, 3)),
    "HingeEmbeddingLoss": case(nn.HingeEmbeddingLoss, SCORES, signs(4, 3)),
    "MarginRankingLoss": case(nn.MarginRankingLoss, (4,), (4,), signs(4)),
    "CosineEmbeddingLoss": case(nn.CosineEmbeddingLoss, FLAT, FLAT, signs(4)),
    "TripletMarginLoss": case(nn.TripletMarginLoss, FLAT, FLAT, FLAT),
    "TripletMarginWithDistanceLoss": case(nn.TripletMarginWithDistanceLoss, FLAT, FLAT, FLAT),
    "CosineSimilarity": case(nn.CosineSimilarity, FLAT, FLAT),
    "PairwiseDistance": case(nn.PairwiseDistance, FLAT, FLAT),
    "CTCLoss": case(
        nn.CTCLoss,
        lambda: torch.randn(5, 2, 4).log_softmax(2),
        lambda: torch.tensor([[1, 2], [3, 1]]),
        lambda: torch.tensor([5, 5]),
        lambda: torch.tensor([2, 2]),
    ),
}
CASES: dict[str, dict[str, Case]] = {
    "Layers": LAYERS,
    "Pooling": POOLING,
    "Padding": PADDING,
    "Normalisation and dropout": NORMALIZATION,
    "Activations": ACTIVATIONS,
    "Recurrent and attention": SEQUENCES,
    "Losses and distances": LOSSES,
}

HOLDERS = {nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Container}
APART = HOLDERS | {nn.RNNBase, nn.RNNCellBase, nn.NLLLoss2d, nn.DataParallel, nn.SyncBatchNorm}
"""Classes of `torch.nn` that only hold others, are there to be inherited from, or need several devices; `NLLLoss2d` is
an old name. A lazy one becomes, with its first input, the one that has no `Lazy` in its name."""


def everything() -> set[str]:
    """The names of all that `torch.nn` has and that computes something."""
    classes = {cls for cls in vars(nn).values() if isinstance(cls, type) and issubclass(cls, nn.Module)}
    return {cls.__name__ for cls in classes - APART if not cls.__name__.startswith("Lazy")}
