"""The C++ module: what the files under `cpp/` and those of schemes add to it.

Each of them says itself which functions of which types it adds, and a call with others raises; nothing is listed here.
A tensor is the address of its memory and how many elements it has; only `tacit.ring.kernels.native.memory` makes one.
"""

from typing import Any

def __getattr__(name: str) -> Any: ...
