"""Who repays a loan? A bank and a credit bureau find out together, from the records that each of them has.

Alice's file and Bob's database stay as they are: partly other people, another order, words, dates, gaps. They are
joined by the numbers of persons; each owner prepares its columns, as fitted on training rows. Alice alone learns how
good two models are, and the weights of one: `tacit local examples/credit/train.py -- credit-run 5`.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit.metrics import average_precision_score, roc_auc_score
from tacit.prepare import Table

QUERY = """SELECT no, late, used_cents / 100.0 AS used, 1.0 * used_cents / lines_cents AS part_used, inquiries, region
           FROM persons"""
BAD = {"yes": 0, "no": 1}  # what is predicted is that a loan is not repaid


def fit(model, x, y, epochs):
    """Train, as on plain tensors."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for rows, target in tacit.batches(x, y, size=128, epochs=epochs):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(rows).squeeze(1), target).backward()
        optimizer.step()
    return model


folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
with tacit.session(seed=7):
    bank = tacit.read_table(folder / "bank.csv", "alice", key="customer no", label="repaid", classes=BAD, decimal=",")
    bureau = tacit.read_table(folder / "bureau.db", "bob", key="no", query=QUERY)
    people = tacit.join(bank, bureau)
    train, test = tacit.train_test_split(torch.arange(len(people)), test_size=0.25)
    usual = {"impute": "median", "categories": "one-hot", "dates": "days", "scale": "standard", "clip": 5}
    preparations = {"alice": Table(**usual, drop=["branch phone"]), "bob": Table(**usual)}
    people = people.prepared(preparations, train=train)
    x, y = people.x, people.y.float()
    perceptron = nn.Sequential(nn.Linear(x.shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
    models = {"logistic regression": nn.Linear(x.shape[1], 1), "perceptron": perceptron}
    for name, plain in models.items():
        model = models[name] = fit(tacit.share(plain), x[train], y[train], epochs)
        score = model(x[test]).detach().squeeze(1)
        both = torch.stack([measure(y[test], score) for measure in (roc_auc_score, average_precision_score)])
        both = tacit.reveal(both, to="alice", name=f"quality of the {name}")
        if tacit.is_role("alice"):
            print(f"{name}: AUC {both[0]:.3f}, average precision {both[1]:.3f}, on {len(test)} held-out people")
    weights = tacit.reveal(models["logistic regression"].weight[0], to="alice", name="weights")
    tacit.save({"weights": models["perceptron"].state_dict(), "columns": people.columns}, folder / "model")
    if tacit.is_role("alice"):
        preparations["alice"].save(folder / "alice.prep")
        for column, weight in zip(people.columns, weights.tolist(), strict=True):
            print(f"{column:>24} {weight:+.2f}")
    if tacit.is_role("bob"):
        preparations["bob"].save(folder / "bob.prep")
