"""Rows of nobody, which joins fill up with, do not count: not in losses, not in measures, by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import tacit
from tacit import metrics
from tacit.aten.rows import weight_of, weighted
from tacit.ensemble import GradientBoostingClassifier, RandomForestClassifier
from tacit.errors import DataError
from tacit.statistics import weight_of_evidence

ROWS = 40


@pytest.fixture(params=["additive", "two-party"])
def session(request):
    with tacit.session(protocol=request.param) as session:
        yield session


class Rows:
    """A label with rows of nobody, and the same without."""

    def __init__(self, classes: int = 2) -> None:
        self.x, self.y = torch.randn(ROWS, 3), torch.randint(0, classes, (ROWS,))
        self.counts = torch.rand(ROWS) < 0.6
        self.counts[:2] = True
        self.x[~self.counts] = 0
        self.secret_x = tacit.share(self.x, owner="alice")
        marks = tacit.share(self.counts.long(), owner="bob", shape=(ROWS,), dtype=torch.int64)
        self.secret_y = weighted(tacit.share(self.y, owner="bob", classes=classes), marks)


LOSSES = {
    "bce_with_logits": lambda s, y: functional.binary_cross_entropy_with_logits(s, y.float()),
    "bce": lambda s, y: functional.binary_cross_entropy(s.sigmoid(), y.float()),
    "mse": lambda s, y: functional.mse_loss(s, y.float()),
    "mse, swapped": lambda s, y: functional.mse_loss(y.float(), s),
    "l1": lambda s, y: functional.l1_loss(s, y.float()),
    "smooth_l1": lambda s, y: functional.smooth_l1_loss(s, y.float()),
    "huber": lambda s, y: functional.huber_loss(s, y.float()),
    "sum": lambda s, y: functional.mse_loss(s, y.float(), reduction="sum"),
    "column": lambda s, y: functional.mse_loss(s[:, None], y.float()[:, None]),
    "module": lambda s, y: nn.BCEWithLogitsLoss()(s, y.to(torch.float32).view(-1)),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_and_their_gradients_leave_rows_of_nobody_out(session, loss):
    rows, weights = Rows(), torch.rand(3) - 0.5  # scores of which no logarithm of a sigmoid is far off
    plain = weights.clone().requires_grad_()
    hidden = tacit.share(weights).requires_grad_()
    order = torch.randperm(ROWS)[: ROWS - 5]
    order = torch.cat([order, torch.tensor([0, 1])]).unique()
    kept = order[rows.counts[order]]

    expected = loss(rows.x[kept] @ plain, rows.y[kept])
    expected.backward()
    found = loss(rows.secret_x[order] @ hidden, rows.secret_y[order])
    found.backward()

    assert (tacit.reveal(found) - expected).abs().item() < 2e-3 * max(1.0, expected.abs().item())
    assert (tacit.reveal(hidden.grad) - plain.grad).abs().max() < 2e-3 * max(1.0, float(plain.grad.abs().max()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_of_nobody_are_left_out(session, smoothing):
    rows = Rows(classes=3)
    kept = rows.counts

    found = functional.cross_entropy(rows.secret_x, rows.secret_y, label_smoothing=smoothing)
    expected = functional.cross_entropy(rows.x[kept], rows.y[kept], label_smoothing=smoothing)

    assert abs(float(tacit.reveal(found)) - float(expected)) < 2e-3
    each = functional.cross_entropy(rows.secret_x, rows.secret_y, reduction="none")
    assert not tacit.reveal(each)[~kept].any()
    with pytest.raises(DataError, match="takes no weights of classes"):
        functional.cross_entropy(rows.secret_x, rows.secret_y, weight=torch.ones(3))


def test_a_batch_of_nobody_teaches_nothing(session):
    rows, weights = Rows(), tacit.share(torch.randn(3)).requires_grad_()
    nobody = (~rows.counts).nonzero().squeeze(1)

    loss = functional.mse_loss(rows.secret_x[nobody] @ weights, rows.secret_y[nobody].float())
    loss.backward()

    assert float(tacit.reveal(loss)) == 0
    assert not tacit.reveal(weights.grad).any()


def test_batches_splits_and_measures_take_weights_along(session):
    from sklearn.metrics import confusion_matrix, roc_auc_score

    rows = Rows()
    rows.y[:2] = torch.tensor([0, 1])
    rows.secret_y = weighted(tacit.share(rows.y, owner="bob", classes=2), weight_of(rows.secret_y))
    score, kept = rows.secret_x[:, 0], rows.counts

    for x, y in tacit.batches(rows.secret_x, rows.secret_y, size=8, progress=False):
        assert weight_of(y).shape == (len(x),)
    auc = tacit.reveal(metrics.roc_auc_score(rows.secret_y, score))
    table = tacit.reveal(metrics.confusion_matrix(rows.secret_y, score > 0, labels=[0, 1]))
    accuracy = tacit.reveal(metrics.accuracy_score(rows.secret_y, score > 0))
    weights = torch.randint(1, 4, (ROWS,))
    more = tacit.reveal(metrics.roc_auc_score(rows.secret_y, score, sample_weight=weights))
    parts = tacit.train_test_split(rows.secret_x, rows.secret_y, test_size=10, stratify=rows.secret_y)

    x, y = rows.x[kept, 0], rows.y[kept]
    assert abs(float(auc) - roc_auc_score(y, x)) < 1e-3
    assert abs(float(more) - roc_auc_score(y, x, sample_weight=weights[kept])) < 1e-3
    assert table.tolist() == confusion_matrix(y, x > 0).tolist()
    assert abs(float(accuracy) - float((y == (x > 0)).float().mean())) < 1e-3
    for x_part, y_part in (parts[0::2], parts[1::2]):
        there = tacit.reveal(weight_of(y_part)) == 1
        assert torch.equal(tacit.reveal(x_part).any(1), there)
    assert sum(int(tacit.reveal(weight_of(y).sum())) for y in parts[2:]) == int(kept.sum())


def test_what_has_no_weights_refuses_such_rows():
    with tacit.session():
        rows = Rows()
        with pytest.raises(DataError, match="nobody's"):
            weight_of_evidence(rows.secret_x, rows.secret_y, bins=2, least_rows=2)
        with pytest.raises(DataError, match="a forest counts all"):
            RandomForestClassifier(n_estimators=1).fit(rows.secret_x, rows.secret_y)
        with pytest.raises(DataError, match="bring labels and predictions to one shape"):
            torch.ops.aten.mse_loss(rows.secret_x, rows.secret_y.float()[:, None])


def test_boosting_counts_who_is_there():
    with tacit.session():
        rows, side = Rows(), torch.arange(ROWS) % 2
        x = tacit.share((2.0 * side - 1)[:, None], owner="alice")
        rows.counts[:] = torch.arange(ROWS) % 8 < 2
        y = tacit.share(torch.where(rows.counts, side, 1 - side), owner="bob", classes=2)
        y = weighted(y, tacit.share(rows.counts.long(), owner="bob"))

        model = GradientBoostingClassifier(n_estimators=2, max_depth=1, progress=False).fit(x, y)

        assert torch.equal(tacit.reveal(model.predict(x)).long(), side)


def test_a_session_that_checks_itself_takes_such_losses_for_what_they_are():
    with tacit.session(check=True):
        rows = Rows()

        loss = functional.mse_loss(rows.secret_x[:, 0], rows.secret_y.float())
        found = functional.cross_entropy(rows.secret_x, rows.secret_y)

        assert float(tacit.reveal(loss)) >= 0
        assert float(tacit.reveal(found)) > 0


@pytest.mark.parametrize("protocol", ["additive", "plain", "two-party"])
def test_labels_of_a_join_say_which_rows_are_nobodys(protocol):
    with tacit.session(protocol=protocol):
        a = tacit.read_table({"k": [1, 2, 3, 4], "x": [1.0, 2.0, 3.0, 4.0]}, "alice", key="k")
        b = tacit.read_table({"k": [3, 2, 8, 9], "fraud": ["no", "yes", "no", "no"]}, "bob", key="k", label="fraud")
        people = tacit.join(a, b, reveal="nothing")
        train, test = tacit.train_test_split(torch.arange(len(people)), test_size=2)

        loss = functional.mse_loss(people.x.squeeze(1), people.y.float())
        right = metrics.accuracy_score(people.y, people.x.squeeze(1) < 2.5)

        assert people.padded
        assert torch.equal(tacit.reveal(weight_of(people.y)).float(), tacit.reveal(people.weight))
        assert tacit.reveal(weight_of(people.y[train])).sum() + tacit.reveal(weight_of(people.y[test])).sum() == 2
        assert abs(float(tacit.reveal(loss)) - (1 + 9) / 2) < 1e-2
        assert float(tacit.reveal(right)) == 1
        with pytest.raises(DataError, match="nobody's"):
            tacit.describe(people, least_rows=2)
