"""What the server sees is independent of the individual updates: uniform bytes, and sizes that do not depend on them.

Masked vectors are uniform ring elements whatever the updates are, and given their sum, nothing else: that is tested by
histograms of bytes as for MPC, and by two sets of updates of the same sum that no statistic may tell apart. The test
has teeth: without the self-mask, or without the pairwise masks, it fails.
"""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from flwr.serverapp.strategy import FedAvg

from tacit.federated.masks import keys
from tacit.federated.masks.settings import Settings

from .apps import initial, secure
from .rounds import run

COUNT = 20_000
CLIENTS = 5
CHI_SQUARE = 450.0
"""Of 255 degrees of freedom: exceeded by uniform bytes with probability 1e-12."""

RNG = np.random.default_rng(3)
UPDATES = {
    "zeros": [np.zeros(COUNT, dtype=np.int64)] * CLIENTS,
    "extremes": [np.full(COUNT, s * 2**28) for s in (1, -1, 1, -1, 0)],
    "typical": [RNG.integers(-1000, 1000, COUNT) for _ in range(CLIENTS)],
}


def chi_square(data):
    expected = data.size / 256
    return float(((np.bincount(data, minlength=256) - expected) ** 2 / expected).sum())


def worst(updates, bits=32, vanish=None):
    """How far from uniform anything is that the server saw of the vectors, alone or pair by pair."""
    seen = run(dict(enumerate(updates)), Settings(bits=bits), vanish).vectors
    pairs = [seen[i] - seen[j] for i in seen for j in seen if i < j]
    return max(chi_square(vector.view(np.uint8)) for vector in [*seen.values(), *pairs])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", UPDATES)
def test_masked_vectors_and_their_differences_are_uniform(name, bits):
    assert worst(UPDATES[name], bits) < CHI_SQUARE
    assert worst(UPDATES[name], bits, {2: {1}}) < CHI_SQUARE


def test_after_unmasking_the_pairwise_masks_still_hide_each_survivor():
    """The server knows all seeds of survivors; what is left of each vector is uniform, and only the sum is not."""
    round_ = run(dict(enumerate(UPDATES["zeros"])), Settings(bits=32))
    held = {}
    for client, shares in round_.collector.revealed.items():
        for share in shares:
            held.setdefault(share.index, {})[client + 1] = share.share

    bare = []
    for i, vector in round_.vectors.items():
        key = keys.self_key(round_.collector._seed(i, held), round_.collector.session)
        bare.append(vector.copy())
        keys.add_mask(bare[-1], key, -1)

    assert max(chi_square(vector.view(np.uint8)) for vector in bare) < CHI_SQUARE
    assert not sum(bare).any()


def test_without_pairwise_masks_it_is_found_out(monkeypatch):
    real, pairwise = keys.add_mask, keys.pairwise_key
    known = set()
    monkeypatch.setattr(keys, "pairwise_key", lambda *args: known.add(key := pairwise(*args)) or key)
    monkeypatch.setattr(
        keys, "add_mask", lambda y, key, sign=1, words=0: None if key in known else real(y, key, sign, words)
    )

    with pytest.raises(AssertionError):
        test_after_unmasking_the_pairwise_masks_still_hide_each_survivor()


def test_without_any_masks_it_is_found_out(monkeypatch):
    monkeypatch.setattr(keys, "add_mask", lambda y, key, sign=1, words=0: None)

    assert worst(UPDATES["typical"]) > CHI_SQUARE


def test_a_mask_that_were_used_twice_is_found_out(monkeypatch):
    fixed = np.frombuffer(RNG.bytes(4 * COUNT), dtype=np.uint32)

    def add(y, key, sign=1, words=0):
        y += fixed * np.uint32(sign % 2**32)

    monkeypatch.setattr(keys, "add_mask", add)

    assert worst(UPDATES["zeros"]) > CHI_SQUARE


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
@pytest.mark.parametrize("count", [0, 1, 5, keys.PIECE, keys.PIECE + 1, 3 * keys.PIECE + 1000])
def test_a_mask_is_the_key_stream_whatever_the_pieces(dtype, count):
    key, y = RNG.bytes(16), RNG.integers(0, 2**32, count).astype(dtype)
    masked = y.copy()

    keys.add_mask(masked, key)

    whole = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(y.nbytes))
    assert (masked == y + np.frombuffer(whole, dtype=dtype)).all()
    keys.add_mask(masked, key, -1)
    assert (masked == y).all()


def messages(change):
    """Everything that clients sent: names, types and sizes, without contents."""
    seen = []

    def network(message):
        if message.metadata.reply_to_message_id:
            for record in message.content.config_records.values():
                sizes = {
                    k: [len(x) for x in v] if isinstance(v, list) and "clients" not in k else type(v).__name__
                    for k, v in record.items()
                }
                seen.append((message.metadata.src_node_id, sizes))
            seen.append([(k, r["masked"].shape) for k, r in message.content.array_records.items()])
            assert not message.content.metric_records
        return message

    strategy, grid = secure(FedAvg(), network=network, change=change)
    strategy.start(grid, initial(), num_rounds=1)
    return sorted(map(repr, seen)), grid.from_clients  # Flower shuffles the nodes


def test_sizes_and_order_do_not_depend_on_the_updates():
    changes = [
        lambda partition, round_, arrays: arrays,
        lambda partition, round_, arrays: {**arrays, "b": arrays["b"] * 0},
        lambda partition, round_, arrays: {**arrays, "b": arrays["b"] + 10 * partition},
    ]

    seen = [messages(change) for change in changes]

    assert seen[0][0] == seen[1][0] == seen[2][0]
    for _, sent in seen:  # times and identifiers vary by some bytes
        assert sent == pytest.approx(seen[0][1], abs=64)
