"""The native kernels of the two-party scheme compute what the portable ones do, whatever the instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tacit.protocols.two_party.kernels import Reference, at
from tacit.ring.kernels import BACKEND, native

REFERENCE, NATIVE = Reference(), at("cpu")
SIZES = [0, 8, 64, 136, 3 * 64 + 8, 4096]

pytestmark = pytest.mark.skipif(BACKEND != "native", reason="the native kernels are not installed")


@pytest.fixture(params=["portable", "avx2", "avx512"], autouse=True)
def instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    try:
        native.use_isa(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    yield
    native.use_isa("best")


def ring(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**63), 2**63 - 1, shape)


def bits(count: int) -> torch.Tensor:
    return torch.randint(0, 2, (count,), dtype=torch.uint8)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("width", [1, 3, 8])
def test_products_of_bits_and_numbers(n: int, width: int) -> None:
    v, zero, one, d, beta = ring(n), ring(n), ring(n), bits(n), bits(n)

    e = REFERENCE.masked_numbers(v, zero, one, width)

    assert torch.equal(NATIVE.masked_numbers(v, zero, one, width), e)
    assert torch.equal(NATIVE.sender_share(d, v, zero, width), REFERENCE.sender_share(d, v, zero, width))
    assert torch.equal(
        NATIVE.receiver_share(d, beta, zero, e, width), REFERENCE.receiver_share(d, beta, zero, e, width)
    )


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("m", [1 << 63, 1 << 3, 4 * 12345678901, (1 << 64) - 4])
def test_quotients_are_exact(m: int, up: bool) -> None:
    x, wrap = torch.cat([ring(999), torch.tensor([0, 1, -1, 2, 1 << 62]) << 61]), ring(1004)

    found = NATIVE.quotient(x, m, wrap, -7, up=up)

    rest = 2**64 - 1 if up else 0
    want = [((int(v) % 2**64 * m + rest >> 64) + int(w) - 7) % 2**64 for v, w in zip(x, wrap, strict=True)]
    assert [int(v) % 2**64 for v in found] == want
    assert torch.equal(REFERENCE.quotient(x, m, wrap, -7, up=up), found)
    assert torch.equal(NATIVE.quotient(x, m, None, 0, up=up), REFERENCE.quotient(x, m, None, 0, up=up))


@pytest.mark.parametrize("n", SIZES[1:])
def test_digits_and_tables(n: int) -> None:
    x, thresholds = ring(n), [0, 1, -(2**40)]
    choice = torch.randint(0, 16, (16 * n,), dtype=torch.uint8)
    pads = torch.randint(-(2**31), 2**31, (3, 16 * n), dtype=torch.int32)
    pad = torch.randint(0, 4, (3, 16 * n), dtype=torch.uint8)

    u, d = REFERENCE.open_digits(x, choice)
    message, planes = REFERENCE.send_tables(x, thresholds, d, pads)

    for want, got in zip((u, d), NATIVE.open_digits(x, choice), strict=True):
        assert torch.equal(got, want)
    for want, got in zip((message, planes), NATIVE.send_tables(x, thresholds, d, pads), strict=True):
        assert torch.equal(got, want)
    assert torch.equal(NATIVE.read_tables(message, u, pad), REFERENCE.read_tables(message, u, pad))


@pytest.mark.parametrize("n", [0, 1, 63, 130])
def test_words_of_messages_of_two_bits(n: int) -> None:
    pads = torch.randint(-(2**31), 2**31, (32, n), dtype=torch.int32)
    pad = torch.randint(0, 4, (32, n), dtype=torch.uint8)

    assert torch.equal(NATIVE.joined_pads(pads), REFERENCE.joined_pads(pads))
    assert torch.equal(NATIVE.joined_pad(pad), REFERENCE.joined_pad(pad))


def test_tensors_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="elements in the place of"):
        NATIVE.open_digits(ring(8), torch.zeros(8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no whole bytes"):
        NATIVE.open_digits(ring(9), torch.zeros(144, dtype=torch.uint8))
    with pytest.raises(ValueError, match="elements in the place of"):
        NATIVE.quotient(ring(8), 4, ring(7), 0, up=False)
    with pytest.raises(TypeError):
        NATIVE.quotient(ring(8).float(), 4, None, 0, up=False)  # type: ignore[arg-type]
