"""Reading an owner's file into a secret, and batches that every role agrees on."""

from __future__ import annotations

import pytest
import torch

import tacit
from tacit.data import batches, columns, read_csv
from tacit.ensemble import MISSING
from tacit.errors import DataError


@pytest.fixture
def session():
    with tacit.session(seed=3) as session:
        yield session


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("age,income,label\n31,2.5,0\n47,-1.25,1\n60,0.5,0\n")
    return path


def test_reads_a_table_into_a_secret_with_public_names(session, people):
    x = read_csv(people, owner="alice")

    assert isinstance(x, tacit.SecretTensor)
    assert columns(x) == ("age", "income", "label")
    assert tacit.reveal(x).tolist() == [[31, 2.5, 0], [47, -1.25, 1], [60, 0.5, 0]]


def test_splits_off_the_label_as_a_column(session, people):
    x, y = read_csv(people, owner="bob", label="label")

    assert columns(x) == ("age", "income")
    assert columns(y) == ("label",)
    assert tacit.reveal(y).tolist() == [[0], [1], [0]]


def test_standardizes_features_at_the_owner_but_not_the_label(session, people):
    x, y = read_csv(people, owner="bob", label="label", standardize=True)

    features = tacit.reveal(x)
    assert torch.allclose(features.mean(dim=0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(features.square().mean(dim=0), torch.ones(2), atol=1e-3)
    assert tacit.reveal(y).tolist() == [[0], [1], [0]]


def test_reads_whole_numbers_as_integers(session, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("a,b\n1,-2\n9007199254740993,3\n")

    x = read_csv(path, owner="alice", dtype=torch.int64)

    assert x.dtype == torch.int64
    assert tacit.reveal(x).tolist() == [[1, -2], [2**53 + 1, 3]]


def test_labels_are_classes_that_their_owner_checks(session, tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text("id,width,species,kind\n1,.5,setosa,0\n2,,virginica,2\n")
    options = {"columns": ["width"], "fill": 0.25}

    x, words = read_csv(path, "bob", "species", categories={"species": ["setosa", "virginica"]}, **options)
    _, numbers = read_csv(path, "bob", "kind", classes=3, **options)

    assert tacit.reveal(x).tolist() == [[0.5], [0.25]]
    assert (words.dtype, words.shape) == (torch.int64, (2,))
    assert tacit.reveal(words).tolist() == [0, 1]
    assert tacit.reveal(numbers).tolist() == [0, 2]
    with pytest.raises(DataError, match="kind holds a number at index 1 that is none of 0 to 1"):
        read_csv(path, "bob", "kind", classes=2, **options)
    with pytest.raises(DataError, match="say which column"):
        read_csv(path, "bob", classes=2, columns=["width"])


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", {"label": "label"}, r"has no column 'label'; its columns are a, b"),
        ("label\n1\n", {"label": "label"}, r"has no column but the label 'label'"),
        ("a,b\n1,1e14\n", {}, r"row 1, column 'b': the number is too large"),
        ("a,b\n1,1.5\n", {"dtype": torch.int64}, r"row 1, column 'b': not a whole number"),
        (
            "a,b\n1,2\n",
            {"dtype": torch.float16},
            r"torch.float64 or torch.int64, not torch.float16",
        ),
        ("a,b\n1,2\n", {"dtype": torch.int64, "standardize": True}, r"use dtype=torch.float32"),
        ("a,b\n1,\n", {"standardize": True, "fill": MISSING}, r"other numbers of tacit.ensemble.MISSING"),
        ("a,b\n1,\n", {"standardize": True, "fill": {"b": MISSING}}, r"other numbers of tacit.ensemble.MISSING"),
        ("a,b\n1,2\n1,\n", {"label": "b", "fill": MISSING}, r"row 2, column 'b': a label is not missing"),
    ],
)
def test_refuses_what_cannot_be_shared(session, tmp_path, content, options, message):
    path = tmp_path / "people.csv"
    path.write_text(content)

    with pytest.raises(DataError, match=message):
        read_csv(path, owner="alice", **options)


def test_column_names_belong_to_what_was_read_only(session, people):
    x = read_csv(people, owner="alice")

    with pytest.raises(DataError, match=r"only a tensor as tacit\.read_csv returned it has column names"):
        columns(x[:, :2])


def test_batches_visit_every_row_once_an_epoch_in_the_same_order_for_secrets_and_plain_tensors(session):
    plain = torch.arange(10.0)[:, None]
    secret = tacit.share(plain, owner="alice")

    seen = [(tacit.reveal(of_secret), of_plain) for of_secret, of_plain in batches(secret, plain, size=4, epochs=2)]

    assert [len(of_plain) for _, of_plain in seen] == [4, 4, 2, 4, 4, 2]
    assert all(torch.equal(of_secret, of_plain) for of_secret, of_plain in seen)
    first, second = (torch.cat([of_plain for _, of_plain in seen[half]])[:, 0] for half in (slice(3), slice(3, 6)))
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(10))
    assert first.tolist() != second.tolist()


def test_batches_follow_pytorchs_public_generator():
    x = torch.arange(6)

    torch.manual_seed(1)
    order = torch.cat([batch for (batch,) in batches(x, size=2)])
    torch.manual_seed(1)

    assert torch.equal(order, torch.randperm(6))


def test_batches_can_keep_the_order_and_drop_the_last():
    x = torch.arange(7)

    seen = [batch.tolist() for (batch,) in batches(x, size=3, shuffle=False, drop_last=True)]

    assert seen == [[0, 1, 2], [3, 4, 5]]


def test_all_epochs_open_each_row_under_a_mask_once(session):
    before = session.meter.cost
    x = tacit.share(torch.randn(60, 8), owner="alice")
    w = tacit.share(torch.randn(8, 1), owner="bob")

    for (batch,) in batches(x, size=20, epochs=5):
        batch @ w

    cost = session.meter.cost - before
    assert cost.online == {"alice": 8 * 60 * 8, "bob": 8 * 8}  # each opens what it owns


@pytest.mark.parametrize(
    ("tensors", "size", "message"),
    [
        ((), 4, r"at least one tensor"),
        ((torch.zeros(()),), 4, r"tensors with rows, not scalars"),
        ((torch.zeros(0, 3),), 4, r"at least one row"),
        ((torch.zeros(7, 2), torch.zeros(6)), 4, r"the same number of rows, not 7 and 6"),
        ((torch.zeros(7, 2),), 0, r"a size of at least 1"),
    ],
)
def test_batches_refuse_at_once_what_has_no_batches(tensors, size, message):
    with pytest.raises(DataError, match=message):
        batches(*tensors, size=size)


@pytest.mark.parametrize("how", ["bar", "lines", "off"])
def test_progress_is_shown_as_the_environment_says(monkeypatch, capsys, how):
    monkeypatch.setenv("TACIT_PROGRESS", how)
    monkeypatch.setenv("TERM", "xterm")

    for _ in batches(torch.zeros(400, 1), size=1, epochs=2):
        pass

    shown = capsys.readouterr().err
    assert ("epoch 2/2" in shown) == (how != "off")
    assert len(shown.splitlines()) == 100 or how != "lines"
    assert shown.endswith("epoch 2/2, step 800/800\n") or how != "lines"


def test_progress_is_silent_without_a_terminal(capsys):
    for _ in batches(torch.zeros(8, 1), size=1):
        pass

    assert capsys.readouterr() == ("", "")
