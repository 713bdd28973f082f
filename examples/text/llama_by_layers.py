"""Ask a language model for its next word, one layer of it in memory at a time.

Bob owns a Llama, Alice a prompt. A shared model takes twice to three times the memory of its plain weights at every
role, so one of a billion weights takes 15 GB at its owner. But a prediction uses one layer after the other: here each
is a `tacit.nn.Transient`, which Bob shares when its turn comes, all roles compute, and forget before the next. So each
role has room for one layer, and for a piece of the vocabulary, whatever the model's size; what it costs is that each
prediction sends the weights under masks anew, 8 bytes each, which a model that stays in memory sends once.

The architecture is that of Llama 3 in plain PyTorch. The weights are random, of the size that is asked for, and made by
layers, too; whoever has real ones reads each layer from its file in their place (`safetensors.safe_open`). The others
make their layers on the meta device, where weights take no memory. Alice knows her prompt, so she counts her words
herself and shares rows of ones and zeros. She alone learns the next word.

    tacit local examples/text/llama_by_layers.py                     # a tiny one, three processes on this machine
    tacit local examples/text/llama_by_layers.py -- --size 1b        # 1.24 billion weights: minutes
    tacit local examples/text/llama_by_layers.py -- --size 1b --layers 1 --pieces 1         # one part of each kind
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tacit
from tacit.nn import Transient


class Sizes(NamedTuple):
    """What tells one Llama from another."""

    width: int
    layers: int
    heads: int
    key_heads: int
    inner: int
    words: int
    piece: int
    """Words of the vocabulary that are in memory at a time."""


SIZES = {
    "tiny": Sizes(width=32, layers=2, heads=4, key_heads=2, inner=64, words=100, piece=64),
    "1b": Sizes(width=2048, layers=16, heads=32, key_heads=8, inner=8192, words=128_256, piece=8_192),
}


class Layer(nn.Module):
    """Attention among the words so far, then a gated network for each of them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.key_heads, self.head = sizes.heads, sizes.key_heads, sizes.width // sizes.heads
        kept = sizes.key_heads * self.head
        self.before, self.between = nn.RMSNorm(sizes.width, 1e-5), nn.RMSNorm(sizes.width, 1e-5)
        self.query, self.out = (nn.Linear(sizes.width, sizes.width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(sizes.width, kept, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(sizes.width, sizes.inner, bias=False) for _ in range(2))
        self.down = nn.Linear(sizes.inner, sizes.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return x [words, width] with what the layer adds to it."""
        y = self.before(x)
        q, k, v = self.query(y), self.key(y), self.value(y)
        q, k = (turned(t.view(len(x), -1, self.head).transpose(0, 1), cos, sin) for t in (q, k))
        v = v.view(len(x), -1, self.head).transpose(0, 1)
        k, v = (t.repeat_interleave(self.heads // self.key_heads, 0) for t in (k, v))
        seen = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        x = x + self.out(seen.transpose(0, 1).flatten(1))
        y = self.between(x)
        added: Tensor = self.down(F.silu(self.gate(y)) * self.up(y))
        return x + added


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of numbers turned by an angle that tells the place of their word."""
    left, right = x.chunk(2, -1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def angles(count: int, head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines for each place, [count, head / 2]."""
    turns = torch.arange(count)[:, None] * 500_000.0 ** (-torch.arange(0, head, 2) / head)
    return turns.cos(), turns.sin()


class Words(nn.Module):
    """Vectors of some words of the vocabulary: of words to their vectors, and of a vector to a score for each word."""

    def __init__(self, sizes: Sizes, words: range) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(len(words), sizes.width))

    def forward(self, x: Tensor, back: bool = False) -> Tensor:
        """[…, words] to […, width], or back."""
        return x @ (self.vectors.t() if back else self.vectors)


# --- what stands for Bob's file ---------------------------------------------------------------------------------------


def layer(sizes: Sizes, number: int, where: str = "cpu") -> Layer:
    """Bob's layer of this number; on the meta device its shapes only."""
    torch.manual_seed(number)
    with torch.device(where):
        return Layer(sizes)


def words(sizes: Sizes, piece: range, where: str = "cpu") -> Words:
    """Bob's vectors of these words likewise."""
    torch.manual_seed(1000 + piece.start)
    with torch.device(where):
        out = Words(sizes, piece)
        out.vectors.data.mul_(0.1)
        return out


def pieces(sizes: Sizes, count: int | None) -> list[range]:
    """The words of the vocabulary in pieces, or the first of these."""
    starts = range(0, sizes.words, sizes.piece)[:count]
    return [range(start, min(start + sizes.piece, sizes.words)) for start in starts]


# --- the model, on secrets and, to compare, on plain tensors ----------------------------------------------------------

Give = Callable[[Callable[[str], nn.Module]], Callable[..., Tensor]]


def scores(
    prompt: Tensor, sizes: Sizes, layers: int, parts: int | None, give: Give, hot: Callable[[Tensor], Tensor]
) -> Tensor:
    """A score for each word of the vocabulary, to come next. `give` shares what Bob makes, `hot` what Alice has."""
    cos, sin = angles(len(prompt), sizes.width // sizes.heads)
    x: Tensor | None = None
    for piece in pieces(sizes, parts):
        table = give(partial(words, sizes, piece))
        rows = table(hot((prompt[:, None] == torch.tensor(piece)).float()))
        x = rows if x is None else x + rows
    for number in range(layers):
        x = give(partial(layer, sizes, number))(x, cos, sin)
    assert x is not None
    last = give(lambda where: nn.RMSNorm(sizes.width, 1e-5, device=where))(x[-1:])
    found = [give(partial(words, sizes, piece))(last, back=True) for piece in pieces(sizes, parts)]
    return torch.cat(found, 1)[0]


def in_the_clear(make: Callable[[str], nn.Module]) -> nn.Module:
    """A part of the plain model."""
    return make("cpu")


def of_bob(make: Callable[[str], nn.Module]) -> nn.Module:
    """A part that Bob shares when it runs, and whose weights the others need not have."""
    where = "cpu" if tacit.is_role("bob") else "meta"
    return Transient(lambda: make(where), owner="bob")


@torch.no_grad()
def main() -> None:
    """Ask for one word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="tiny")
    parser.add_argument("--words", type=int, default=8, help="words of the prompt")
    parser.add_argument("--layers", type=int, help="the first layers only")
    parser.add_argument("--pieces", type=int, help="the first pieces of the vocabulary only")
    options = parser.parse_args()
    sizes = SIZES[options.size]
    layers = sizes.layers if options.layers is None else options.layers
    known = min(sizes.words, (options.pieces or sizes.words) * sizes.piece)
    prompt = torch.randint(known, (options.words,), generator=torch.Generator().manual_seed(7))  # Alice's

    with tacit.session() as session:
        begun = time.perf_counter()
        found = scores(
            prompt,
            sizes,
            layers,
            options.pieces,
            give=of_bob,
            hot=lambda rows: tacit.share(rows, owner="alice", shape=rows.shape),
        )
        word = tacit.reveal(found.argmax(), to="alice", name="the next word")
        seconds, cost = time.perf_counter() - begun, session.meter.cost
        # Nobody can do this with weights and prompts that are not made up: what the plain model says.
        told = tacit.reveal(found, to="alice", name="scores, to compare")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        sent = " and ".join(f"{size / 1e9:.2f} GB from {role}" for role, size in cost.sent.items())
        print(f"{tacit.role()}: {seconds:.1f} s, {cost.rounds} rounds, {sent}; at most {peak:.2f} GB of memory")
        if word is not None and told is not None:
            plain = scores(prompt, sizes, layers, options.pieces, give=in_the_clear, hot=lambda rows: rows)
            off = float((told - plain).abs().max() / plain.abs().max())
            print(
                f"the next word is number {int(word)}, in plain PyTorch {int(plain.argmax())}; scores off by {off:.1g}"
            )


if __name__ == "__main__":
    main()
