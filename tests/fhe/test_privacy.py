"""What an answer shows of the model, tested as a distribution; each test has a broken server that it must convict."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from tacit.fhe import randomness, wire
from tacit.fhe.client import Client
from tacit.fhe.compile.assemble import Circuit, Compiled, assemble
from tacit.fhe.encode import Quantizer, Thermometer
from tacit.fhe.forest_program import ForestProgram
from tacit.fhe.linear_model import LogisticRegression
from tacit.fhe.program import LinearProgram
from tacit.fhe.read import ForestReader, PlainReader, RegressionHead, VoteReader
from tacit.fhe.seal import Scheme, SecretScheme
from tacit.fhe.server import Server

UNLIKELY = 1e-7
HEAD = RegressionHead(np.ones(1), np.zeros(1), False, True)


def raw_outputs(client: Client, server: Server, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Return all that the client can decrypt of one answer, before its reader adds anything up."""
    server.register(client.public_key)
    query = client.encrypt(x)
    with monkeypatch.context() as patch:
        patch.setattr(ForestReader, "read", lambda self, outputs, t: outputs)
        return client.decrypt(server.answer(query), query)


def stumps(values: list[list[int]], slots: list[int]) -> ForestProgram:
    """Return trees of one node each: slot i decides between two values."""
    k = len(slots)
    return ForestProgram(
        bits=4, leaf=np.arange(2 * k), slot=np.repeat(slots, 2), sign=np.tile([1, -1], k), offset=np.tile([0, 1], k),
        tree=np.repeat(np.arange(k), 2), channel=np.zeros(2 * k, dtype=np.intp), values=np.array(values).reshape(-1, 1),
        fork=np.full(2 * k, -1), step=np.zeros((2 * k, 1), dtype=np.int64),
    )  # fmt: skip


def forest_circuit(program: ForestProgram) -> Circuit:
    encoder = Thermometer(4, np.arange(4), np.zeros(4), False)
    reader = ForestReader((program.leaves,), (int(program.tree.max()) + 1,), 1)
    return assemble("stumps", Compiled(program, encoder, reader, HEAD))


def views(program: ForestProgram, monkeypatch: pytest.MonkeyPatch, count: int = 700) -> dict[str, np.ndarray]:
    """Return the histograms of what a client sees when it asks the same row again and again."""
    circuit = forest_circuit(program)
    moduli = circuit.client_spec.parameters.moduli
    p, t = moduli[0], moduli[-1]
    row = np.array([[1.0, -1.0, 1.0, -1.0]])
    outputs = raw_outputs(circuit.client, circuit.server, row.repeat(count, axis=0), monkeypatch)
    table = np.mod(outputs[:, :, None], np.array(moduli)).reshape(count, -1, 2)
    reached = table[:, :, 0] == 0
    assert (reached.sum(axis=1) == program.tree.max() + 1).all()
    assert (np.mod(np.where(reached, table[:, :, 1], 0).sum(axis=1), t) == 30).all()
    order = (reached * 2 ** np.arange(program.leaves)).sum(axis=1)
    parts = {"reached places": order, "masked values": table[:, :, 1][reached] * 8 // t}
    parts["missed costs"] = (table[:, :, 0][~reached] - 1) * 8 // (p - 1)
    parts["missed values"] = table[:, :, 1][~reached] * 8 // t
    return {name: np.bincount(part, minlength=64 if name == "reached places" else 8) for name, part in parts.items()}


def same_sum() -> tuple[ForestProgram, ForestProgram]:
    """Two forests that say 30 on the row, by different columns, leaves and values."""
    return stumps([[7, 10], [20, 99]], [0, 1]), stumps([[25, 3], [4000, 5]], [3, 2])


PAIRS = [0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100]
"""The ways in which two of four leaves can be the reached ones."""


def convictions(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> list[str]:
    """Return what is not uniform, or not the same for both models."""
    found = []
    for name, counts in first.items():
        both = np.stack([counts, second[name]])
        if name == "reached places":
            assert both.sum() == both[:, PAIRS].sum()
            both = both[:, PAIRS]
        seen = both[:, both.sum(axis=0) > 0]
        if chisquare(both[0]).pvalue < UNLIKELY or (seen.shape[1] > 1 and chi2_contingency(seen).pvalue < UNLIKELY):
            found.append(name)
    return found


def test_two_forests_with_the_same_sum_look_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = same_sum()

    first, second = views(one, monkeypatch), views(other, monkeypatch)

    assert convictions(first, second) == []


def in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a modulus for the costs, and another, no prime, for the values, as where inputs are spread."""
    monkeypatch.setattr(ForestProgram, "moduli", lambda self: iter([(17, 8192 + 1)]))


def test_two_forests_with_the_same_sum_look_the_same_in_pairs_of_moduli(monkeypatch: pytest.MonkeyPatch) -> None:
    in_pairs(monkeypatch)
    one, other = same_sum()

    first, second = views(one, monkeypatch, 150), views(other, monkeypatch, 150)

    assert convictions(first, second) == []


@pytest.mark.parametrize("pairs", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one modulus", "pairs"])
@pytest.mark.parametrize(
    ("broken", "shows"),
    [("_tree_masks", "masked values"), ("_places", "reached places"), ("nonzero_below", "missed costs")],
)
def test_a_server_that_forgets_a_mask_is_convicted(
    broken: str, shows: str, pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pairs:
        in_pairs(monkeypatch)
    one, other = same_sum()
    if broken == "_tree_masks":
        monkeypatch.setattr(ForestProgram, broken, lambda self, t: np.zeros((2, 1), dtype=np.int64))
    elif broken == "_places":
        monkeypatch.setattr(ForestProgram, broken, lambda self: np.arange(self.leaves))
    else:
        monkeypatch.setattr(randomness, broken, lambda bound, count: np.ones(count, dtype=np.int64))

    first, second = views(one, monkeypatch, 150), views(other, monkeypatch, 150)

    assert convictions(first, second) == [shows]


def votes(labels: list[list[int]], slots: list[int]) -> ForestProgram:
    """Return trees of two entries: one leaf where the bit is 0; where it is 1, a pair that the next bit tells apart."""
    k = len(slots)
    left, right = np.array([[a, b] for a, b, _ in labels]).ravel(), np.array([[a, c] for a, _, c in labels]).ravel()
    return ForestProgram(
        bits=4, leaf=np.arange(2 * k), slot=np.repeat(slots, 2), sign=np.tile([1, -1], k), offset=np.tile([0, 1], k),
        tree=np.repeat(np.arange(k), 2), channel=np.zeros(2 * k, dtype=np.intp), values=left[:, None],
        fork=np.array([[-1, (slot + 1) % 4] for slot in slots]).ravel(), step=(right - left)[:, None], votes=3,
    )  # fmt: skip


def vote_views(program: ForestProgram, monkeypatch: pytest.MonkeyPatch, count: int) -> dict[str, np.ndarray]:
    """Return the histograms of what a client sees of trees that vote: residues modulo several primes at once."""
    encoder = Thermometer(4, np.arange(4), np.zeros(4), False)
    monkeypatch.setattr(ForestProgram, "moduli", lambda self: iter([(17, 19, 23)]))
    circuit = assemble("votes", Compiled(program, encoder, VoteReader(program.leaves, 2, 3), HEAD))
    moduli = circuit.client_spec.parameters.moduli
    monkeypatch.setattr(VoteReader, "read", lambda self, outputs, moduli: outputs)
    row = np.array([[1.0, -1.0, 1.0, -1.0]])
    circuit.server.register(circuit.client.public_key)
    outputs = circuit.client.values(row.repeat(count, axis=0))[0]
    parts = np.mod(outputs[:, :, None], np.array(moduli)).reshape(count, -1)[:, : 2 * program.leaves]
    p = np.resize(moduli, 2 * program.leaves)[None].repeat(count, axis=0)
    cost, said = parts[:, 0::2], parts[:, 1::2]
    reached = cost == 0
    assert (reached.sum(axis=1) == 2).all()
    first = said[np.arange(count), reached.argmax(axis=1)]
    return {
        "reached places": np.bincount((reached * 2 ** np.arange(4)).sum(axis=1), minlength=16),
        "first label": np.bincount(first, minlength=3)[[0, 2]],
        "missed costs": np.bincount((cost - 1)[~reached] * 8 // (p[:, 0::2] - 1)[~reached], minlength=8),
        "missed values": np.bincount(said[~reached] * 8 // p[:, 1::2][~reached], minlength=8),
    }


def same_votes() -> tuple[ForestProgram, ForestProgram]:
    """Two forests that say {0, 2} on the row, by different columns, entries and labels."""
    return votes([[1, 0, 1], [2, 1, 1]], [0, 1]), votes([[0, 1, 2], [1, 2, 0]], [3, 2])


def test_two_forests_with_the_same_votes_look_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = same_votes()

    first, second = vote_views(one, monkeypatch, 250), vote_views(other, monkeypatch, 250)

    for name, counts in first.items():
        both = np.stack([counts, second[name]])
        seen = both[:, PAIRS] if name == "reached places" else both
        assert chi2_contingency(seen).pvalue > UNLIKELY, name
        if name in ("reached places", "first label"):
            assert chisquare(seen[0]).pvalue > UNLIKELY, name


@pytest.mark.parametrize("broken", ["_places", "nonzero_below", "below"])
def test_a_server_that_votes_without_a_mask_is_convicted(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = same_votes()
    if broken == "_places":
        monkeypatch.setattr(ForestProgram, broken, lambda self: np.arange(self.leaves))
    else:
        real = getattr(randomness, broken)

        def stuck(bound: int, count: int) -> np.ndarray:
            return np.ones(count, dtype=np.int64) if bound < 1000 else real(bound, count)

        monkeypatch.setattr(randomness, broken, stuck)

    first, second = vote_views(one, monkeypatch, 80), vote_views(other, monkeypatch, 80)

    shows = {"_places": "reached places", "nonzero_below": "missed costs", "below": "missed values"}[broken]
    table = np.stack([first[shows], second[shows]])
    assert chisquare(table[0][table.sum(axis=0) > 0] if broken == "_places" else table[0]).pvalue < UNLIKELY or (
        (table > 0).sum() == 2
    )


def linear_circuit(weights: list[int]) -> Circuit:
    program = LinearProgram(np.array([weights]), np.zeros(1, dtype=np.int64), np.full(2, 127))
    encoder = Quantizer(np.zeros(2), np.ones(2), 127)
    return assemble("two", Compiled(program, encoder, PlainReader(), HEAD))


def noises(circuit: Circuit, x: np.ndarray, count: int) -> np.ndarray:
    """Return the noise of `count` answers: the same ciphertexts decrypted under a plaintext modulus of 2^32.

    round(2^32 / q1 (c0 + c1 s)) holds score and noise, at a resolution of 2^14 of the noise's 2^40 and more.
    """
    p = circuit.client_spec.parameters
    client, server = circuit.client, circuit.server
    server.register(client.public_key)
    scheme = Scheme(replace(p, plain_modulus=1 << 32, moduli=(1 << 32,)))
    label = struct.pack("<4Q", *scheme.context.key_parms_id())  # SEAL names the parameters in the key's first 32 bytes
    fine = SecretScheme(scheme, label + client._secret.secret_bytes()[32:])
    positions = p.layout.positions(0, 1)
    drawn = []
    for _ in range(count):
        query = client.encrypt(x)
        message = wire.unpack(server.answer(query), (wire.Kind.ANSWER,), client._model)
        residues = wire.cut_answer(
            wire.Cutter(message.payload), p.degree, positions, client._scheme.primes[0], p.trim_bits
        )
        step = (1 << 32) // p.plain_modulus
        value = int(fine.decrypt(residues, positions)[0])
        drawn.append((value + step // 2) % step - step // 2)
    return np.array(drawn)


def test_the_noise_of_an_answer_is_uniform_and_the_same_for_every_model() -> None:
    """Two models with the same score on x; the whole noise, not only the message, must look the same."""
    x = np.array([[3.0, 1.0]])
    light, heavy = linear_circuit([1, 124]), linear_circuit([21, 64])
    assert (light.simulate(x)[0] == heavy.simulate(x)[0]).all()
    shared = light.client_spec.parameters
    assert shared == heavy.client_spec.parameters

    first, second = noises(light, x, 600), noises(heavy, x, 600)

    edge = (1 << 32) // shared.plain_modulus // 8  # 2^F lies between an eighth and a quarter of q / t
    reach = max(np.abs(first).max(), np.abs(second).max())
    assert reach > edge / 2
    bins = np.linspace(-reach, reach + 1, 9)
    table = np.stack([np.histogram(first, bins)[0], np.histogram(second, bins)[0]])
    assert chi2_contingency(table).pvalue > UNLIKELY
    assert chisquare(table[0]).pvalue > UNLIKELY


def test_without_the_flood_the_same_test_sees_another_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([[3.0, 1.0]])
    circuit = linear_circuit([1, 124])
    flooded = noises(circuit, x, 100)

    monkeypatch.setattr(
        randomness, "symmetric_residues", lambda bits, count, primes: np.zeros((len(primes), count), dtype=np.uint64)
    )
    bare = noises(circuit, x, 100)

    assert (
        np.abs(bare).max() * 20 < np.abs(flooded).max()
    )  # what is left is the rounding of the low bits that are not sent


def second_parts(circuit: Circuit, query: bytes, count: int) -> list[np.ndarray]:
    p, q = circuit.client_spec.parameters, circuit.client._scheme.primes[0]
    parts = []
    for _ in range(count):
        payload = wire.unpack(circuit.server.answer(query), (wire.Kind.ANSWER,), circuit.client._model).payload
        parts.append(wire.cut_answer(wire.Cutter(payload), p.degree, p.layout.positions(0, 1), q, p.trim_bits)[1, 0])
    return parts


def test_the_second_part_of_an_answer_is_fresh_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client knows c1. If c1' were W c1, division would give it W: u pk must make c1' look uniform."""
    circuit = linear_circuit([42, 1])
    circuit.server.register(circuit.client.public_key)
    query = circuit.client.encrypt(np.array([[3.0, 1.0]]))
    q = circuit.client._scheme.primes[0]

    one, other = second_parts(circuit, query, 2)
    difference = (one.astype(object) - other.astype(object)) % q

    assert chisquare(np.bincount((difference * 16 // q).astype(int), minlength=16)).pvalue > UNLIKELY
    monkeypatch.setattr(randomness, "ternary", lambda count: np.eye(1, count, dtype=np.int64)[0])
    one, other = second_parts(circuit, query, 2)
    stuck = (one.astype(object) - other.astype(object)) % q
    assert chisquare(np.bincount((stuck * 16 // q).astype(int), minlength=16)).pvalue < UNLIKELY


def test_queries_do_not_depend_on_the_row(linear: LogisticRegression, datasets: dict[str, Any]) -> None:
    x = datasets["breast-cancer"][1]
    client = linear.client()

    low, high = client.encrypt(np.full_like(x[:5], x.min())), client.encrypt(np.full_like(x[:5], x.max()))

    assert low[:76] == high[:76]  # envelope: kind, model, key, counts
    assert len(low) == len(high)
    octets = np.stack([np.bincount(np.frombuffer(m[76:-32], np.uint8), minlength=256) for m in (low, high)])
    assert chi2_contingency(octets).pvalue > UNLIKELY
    assert chisquare(octets[0]).pvalue > UNLIKELY


def test_no_seed_is_ever_used_twice(linear: LogisticRegression) -> None:
    client = linear.client()
    polynomial = np.zeros(client.spec.parameters.degree, dtype=np.int64)

    seeds = [client._secret.encrypt(polynomial)[1] for _ in range(300)] + [client._secret.encrypt_zero()[1]]

    assert len(set(seeds)) == len(seeds)


def test_a_model_of_zeros_answers_with_a_proper_ciphertext() -> None:
    """A zero plaintext would make a ciphertext whose second part is zero: readable without any key."""
    circuit = linear_circuit([0, 0])
    circuit.server.register(circuit.client.public_key)
    query = circuit.client.encrypt(np.array([[3.0, 1.0]]))

    part = second_parts(circuit, query, 1)[0]

    assert circuit.client.values(np.array([[3.0, 1.0]]))[0].tolist() == [[0]]
    assert np.unique(part).size > 4000
