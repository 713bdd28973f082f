"""Every exception Tacit raises on purpose.

::

    TacitError
    ├── ConfigError                  a config, key file or command line that cannot be used
    ├── DataError (ValueError)       a file or a tensor that cannot be used as given
    │   └── EncodingError            a number that fixed point cannot hold (NaN, infinite, out of range)
    ├── NetworkError
    │   ├── ConnectError             a port in use, a peer that never comes
    │   ├── AuthenticationError      a peer whose certificate is not the expected one
    │   ├── PeerLost                 a peer that died
    │   ├── PeerStalled              a peer that is connected but silent for too long
    │   └── PeerAborted              a peer that stopped with an error of its own
    ├── DivergenceError              two roles that do not run the same program
    ├── Refused                      a submission or a request that a server does not take, and its reason
    │   └── Overloaded               a prediction service whose places are all taken: ask again later
    ├── FheError                     something `tacit.fhe` cannot do, or was not asked rightly
    │   ├── ParameterError           no encryption parameters of 128-bit security hold this model
    │   ├── MessageError             a ciphertext, key or model file that is damaged, forged or of another version
    │   ├── KeyMismatchError         a key, ciphertext or answer that belongs to another model or client
    │   └── ServiceError             an encrypted-prediction service that cannot be reached or refused
    ├── PrecisionError               a result that is not PyTorch's, found by a session that checks itself
    ├── RevealError                  a secret used as if it were a number, or a reveal the policy forbids
    ├── ResultMismatch               a result of another shape or dtype than PyTorch's: a bug of Tacit
    └── UnsupportedOperator (NotImplementedError)   a PyTorch operator that has no secret counterpart

A message says what happened, at which role, in which operator, and what to do. It never holds a share or a plaintext.
"""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "ConfigError",
    "ConnectError",
    "DataError",
    "DivergenceError",
    "EncodingError",
    "FheError",
    "KeyMismatchError",
    "MessageError",
    "NetworkError",
    "Overloaded",
    "ParameterError",
    "PeerAborted",
    "PeerLost",
    "PeerStalled",
    "PrecisionError",
    "Refused",
    "ResultMismatch",
    "RevealError",
    "ServiceError",
    "TacitError",
    "UnsupportedOperator",
]


def tellable(error: BaseException) -> bool:
    """Whether an error's message holds nothing secret, so that peers and a terminal may have it: all of Tacit's own do
    not, and PyTorch's do not where PyTorch has seen shapes and dtypes only."""
    return isinstance(error, TacitError) or getattr(error, ASKED, False)


ASKED = "of_shapes_and_dtypes"
"""The attribute that `tacit.tensor.signatures` gives to what PyTorch raises when it is asked about a call."""


class TacitError(Exception):
    """Base of all errors that Tacit raises on purpose."""


class ConfigError(TacitError):
    """A config, key file or command line that cannot be used."""


class DataError(TacitError, ValueError):
    """A file or a tensor that cannot be used as given."""


class EncodingError(DataError):
    """A number that fixed point cannot hold: NaN, infinite or out of range."""


class NetworkError(TacitError):
    """Something went wrong between two roles."""


class ConnectError(NetworkError):
    """A port in use, or a peer that never came."""


class AuthenticationError(NetworkError):
    """A peer whose certificate is not the expected one."""


class PeerLost(NetworkError):
    """A peer closed its connection in the middle of a run."""


class PeerStalled(NetworkError):
    """A peer is connected but sent nothing for longer than the configured time."""


class PeerAborted(NetworkError):
    """A peer stopped with an error of its own, which this message repeats."""


class DivergenceError(TacitError):
    """Two roles do not run the same program on the same public values."""


class Refused(TacitError):
    """A server does not take a submission or a request of a client, for the reason given."""


class Overloaded(Refused):
    """All places of a prediction service are taken: ask again later."""


class FheError(TacitError):
    """Something that `tacit.fhe` cannot do, or that was not asked rightly."""


class ParameterError(FheError):
    """No encryption parameters of 128-bit security hold this model."""


class MessageError(FheError):
    """A ciphertext, key or model file is damaged, forged or of another version."""


class KeyMismatchError(FheError):
    """A key, ciphertext or answer belongs to another model or another client."""


class ServiceError(FheError):
    """An encrypted-prediction service cannot be reached, or refused."""


class PrecisionError(TacitError):
    """A session that checks itself found a result that is not PyTorch's, or numbers out of range."""


class RevealError(TacitError):
    """A secret was used as if it were a number, or a reveal was refused by the policy."""


class ResultMismatch(TacitError):
    """A result of another shape or dtype than PyTorch's: a bug of Tacit, found before it could do harm."""


class UnsupportedOperator(TacitError, NotImplementedError):
    """A PyTorch operator that has no counterpart on secrets."""

    def __init__(self, message: str = "", what: str = "", instead: str = "") -> None:
        super().__init__(message)
        self.what = what
        """What does not work, in the words of the program."""
        self.instead = instead
        """What to write in its place."""
