"""The native kernels of oblivious transfers against the portable ones, on every instruction set, and known answers."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from tacit.protocols.two_party.transfers.kernels import BATCH, CHUNK, QUICK, SHORT, Form, Reference

native_module = pytest.importorskip("tacit.ring.kernels.native", reason="the native kernels are not built")

from tacit.protocols.two_party.transfers.kernels import native as native_kernels  # noqa: E402

native, reference = native_kernels.Native(), Reference()
KEY = os.urandom(16)


@pytest.fixture(params=["avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    try:
        native_module.use_isa(request.param)
    except ValueError:
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    native_module.use_isa("best")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


@pytest.fixture
def portable() -> Iterator[None]:
    native_module.use_isa("portable")
    yield
    native_module.use_isa("best")


def blocks(*shape: int) -> Tensor:
    return torch.randint(-(2**63), 2**63 - 1, (*shape, 2))


def octets(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def as_received(kernels: Reference, form: Form, leaves: bytes, block: int, count: int) -> tuple[Tensor, ...]:
    t, choice, sent = blocks(count), octets(count), octets(count // CHUNK, form.trees - 1, 256)
    kernels.trees(form, leaves).receive(block, t, choice, sent)
    return t, choice, sent


def check_extension(form: Form, block: int, count: int) -> None:
    leaves, delta = os.urandom(16 * form.trees * form.leaves), os.urandom(16)
    found, want = (as_received(k, form, leaves, block, count) for k in (native, reference))
    for one, other in zip(found, want, strict=True):
        assert torch.equal(one, other)
    both = []
    for k in (native, reference):
        q = blocks(count)
        k.trees(form, leaves).send(delta, block, want[2], q)
        both.append(q)
    assert torch.equal(*both)


@pytest.mark.parametrize("count", [0, CHUNK, 3 * CHUNK])
@pytest.mark.usefixtures("isa")
def test_transfers_are_extended_alike(count: int) -> None:
    for block in (0, (1 << 40) - 3):
        check_extension(QUICK, block, count)
    if count <= CHUNK:
        check_extension(SHORT, 7, count)


@pytest.mark.usefixtures("portable")
def test_without_aes_instructions_there_are_the_portable_kernels() -> None:
    assert type(native.trees(QUICK, LEAVES)) is type(reference.trees(QUICK, LEAVES))
    x, out = blocks(8), torch.zeros(8, dtype=torch.int64)
    native.words(KEY, 1, x, DELTA, out)
    want = torch.zeros_like(out)
    reference.words(KEY, 1, x, DELTA, want)
    assert torch.equal(out, want)
    with pytest.raises(RuntimeError, match="no AES"):
        native_kernels.encrypt_blocks(KEY, x)
    with pytest.raises(RuntimeError, match="no AES"):
        native_kernels.Trees(QUICK, LEAVES)


@pytest.mark.usefixtures("isa", "threads")
def test_many_transfers_are_extended_alike() -> None:
    check_extension(QUICK, 7, 34 * CHUNK)


SIZES = [0, 1, 7, 63, 64, 65, BATCH - 1, BATCH + 33, 70_001]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("isa", "threads")
def test_transfers_are_hashed_alike(size: int) -> None:
    x, delta, number, first = blocks(size), os.urandom(16), random.randrange(1 << 40), 64 * random.randrange(3)
    x4 = x[: size // 4 * 4].view(4, -1, 2)
    items = first + size + 70
    calls: list[tuple[Callable[[Reference, Tensor], None], Tensor]] = [
        (lambda k, out: k.words(KEY, number, x, delta, out, first), blocks(items)[:, 0].contiguous()),
        *(
            (lambda k, out, w=w: k.bits(KEY, number, x, delta, w, out, first), octets(w, (items + 7) // 8))  # type: ignore[misc]
            for w in (1, 3, 8)
        ),
        *(
            (
                lambda k, out, t=t: k.tables(KEY, number, x4, delta, t, out, first),
                blocks(t, items)[..., 0].to(torch.int32),
            )  # type: ignore[misc]
            for t in (1, 2, 17, 65)
        ),
        *(
            (lambda k, out, t=t: k.entries(KEY, number, x4, t, out, first), octets(t, items))  # type: ignore[misc]
            for t in (1, 2, 33, 65)
        ),
    ]

    for call, out in calls if size < SIZES[-1] else (calls[0], calls[2], calls[5], calls[9]):
        found, want = out.clone(), out.clone()
        call(native, found)
        call(reference, want)
        assert torch.equal(found, want)


def test_the_hash_is_what_its_docstring_says() -> None:
    x, delta, out = blocks(BATCH + 1), os.urandom(16), torch.zeros(BATCH + 1, dtype=torch.int64)
    native.words(KEY, 5, x, delta, out)

    for place, number in ((0, 5), (BATCH - 1, 5), (BATCH, 6)):
        key = _aes(KEY, number.to_bytes(16, "big"))
        block = bytes(a ^ b for a, b in zip(x[place].numpy().tobytes(), delta, strict=True))
        hashed = bytes(a ^ b for a, b in zip(_aes(key, block), block, strict=True))
        assert out[place].numpy().tobytes() == hashed[:8]


def _aes(key: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


FIPS_197 = [  # appendix B, and appendix C.1
    ("2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32"),
    ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"),
]


@pytest.mark.parametrize(("key", "plain", "cipher"), FIPS_197)
@pytest.mark.parametrize("count", [1, 3, 8, 32, 45])
@pytest.mark.usefixtures("isa")
def test_known_answers_of_aes(key: str, plain: str, cipher: str, count: int) -> None:
    if not native_module.has_aes():
        pytest.skip("no AES instructions in use")
    x = torch.frombuffer(bytearray(bytes.fromhex(plain)), dtype=torch.int64).expand(count, 2).contiguous()

    out = native_kernels.encrypt_blocks(bytes.fromhex(key), x)

    assert {row.numpy().tobytes().hex() for row in out} == {cipher}


# --- bounds -----------------------------------------------------------------------------------------------------------

LEAVES = os.urandom(16 * 512)
DELTA = bytes(range(16))


class Case(NamedTuple):
    call: Callable[[Reference, list[Tensor]], Any]
    operands: Callable[[], list[Tensor]]
    written: int
    """The last so many operands are written to."""


CASES = {
    "receive": Case(
        lambda k, o: k.trees(QUICK, LEAVES).receive(3, *o),
        lambda: [blocks(CHUNK), octets(CHUNK), octets(1, 31, 256)],
        3,
    ),
    "send": Case(
        lambda k, o: k.trees(QUICK, LEAVES).send(DELTA, 3, *o), lambda: [octets(1, 31, 256), blocks(CHUNK)], 1
    ),
    "words": Case(
        lambda k, o: k.words(KEY, 0, o[0], DELTA, o[1], 1), lambda: [blocks(99), torch.zeros(100, dtype=torch.int64)], 1
    ),
    "bits": Case(lambda k, o: k.bits(KEY, 0, o[0], DELTA, 3, o[1], 64), lambda: [blocks(99), octets(3, 21)], 1),
    "tables": Case(
        lambda k, o: k.tables(KEY, 0, o[0], DELTA, 3, o[1], 1),
        lambda: [blocks(4, 99), torch.zeros(3, 100, dtype=torch.int32)],
        1,
    ),
    "entries": Case(lambda k, o: k.entries(KEY, 0, o[0], 3, o[1], 1), lambda: [blocks(4, 99), octets(3, 100)], 1),
}
REFUSALS = (TypeError, ValueError)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("needs_aes")
def test_kernels_stay_inside_of_what_they_were_given(name: str) -> None:
    case, guard = CASES[name], 64
    operands = case.operands()
    at = len(operands) - case.written
    wholes = []
    for k in range(at, len(operands)):
        size = operands[k].nbytes
        whole = octets(guard + size + guard)
        operands[k] = whole[guard : guard + size].view(operands[k].dtype).view(operands[k].shape)
        wholes.append((whole, whole.clone()))
    kept = [t.clone() for t in operands[:at]]

    case.call(native, operands)

    for whole, before in wholes:
        assert torch.equal(whole[:guard], before[:guard])
        assert torch.equal(whole[-guard:], before[-guard:])
    for t, before in zip(operands[:at], kept, strict=True):
        assert torch.equal(t, before)


def wrong(t: Tensor, what: str) -> Tensor:
    if what == "device":
        return t.to("meta")
    if what == "dtype":
        return t.to(torch.float64)
    if what == "apart":
        return torch.stack([t, t], -1)[..., 0]
    flat = t.reshape(-1)
    return flat[:-1].clone() if what == "shorter" else torch.cat([flat, flat[:1]])


@pytest.mark.parametrize("what", ["device", "dtype", "apart", "shorter", "longer"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("needs_aes")
def test_a_wrong_operand_is_refused_whichever_it_is(name: str, what: str) -> None:
    case = CASES[name]
    for k in range(len(case.operands())):
        operands = case.operands()
        if what == "longer" and k and name in ("words", "bits", "tables", "entries"):
            continue  # there is room for more than is written
        if what == "shorter" and name == "words" and k == 0:
            operands[0] = operands[0].view(-1)  # an odd number of halves
        operands[k] = wrong(operands[k], what)
        kept = [t.clone() for t in operands]

        with pytest.raises(REFUSALS):
            case.call(native, operands)

        for t, before in zip(operands, kept, strict=True):
            assert t.is_meta or torch.equal(t, before), "a kernel wrote before it refused"


@pytest.fixture
def needs_aes() -> None:
    if not native_module.has_aes():
        pytest.skip("this machine has no AES instructions")


@pytest.mark.usefixtures("needs_aes")
def test_keys_and_places_that_do_not_fit_are_refused() -> None:
    x, out = blocks(10), torch.zeros(10, dtype=torch.int64)
    for call in (
        lambda: native.words(KEY[:-1], 0, x, DELTA, out),
        lambda: native.words(KEY, 0, x, DELTA[:-1], out),
        lambda: native.words(KEY, 0, x, DELTA, out, 1),
        lambda: native.words(KEY, 0, x, DELTA, out, 1 << 63),
        lambda: native.words(KEY, 0, x, DELTA, out, -1),
        lambda: native.bits(KEY, 0, x, DELTA, 0, octets(8, 2)),
        lambda: native.bits(KEY, 0, x, DELTA, 9, octets(9, 2)),
        lambda: native.bits(KEY, 0, x, DELTA, 1, octets(1, 9), 8),
        lambda: native.bits(KEY, 0, x, DELTA, 1, octets(1, 9), 64),
        lambda: native.tables(KEY, 0, x[:8].view(4, 2, 2), DELTA, 0, torch.zeros(0, 2, dtype=torch.int32)),
        lambda: native.trees(QUICK, LEAVES[:-1]),
        lambda: native.trees(SHORT, LEAVES),
        lambda: native.trees(Form(2), os.urandom(16 * 64 * 4)),
        lambda: native.trees(QUICK, LEAVES).send(DELTA[:-1], 0, octets(1, 31, 256), blocks(CHUNK)),
        lambda: native.trees(QUICK, LEAVES).send(DELTA, 0, octets(0, 31, 256), blocks(8)),
        lambda: reference.trees(QUICK, LEAVES[:-1]),
        lambda: reference.trees(QUICK, LEAVES).send(DELTA, 0, octets(0, 31, 256), blocks(8)),
    ):
        with pytest.raises(REFUSALS):
            call()
    assert not out.any()
