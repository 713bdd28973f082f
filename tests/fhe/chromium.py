"""A headless Chromium that a test drives: the DevTools protocol over two pipes, which needs no library."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self


def program() -> str | None:
    """Return the Chromium of this machine, if there is one."""
    names = (os.environ.get("TACIT_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


_MOVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def _high(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Page:
    """One tab of a browser of its own."""

    def __init__(self, path: str, address: str, timeout: float = 120.0) -> None:
        self._timeout = timeout
        self._folder = tempfile.mkdtemp(prefix="tacit-chromium-")
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser has its ends as 3 and 4: moved out of the way, neither overwrites the other.
        to_browser, from_browser = _high(to_browser), _high(from_browser)
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
            f"--user-data-dir={self._folder}", "about:blank",
        ]  # fmt: skip
        self._browser = subprocess.Popen(
            [sys.executable, "-c", _MOVE, str(to_browser), str(from_browser), path, *options],
            pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._held, self._count, self._session = b"", 0, ""
        try:
            target = self._call("Target.createTarget", url=address)["targetId"]
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        os.close(self._write)
        os.close(self._read)
        os.killpg(self._browser.pid, signal.SIGKILL)
        self._browser.wait(timeout=20)
        shutil.rmtree(Path(self._folder), ignore_errors=True)

    def _message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(until - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has gone"
            self._held += piece
        raw, self._held = self._held.split(b"\0", 1)
        return dict(json.loads(raw))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._count += 1
        session = {"sessionId": self._session} if self._session else {}
        message = json.dumps({"id": self._count, "method": method, "params": parameters, **session})
        os.write(self._write, message.encode() + b"\0")
        until = time.monotonic() + self._timeout
        while (answer := self._message(until)).get("id") != self._count:
            pass
        assert "error" not in answer, answer["error"]
        return dict(answer["result"])

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + self._timeout
        while not self.run(expression):
            assert time.monotonic() < until, f"never true in the browser: {expression}"
            time.sleep(0.05)
