"""Keys and ciphertexts of the two parties: encrypt, receive, answer, finish. `kernels` has the algebra.

*The owner's privacy* is ring-LWE's. *The evaluator's* rests on two things. Before a sum of products is switched to a
short modulus, a fresh encryption of zero under the owner's public key is added. So its second component, all of an
answer that travels, is a ring-LWE sample under a secret of the evaluator's, and pseudorandom to the owner of the key.
Of the first component, the owner holds u and the evaluator the rest, for a u that both draw from a key stream of
theirs: uniform, and drawn before, it says nothing; so no noise needs to be flooded, and nothing of it is sent.

Where results are exact, the two ends must round alike. The evaluator sees whether its part lies so near to the middle
between two roundings that noise decides, and answers again if so. That is how long an answer takes, less than once in
2^38 coefficients, and it depends on the noise; nothing else does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from tacit.errors import DivergenceError
from tacit.protocols.two_party.lattice import kernels
from tacit.protocols.two_party.lattice.hops import Hop
from tacit.protocols.two_party.lattice.parameters import DEGREE, SLOTS, Parameters
from tacit.ring.memory import space
from tacit.ring.prg import Stream
from tacit.session.session import Session

__all__ = ["SEED_BYTES", "Ciphers"]

SEED_BYTES = 16
"""Of a key stream from which the uniform halves of ciphertexts are drawn. It is public."""

_MOST_PRIMES = 4


class _Party:
    """What one party that is hosted here holds."""

    def __init__(self) -> None:
        self.random = Stream(os.urandom(16))
        """Of nobody else's: secrets and noise."""
        self.secret = kernels.secret(_MOST_PRIMES, self.words(1))
        self.zero: Tensor | None = None
        """The other party's public key, an encryption of zero: [2, primes, N]."""

    def words(self, polynomials: int) -> Tensor:
        return self.random.ring((polynomials * DEGREE,))


class Ciphers:
    """The keys of a session, made and exchanged when they are first needed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._parties: dict[int, _Party] = {}
        self._zeros: dict[tuple[int, int], Tensor] = {}

    def begin(self) -> None:
        """Make keys and exchange the public ones, once. Nothing depends on an input: no round is counted."""
        if self._parties:
            return
        kernels.require()
        hop, arrivals = Hop(self._session), {}
        size = SEED_BYTES + 6 * _MOST_PRIMES * DEGREE
        parties = {index: _Party() for index in self._session.party_indices}
        for source in (0, 1):
            key = parties.get(source)
            data = None if key is None else _sealed(key, _MOST_PRIMES, None, 0, 1)
            arrivals[1 - source] = hop.move(source, size, data)
        hop.done(ahead=True)
        for index, party in parties.items():
            arrival = arrivals[index]
            assert arrival is not None
            party.zero = self.received(1 - index, _MOST_PRIMES, arrival)[0]
        self._parties = parties  # now that all of them are whole

    def hosts(self, index: int) -> bool:
        """Whether a party is hosted here."""
        return index in self._session.party_indices

    # --- ciphertexts on their way ----------------------------------------------------------------------------------

    def size(self, parameters: Parameters, count: int) -> int:
        """Bytes of so many ciphertexts on their way, one seed with them."""
        return SEED_BYTES + parameters.upload_bytes * count

    def encrypted(self, owner: int, parameters: Parameters, messages: Tensor, t: int = 0) -> Tensor:
        """Messages [count, N] of a party, encrypted under its secret: what is sent."""
        return _sealed(self._parties[owner], parameters.primes, messages, t, len(messages))

    def received(self, owner: int, primes: int, data: Tensor) -> Tensor:
        """What has arrived as ciphertexts [count, 2, primes, N]; what are none is refused."""
        count = self._count(owner, primes, data)
        out, valid = kernels.expand(primes, data[SEED_BYTES:], _uniform(data, primes, count))
        self._check(owner, valid=valid)
        return out

    def _count(self, owner: int, primes: int, data: Tensor) -> int:
        """How many ciphertexts have arrived, which is a whole number."""
        count = (data.numel() - SEED_BYTES) // (6 * primes * DEGREE)
        if data.numel() != SEED_BYTES + count * 6 * primes * DEGREE:
            raise DivergenceError(
                f"{self._session.parties[owner]} has sent {data.numel()} bytes, which are no ciphertexts"
            )
        return count

    def _check(self, owner: int, *, valid: bool) -> None:
        if not valid:
            raise DivergenceError(
                f"{self._session.parties[owner]} has sent ciphertexts that are none: it runs another version"
            )

    # --- answers ---------------------------------------------------------------------------------------------------

    def answered(
        self, owner: int, parameters: Parameters, sums: Tensor, positions: Tensor, t: int, margin: int
    ) -> tuple[Tensor, Tensor]:
        """Answers to the owner of the key, uint8 [count, bytes], and the evaluator's shares, [count, positions].

        With a margin, a result that the two ends might round apart is answered again, under another encryption of zero.
        """
        evaluator = 1 - owner
        party = self._parties[evaluator]
        zero = self._zero(evaluator, parameters.primes)
        mask = self._mask(evaluator, owner, owner, (len(sums), positions.numel()))
        out, share, doubtful = kernels.answer(
            zero, sums, party.words(len(sums)), mask, positions, t, parameters.answer_bits, margin
        )
        while margin and bool(doubtful.any()):
            again = doubtful.nonzero().view(-1)
            out[again], share[again], doubts = kernels.answer(
                zero, sums[again], party.words(len(again)), mask[again], positions, t, parameters.answer_bits, margin
            )
            doubtful[again] = doubts
        return out, share

    def finished(self, owner: int, parameters: Parameters, answers: Tensor, positions: Tensor, t: int) -> Tensor:
        """The owner's shares, [count, positions], from answers that have arrived, uint8 [count, bytes]."""
        mask = self._mask(owner, 1 - owner, owner, (len(answers), positions.numel()))
        secret = self._parties[owner].secret[: parameters.finishing]
        return kernels.finish(secret, answers, mask, positions, t, parameters.answer_bits)

    # --- products in slots, from rows to shares: in one kernel what the above does step by step -----------------------

    def encrypted_rows(self, owner: int, rows: Sequence[Tensor], blocks: range, prime: int) -> Tensor:
        """Rows of a party, some blocks of them, in slots and encrypted under its secret: what is sent."""
        party, count = self._parties[owner], len(blocks) * len(rows)
        out, uniform = _begun(SLOTS.primes, count)
        secret = party.secret[: SLOTS.primes]
        kernels.slots_encrypt(secret, uniform, party.words(count), rows, prime, blocks.start, out[SEED_BYTES:])
        return out

    def answered_rows(
        self, owner: int, data: Tensor, rows: Sequence[Tensor], blocks: range, prime: int, share: Tensor
    ) -> Tensor:
        """Answers to the owner for what it sent of these blocks, times rows of the evaluator's; fills its shares."""
        evaluator, terms = 1 - owner, len(rows)
        uniform = _uniform(data, SLOTS.primes, self._count(owner, SLOTS.primes, data))
        party, zero = self._parties[evaluator], self._zero(evaluator, SLOTS.primes)
        mask = self._mask(evaluator, owner, owner, (len(blocks), DEGREE))
        margin = SLOTS.margin(terms * DEGREE, prime.bit_length(), prime)

        def answers(at: int, count: int) -> tuple[Tensor, Tensor]:
            u, into, words = mask[at : at + count], share[at * DEGREE : (at + count) * DEGREE], party.words(count)
            sent, places = data[SEED_BYTES:], (prime, blocks.start, at, SLOTS.answer_bits, margin)
            out, doubtful, valid = kernels.slots_answer(zero, sent, uniform, words, u, into, rows, *places)
            self._check(owner, valid=valid)
            return out, doubtful

        out, doubtful = answers(0, len(blocks))
        for at in doubtful.nonzero().view(-1).tolist():
            while doubtful[at]:
                out[at : at + 1], doubtful[at : at + 1] = answers(at, 1)
        return out

    def finished_rows(self, owner: int, answers: Tensor, prime: int, share: Tensor) -> None:
        """Fill the owner's shares, from answers that have arrived, uint8 [blocks, bytes]."""
        mask = self._mask(owner, 1 - owner, owner, (len(answers), DEGREE))
        secret = self._parties[owner].secret[: SLOTS.finishing]
        kernels.slots_finish(secret, answers, mask, prime, SLOTS.answer_bits, share)

    def _zero(self, evaluator: int, primes: int) -> Tensor:
        zero = self._zeros.get((evaluator, primes))
        if zero is None:
            whole = self._parties[evaluator].zero
            assert whole is not None
            zero = self._zeros[evaluator, primes] = whole[:, :primes].contiguous()
        return zero

    def _mask(self, here: int, peer: int, owner: int, shape: tuple[int, int]) -> Tensor:
        """The numbers u of answers, drawn alike at both ends: a stream for each direction."""
        names = self._session.parties
        purpose = f"lattice answers to {names[owner]}"
        return self._session.stream(names[here], names[peer], purpose).ring((*shape, 2))


def _sealed(party: _Party, primes: int, messages: Tensor | None, t: int, count: int) -> Tensor:
    out, uniform = _begun(primes, count)
    kernels.encrypt(party.secret[:primes], uniform, party.words(count), messages, t, out[SEED_BYTES:])
    return out


def _begun(primes: int, count: int) -> tuple[Tensor, Tensor]:
    """Memory for ciphertexts on their way, which begins with a fresh seed, and what is drawn from that."""
    out = space((SEED_BYTES + count * 6 * primes * DEGREE,), torch.uint8)
    out[:SEED_BYTES] = torch.frombuffer(bytearray(os.urandom(SEED_BYTES)), dtype=torch.uint8)
    return out, _uniform(out, primes, count)


def _uniform(data: Tensor, primes: int, count: int) -> Tensor:
    """What is drawn from the seed of ciphertexts: its key stream, for a seed is used for nothing else."""
    seed = data[:SEED_BYTES]
    if kernels.draws_itself():
        return seed
    return Stream(bytes(seed.numpy().tobytes())).bytes(kernels.stream_bytes(primes, count))
