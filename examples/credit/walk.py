"""Who repays a loan, in cells with pictures: `../private_images/notebook.py` makes walk.ipynb of them."""

# %% [markdown]
# # Who repays a loan?
#
# A bank (Alice) and a credit bureau (Bob) find out together, from the records that each of them has: of partly other
# people, in another order, with words, dates and gaps. Nobody shows a row. This is the story of `train.py` with
# pictures. All roles run in this process here; `tacit demo credit` gives each a process of its own.
#
# This notebook is made of `walk.py` by `../private_images/notebook.py`, and a test runs it.

# %%
import os
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import tacit
from tacit import metrics
from tacit.prepare import Table
from tacit.statistics import weight_of_evidence

sys.path.insert(0, str(Path(globals().get("__file__", "walk.py")).resolve().parent))
from credit_records import write_missing

EPOCHS = int(os.environ.get("EPOCHS", "3"))
folder = Path("credit-run")
write_missing(folder)
session = tacit.session(seed=7)


def bars(names, values, title):
    """Draw a bar for each name."""
    plt.figure(figsize=(7, 0.3 * len(names) + 1))
    plt.barh(list(names)[::-1], list(values)[::-1])
    plt.title(title)
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## What each of them has
#
# The bank has a file with semicolons and decimal commas, the bureau an SQLite database with amounts in cents. Each
# reads its own, and is told what the reader took each column for. The others learn the names of the columns, and how
# many rows there are.

# %%
QUERY = """SELECT no, late, used_cents / 100.0 AS used, 1.0 * used_cents / lines_cents AS part_used, inquiries, region
           FROM persons"""
BAD = {"yes": 0, "no": 1}  # what is predicted is that a loan is not repaid
bank = tacit.read_table(folder / "bank.csv", "alice", key="customer no", label="repaid", classes=BAD, decimal=",")
bureau = tacit.read_table(folder / "bureau.db", "bob", key="no", query=QUERY)
print(bank, bank.types, bureau, bureau.types, sep="\n")

# %% [markdown]
# ## Rows that belong together
#
# The numbers of customers are compared in the one form that all owners bring them to. Each owner learns which of its
# own rows matched; with `reveal="size"` not even that.

# %%
people = tacit.join(bank, bureau)
train, test = tacit.train_test_split(torch.arange(len(people)), test_size=0.25)
print(people, "of", len(bank), "and", len(bureau))

# %% [markdown]
# ## Prepared by their owners
#
# Gaps, words and dates become numbers at the owner, by what it fits on its training rows. What is fitted is saved
# there, for single rows later.

# %%
usual = {"impute": "median", "categories": "one-hot", "dates": "days", "scale": "standard", "clip": 5}
preparations = {"alice": Table(**usual, drop=["branch phone"]), "bob": Table(**usual)}
people = people.prepared(preparations, train=train)
for owner, preparation in preparations.items():
    preparation.save(folder / f"{owner}.prep")
x, y = people.x, people.y
print(x.shape, people.columns)

# %% [markdown]
# ## What a column says
#
# The information value of each column, cut into bins of equally many rows, and how columns of both go together. Only
# these numbers are revealed, and the ledger has a line for each.

# %%
evidence = weight_of_evidence(x[train], y[train], bins=5, columns=people.columns)
values = tacit.reveal(evidence.iv, name="information values")
bars(people.columns, values.tolist(), "information value")
described = tacit.describe(x[train], columns=people.columns, quantiles=())
related = tacit.reveal(described.correlation, name="correlations").numpy()
plt.imshow(related, vmin=-1, vmax=1, cmap="RdBu")
plt.xticks(range(len(people.columns)), people.columns, rotation=90)
plt.yticks(range(len(people.columns)), people.columns)
plt.colorbar()
plt.title("correlations, across both owners")
plt.show()

# %% [markdown]
# ## Two models
#
# Trained as on plain tensors: logistic regression and a perceptron. Each epoch reveals the mean loss on held-out
# people.

# %%
perceptron = nn.Sequential(nn.Linear(x.shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
models, losses = {"logistic regression": nn.Linear(x.shape[1], 1), "perceptron": perceptron}, {}
for name, plain in models.items():
    model = models[name] = tacit.share(plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses[name] = []
    for _ in range(EPOCHS):
        for rows, target in tacit.batches(x[train], y[train].float(), size=128):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(model(rows).squeeze(1), target).backward()
            optimizer.step()
        with torch.no_grad():
            loss = binary_cross_entropy_with_logits(model(x[test]).squeeze(1), y[test].float())
        losses[name].append(float(tacit.reveal(loss, name="held-out loss")))
    plt.plot(range(1, EPOCHS + 1), losses[name], label=name)
plt.xlabel("epoch")
plt.ylabel("loss on held-out people")
plt.legend()
plt.show()

# %% [markdown]
# ## How good they are
#
# Alice alone learns the measures, and how probabilities compare with what came true.

# %%
for name, model in models.items():
    with torch.no_grad():
        risk = model(x[test]).squeeze(1).sigmoid()
    measures = (metrics.roc_auc_score, metrics.gini_score, metrics.ks_score, metrics.average_precision_score)
    found = tacit.reveal(torch.stack([m(y[test], risk) for m in measures]), to="alice", name=f"quality of the {name}")
    print(f"{name}: AUC {found[0]:.3f}, Gini {found[1]:.3f}, KS {found[2]:.3f}, average precision {found[3]:.3f}")
    curve = torch.stack(metrics.calibration_curve(y[test], risk, n_bins=5))
    true, mean, count = tacit.reveal(curve, to="alice", name=f"calibration of the {name}").numpy()
    plt.plot(mean[count > 0], true[count > 0], "o-", label=name)
plt.plot([0, 1], [0, 1], "k:")
plt.xlabel("mean probability")
plt.ylabel("part that did not repay")
plt.legend()
plt.show()

# %% [markdown]
# ## What goes out
#
# The weights of the regression go to Alice. The perceptron stays secret: each role saves its share, and scores with
# it whoever is held out, for Alice alone, who puts the scores beside her own records.

# %%
weights = tacit.reveal(models["logistic regression"].weight[0], to="alice", name="weights")
bars(people.columns, weights.tolist(), "weights of the logistic regression")
tacit.save({"weights": models["perceptron"].state_dict(), "columns": people.columns}, folder / "model")
scores = tacit.reveal(risk, to="alice", name="scores").numpy()
rows = people.rows_of("alice")[test]
bad = (bank.held.label.values[rows] == 1).numpy()
plt.hist([scores[~bad], scores[bad]], bins=20, stacked=True, label=["repaid", "not repaid"])
plt.xlabel("risk by the perceptron")
plt.legend()
plt.show()

# %% [markdown]
# ## What has become known
#
# All that was revealed, to whom; and what it took.

# %%
for entry in session.ledger.entries:
    print(entry.name, entry.shape, entry.receivers)
print(session.meter.cost)
session.close()
