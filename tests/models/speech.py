"""A Wav2Letter-style network of one-dimensional convolutions, and features of made-up speech for it.

An utterance is a sequence of letters, each held for ten frames. A frame has 40 numbers, as a mel spectrogram has: a
letter has two formants of its own, bumps at fixed places of the spectrum; neighbouring frames are averaged, as the
mouth moves slowly, and noise is added. The features have mean 0 and deviation 1, as is usual.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

FEATURES, LETTERS = 40, 28
HELD = 10
"""Frames of a letter."""


def utterances(count: int, letters: int, random: Generator) -> tuple[Tensor, Tensor]:
    """Features [count, FEATURES, letters · HELD], and the letter of each frame."""
    said = torch.randint(LETTERS, (count, letters), generator=random).repeat_interleave(HELD, dim=1)
    formants = torch.rand((LETTERS, 2), generator=torch.Generator().manual_seed(0)) * FEATURES
    places = torch.arange(FEATURES).float()
    spectra = torch.exp(-((places - formants.unsqueeze(2)) ** 2) / 8).sum(1)  # [LETTERS, FEATURES]
    frames = nn.functional.avg_pool1d(spectra[said].transpose(1, 2), 3, stride=1, padding=1)
    frames = frames + 0.1 * torch.randn(frames.shape, generator=random)
    return (frames - frames.mean()) / frames.std(), said


def wav2letter(width: int = 250, repeated: int = 7) -> nn.Sequential:
    """Collobert, Puhrsch and Synnaeve's network: a stride of 2, many convolutions of 7, two wide ones, letters."""
    layers = [
        *(nn.Conv1d(FEATURES, width, 48, stride=2, padding=23), nn.ReLU()),
        *(layer for _ in range(repeated) for layer in (nn.Conv1d(width, width, 7, padding=3), nn.ReLU())),
        *(nn.Conv1d(width, 8 * width, 32, padding=16), nn.ReLU()),
        *(nn.Conv1d(8 * width, 8 * width, 1), nn.ReLU()),
        nn.Conv1d(8 * width, LETTERS, 1),
    ]
    return nn.Sequential(*layers)
