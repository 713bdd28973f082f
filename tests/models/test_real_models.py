"""Models of a real size, written in plain PyTorch: a secret model on a secret input gives the plain output."""

from __future__ import annotations

import copy
import time

import pytest
import torch
from torch.nn import functional as F

import tacit

from .speech import FEATURES, HELD, utterances, wav2letter
from .vision import resnet18, resnet50, settled

RESNETS = {"ResNet-18": (resnet18, 2.0**-9), "ResNet-50": (resnet50, 2.0**-6)}
"""How far an output may be from the plain one, as a part of the largest: each layer adds roundings, and with random
weights amplifies those before it by a tenth."""


def compared(name, model, inputs, session):
    """Predict on secrets and in plain PyTorch; print what it took; return the error, relative to the largest output."""
    secret, errors, costs = tacit.share(model, owner="bob"), [], []
    with torch.no_grad():
        for x in inputs:
            image = tacit.share(x, owner="alice")
            before, start = session.meter.cost, time.process_time()
            got, want = tacit.reveal(secret(image)), model(x)
            costs.append(session.meter.cost - before)
            errors.append(float((got - want).abs().max() / want.abs().max()))
            print(f"{name} {tuple(x.shape)}: error {errors[-1]:.2g}, {time.process_time() - start:.1f} s, {costs[-1]}")
    assert costs[1].rounds == costs[0].rounds  # the owner has shared roots of variances, and weights under masks
    return max(errors)


@pytest.mark.priced
@pytest.mark.parametrize("name", RESNETS)
def test_narrow_resnets_give_the_plain_output(name, session):
    make, error = RESNETS[name]
    model = settled(make(width=4), torch.randn(4, 3, 64, 64))

    assert compared(name, model, torch.randn(2, 2, 3, 64, 64), session) < error


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RESNETS)
def test_resnets_give_the_plain_output_on_images_of_imagenets_size(name, session):
    make, error = RESNETS[name]
    model = settled(make(), torch.randn(4, 3, 224, 224))

    assert compared(name, model, torch.randn(2, 1, 3, 224, 224), session) < error


def test_made_up_speech_is_as_documented():
    x, letters = utterances(3, 8, torch.Generator().manual_seed(1))
    again, _ = utterances(3, 8, torch.Generator().manual_seed(1))

    assert x.shape == (3, FEATURES, 8 * HELD)
    assert letters.shape == (3, 8 * HELD)
    assert torch.equal(x, again)
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std()) == pytest.approx(1, abs=1e-4)
    assert all(len(letter.unique()) == 1 for letter in letters.view(-1, HELD))


def agree_on_speech(width, repeated, letters, session):
    """Predict, and take a step of training, on secrets and in plain PyTorch."""
    x, said = utterances(2, letters, torch.Generator().manual_seed(1))
    model = wav2letter(width, repeated)
    secret, heard = tacit.share(copy.deepcopy(model)), tacit.share(x, owner="alice")
    letter = said[:, ::2]  # the network has a stride of 2

    def step(model, x, y):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scores = model(x)
        F.cross_entropy(scores[..., : y.shape[1]], y).backward()
        optimizer.step()
        return scores.detach()

    before, start = session.meter.cost, time.process_time()
    got = step(secret, heard, tacit.share(letter, owner="bob"))
    seconds, cost = time.process_time() - start, session.meter.cost - before
    want = step(model, x, letter)

    error = float((tacit.reveal(got) - want).abs().max() / want.abs().max())
    weights = zip(secret.parameters(), model.parameters(), strict=True)
    off = max(float((tacit.reveal(g.detach()) - w.detach()).abs().max()) for g, w in weights)
    print(f"Wav2Letter {tuple(x.shape)}: error {error:.2g}, weights {off:.2g}, {seconds:.1f} s of work, {cost}")
    assert error < 2**-9
    assert off < 2**-12


def test_a_narrow_wav2letter_predicts_and_learns_as_the_plain_one(session):
    agree_on_speech(8, 2, 6, session)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wav2letter_predicts_and_learns_as_the_plain_one(session):
    agree_on_speech(250, 7, 20, session)
