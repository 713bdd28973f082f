"""`tacit.check`: does a module run on secrets, and what will it cost?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

import tacit.api as api
from tacit.check.numbers import Numbers, measured
from tacit.check.program import Loss, MakeOptimizer, Program, prepared, real
from tacit.check.report import Link, Report, Unsupported, estimated, total
from tacit.check.stand_in import StandIns, explained
from tacit.errors import DataError, RevealError, TacitError, UnsupportedOperator
from tacit.profile import Profile
from tacit.session.config import Config
from tacit.session.ledger import is_library
from tacit.session.roles import DEFAULT
from tacit.watch.place import Modules

__all__ = ["check"]

WARM = 5.0
"""Seconds below which a check measures twice and keeps the second: the first run also loads code and takes new memory.
Larger: better estimates for larger modules; smaller: a check of them takes half as long."""


LATENCY, BANDWIDTH = 200e-6, 5e9
"""The default link: what a small round and 16 MB took over TLS between processes of one machine with a core for each,
beyond their work. A machine that does other things at the same time takes some milliseconds a round."""


def check(
    module: nn.Module,
    *inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    train: bool = False,
    loss: Loss | None = None,
    target: Any = None,
    optimizer: MakeOptimizer | None = None,
    public_module: bool = False,
    public_inputs: Iterable[int | str] = (),
    parties: Sequence[str] = ("alice", "bob"),
    frac_bits: int = 16,
    protocol: str = DEFAULT,
    latency: float = LATENCY,
    bandwidth: float = BANDWIDTH,
) -> Report:
    """Report all that a module does which secrets cannot, and what it will cost in rounds, bytes and seconds.

    The module runs in this process, whatever role that has: on plain integers, to find what does not work, and with all
    roles embedded, to measure; nothing is sent and nothing revealed. No real data are needed: an input is a tensor, a
    meta tensor, or a shape, and all are secrets of zeros where they have no values. Rounds and bytes are those that a
    run's meter will show, to the last one. Seconds are estimated: work measured here, plus the link's. Data and weights
    are new to the run: a later step of a training loop does not open its data again, and may pay more for an
    optimizer's momentum.

    ::

        report = tacit.check(model, (128, 784), train=True, loss=F.cross_entropy, target=torch.zeros(128).long())
        print(report)

    With real inputs it also runs once in a session that checks itself, and the report says how far the results of each
    operator, and the outputs of each module, are from plain PyTorch's.

    Args:
        module: any module; secret parameters and those on the meta device count as zeros.
        inputs: what the module is called with; tensors and shapes among them become secrets.
        kwargs: the same for keyword arguments.
        train: whether to run it in training mode with a backward pass, or in evaluation mode without.
        loss: makes a scalar from the output, or from output and target; the sum of the output without one.
        target: the loss's second argument; a tensor or a shape becomes a secret unless "target" is a public input.
        optimizer: makes an optimizer of the parameters, whose first step is taken after the backward pass.
        public_module: whether the parameters are public, with the values they have.
        public_inputs: positions and names of inputs that are public.
        parties: the computing parties.
        frac_bits: fractional bits of numbers.
        protocol: what it is to cost by: "additive", with a crypto-producer, or "two-party", without; then as if neither
            party knew inputs or parameters, which costs less where one does.
        latency: seconds that a message between two roles takes, one way.
        bandwidth: bits a second that a role can send.
    """
    if latency < 0 or bandwidth <= 0:
        raise DataError("tacit.check needs a latency of at least 0 and a bandwidth above 0")
    public = frozenset(public_inputs)
    program = Program(module, inputs, kwargs or {}, public_module, public, train, loss, target, optimizer)
    config = Config.embedded(parties, frac_bits=frac_bits, seed=0, protocol=protocol)
    _, problems, stopped = _attempt(program, Config.embedded(parties, frac_bits=frac_bits, seed=0, protocol="plain"))
    fine = not problems and stopped is None
    profile, _, _ = _attempt(program, config)
    if fine and profile.cost.seconds < WARM:
        profile, _, _ = _attempt(program, config)
    numbers = measured(program, config) if fine and real(program) else Numbers([], [])
    link = Link(latency, bandwidth)
    rows = estimated(profile.rows, link, len(parties))
    return Report(problems, stopped, rows, total(profile.cost, rows, link), numbers.deviations, numbers.wrong)


def _attempt(program: Program, config: Config) -> tuple[Profile, list[Unsupported], str | None]:
    """Run the program in a session of its own, unseen by a profile around it; the public generator stays as it was."""
    stopped = None
    with torch.random.fork_rng(devices=[]), _disable_current_modes():
        opened = api.embedded(config)
        try:
            protocol = api.active_protocol()
            run = prepared(program, protocol)
            with Profile() as profile, StandIns(protocol, profile.modules) as stand_ins:
                try:
                    run()
                except Exception as error:
                    if not stand_ins.found and not isinstance(error, RevealError | UnsupportedOperator):
                        raise
                    stopped = _last_word(error, stand_ins, profile.modules)
            return profile, list(stand_ins.found), stopped
        finally:
            opened.end(TacitError("the check is over"))


def _last_word(error: Exception, stand_ins: StandIns, modules: Modules) -> str:
    """Why the program could not go on; a use of a secret as a number is reported like an operator, where it is."""
    scope, line = None, "unknown line"
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        name = frame.f_code.co_filename
        if not is_library(name):
            line = f"{name}:{trace.tb_lineno}"
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            scope = modules.scope(owner) or scope
        trace = trace.tb_next
    if isinstance(error, RevealError | UnsupportedOperator):
        what, instead = explained(error, line, type(error).__name__)
        root, path = scope or ("", "")
        stand_ins.found[Unsupported(what, root, path, "forward", line, instead)] = None
        return f"{what} at {line}"
    return f"{type(error).__name__} at {line}: {error}"
