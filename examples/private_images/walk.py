"""A network learns digits from images that nobody sees, in cells: `notebook.py` makes walk.ipynb of them."""

# %% [markdown]
# # Private images
#
# A network learns the digits 5 to 9 from images that nobody sees, beginning with feature layers that were trained on
# public images of 0 to 4. All roles run in this process; `run_all.py` gives each a process of its own.
#
# This notebook is made of `walk.py` by `notebook.py`, and a test runs it.

# %%
import os
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F

import tacit

sys.path.insert(0, str(Path(globals().get("__file__", "walk.py")).resolve().parent))
from network import NEW, OLD, classifier, draw, features

IMAGES = int(os.environ.get("IMAGES", "400"))
EPOCHS, WIDTH = 4, 8
torch.manual_seed(1)


def show(images, title):
    """Show images side by side."""
    _, places = plt.subplots(1, len(images), figsize=(len(images), 1.4))
    for place, image in zip(places, images, strict=True):
        place.imshow(image[0], cmap="gray_r")
        place.axis("off")
    plt.suptitle(title)
    plt.show()


# %% [markdown]
# ## Public images, plain PyTorch

# %%
x, y = draw(3 * IMAGES, seed=1, of=OLD)
show(x[:10], "public")
layers = features(WIDTH)
whole = nn.Sequential(layers, classifier(len(OLD), WIDTH))
optimizer = torch.optim.Adam(whole.parameters(), lr=1e-3)
for _ in range(3):
    for rows in torch.randperm(len(y)).split(32):
        optimizer.zero_grad()
        F.cross_entropy(whole(x[rows]), y[rows]).backward()
        optimizer.step()

# %% [markdown]
# ## Private images
#
# `server0` shares the feature layers, frozen. The images come from alice here; in `2_submit.py` they come from clients
# that run no server. A share of an image is noise:

# %%
session = tacit.session(parties=("alice", "server0"), seed=2)
x, y = draw(IMAGES, seed=11, of=NEW)
x_test, y_test = draw(IMAGES // 2, seed=12, of=NEW)
images, labels = tacit.share(x, owner="alice"), tacit.share(y, owner="alice")
test_images, test_labels = tacit.share(x_test, owner="alice"), tacit.share(y_test, owner="alice")
show(x[:10], "what alice has")
show(images.share.content.parts()[1][:10].double(), "what server0 gets")

# %% [markdown]
# ## Training on secrets
#
# Each image passes the frozen layers once. Then the classifier is trained with momentum SGD and cross-entropy; softmax,
# gradients and weights are secret. Each epoch reveals how many held-out images are recognised.

# %%
layers = tacit.share(layers.requires_grad_(False), owner="server0")
head = tacit.share(classifier(len(NEW), WIDTH))
with torch.no_grad():
    found, test_found = layers(images), layers(test_images)
optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
curve = []
for _ in range(EPOCHS):
    head.train()
    for batch, target in tacit.batches(found, labels, size=16):
        optimizer.zero_grad()
        F.cross_entropy(head(batch), target).backward()
        optimizer.step()
    head.eval()
    with torch.no_grad():
        count = head(test_found).argmax(1).eq(test_labels).sum()
    curve.append(float(tacit.reveal(count, name="number recognised")) / len(y_test))
plt.plot(range(1, EPOCHS + 1), curve, marker="o")
plt.xlabel("epoch")
plt.ylabel("share recognised")
plt.ylim(0, 1)
plt.show()
print(f"{curve[-1]:.1%} recognised; {session.meter.cost}")

# %% [markdown]
# ## Which digit is taken for which
#
# The confusion matrix is counted on secrets, as a product of one-hot labels and predictions, and only it is revealed.

# %%
with torch.no_grad():
    said = head(test_found).argmax(1)
digits = torch.arange(len(NEW))
confusion = (test_labels[:, None] == digits).long().T @ (said[:, None] == digits).long()
confusion = tacit.reveal(confusion, name="confusion matrix")
plt.imshow(confusion, cmap="Blues")
plt.xticks(digits, [str(d) for d in NEW])
plt.yticks(digits, [str(d) for d in NEW])
plt.xlabel("read")
plt.ylabel("drawn")
for row in digits:
    for column in digits:
        plt.text(column, row, int(confusion[row, column]), ha="center", va="center")
plt.show()

# %% [markdown]
# What has been revealed, and to whom:

# %%
for entry in session.ledger.entries:
    print(entry.name, entry.shape, entry.receivers)
session.close()
