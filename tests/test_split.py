"""Training and test rows: sizes and places as scikit-learn's, and classes kept together that nobody sees."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from sklearn import model_selection as plain

import tacit
from tacit.errors import DataError


@pytest.fixture
def random() -> torch.Generator:
    seed = int(os.environ.get("TACIT_TEST_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TACIT_TEST_SEED={seed}")
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def session():
    with tacit.session(seed=1) as opened:
        yield opened


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows that are told apart by what they hold, with a number for each."""
    x = torch.arange(2.0 * count).view(count, 2)
    return x, x[:, 0] / 2


@pytest.mark.parametrize(
    "sizes", [{}, {"test_size": 0.3}, {"test_size": 7}, {"train_size": 0.5}, {"train_size": 3, "test_size": 4}]
)
def test_sizes_are_those_of_scikit_learn_and_rows_stay_together(sizes, session):
    x, y = rows(23)

    parts = tacit.train_test_split(tacit.share(x, owner="alice"), tacit.share(y, owner="bob"), y.numpy(), **sizes)

    expected = plain.train_test_split(x, y, y, **sizes)
    assert [len(p) for p in parts] == [len(p) for p in expected]
    seen = [p if isinstance(p, np.ndarray) else tacit.reveal(p).numpy() for p in parts]
    for a, b, c in (seen[::2], seen[1::2]):
        assert (a[:, 0] / 2 == b).all()
        assert (b == c).all()
    assert len({*seen[2], *seen[3]}) == len(seen[2]) + len(seen[3])


def test_a_seed_repeats_a_split_and_no_seed_draws_publicly(session):
    x = torch.arange(30)

    first, again, other = (tacit.train_test_split(x, random_state=k)[0] for k in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(5)
    drawn = tacit.train_test_split(x)[0]
    torch.manual_seed(5)
    assert torch.equal(tacit.train_test_split(x)[0], drawn)
    assert torch.equal(tacit.train_test_split(x, shuffle=False, test_size=10)[1], x[20:])


@pytest.mark.parametrize(("count", "folds"), [(10, 5), (11, 3), (4, 4)])
def test_folds_are_those_of_scikit_learn(count, folds):
    x = torch.zeros(count)

    found = list(tacit.KFold(folds).split(x))

    for (train, test), (train_expected, test_expected) in zip(found, plain.KFold(folds).split(x), strict=True):
        assert train.tolist() == train_expected.tolist()
        assert test.tolist() == test_expected.tolist()
    shuffled = [test for _, test in tacit.KFold(folds, shuffle=True, random_state=3).split(x)]
    assert sorted(torch.cat(shuffled).tolist()) == list(range(count))
    assert tacit.KFold(folds).get_n_splits() == folds


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("parties", [("alice", "bob"), ("alice", "bob", "carol")])
def test_a_split_is_stratified_by_secret_labels(classes, parties, random):
    count = 60
    x, y = rows(count)
    label = torch.randint(0, classes, (count,), generator=random)

    with tacit.session(parties=parties, protocol="additive" if len(parties) > 2 else None):
        given = tacit.share(x, owner="alice"), tacit.share(y, owner="bob"), tacit.share(label, owner="bob")
        parts = tacit.train_test_split(*given, test_size=0.25, stratify=given[2], classes=list(range(classes)))
        seen = [tacit.reveal(p) for p in parts]

    assert [len(p) for p in seen] == [45, 15] * 3
    assert sorted(torch.cat(seen[2:4]).tolist()) == list(range(count))
    for a, b, c in (seen[::2], seen[1::2]):
        assert torch.equal(a[:, 0] / 2, b)
        assert torch.equal(label[b.long()], c)
    for k in range(classes):
        expected = 0.25 * float((label == k).sum())
        assert abs(float((seen[5] == k).sum()) - expected) < 1.01


def test_folds_are_stratified_by_secret_labels(session, random):
    count, k = 47, 4
    x, y = rows(count)
    label = torch.randint(0, 2, (count, 1), generator=random).float()
    splits = tacit.StratifiedKFold(k)

    tests, tested = [], []
    for parts in splits.split(tacit.share(x, owner="alice"), tacit.share(y), tacit.share(label, owner="bob")):
        x_train, x_test, y_train, y_test, l_train, l_test = (tacit.reveal(p) for p in parts)
        assert torch.equal(x_test[:, 0] / 2, y_test)
        assert torch.equal(label[y_train.long()], l_train)
        assert sorted([*y_train.tolist(), *y_test.tolist()]) == list(range(count))
        assert len(x_train) == count - len(x_test)
        tests += y_test.tolist()
        tested.append(int(l_test.sum()))

    assert sorted(tests) == list(range(count))
    assert max(tested) - min(tested) <= 1
    assert splits.get_n_splits() == k


def test_public_labels_are_stratified_in_public(session):
    label = torch.tensor([0] * 8 + [1] * 4)
    x = tacit.share(torch.arange(12.0), owner="alice")

    _, test, _, test_label = tacit.train_test_split(x, label, test_size=3, stratify=label)

    assert sorted(test_label.tolist()) == [0, 0, 1]
    assert torch.equal(label[tacit.reveal(test).long()], test_label)


def test_labels_that_are_none_of_the_classes_are_a_class(session):
    label = torch.tensor([7.0, 1.0, 0.0, 1.0, 7.0, 0.5])

    parts = tacit.train_test_split(tacit.share(label, owner="bob"), test_size=3, stratify=tacit.share(label, "bob"))

    assert sorted(torch.cat([tacit.reveal(p) for p in parts]).tolist()) == sorted(label.tolist())
    assert all((tacit.reveal(p) == 1).sum() == 1 for p in parts)


def test_which_row_comes_where_is_not_the_public_generators_to_say(session):
    label = torch.tensor([0, 1] * 20)
    given = tacit.share(torch.arange(40.0), owner="alice"), tacit.share(label, owner="bob")

    first, second = (
        tacit.reveal(tacit.train_test_split(*given, stratify=given[1], random_state=1)[0]) for _ in range(2)
    )

    assert not torch.equal(first, second)  # by chance once in 30! times
    assert torch.equal(first.sort().values, second.sort().values)  # which rows they are, the seed says to nobody


def test_wrong_arguments_are_refused(session):
    x = torch.zeros(10)

    for sizes in ({"test_size": 1.5}, {"test_size": 10}, {"test_size": 0}, {"test_size": True}, {"train_size": -1}):
        with pytest.raises(DataError, match="size"):
            tacit.train_test_split(x, **sizes)
    with pytest.raises(DataError, match="cannot be split"):
        tacit.train_test_split(x, test_size=6, train_size=6)
    with pytest.raises(DataError, match="same number of rows"):
        tacit.train_test_split(x, x[:3])
    with pytest.raises(DataError, match="at least one tensor"):
        tacit.train_test_split()
    with pytest.raises(DataError, match="leave out shuffle=False"):
        tacit.train_test_split(x, stratify=x, shuffle=False)
    with pytest.raises(DataError, match="one label a row"):
        tacit.train_test_split(x, stratify=tacit.share(torch.zeros(10, 2)))
    with pytest.raises(DataError, match="each once"):
        tacit.train_test_split(x, stratify=tacit.share(x, owner="bob"), classes=[1, 1])
    with pytest.raises(DataError, match="two folds"):
        tacit.KFold(1)
    with pytest.raises(DataError, match="too few"):
        list(tacit.KFold(11).split(x))
    with pytest.raises(DataError, match="shuffle=True"):
        tacit.KFold(2, random_state=1)
    with pytest.raises(DataError, match="random_state"):
        tacit.train_test_split(x, random_state=1.5)
