"""Form 1: one server, and masks between pairs of clients (`tacit.federated.masks`), as Flower messages.

The five stages are messages of the type that the strategy sends, so they reach the same function of the ClientApp and
the same mod. Only the third carries the model, and only then does the ClientApp train.

Each message costs a SuperNode a process, so a session takes two of them where it can: the keys of the next session are
advertised beside this one's vector, and shared beside this one's unmasking; and where nobody vanished, nothing has to
be confirmed. Each session has fresh keys all the same.
"""

from __future__ import annotations

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.typing import ConfigRecordValues
from flwr.serverapp import Grid

from tacit.federated import records, turns
from tacit.federated.errors import BudgetError, FederatedError, RoundError, RoundFailedError
from tacit.federated.form import Aggregate, Aggregation, Course, Credentials, Train
from tacit.federated.identity import Identity, Roster
from tacit.federated.masks.encoding import Encoding, finite
from tacit.federated.masks.kept import Kept
from tacit.federated.masks.member import Member, Stage, session_name
from tacit.federated.masks.packets import Advertisement, signed_view
from tacit.federated.masks.server import Leader
from tacit.federated.masks.settings import HEAD, Settings
from tacit.federated.masks.wide import LARGEST
from tacit.federated.privacy import budget
from tacit.federated.privacy.noise import Privacy
from tacit.federated.update import Update, contribution
from tacit.federated.vectors import Ring
from tacit.federated.view import run_view, view, whole

__all__ = ["PairwiseMasks"]


class PairwiseMasks(Aggregation):
    """Secure aggregation by one server, whose settings clients and server share."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def fewest(self, clients: int) -> int:
        """Return what the settings say."""
        return self.settings.fewest(clients)

    @property
    def weighted_by(self) -> str:
        """The metric that weighs a client."""
        return self.settings.weighted_by

    @property
    def privacy(self) -> Privacy | None:
        """The noise that the settings ask for."""
        return self.settings.privacy

    # the client

    def reply(self, message: Message, context: Context, train: Train, credentials: Credentials) -> RecordDict:
        """Do the stage that the message asks for; the state between stages lies in the node's own context."""
        if self.privacy is not None and message.metadata.message_type.startswith("query"):
            raise RoundError("answers to queries have no noise: a client of differential privacy gives none")
        identity, roster = credentials(context)
        stage, number = records.get(message.content, "stage", int), records.get(message.content, "number", int)
        ahead = message.content.config_records[records.RECORD].get("ahead", number)
        begins = stage == Stage.ADVERTISED  # such a message makes keys for its own session, whatever it says of others
        turns.take(context, number if begins or not isinstance(ahead, int) else ahead, begins=begins)
        kept = Kept.of(context)
        if stage == Stage.ADVERTISED:
            kept.begin(number)
            if self.privacy is not None and message.metadata.message_type.startswith("train"):
                budget.check(context, self.privacy)
            member, fields = self._advertise(context, identity, roster, number)
            content = records.put(RecordDict(), **fields)
        else:
            kept.enter(number)
            member = Member.load(kept.member, roster, self.settings)
            if stage == Stage.CONFIRMED:
                survivors = records.indices(records.get(message.content, "survivors", bytes))
                content = records.put(RecordDict(), signature=member.confirm(survivors, identity))
            else:
                beside = message.content.config_records[records.RECORD]  # the ClientApp does not get it
                content = self._later(stage, member, message, context, train, identity)
                content.config_records[records.RECORD].update(self._ahead(beside, kept, context, identity, roster))
        kept.member = member.dump()
        kept.save(context)
        return content

    def _advertise(
        self, context: Context, identity: Identity, roster: Roster, number: int
    ) -> tuple[Member, dict[str, ConfigRecordValues]]:
        agreed = self.settings.agreed(roster)
        member = Member(roster.index(identity), roster, self.settings, session_name(context.run_id, number, agreed))
        return member, {"keys": member.advertise(identity).pack(), "agreed": agreed}

    def _ahead(
        self, beside: ConfigRecord, kept: Kept, context: Context, identity: Identity, roster: Roster
    ) -> dict[str, ConfigRecordValues]:
        """Return this client's part of the session that comes next, as far as the message asks for it.

        Nothing that goes wrong here spoils the session that goes on: the next one begins with messages of its own then.
        """
        asked = RecordDict({records.RECORD: beside})
        try:
            if "ahead" in beside:
                number = records.get(asked, "ahead", int)
                kept.check(number)
                if self.privacy is not None:
                    budget.check(context, self.privacy)
                member, fields = self._advertise(context, identity, roster, number)
                kept.ahead, kept.prepared = number, member.dump()
                return {f"ahead_{name}": value for name, value in fields.items()}
            if "ahead_keys" in beside and kept.prepared:
                member = Member.load(kept.prepared, roster, self.settings)
                shared = _shared(member, asked, "ahead_")
                kept.prepared = member.dump()
                return {f"ahead_{name}": value for name, value in shared.items()}
        except (FederatedError, BudgetError):
            kept.prepared = b""
        return {}

    def _later(
        self, stage: int, member: Member, message: Message, context: Context, train: Train, identity: Identity
    ) -> RecordDict:
        get = message.content
        if stage == Stage.SHARED:
            return records.put(RecordDict(), **_shared(member, get))
        if stage == Stage.MASKED:
            member.expect(Stage.MASKED)  # before the ClientApp works, and before a budget is charged
            incoming = dict(
                zip(records.get_all(get, "clients", int), records.get_all(get, "boxes", bytes), strict=False)
            )
            run = run_view(context)
            seen = whole(view(message), run)  # before the ClientApp gets the message, who may change it
            update = contribution(
                message, context, train, metrics=self.privacy is None, weight=self.settings.weighted_by
            )
            encoding = self.settings.encoding(len(member.roster))
            if self.privacy is not None and update.layout.arrays:
                budget.charge(context, self.privacy, self.privacy.rho(update.layout.count, encoding.frac_bits))
            vector, words = self.encode(update, encoding), self.settings.words(update.layout)[1]
            masked = member.mask(vector, incoming, seen, words)
            signature = identity.sign(signed_view(seen, member.session))
            content = records.put(RecordDict(), layout=update.layout.pack(), run=run, view=seen, signature=signature)
            return records.put_vector(content, masked)
        if stage == Stage.UNMASKED:
            if member.stage == Stage.MASKED:
                revealed = member.unmask_all()
            else:
                clients, signatures = records.get_all(get, "clients", int), records.get_all(get, "signatures", bytes)
                revealed = member.unmask(dict(zip(clients, signatures, strict=False)))
            return records.put(RecordDict(), shares=[share.pack() for share in revealed])
        raise RoundError(f"there is no stage {stage}")

    def encode(self, update: Update, encoding: Encoding) -> Ring:
        """Return a client's vector: what saturated, and values times the weight; weight, metrics, counters are wide."""
        weight, privacy = min(update.examples / self.settings.max_examples, 1.0), self.settings.privacy
        if update.summed:
            weight = 1.0
        beyond, layout = int(update.examples > self.settings.max_examples), update.layout
        values, metrics = layout.split(update.values)
        if privacy is not None:
            weight, beyond, values = 1.0, 0, privacy.clipped(values)
        clamped, saturated = encoding.clamp(values, "the update")
        finite(metrics, "the update's metrics")
        large = np.abs(metrics) > LARGEST
        head = self.settings.head(layout)
        scaled = np.zeros(values.size + head)
        np.multiply(clamped, weight, out=scaled[head:])
        vector = encoding.integers(scaled)
        vector[0] = beyond
        if privacy is None and (saturated or large.any()):
            vector[HEAD:head] = layout.counts(layout.join(np.abs(values) > self.settings.limit, large))
        if privacy is not None:
            vector[head:] += privacy.noise(values.size, encoding.frac_bits)
        wide = np.concatenate([[weight], np.clip(metrics, -LARGEST, LARGEST) * weight])
        words = self.settings.wide(encoding.clients).encode(wide, encoding.dtype)
        return np.concatenate([encoding.ring(vector), words])

    # the server

    def aggregate(
        self, grid: Grid, messages: list[Message], timeout: float | None, course: Course, roster: Roster
    ) -> Aggregate:
        """Lead the clients that the messages go to through a session, and prepare the next.

        Where clients have lost the keys that they made ahead, and too few are left without them, the session begins
        anew at once: nothing was unmasked. It does so once, and those clients are named.
        """
        leader = Leader.of(self.settings, grid, messages, timeout, course, roster)
        try:
            return leader.run()
        except RoundFailedError:
            if not leader.out_of_step:
                raise
        again = Leader.of(self.settings, grid, messages, timeout, course, roster)
        again.failures.update(
            {client: f"{reason}; so all began anew" for client, reason in leader.out_of_step.items()}
        )  # fmt: skip
        return again.run()


def _shared(member: Member, content: RecordDict, prefix: str = "") -> dict[str, ConfigRecordValues]:
    """Return a member's encrypted shares, with the keys and the participants that the server tells."""
    advertised = [Advertisement.unpack(data) for data in records.get_all(content, f"{prefix}keys", bytes)]
    boxes = member.share(records.indices(records.get(content, f"{prefix}participants", bytes)), advertised)
    return {"clients": list(boxes), "boxes": list(boxes.values())}
