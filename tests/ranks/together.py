"""How the ranks that run this know each other, and how long they wait for each other."""

import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

import tacit
from tacit.errors import AuthenticationError, PeerLost, TacitError
from tacit.session import among
from tacit.session.session import Session

dist.init_process_group("gloo")
HERE, OTHER = dist.get_rank(), 1 - dist.get_rank()
SOON = timedelta(seconds=60)
STORE = dist.distributed_c10d._get_default_store()
LEAVING, among.PULSE = among.LEAVING, 0.05


def one() -> torch.Tensor:
    return tacit.share(torch.ones(2), owner="alice")


def refused(kind: type[TacitError], words: str) -> None:
    try:
        dist.all_reduce(one())
    except kind as refusal:
        said = str(refusal)
    else:
        raise AssertionError(f"not refused: {words}")
    assert words in said, said


def until(there: Any) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def never(*shares: Any) -> None:
    raise AssertionError("shares were sent")


def role(session: Session) -> None:
    """Of two roles, in one process group by mistake."""
    among.Among.sum = never
    session.role = ("alice", "bob")[HERE]
    refused(AuthenticationError, ("has bob[1] at its place 1", "has alice[0] at its place 0")[HERE])


def key(session: Session) -> None:
    """Who says that it is of the role, and has not its key."""
    among.Among.sum = never
    among._key = lambda _: bytes([HERE])
    refused(AuthenticationError, f"embedded[{OTHER}] has not the private key of embedded")


def digest(session: Session) -> None:
    """The role is in what ranks tell each other each time, too."""
    dist.all_reduce(one())
    among.Among.sum = never
    session.role = ("alice", "bob")[HERE]
    refused(tacit.errors.DivergenceError, "two ranks do different things")


def alive(session: Session) -> None:
    """A rank gives signs of life as soon as its session has begun."""
    until(lambda: session.pulse.has_begun(OTHER))
    beats = session.pulse.beats([OTHER])[OTHER]
    until(lambda: session.pulse.beats([OTHER])[OTHER] > beats)
    dist.barrier()


def late(session: Session) -> None:
    """One that has not begun its session has as long as roles have to come."""
    session.close()
    if HERE == 1:
        time.sleep(1.6)
    with tacit.session() as second:
        object.__setattr__(second.config, "timeout", 1.0)
        dist.all_reduce(one())
        dist.barrier()


class Delayed:
    """A collective at whose end a rank looks only once the other one has ended its session."""

    def __init__(self, session: Session, work: Any) -> None:
        self.session, self.work, self.looked = session, work, False

    def wait(self, *seconds: Any) -> Any:
        if not self.looked:
            self.looked = True
            until(lambda: self.session.pulse.ended([OTHER]))
            raise RuntimeError("Operation timed out!")
        return self.work.wait(*seconds)

    def is_completed(self) -> bool:
        return False


def ended(session: Session) -> None:
    """A rank that has ended well has sent what the other waits for; one that waits for more is told."""

    left = [*session.parties]

    def slowly(self: among.Among, t: torch.Tensor) -> torch.Tensor:
        left.pop()
        if left:  # the other goes on to the next party's shares
            return summing(self, t)
        self._do(lambda: Delayed(session, dist.all_reduce(t, group=self._group, async_op=True)))
        return t

    x = one()
    if HERE == 1:
        among.Among.sum = slowly
    dist.all_reduce(x)
    if HERE == 1:
        assert torch.equal(tacit.reveal(x), torch.full((2,), 2.0))
        among.LEAVING = 0.3  # of 10
        refused(PeerLost, "embedded[0] has ended its session")
        STORE.set("ended", "")
    session.close()
    STORE.wait(["ended"], SOON)


def stopped(session: Session) -> None:
    """One that has stopped with an error has not: the other is told at once."""
    begun = time.monotonic()
    if HERE == 0:
        session.end(TacitError("no more"))
    else:
        refused(PeerLost, "embedded[0] stopped: no more")
        assert time.monotonic() - begun < LEAVING / 2
        STORE.set("stopped", "")
    if HERE == 0:  # which has the store, and so ends last
        STORE.wait(["stopped"], SOON)


own, summing, key_of = vars(dist.ProcessGroup)["allgather"], among.Among.sum, among._key
for case in (role, key, digest, alive, late, ended, stopped):  # the last two leave ranks that wait
    among.Among.sum, among._key, among.LEAVING = summing, key_of, LEAVING
    with tacit.session() as opened:
        case(opened)
        opened.close()
    assert vars(dist.ProcessGroup)["allgather"] is own
print("as it should be")
