"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let interrupts reach the processes that tests start: a shell has its background jobs ignore them, and so do all
    their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
