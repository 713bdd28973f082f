"""Whether all ranks of an owner have read the same table, of which each has some rows.

They tell each other, by torch.distributed, how many rows there are, and a digest: of a Parquet file that of its footer,
which says where everything is, with the least and the largest value of each part; of what is read as a whole, the sum
of hashes of all rows, with their places where these count. So a file that one rank has an older copy of, and a database
that somebody has written to between two queries, are found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tacit.api import current_session
from tacit.errors import UnusableTable
from tacit.records.packages import TABLE, quoted
from tacit.session.among import Among

__all__ = ["check_alike", "of_footer", "of_table"]

MARK = 8
"""Bytes at the end of a Parquet file: the size of its footer, and PAR1."""


def of_footer(path: Path) -> bytes:
    """A digest of the footer of a Parquet file and of its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - MARK, 0))
        footer = int.from_bytes(file.read(MARK)[:4], "little")
        file.seek(max(size - MARK - footer, 0))
        return sha256(size.to_bytes(8, "little") + file.read()).digest()


def of_table(connection: Any, columns: Sequence[str], *, in_order: bool) -> bytes:
    """A digest of all rows: in their order, or in any."""
    listed = ", ".join([*(["rowid"] if in_order else []), *map(quoted, columns)])
    (found,) = connection.execute(f"SELECT count(*), sum(hash(row({listed}))::HUGEINT) FROM {TABLE}").fetchall()
    return sha256(str(found).encode()).digest()


def check_alike(called: str, rows: int, digest: bytes) -> None:
    """Raise `UnusableTable` where another rank of this role has read something else.

    Where the program has made no process group yet, ranks cannot tell each other anything, and nothing is compared.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    among = Among(current_session(), dist.group.WORLD)
    among.meet()
    told = among.gather(torch.frombuffer(bytearray(rows.to_bytes(8, "little") + digest), dtype=torch.uint8))
    others = [place for place, row in enumerate(told) if not torch.equal(row, told[among.here])]
    if others:
        counts = {int.from_bytes(row[:8].numpy().tobytes(), "little") for row in told}
        what = f"{min(counts)} to {max(counts)} rows" if len(counts) > 1 else "other values"
        raise UnusableTable(
            f"{called} is not the same at all ranks: rank {' and '.join(map(str, others))} found {what}. Give all of "
            "them one source, and let nobody write to it meanwhile"
        )
