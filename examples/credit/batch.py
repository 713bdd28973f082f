"""Score everybody whom the bank and the bureau both know, for the bank alone, which puts it beside its records.

The people are joined anew, each owner prepares its columns as in training, and the perceptron that `train.py` has left
is applied in secret. Alice alone gets the scores: `tacit local examples/credit/batch.py -- credit-run`.
"""

import csv
import sys
from pathlib import Path

import torch
from torch import nn

import tacit

QUERY = """SELECT no, late, used_cents / 100.0 AS used, 1.0 * used_cents / lines_cents AS part_used, inquiries, region
           FROM persons"""

folder = Path(sys.argv[1])
with tacit.session():
    bank = tacit.read_table(folder / "bank.csv", "alice", key="customer no", label="repaid", decimal=",")
    bureau = tacit.read_table(folder / "bureau.db", "bob", key="no", query=QUERY)
    people = tacit.join(bank, bureau)
    people = people.prepared({owner: tacit.prepare.load(folder / f"{owner}.prep", owner) for owner in ("alice", "bob")})
    trained = tacit.load(folder / "model")
    saved = trained["weights"]
    assert trained["columns"] == list(people.columns), "the model was trained with other columns"
    hidden, columns = saved["0.weight"].shape
    model = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    model.load_state_dict(saved, assign=True)
    with torch.no_grad():
        scores = [model(x).sigmoid() for (x,) in tacit.batches(people.x, size=1024, shuffle=False, progress=False)]
    risk = tacit.reveal(torch.cat(scores), to="alice", name="scores")
    places = people.rows_of("alice")
    if tacit.is_role("alice"):
        with (folder / "bank.csv").open(encoding="utf-8", newline="") as file:
            numbers = [row["customer no"] for row in csv.DictReader(file, delimiter=";")]
        with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as file:
            scored = sorted((numbers[place], f"{one:.4f}") for place, (one,) in zip(places, risk.tolist(), strict=True))
            csv.writer(file).writerows([("customer no", "risk"), *scored])
        print(f"{len(scored)} people scored, of {len(numbers)} at the bank: {folder / 'scores.csv'}")
