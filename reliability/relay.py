"""What stands before a role that others call: it passes on bytes, until it is told to disturb them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence

__all__ = ["FAULTS", "Relay"]

FAULTS = ("cut off", "cut short", "silenced", "changed", "delayed")
"""What is done to bytes: the connection ends; it ends in the middle of a piece; nothing comes any more; a bit is
another; each piece takes longer."""

DELAY = 0.05
PIECE = 1 << 16
PREAMBLE = 7, 9
"""Where the lengths of the names stand in what a role says first, and where the caller's own name begins."""


class Line:
    """A connection that goes through a relay."""

    def __init__(self, caller: socket.socket, callee: socket.socket) -> None:
        self.sockets = caller, callee
        self.who = ""
        """The role that has called, as it says in the clear; clients say nothing."""

    def end(self) -> None:
        """End it, in both directions."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Relay:
    """Listens in the place of a role."""

    def __init__(self, role: str, target: int, roles: Sequence[str]) -> None:
        self.role, self._target, self._roles = role, target, roles
        self._fault, self._victim = "", ""
        self._lines: list[Line] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._server.accept()
            except OSError:
                return
            try:
                callee = socket.create_connection(("127.0.0.1", self._target), timeout=2)
            except OSError:
                caller.close()
                continue
            callee.settimeout(None)
            line = Line(caller, callee)
            self._lines.append(line)
            for one, other in ((caller, callee), (callee, caller)):
                threading.Thread(target=self._pass, args=(line, one, other), daemon=True).start()

    def _pass(self, line: Line, source: socket.socket, sink: socket.socket) -> None:
        first = source is line.sockets[0]
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                if first:
                    line.who, first = self._caller(data), False
                fault = self._fault if self._concerns(line) else ""
                while fault == "silenced":
                    time.sleep(DELAY)
                    fault = self._fault if self._concerns(line) else ""
                if fault in ("cut off", "cut short"):
                    sink.sendall(data[: len(data) // 2] if fault == "cut short" else b"")
                    break
                if fault == "delayed":
                    time.sleep(DELAY)
                if fault == "changed":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                sink.sendall(data)
        line.end()

    def _caller(self, data: bytes) -> str:
        lengths, begin = PREAMBLE
        named = next((role for role in self._roles if data[begin:].startswith(role.encode())), "")
        return named if len(data) > begin and data[lengths] == len(named) else ""

    def _concerns(self, line: Line) -> bool:
        return self._victim in (self.role, line.who if self._roles else "client")

    def disturb(self, fault: str, victim: str) -> None:
        """Do from now on what a fault says to all bytes from a role and to it."""
        self._fault, self._victim = fault, victim
        if fault == "cut off":
            for line in self._lines:
                if self._concerns(line):
                    line.end()

    def leave(self) -> None:
        """Pass on all bytes again."""
        self._fault = ""

    def close(self) -> None:
        """End all connections, and be there no more."""
        self._fault = "cut off"
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for line in self._lines:
            line.end()
