"""Every exception Tacit raises on purpose.

::

    TacitError
    ├── ConfigError                  a config, key file or command line that cannot be used
    ├── DataError (ValueError)       a file or a tensor that cannot be used as given
    │   ├── EncodingError            a number that fixed point cannot hold (NaN, infinite, out of range)
    │   └── UnusableTable            a table that its owner cannot use; nobody else is told why
    ├── NetworkError
    │   ├── ConnectError             a port in use, a peer that never comes
    │   ├── AuthenticationError      a peer whose certificate is not the expected one
    │   ├── PeerLost                 a peer that died
    │   ├── PeerStalled              a peer that is connected but silent for too long
    │   ├── PeerAborted              a peer that stopped with an error of its own
    │   ├── LinkDown                 a connection that has ended; never leaves `tacit.net`, which says what it means
    │   └── Stray                    somebody who is no role of this run; never leaves `tacit.net`
    ├── DivergenceError              two roles that do not run the same program
    │   └── UnequalOpenings          parties that were told two things by one of them
    ├── Refused                      a submission or a request that a server does not take, and its reason
    │   ├── Overloaded               a server without room for this client now: ask again later
    │   ├── Unanswered               a request whose rank of the server died; clients ask again by themselves
    │   └── Dismissed                a session with a client that its server ends; never leaves `tacit.predictions`
    ├── FederatedError               a round of a federation, a roster or an update that cannot be used
    │   ├── RosterError              an identity file or a roster that cannot be used
    │   ├── ForgeryError             a key, ciphertext or share that is not from whom it says
    │   ├── RoundError               a message of an old round, at the wrong stage, or twice
    │   ├── UpdateError              an update of the wrong shape, or that is not finite
    │   ├── BudgetError              a client has spent its privacy budget, and takes no part
    │   ├── ThresholdError           too few clients: nothing was unmasked
    │   └── RoundFailedError         a round ended without a sum; it knows each client's reason
    ├── FheError                     something `tacit.fhe` cannot do, or was not asked rightly
    │   ├── ParameterError           no encryption parameters of 128-bit security hold this model
    │   ├── MessageError             a ciphertext, key or model file that is damaged, forged or of another version
    │   ├── KeyMismatchError         a key, ciphertext or answer that belongs to another model or client
    │   └── ServiceError             an encrypted-prediction service that cannot be reached or refused
    ├── NotReplayed                  a step that cannot be replayed: a warning, or an error of a strict one
    │   └── Unsteady                 one that cannot be this time
    ├── PrecisionError               a result that is not PyTorch's, found by a session that checks itself
    ├── RevealError                  a secret used as if it were a number, or a reveal the policy forbids
    ├── ResultMismatch               a result of another shape or dtype than PyTorch's: a bug of Tacit
    └── UnsupportedOperator (NotImplementedError)   a PyTorch operator that has no secret counterpart

A message says what happened, at which role or client, in which operator or stage, and what to do. It never holds a
share, a plaintext, a key, a mask or a value of an update. A test holds this tree against the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AuthenticationError",
    "BudgetError",
    "ConfigError",
    "ConnectError",
    "DataError",
    "Dismissed",
    "DivergenceError",
    "EncodingError",
    "FederatedError",
    "FheError",
    "ForgeryError",
    "KeyMismatchError",
    "LinkDown",
    "MessageError",
    "NetworkError",
    "NotReplayed",
    "Overloaded",
    "ParameterError",
    "PeerAborted",
    "PeerLost",
    "PeerStalled",
    "PrecisionError",
    "Refused",
    "ResultMismatch",
    "RevealError",
    "RosterError",
    "RoundError",
    "RoundFailedError",
    "ServiceError",
    "Stray",
    "TacitError",
    "ThresholdError",
    "Unanswered",
    "UnequalOpenings",
    "Unsteady",
    "UnsupportedOperator",
    "UnusableTable",
    "UpdateError",
]


def tellable(error: BaseException) -> bool:
    """Whether an error's message holds nothing secret, so that peers and a terminal may have it: all of Tacit's own do
    not, but for what is an owner's alone, and PyTorch's do not where PyTorch has seen shapes and dtypes only."""
    if isinstance(error, UnusableTable):
        return False
    return isinstance(error, TacitError) or getattr(error, ASKED, False)


def called(given: object) -> str:
    """What a message calls an argument that is not what it should be."""
    return f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"


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


class UnusableTable(DataError):
    """A table that its owner cannot use as it is. The message is for the owner: peers are never told."""


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


class LinkDown(NetworkError):
    """A connection has ended. `tacit.net.tcp` turns this into an error that says what it means for the run."""

    def __init__(self, link: Any, peer: str, why: str) -> None:
        self.link, self.why = link, why
        super().__init__(f"{peer} {why}")


class Stray(NetworkError):
    """Whoever is at the other end of a connection is no role of this run, or not any more: not our concern."""


class DivergenceError(TacitError):
    """Two roles do not run the same program on the same public values."""


class UnequalOpenings(DivergenceError):
    """Parties hold different numbers where all of them open the same: one has told two others two things."""


class Refused(TacitError):
    """A server does not take a submission or a request of a client, for the reason given."""

    def __init__(self, message: str = "", after: float | None = None) -> None:
        super().__init__(message)
        self.after = after
        """Seconds after which it is worth to ask again, if it is and that is known."""


class Dismissed(Refused):
    """The server ends its session with a client. Raised where that client is served."""


class Overloaded(Refused):
    """A server has no room for this client now: ask again after `after` seconds."""


class Unanswered(Refused):
    """The rank that computed a request has gone. Clients ask again, a few times, before they raise this."""


class FederatedError(TacitError):
    """A round, a roster or an update that cannot be used."""


class RosterError(FederatedError):
    """An identity file or a roster cannot be used."""


class ForgeryError(FederatedError):
    """A key, a ciphertext or a share is not from whom it says."""


class RoundError(FederatedError):
    """A message belongs to an old round, to another stage, or came twice."""


class UpdateError(FederatedError):
    """An update has the wrong shape or is not finite."""


class BudgetError(FederatedError):
    """A client has spent its privacy budget."""


class ThresholdError(FederatedError):
    """Too few clients took part or survived; nothing was unmasked."""


class RoundFailedError(FederatedError):
    """A round ended without a sum; `failures` says for each client what went wrong there."""

    def __init__(self, reason: str, failures: Mapping[str, str]) -> None:
        super().__init__(reason)
        self.failures = dict(failures)


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


class NotReplayed(TacitError):
    """A step cannot be recorded or replayed: in words that go on from "it is not replayed:"."""


class Unsteady(NotReplayed):
    """It cannot be this time, for something is as in no later call: a first step, an evaluation before it."""


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
