"""Questions that libraries ask of secrets: those without need to know are answered, all others refused with advice."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler, Subset, TensorDataset

import tacit
from tacit.errors import RevealError, TacitError, UnsupportedOperator
from tacit.tensor.libraries import ADVICE, WITHOUT_NEED_TO_KNOW, advice


@pytest.fixture(scope="module")
def x():
    with tacit.session(seed=1):
        yield tacit.share(torch.arange(12.0).view(4, 3))


def asked_by(module, function, file):
    """A function of a library's that asks whether a mask is all ones."""
    *outer, name = function.split(".")
    lines = [f"class {outer[0]}:", f"    def {name}(mask):"] if outer else [f"def {name}(mask):"]
    namespace = {"__name__": module}
    exec(compile("\n".join([*lines, "        return bool((mask == 1).all())"]), file, "exec"), namespace)
    return getattr(namespace[outer[0]], name) if outer else namespace[name]


@pytest.mark.parametrize(("module", "function"), WITHOUT_NEED_TO_KNOW)
def test_whether_a_mask_is_needless_is_answered(module, function, x):
    asks = asked_by(module, function, f"/somewhere/{module.replace('.', '/')}.py")

    assert asks(x > -1) is WITHOUT_NEED_TO_KNOW[module, function]


@pytest.mark.parametrize(
    ("module", "function"),
    [("transformers.masking_utils", "another"), ("__main__", "_ignore_causal_mask_sdpa")],
)
def test_other_questions_are_refused(module, function, x):
    asks = asked_by(module, function, f"/somewhere/{module.replace('.', '/')}.py")

    with pytest.raises(RevealError, match="bool"):
        asks(x > -1)


@pytest.mark.parametrize("part", ADVICE)
def test_a_refusal_inside_a_library_says_what_its_user_writes(part, x):
    file = f"/somewhere{part}model.py" if part.endswith("/") else f"/somewhere{part}"

    with pytest.raises(RevealError) as refused:
        asked_by("__main__", "ask", file)(x)

    assert str(refused.value).endswith(ADVICE[part])
    assert advice() == ""


def test_what_is_public_by_construction_is_told(x):
    assert not torch.isnan(x.sum())
    assert not torch.isinf(x).any()
    with pytest.raises(RevealError):
        bool(x.sum() > 0)


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, [3, 1, 2]), lambda d: ConcatDataset([d, d])])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2},
        {"batch_size": 2, "drop_last": True, "shuffle": True},
        {"batch_sampler": BatchSampler(SequentialSampler(range(3)), 2, drop_last=False)},
        {"batch_size": 2, "collate_fn": lambda rows: [torch.stack(column) for column in zip(*rows, strict=True)]},
    ],
    ids=["batches", "shuffled", "batch sampler", "own collate function"],
)
def test_loaders_give_the_plain_rows(options, wrap, x):
    values, rows = torch.arange(12.0).view(4, 3), torch.arange(4)

    want = DataLoader(wrap(TensorDataset(values, rows)), **options, generator=torch.Generator().manual_seed(1))
    got = DataLoader(wrap(TensorDataset(x, rows)), **options, generator=torch.Generator().manual_seed(1))

    for (secret, places), (plain, expected) in zip(got, want, strict=True):
        assert torch.equal(places, expected)
        assert torch.equal(tacit.reveal(secret), plain)


def test_distributions_are_refused_until_they_check_nothing(x):
    with pytest.raises(UnsupportedOperator, match=r"torch\.distributions.*validate_args=False"):
        torch.distributions.Normal(x, 1.0, validate_args=True)  # the default, until torch.compile is imported

    got = torch.distributions.Normal(x, 1.0, validate_args=False).log_prob(torch.ones(4, 3))

    want = torch.distributions.Normal(torch.arange(12.0).view(4, 3), 1.0).log_prob(torch.ones(4, 3))
    assert (tacit.reveal(got) - want).abs().max() < 1e-2


def test_a_sum_of_losses_that_is_plain_is_refused(x):
    total = torch.tensor(0.0)

    with pytest.raises(TacitError, match="would write a secret into a plain tensor"):
        total += x.sum()
