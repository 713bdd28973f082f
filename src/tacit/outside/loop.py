"""An event loop in a thread of its own: network with clients on one side, ordinary blocking calls on the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Loop"]

T = TypeVar("T")

LOG = logging.getLogger("tacit.serve")


class Loop:
    """Works in notebooks, too, where the main thread has a running loop already.

    `at_end` is awaited in the loop when it is closed.
    """

    def __init__(self, name: str, at_end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._at_end = at_end
        self.asyncio = asyncio.new_event_loop()
        self.asyncio.set_exception_handler(_quiet)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result; an interrupted wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self.asyncio)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what still runs, and end the thread. Any thread may call it, the loop's own too."""
        if not self.asyncio.is_closed():
            self.asyncio.call_soon_threadsafe(self.asyncio.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.asyncio.run_forever()
        finally:
            self.asyncio.run_until_complete(self._finish())
            self.asyncio.close()

    async def _finish(self) -> None:
        await self._at_end()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.asyncio.shutdown_default_executor()


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Strangers that break off a handshake are no news; what concerns a client is said by its own errors."""
    LOG.debug("%s (%s)", context.get("message"), type(context.get("exception")).__name__)
