"""A grid inside this process, for tests and notebooks: no sockets, no other process, no Ray."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from tacit.federated.form import APP_RAISED

__all__ = ["LocalGrid", "Network"]

Network = Callable[[Message], Message | None]
"""What happens to a message on its way, to a client or back: another message, or none. For tests of faults."""

SERVER = 1


class LocalGrid(Grid):
    """Runs a ClientApp for each of its nodes in turn. Each message is serialised, counted, and read again.

    `nodes` is a node config for each client, or how many there are: then each gets `partition-id` and
    `num-partitions`, as in Flower's simulations.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: int | Sequence[UserConfig],
        *,
        run_config: UserConfig | None = None,
        network: Network = lambda message: message,
    ) -> None:
        configs: Sequence[UserConfig] = (
            [{"partition-id": i, "num-partitions": nodes} for i in range(nodes)] if isinstance(nodes, int) else nodes
        )
        run_id = secrets.randbits(63)  # as Flower draws it; what clients sign is bound to it
        self._app, self._network, self._run = app, network, Run.create_empty(run_id=run_id)
        self.contexts = {
            node: Context(run_id, node, config, RecordDict(), run_config or {})
            for node, config in enumerate(configs, start=SERVER + 1)
        }
        self.to_clients: Counter[int] = Counter()
        """Bytes sent to each node."""
        self.from_clients: Counter[int] = Counter()
        """Bytes that each node sent."""
        self._replies: dict[str, Message] = {}
        self._messages = 0
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, SERVER, 0

    def set_run(self, run: Run) -> None:
        """Replace the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Let the clients work, at once; their replies wait to be pulled."""
        names = []
        for message in messages:
            self._messages += 1
            names.append(f"message-{self._messages}")
            message.metadata.__dict__["_message_id"] = names[-1]
            reply = self._deliver(message)
            if reply is not None:
                self._replies[names[-1]] = reply
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages that came."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return the replies that came. Nothing is waited for: who vanished has no reply."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message | None:
        arrived = self._network(message)
        if arrived is None:
            return None
        node = message.metadata.dst_node_id
        arrived = _through_wire(arrived, self.to_clients, node)
        try:
            reply = self._app(arrived, self.contexts[node])
        except Exception as error:  # as a SuperNode does: whatever the app raises becomes an error reply
            reply = Message(Error(APP_RAISED, f"{type(error).__name__}: {error}"), reply_to=arrived)
        sent = self._network(reply)
        return None if sent is None else _through_wire(sent, self.from_clients, node)


def _through_wire(message: Message, counter: Counter[int], node: int) -> Message:
    data = message_to_proto(message).SerializeToString()
    counter[node] += len(data)
    return message_from_proto(ProtoMessage.FromString(data))
