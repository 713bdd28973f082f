"""Form 2 at Flower's server: it takes one message from each client, in boxes that it cannot open."""

from __future__ import annotations

import time

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from tacit.federated import records
from tacit.federated.errors import FederatedError, ForgeryError, RosterError, RoundError, ThresholdError, UpdateError
from tacit.federated.identity import Roster
from tacit.federated.parties.submission import Boxes, Submission, session_name
from tacit.federated.parties.work import Work
from tacit.federated.view import whole

__all__ = ["Intake"]


class Intake:
    """The server's end of one session: what came from clients, in boxes that it cannot open."""

    def __init__(self, run: int, number: int, roster: Roster, seen: bytes, agreed: bytes) -> None:
        self.run, self.number, self.roster, self.view, self.agreed = run, number, roster, seen, agreed
        self.submissions: dict[int, Submission] = {}
        self.boxes: Boxes = {}
        self.failures: dict[str, str] = {}
        self.seconds = 0.0

    def collect(self, grid: Grid, messages: list[Message], timeout: float | None) -> None:
        """Ask each client once; who fails is noted."""
        outgoing = []
        for message in messages:
            content = records.put(RecordDict(dict(message.content)), number=self.number)
            outgoing.append(Message(content, message.metadata.dst_node_id, message.metadata.message_type))
        silent = {message.metadata.dst_node_id for message in messages}
        for reply in grid.send_and_receive(outgoing, timeout=timeout):
            node, begun = reply.metadata.src_node_id, time.perf_counter()
            silent.discard(node)
            try:
                if reply.has_error():
                    raise FederatedError(str(reply.error.reason))
                self._accept(reply.content)
            except FederatedError as error:
                self.failures[f"node {node}"] = str(error)
            self.seconds += time.perf_counter() - begun
        self.failures.update({f"node {node}": "vanished before it had shared" for node in silent})

    def _accept(self, content: RecordDict) -> None:
        boxes = records.get_all(content, "boxes", bytes)
        submission = Submission.parse(
            {
                "client": records.get(content, "client", int),
                "layout": records.get(content, "layout", str),
                "view": records.get(content, "view", bytes).hex(),
                "agreed": records.get(content, "agreed", bytes).hex(),
                "digests": [digest.hex() for digest in records.get_all(content, "digests", bytes)],
                "signature": records.get(content, "signature", bytes).hex(),
            }
        )
        submission.verify(self.roster, session_name(self.run, self.number), len(boxes))
        name = self.roster.names[submission.client]
        if submission.agreed != self.agreed:
            raise RosterError(f"{name} has other terms than the server, or another roster")
        if submission.view != whole(self.view, records.get(content, "run", bytes)):
            raise UpdateError(f"{name} computed from another model or other settings than were sent")
        if not all(submission.fits(party, box) for party, box in enumerate(boxes)):
            raise ForgeryError(f"the boxes of {name} are not those that it signed for")
        if submission.client in self.submissions:
            raise RoundError(f"{name} sent an update twice")
        self.submissions[submission.client], self.boxes[submission.client] = submission, boxes

    def work(self) -> Work:
        """Return the round of all clients whose updates look like those of most."""
        kinds = [(submission.layout, submission.view) for submission in self.submissions.values()]
        if not kinds:
            raise ThresholdError(f"0 of {len(self.roster)} clients sent an update")
        common = max(kinds, key=kinds.count)
        for client, s in self.submissions.items():
            if (s.layout, s.view) != common:
                what = "metrics or arrays" if s.layout != common[0] else "run's settings"
                self.failures[self.roster.names[client]] = f"its {what} differ from those of most clients"
        chosen = tuple(s for _, s in sorted(self.submissions.items()) if (s.layout, s.view) == common)
        return Work(self.run, self.number, common[0], chosen)
