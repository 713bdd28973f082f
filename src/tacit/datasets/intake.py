"""What a party's door does for those who submit data, and the doors of `tacit receive`.

A *submission* takes two steps, so that it enters a data set at all servers or at none that counts: the client sends
every server its share, which the server *stages*, and tells all of them to *commit* once all have staged. A client that
breaks off before that leaves nothing. One that breaks off in the middle of committing leaves a submission that some
servers have and some have not, and `open_dataset` takes only what all of them have.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import override

from tacit.datasets.store import Limits, Staged, Store
from tacit.errors import Refused
from tacit.outside.door import Door, DoorThread, Handler, Visit
from tacit.outside.schema import PURPOSE, Schema, bytes_of
from tacit.outside.sharing import SEED_BYTES, expand
from tacit.outside.wire import Connection
from tacit.products import Serving
from tacit.session.config import Config

__all__ = ["Doors", "Intake"]

LOG = logging.getLogger("tacit.serve")


class Intake(Handler):
    """Takes shares of submissions into a store. `log` is told what comes in, a line each, with nothing secret in it."""

    def __init__(
        self, config: Config, role: str, limits: Limits | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        super().__init__("submit", "status")
        self.store = Store(Path(config.of(Serving).data) / role, limits)
        self._frac_bits = config.frac_bits
        self._log = log or LOG.info

    @override
    def greeting(self) -> dict[str, Any]:
        return {}

    @override
    def open(self) -> None:
        self.store.clear_staging()

    @override
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        if head["do"] == "submit":
            await self._submit(visit, head)
        else:
            name, identity = str(head.get("dataset")), str(head.get("id"))
            held = any(each.id == identity for each in self.store.submissions(name))
            await visit.connection.send(held=held)

    async def _submit(self, visit: Visit, head: dict[str, Any]) -> None:
        connection, schema = visit.connection, Schema.parse(head.get("schema"))
        if head.get("frac_bits") != self._frac_bits:
            raise Refused(f"the servers compute with {self._frac_bits} fractional bits")
        identity, name = str(head.get("id")), str(head.get("dataset"))
        staged = self.store.stage(identity, name, schema, self._frac_bits, visit.client)
        try:
            await connection.send(ok="send")
            await self._fill(connection, staged, seeded=head.get("form") == "seed")
            await asyncio.to_thread(staged.finish)
            await connection.send(ok="staged")
            if (await connection.receive()).get("do") != "commit":
                raise Refused("a submission that is staged can be committed, or left alone")
            self.store.commit(staged)
            self._log(f"{name}: {schema.rows} rows from {visit.client}, submission {identity}")
            await connection.send(ok="committed")
        finally:
            self.store.discard(staged)

    async def _fill(self, connection: Connection, staged: Staged, *, seeded: bool) -> None:
        """Write a share that comes as it is, or as the seed that it is made from."""
        if seeded:
            seed = await connection.whole(SEED_BYTES)
            await asyncio.to_thread(_write_expanded, staged, seed)
            return
        async with contextlib.aclosing(connection.body(staged.schema.nbytes)) as pieces:
            async for piece in pieces:
                staged.write(piece)


def _write_expanded(staged: Staged, seed: bytes) -> None:
    for piece in expand(seed, staged.schema.sizes, PURPOSE):
        staged.write(bytes_of(piece))


class Doors:
    """Doors of one or several parties that take in what clients submit: use it in a `with` statement."""

    def __init__(
        self,
        config: Config,
        *roles: str,
        limits: Limits | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.intakes = [Intake(config, role, limits, log) for role in roles]
        self._thread = DoorThread(config, {role: [one] for role, one in zip(roles, self.intakes, strict=True)})

    @property
    def each(self) -> list[Door]:
        """A door for each of the parties."""
        return self._thread.each

    def __enter__(self) -> Doors:
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.close()
