"""A rank of a service for tests: it answers with what was asked. The ranks of a number meet at a socket file."""

import json
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

SIZES = struct.Struct("<IQ")
NAME = struct.Struct("<I")
PLAN = {"shape": [3], "dtype": "float32", "batch": 2}


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            sys.exit(3)
        data += piece
    return data


def say(sock: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    text = json.dumps(head).encode()
    sock.sendall(SIZES.pack(len(text), len(body)) + text + body)


def hear(sock: socket.socket) -> tuple[dict[str, Any], bytes]:
    head, body = SIZES.unpack(exactly(sock, SIZES.size))
    return json.loads(exactly(sock, head)), exactly(sock, body)


def ask(sock: socket.socket, head: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    say(sock, head)
    return hear(sock)


def meet(place: Path, first: bool) -> socket.socket:
    """The other party's rank of this number."""
    if first:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            listener.listen()
            return listener.accept()[0]
    peer = socket.socket(socket.AF_UNIX)
    while True:
        try:
            peer.connect(str(place))
            return peer
        except OSError:
            time.sleep(0.01)


def main(folder: str, role: str, line: str) -> None:
    front, first, rank = socket.socket(fileno=int(line)), role == "server0", os.environ["RANK"]
    Path(folder, f"{role}.{rank}").write_text(str(os.getpid()))
    peer = meet(Path(folder, rank), first)
    ask(front, {"do": "ready", "plan": PLAN})
    while True:
        if first:
            named = ask(front, {"do": "next", "wait": 0.001, "idle": 0.2})[0]
            say(peer, named)
        else:
            named = hear(peer)[0]
        if "stop" in named:
            return
        if not named["named"]:
            continue
        head, body = ask(front, {"do": "take", "named": named["named"]})
        mine = [client is not None for client in head["clients"]]
        say(peer, {"there": mine})
        both = [a and b for a, b in zip(mine, hear(peer)[0]["there"], strict=True)]
        time.sleep(0.02)
        at = 0
        for (identity, rows), here, good in zip(named["named"], mine, both, strict=True):
            share = body[at : at + rows * 24] if here else b""
            at += len(share)
            if good:
                about = {"dtype": "float32", "shape": [rows, 3], "seconds": 0.02}
                say(front, {"do": "answer", "id": identity, **about}, share)
            elif here:
                say(front, {"do": "refuse", "id": identity, "why": "another server does not hold it"})


if __name__ == "__main__":
    main(*sys.argv[1:])
