"""Train a text classifier on sentences that two owners do not show each other.

Alice and Bob each have sentences of documentation and know, for each, whether it is about PyTorch, NumPy or Python's
standard library (see `sentences.py`: the texts are real, and on every machine). Together they train the smallest
network for text that is any good, the mean of the words' embeddings and a linear layer, on the sentences of both. What
comes out is how many sentences that training never saw the model gets right, and nothing else: no sentence, no word of
it, no label, no weight.

An owner knows which words its sentences have, so it counts them itself and shares the counts, one row of numbers a
sentence. The mean of embeddings is then a product of matrices, `bag @ embedding`; each row is masked once for all
epochs, and nobody learns even how many words a sentence has. Where the numbers of words are secrets that no owner
knows, because they were computed, the same module takes them, too: `model.words(numbers)`. It has to compare each with
all numbers there are, which each party pays with some four bytes for each of them.

    tacit local examples/text/which_library.py                    # three processes on this machine
    tacit run examples/text/which_library.py --config config.json --as alice
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit

sys.path.insert(0, str(Path(__file__).parent))
from sentences import LIBRARIES, bags, sentences


class Classifier(nn.Module):
    """The mean of a sentence's embeddings, then a linear layer."""

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(buckets, width, mode="mean")
        self.libraries = nn.Linear(width, len(LIBRARIES))

    def forward(self, bag: Tensor) -> Tensor:
        """Return a score for each library; `bag @ weight` is what `self.words` makes of the words' numbers."""
        scores: Tensor = self.libraries(bag @ self.words.weight)
        return scores


def train(model: nn.Module, bag: Tensor, label: Tensor, epochs: int) -> None:
    """Fit the model; the same lines for plain tensors and for secrets."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    for x, y in tacit.batches(bag, label, size=64, epochs=epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@torch.no_grad()
def recognised(model: nn.Module, bag: Tensor, label: Tensor) -> Tensor:
    """Count the sentences whose library gets the highest score."""
    return model(bag).argmax(dim=1).eq(label).sum()


def data(per_library: int, buckets: int) -> tuple[Tensor, Tensor]:
    """Return all sentences as bags, with their libraries: the first half is Alice's, the second Bob's."""
    texts, labels = zip(*sentences(per_library), strict=True)
    return bags(list(texts), buckets), torch.tensor(labels)


def main() -> None:
    """Share both owners' sentences, train, and reveal how many others are recognised."""
    parser = argparse.ArgumentParser(description="Train a text classifier on two owners' sentences.")
    parser.add_argument(
        "--per-library", type=int, default=1000, help="sentences of each library, of both owners together"
    )
    parser.add_argument(
        "--held-out", type=int, default=300, help="sentences of each owner that only the evaluation uses"
    )
    parser.add_argument("--buckets", type=int, default=1024, help="how many numbers words may have")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7, help="of public randomness: initial weights, order of rows")
    options = parser.parse_args()

    with tacit.session() as session:
        torch.manual_seed(options.seed)
        half = options.per_library * len(LIBRARIES) // 2
        mine: dict[str, tuple[Tensor, Tensor] | tuple[None, None]] = {"alice": (None, None), "bob": (None, None)}
        for owner, part in (("alice", slice(0, half)), ("bob", slice(half, 2 * half))):
            if tacit.is_role(owner):  # here an owner would read its own texts
                x, y = data(options.per_library, options.buckets)
                mine[owner] = x[part], y[part]

        known, unseen = [], []
        for owner, (x, y) in mine.items():
            bag = tacit.share(x, owner=owner, shape=(half, options.buckets), dtype=torch.float32)
            label = tacit.share(y, owner=owner, shape=(half,), dtype=torch.int64)
            known.append((bag[options.held_out :], label[options.held_out :]))
            unseen.append((bag[: options.held_out], label[: options.held_out]))
        (bag, label), (other, truth) = (map(torch.cat, zip(*parts, strict=True)) for parts in (known, unseen))

        before = session.meter.cost
        model = tacit.share(Classifier(options.buckets, width=16))
        train(model, bag, label, options.epochs)
        training = session.meter.cost - before
        count = tacit.reveal(recognised(model, other, truth), name="sentences recognised")

        if tacit.is_role("alice"):
            print(f"{int(count)} of {len(truth)} sentences recognised ({count / len(truth):.1%}); training: {training}")


if __name__ == "__main__":
    main()
