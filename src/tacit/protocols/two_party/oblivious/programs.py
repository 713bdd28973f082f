"""Values that a key finds at another party if that one has the key too, and uniform words if not: [PSTY19] section 3.

The programmer knows a function F that the holder has evaluated at its own keys. It fills a table such that each of its
keys finds its value under a hash of F; the holder looks its own keys up, and takes its own hash off:

    programmer    table(y) = value_y ^ H(F(y))                            holder    table(x) ^ H(F(x))

Cells that no key decides are drawn. F(x) of a key that the programmer lacks is uniform to it, and F(y) of one that the
holder lacks is to the holder, so that the table is uniform but where both have a key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from tacit.protocols.two_party.exchange import Note, hop
from tacit.protocols.two_party.oblivious.evaluation import Evaluated, filled
from tacit.protocols.two_party.oblivious.tables import KEY_BYTES, Shape, keys_of
from tacit.ring.prg import Stream
from tacit.session.session import Session

__all__ = ["Programs"]


class Programs:
    """Sends values to whoever has their keys."""

    def __init__(
        self,
        session: Session,
        programmer: int,
        count: int,
        digests: Mapping[int, Tensor],
        found: Mapping[int, Evaluated],
    ) -> None:
        """`count` is how many keys the programmer has; of each party here, the digests of its keys, and F at them."""
        self._session, self._programmer = session, programmer
        self._count, self._digests, self._found = count, digests, found
        self._uses = 0

    def send(self, values: Tensor | None, width: int) -> Tensor | None:
        """Words of the programmer's keys [n, width]: what the holder finds at its own. One hop, 8 bytes a cell."""
        session, programmer = self._session, self._programmer
        shape, number = Shape.of(self._count), self._uses << 32
        self._uses += 1
        key, table = None, None
        if values is not None:
            table = Stream(os.urandom(16)).ring((shape.cells, width)).clone()
            masked = values ^ self._found[programmer].hashes(number, width)
            drawn, _ = filled(shape, self._digests[programmer], masked, table)
            key = torch.frombuffer(bytearray(drawn), dtype=torch.uint8)
        notes = [
            Note(programmer, (KEY_BYTES,), torch.uint8, key),
            Note(programmer, (shape.cells, width), torch.int64, table),
        ]
        key, table = hop(session, notes)
        holder = 1 - programmer
        if holder not in self._found or key is None or table is None:
            return None
        keys = keys_of(self._digests[holder], bytes(key.tolist()))
        return shape.decode(keys, table) ^ self._found[holder].hashes(number, width)
