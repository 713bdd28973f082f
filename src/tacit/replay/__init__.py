"""Steps of fixed shapes that are recorded once and replayed: `tacit.compile`."""

from tacit.replay.compiled import Compiled, compile

__all__ = ["Compiled", "compile"]
