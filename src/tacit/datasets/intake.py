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
from tacit.errors import Overloaded, Refused
from tacit.outside.door import Door, DoorThread, Handler
from tacit.outside.guests import Visit
from tacit.outside.receipts import Receipts
from tacit.outside.schema import Schema, checked_identity
from tacit.outside.sharing import SEED_BYTES
from tacit.products import Serving
from tacit.session.config import Config
from tacit.session.meter import readable

__all__ = ["Doors", "Intake"]

LOG = logging.getLogger("tacit.serve")

LEAST_BYTES = 1 << 20
"""What a submission counts for in a client's bytes of a day, however small it is: it takes three files. More: fewer
files of a hostile client; less: more small submissions of an honest one."""


class Intake(Handler):
    """Takes shares of submissions into a store. `log` is told what comes in, a line each, with nothing secret in it."""

    def __init__(
        self, config: Config, role: str, limits: Limits | None = None, log: Callable[[str], None] | None = None
    ) -> None:
        super().__init__("submit", "status", "settle")
        self._clients = config.of(Serving).client_limits
        self.store = Store(Path(config.of(Serving).data) / role, limits, self._clients.reserved)
        self._config, self._role = config, role
        self._log = log or LOG.info

    @override
    def greeting(self) -> dict[str, Any]:
        return {}

    @override
    def open(self) -> None:
        self._receipts = Receipts(self._config, self._role)
        self.store.clear_staging()

    @override
    async def handle(self, visit: Visit, head: dict[str, Any]) -> None:
        if head["do"] == "submit":
            await self._submit(visit, head)
        elif head["do"] == "settle":
            await self._settle(visit, head)
        else:
            held = self.store.holds(str(head.get("dataset")), checked_identity(head.get("id")))
            await visit.connection.send(held=held)

    async def _submit(self, visit: Visit, head: dict[str, Any]) -> None:
        schema = Schema.parse(head.get("schema"))
        if head.get("frac_bits") != self._config.frac_bits:
            raise Refused(f"the servers compute with {self._config.frac_bits} fractional bits")
        guest = visit.guest
        if guest.submissions >= self._clients.submissions:
            raise Overloaded(f"{guest.submissions} submissions of this client are under way already", after=1.0)
        guest.submissions += 1
        try:
            await self._stage(visit, head, schema)
        finally:
            guest.submissions -= 1

    async def _stage(self, visit: Visit, head: dict[str, Any], schema: Schema) -> None:
        """Take a share in, with a claim on the client's bytes of a day, which is given back for what does not come."""
        identity, name, seeded = str(head.get("id")), str(head.get("dataset")), head.get("form") == "seed"
        claim, owed = max(SEED_BYTES if seeded else schema.nbytes, LEAST_BYTES), 0
        staged = self.store.stage(identity, name, schema, self._config.frac_bits, visit.client, seeded=seeded)
        try:
            wait = visit.guest.bytes.take(claim)
            if wait:
                most = f"a client may submit {readable(self._clients.daily_bytes)} a day"
                raise Overloaded(most, wait) if claim <= self._clients.daily_bytes else Refused(most)
            owed = claim
            await visit.connection.send(ok="send")
            async with contextlib.aclosing(visit.connection.body(staged.nbytes)) as pieces:
                async for piece in pieces:
                    await visit.guest.at_disk(staged.write, piece)
            owed = 0
            await visit.guest.at_disk(staged.finish)
            await visit.connection.send(ok="staged")
            await self._commit(visit, staged)
        finally:
            visit.guest.bytes.give_back(owed)
            await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self.store.discard, staged)))

    async def _commit(self, visit: Visit, staged: Staged) -> None:
        """Wait until the other servers have theirs, as long as the slowest may take, and let the submission count."""
        connection, schema = visit.connection, staged.schema
        if (await connection.receive(connection.time_for(schema.nbytes))).get("do") != "commit":
            raise Refused("a submission that is staged can be committed, or left alone")
        stored = await visit.guest.at_disk(self.store.commit, staged)
        name = staged.manifest["dataset"]
        self._log(f"{name}: {schema.rows} rows from {visit.client}, submission {stored.id}")
        receipt, settled = self._receipts.sign(name, stored.description), self.store.settled(name)
        await connection.send(ok="committed", receipt=receipt, settled=settled)

    async def _settle(self, visit: Visit, head: dict[str, Any]) -> None:
        """Fix the fields of a data set of which the client shows that all servers hold a submission."""
        name, identity = str(head.get("dataset")), checked_identity(head.get("id"))
        stored = self.store.submission(name, identity)
        if not self._receipts.prove(name, stored.description, head.get("receipts")):
            raise Refused("these are not the receipts of all servers for this submission")
        await visit.guest.at_disk(self.store.settle, name, stored)
        await visit.connection.send(ok="settled")


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
