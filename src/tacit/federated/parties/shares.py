"""A client's vector in additive shares mod 2^64, each in a box for its party.

All shares but the first are seeds. A box is a fresh X25519 key and an AES-GCM ciphertext, bound to the session, the
client and the party. Whoever passes the boxes on learns their sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tacit.errors import ForgeryError
from tacit.federated.boxes import fresh_key, open_box, public_key, seal_box
from tacit.outside.sharing import SEED_BYTES, cut, expand

__all__ = ["open_share", "seal_shares"]

KEY_BYTES = 32
PURPOSE = "share of an update"

Words = npt.NDArray[np.uint64]


def seal_shares(vector: Words, public_keys: Sequence[bytes], client: int, session: bytes) -> list[bytes]:
    """Split a vector into additive shares, and seal one for each party."""
    shares = cut([torch.from_numpy(vector.view(np.int64))], len(public_keys), PURPOSE)
    whole = b"".join(piece.numpy().tobytes() for piece in shares.rest())
    boxes = []
    for party, seed in enumerate(shares.seeds):
        ephemeral = fresh_key()
        box = seal_box(ephemeral, public_keys[party], (client, party), session, whole if seed is None else seed)
        boxes.append(public_key(ephemeral) + box)
    return boxes


def open_share(private_key: bytes, party: int, client: int, session: bytes, box: bytes, count: int) -> Words:
    """Open a client's box at its party: that party's share of the client's vector."""
    public, sealed = box[:KEY_BYTES], box[KEY_BYTES:]
    if len(public) != KEY_BYTES:
        raise ForgeryError(f"the box of client {client} is damaged")
    content = open_box(private_key, public, (client, party), session, sealed)
    if len(content) != (SEED_BYTES if party else 8 * count):
        raise ForgeryError(f"the share of client {client} has the wrong length")
    if not party:
        return np.frombuffer(content, dtype=np.uint64)
    pieces = list(expand(content, [count], PURPOSE))
    return torch.cat(pieces).numpy().view(np.uint64)
