"""The client's line: `ClientApp(mods=[SecureAggregationMod(form)])`."""

from __future__ import annotations

from collections.abc import Collection

from flwr.app import Context, Error, Message
from flwr.clientapp.typing import ClientAppCallable

from tacit.errors import called
from tacit.federated import records
from tacit.federated.errors import FederatedError, RoundError
from tacit.federated.form import OUT_OF_STEP, Aggregation, Credentials, from_node_config

__all__ = ["SecureAggregationMod"]

ERROR_CODE = 1001
"""Of the error replies that this mod sends."""


class SecureAggregationMod:
    """A Flower mod that lets no reply leave the client unless masked.

    `form` is the same as at the server. `credentials` finds the client's identity and the roster; by default in the
    files that the node's config names. `clear` are the actions of `@app.query` whose replies may leave in clear,
    because they tell nothing of the data: versions, names of columns, whether the node is ready.
    """

    def __init__(
        self, form: Aggregation, credentials: Credentials = from_node_config, *, clear: Collection[str] = ()
    ) -> None:
        if not isinstance(form, Aggregation):
            raise FederatedError(
                f"the form is the one that the server has, PairwiseMasks(Settings(…)) for example, not {called(form)}"
            )
        self.form = form
        self.credentials = credentials
        self.clear = frozenset(clear)

    def __call__(self, message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        """Answer a message of the server."""
        kind, _, action = message.metadata.message_type.partition(".")
        if kind == "query" and (action or "default") in self.clear:
            return call_next(message, context)
        try:
            if records.RECORD not in message.content.config_records:
                raise RoundError("the server asks for a reply in clear; this client sends none")
            content = self.form.reply(message, context, call_next, self.credentials)
        except FederatedError as error:
            code = OUT_OF_STEP if isinstance(error, RoundError) else ERROR_CODE
            return Message(Error(code, str(error)), reply_to=message)
        return Message(content, reply_to=message)
