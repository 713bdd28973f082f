"""The parameters: security, room for the flood, decryption at the very edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tenseal.sealapi as sealapi

from tacit.errors import FheError, MessageError, ParameterError
from tacit.fhe import noise
from tacit.fhe.compile.assemble import Compiled, assemble
from tacit.fhe.encode import Quantizer
from tacit.fhe.layout import SpreadLayout
from tacit.fhe.linear_model import LogisticRegression
from tacit.fhe.parameters import RINGS, SPREAD_RING, Parameters, choose
from tacit.fhe.primes import is_prime
from tacit.fhe.program import LinearProgram
from tacit.fhe.read import PlainReader, RegressionHead
from tacit.fhe.seal import Scheme, SecretScheme
from tacit.fhe.spread import spread, undone

STANDARD_128 = {4096: 109, 8192: 218}


@pytest.mark.parametrize("ring", [*RINGS, SPREAD_RING])
def test_every_ring_is_within_the_128_bit_table(ring: tuple[int, tuple[int, ...], int]) -> None:
    degree, data_bits, special_bits = ring

    total = sum(data_bits) + special_bits

    assert total <= STANDARD_128[degree]
    assert sealapi.CoeffModulus.MaxBitCount(degree, sealapi.SEC_LEVEL_TYPE.TC128) == STANDARD_128[degree]


def test_unlisted_parameters_are_refused(linear: LogisticRegression) -> None:
    parameters = linear.client().spec.parameters

    with pytest.raises(MessageError, match="not among the checked ones"):
        replace(parameters, degree=2048)
    with pytest.raises(MessageError, match="not among the checked ones"):
        replace(parameters, data_bits=(54, 54))


def test_seals_default_modulus_could_not_hide_a_model() -> None:
    """36 + 36 bits, 784 inputs of 8 bits and 10 classes: what a 72-bit modulus leaves for the flood."""
    seal_default = noise.plan(4096, (1 << 36, 1 << 36), 1 << 25, 10, 784 * 127.0, 127 * np.sqrt(7840))
    ours = noise.plan(4096, (1 << 46, 1 << 47), 1 << 25, 10, 784 * 127.0, 127 * np.sqrt(7840))

    assert seal_default is None
    assert ours is not None
    assert ours.statistical_bits >= 40


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_possible_scores_decrypt(sign: int) -> None:
    """All weights and inputs at their limits, in every sample of the ciphertext, under the largest flood."""
    d, outputs, limit = 120, 4, 127
    weights = np.full((outputs, d), 127) * np.array([[1], [-1], [1], [-1]])
    program = LinearProgram(weights, np.full(outputs, 40_000), np.full(d, limit))
    encoder = Quantizer(np.zeros(d), np.ones(d), limit)
    head = RegressionHead(np.ones(1), np.zeros(1), False, False)
    circuit = assemble("edge", Compiled(program, encoder, PlainReader(), head))
    x = np.full((2 * circuit.client_spec.parameters.layout.samples + 1, d), float(sign * limit))

    values, z = circuit.client.values(x)

    assert (values == z @ weights.T + 40_000).all()
    assert np.abs(values).max() == 127 * 127 * d + 40_000


def test_the_noise_that_is_flooded_stays_below_its_bound(linear: LogisticRegression, datasets: dict) -> None:
    """With the flood turned down to nothing, SEAL's own noise budget shows the rest: it must be below B."""
    x = datasets["breast-cancer"][1][:8]
    client, server = linear.client(), linear.server()
    p = server.spec.parameters
    bounds = server.spec.program.bounds(p.layout, p.moduli)
    largest = noise.largest(p.degree, bounds.row_l1, bounds.product_l2)
    server.register(client.public_key)
    key, _ = next(iter(server._keys.values()))

    polynomial = p.layout.place_inputs(client.spec.encoder.encode(x))[0]
    c0, secret_seed = client._secret.encrypt(polynomial)
    fresh = server._scheme.seeded_ciphertext(c0, secret_seed)
    assert server._fixed is not None
    total = server._sums.total(server._fixed[0][0], server._sums.inputs([fresh]), key)
    budget = client._secret.noise_budget(server._scheme.residues(total))

    # budget = floor(log2 q - log2(t |noise|) - 1), so |noise| <= 2^(log2 q - log2 t - 1 - budget)
    noise_bits = p.modulus_bits - np.log2(p.plain_modulus) - 1 - budget
    assert noise_bits <= np.log2(largest)
    assert p.flood_bits >= noise_bits + 40


def spread_parameters(pieces: int = 64) -> Parameters:
    """Return parameters that spread one dense ciphertext of 1,000 inputs."""
    block = -(-1000 // pieces)
    layout = SpreadLayout(8192, 1000, 64, -(-1000 // block), 64, 1, pieces)
    return Parameters(*SPREAD_RING, 17 * 11 * 19 * 13, layout, 100, 0, (17, 11, 19, 13))


def test_spread_ciphertexts_hold_their_inputs_within_the_bound(rng: np.random.Generator) -> None:
    p = spread_parameters()
    scheme = Scheme(p)
    secret = SecretScheme(scheme)
    keys = scheme.switching_keys(list(secret.switching_keys()))
    sent = rng.integers(0, p.plain_modulus, p.degree)

    pieces = spread(scheme, scheme.seeded_ciphertext(*secret.encrypt(sent)), keys, 64)

    for r in (0, 1, 37, 63):
        plain = sealapi.Plaintext()
        secret._decryptor.decrypt(pieces[r], plain)
        held = np.array([plain.data(i) if i < plain.coeff_count() else 0 for i in range(0, p.degree, 64)])
        assert (held == sent[r::64] * 64 % p.plain_modulus).all()
        assert plain.nonzero_coeff_count() == np.count_nonzero(held)
        noise_bits = p.modulus_bits - np.log2(p.plain_modulus) - 1 - secret.noise_budget(scheme.residues(pieces[r]))
        assert noise_bits <= np.log2(p.spread_noise)
    assert len(pieces) == 64
    assert len(spread(scheme, scheme.seeded_ciphertext(*secret.encrypt(sent)), keys, 5)) == 5


def test_weights_for_spread_inputs_undo_the_factor() -> None:
    t = 17 * 11 * 19 * 13
    values = np.array([0, 1, -1, t // 2, -(t // 2), 12345])

    weights = undone(values, 64, t)

    assert (np.abs(weights) <= t // 2).all()
    assert (np.mod(64 * weights - values, t) == 0).all()


def test_a_model_too_large_for_any_ring_is_refused_with_advice() -> None:
    d = 20_000
    program = LinearProgram(np.full((1, d), 1 << 20), np.zeros(1, dtype=np.int64), np.full(d, 1 << 15))

    with pytest.raises(ParameterError, match="lower n_bits"):
        choose(program)


@pytest.mark.parametrize(
    ("value", "answer"), [(2, True), (32771, True), (32769, False), (3215031751, False), (1, False)]
)
def test_primes_are_told_from_strong_pseudoprimes(value: int, answer: bool) -> None:
    assert is_prime(value) is answer


def test_seal_refuses_an_insecure_modulus(linear: LogisticRegression) -> None:
    weak = object.__new__(Parameters)
    for name, value in vars(linear.client().spec.parameters).items():
        object.__setattr__(weak, name, value)
    object.__setattr__(weak, "degree", 2048)

    with pytest.raises(FheError, match="SEAL refuses"):
        Scheme(weak)
