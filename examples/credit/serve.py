"""Whether somebody repays: the bank and the bureau answer whoever names a person, and neither sees the answer.

`train.py` has left each role its share of the perceptron, and each owner its preparation, in credit-run. An owner looks
a key up in its own table; the bank also takes the columns of somebody who just came in.

    tacit serve examples/credit/serve.py --config config.json --as alice
"""

import os
from pathlib import Path

from torch import nn

import tacit

GIVEN = ("alice",)  # to whom clients may give columns
FOLDER = Path(os.environ.get("CREDIT", "credit-run"))
QUERY = """SELECT no, late, used_cents / 100.0 AS used, 1.0 * used_cents / lines_cents AS part_used, inquiries, region
           FROM persons"""


def tables():
    """The tables as they were for training, each prepared as then."""
    bank = tacit.read_table(FOLDER / "bank.csv", "alice", key="customer no", label="repaid", decimal=",")
    bureau = tacit.read_table(FOLDER / "bureau.db", "bob", key="no", query=QUERY)
    prepared = {owner: tacit.prepare.load(FOLDER / f"{owner}.prep", owner) for owner in ("alice", "bob")}
    return [bank.prepared(prepared["alice"]), bureau.prepared(prepared["bob"])]


def columns():
    """Those that the model was trained with, which the tables must have."""
    return tacit.load(FOLDER / "model")["columns"]


def load():
    """The perceptron that nobody knows, and the probability that a loan is not repaid."""
    saved = tacit.load(FOLDER / "model")["weights"]
    hidden, columns = saved["0.weight"].shape
    model = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    model.load_state_dict(saved, assign=True)
    return nn.Sequential(model, nn.Sigmoid())
