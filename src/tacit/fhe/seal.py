"""Microsoft SEAL, through `tenseal.sealapi`: the few operations that Tacit needs, on bytes and NumPy arrays.

SEAL's Python module reads and writes files only. They are files in memory here (`memfd_create`): no key and no
plaintext ever touches a disk. Ciphertexts enter SEAL in SEAL's own container, which this file writes around residues
that it has checked itself; SEAL validates them again.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from tacit.errors import FheError
from tacit.fhe.parameters import Parameters

try:
    import tenseal.sealapi as sealapi
except ImportError as error:  # pragma: no cover - depends on the installation
    raise FheError("tacit.fhe needs Microsoft SEAL: pip install 'tacit[fhe]'") from error

Int = npt.NDArray[np.int64]
Word = npt.NDArray[np.uint64]

SEED_BYTES = 64
_BLAKE2XB = 1
_HEADER = struct.Struct("<HBBBBHQ")  # magic, header size, version major, minor, compression, reserved, total size
_CIPHERTEXT = struct.Struct("<32sBQQQdQ")  # parms_id, ntt form, size, degree, primes, scale, correction factor
_PLAINTEXT = struct.Struct("<32sQd")  # parms_id, coefficients, scale
_MAGIC = 0xA15E
_KEY_HEAD = 2 * _HEADER.size + _CIPHERTEXT.size + 8
_KEY_TAIL = _HEADER.size + 1 + SEED_BYTES
"""What SEAL writes before and after the residues of a seeded digit of a switching key."""


@contextmanager
def _memory_file(content: bytes = b"") -> Iterator[tuple[int, str]]:
    """Yield the descriptor and the path of an anonymous file in memory."""
    fd = os.memfd_create("tacit-fhe")
    try:
        if content:
            os.write(fd, content)
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _saved(item: Any) -> bytes:
    """Return what SEAL saves, header included, decompressed."""
    with _memory_file() as (fd, path):
        item.save(path)
        raw = os.pread(fd, os.fstat(fd).st_size, 0)
    compression = raw[5]
    if compression == 2:
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(raw[_HEADER.size :]))
    if compression == 0:
        return raw[_HEADER.size :]
    raise FheError("this build of SEAL compresses in a way that Tacit does not read")


@lru_cache
def _version() -> tuple[int, int]:
    """Return SEAL's serialization version, read off something that it saved."""
    with _memory_file() as (fd, path):
        sealapi.Plaintext("1").save(path)
        header = os.pread(fd, _HEADER.size, 0)
    return header[3], header[4]


def _boxed(body: bytes) -> bytes:
    """Return `body` behind an uncompressed SEAL header."""
    return _HEADER.pack(_MAGIC, _HEADER.size, *_version(), 0, 0, _HEADER.size + len(body)) + body


def _array(values: Word) -> bytes:
    return _boxed(struct.pack("<Q", values.size) + values.astype("<u8").tobytes())


def _id_bytes(parms_id: list[int]) -> bytes:
    return struct.pack("<4Q", *parms_id)


def reduced(values: Int, modulus: int) -> Word:
    """Return integers modulo `modulus`, quickly where they are within one modulus of zero, as nearly all are."""
    out = values + modulus * (values < 0)
    if out.min() < 0 or out.max() >= modulus:
        out = np.mod(values, modulus)
    return out.view(np.uint64)


class Scheme:
    """SEAL set up for one parameter set: the operations that need no key."""

    def __init__(self, parameters: Parameters) -> None:
        n, bits = parameters.degree, [*parameters.data_bits, parameters.special_bits]
        settings = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        settings.set_poly_modulus_degree(n)
        chain = sealapi.CoeffModulus.Create(n, bits)
        settings.set_coeff_modulus(chain)
        settings.set_plain_modulus(parameters.plain_modulus)
        self.context = sealapi.SEALContext(settings, True, sealapi.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise FheError(f"SEAL refuses the parameters: {self.context.parameters_error_message()}")
        self.parameters = parameters
        self.primes = tuple(int(q.value()) for q in chain[:-1])
        self.key_primes = tuple(int(q.value()) for q in chain)
        self.key_id = self.context.key_parms_id()
        self.first_id = self.context.first_parms_id()
        self.last_id = self.context.last_parms_id()
        self.evaluator = sealapi.Evaluator(self.context)

    def plaintext(self, coefficients: Int) -> Any:
        """Return a SEAL plaintext of integers, taken modulo t."""
        return self._plaintext(reduced(coefficients, self.parameters.plain_modulus))

    def _plaintext(self, values: Word) -> Any:
        out = sealapi.Plaintext()
        body = _PLAINTEXT.pack(bytes(32), values.size, 1.0) + _array(values)
        with _memory_file(_boxed(body)) as (_, path):
            out.load(self.context, path)
        return out

    def weights(self, coefficients: Int) -> Any | None:
        """Return a plaintext ready to multiply (NTT form), or None if it is zero: that product must be skipped."""
        values = reduced(coefficients, self.parameters.plain_modulus)
        if not values.any():
            return None
        plain = self._plaintext(values)
        self.evaluator.transform_to_ntt_inplace(plain, self.first_id)
        return plain

    def empty(self) -> Any:
        """Return a ciphertext to write into."""
        return sealapi.Ciphertext(self.context)

    def ciphertext(self, residues: Word) -> Any:
        """Return the ciphertext with these residues, shape (2, primes, n), at the level of that many primes."""
        level = self.first_id if residues.shape[1] == len(self.primes) else self.last_id
        return self._load(level, residues.shape[1], _array(residues.ravel()))

    def seeded_ciphertext(self, c0: Word, seed: bytes) -> Any:
        """Return the fresh ciphertext (c0, expand(seed)), with c0 of shape (primes, n)."""
        prng = _boxed(struct.pack("<B", _BLAKE2XB) + seed)
        return self._load(self.first_id, len(self.primes), _array(c0.ravel()) + prng)

    def _load(self, parms_id: list[int], primes: int, data: bytes) -> Any:
        out = sealapi.Ciphertext(self.context)
        with _memory_file(_boxed(self._header(parms_id, primes, 0) + data)) as (_, path):
            out.load(self.context, path)
        return out

    def _header(self, parms_id: list[int], primes: int, ntt: int) -> bytes:
        return _CIPHERTEXT.pack(_id_bytes(parms_id), ntt, 2, self.parameters.degree, primes, 1.0, 1)

    def switching_keys(self, parts: list[tuple[Word, bytes]]) -> Any:
        """Return SEAL's Galois keys, for the elements of the parameters in order, from the seeded digits of each."""
        n, elements, digits = self.parameters.degree, self.parameters.elements, len(self.primes)
        head, count = self._header(self.key_id, len(self.key_primes), 1), struct.Struct("<Q")
        slots = [count.pack(0)] * n
        for k, element in enumerate(elements):
            bodies = [
                _boxed(head + _array(c0.ravel()) + _boxed(struct.pack("<B", _BLAKE2XB) + seed))
                for c0, seed in parts[k * digits : (k + 1) * digits]
            ]
            slots[(element - 1) // 2] = count.pack(digits) + b"".join(bodies)
        out = sealapi.GaloisKeys()
        with _memory_file(_boxed(_id_bytes(self.key_id) + count.pack(n) + b"".join(slots))) as (_, path):
            out.load(self.context, path)
        return out

    def key_residues(self, keys: Any) -> Word:
        """Return the residues of Galois keys (elements, digits, 2, key primes, n), in SEAL's NTT form."""
        p, rows = self.parameters, len(self.key_primes)
        raw, size = _saved(keys), 2 * rows * p.degree
        out = np.empty((len(p.elements), len(self.primes), size), dtype=np.uint64)
        starts = [int((element - 1) // 2) for element in p.elements]
        held = len(self.primes) * (_KEY_HEAD + 8 * size)  # of each element: no other slot has anything but a count
        for k, slot in enumerate(starts):
            at = 32 + 8 + 8 * (slot + 1) + held * sum(other < slot for other in starts)
            for digit in range(len(self.primes)):
                at += _KEY_HEAD
                out[k, digit] = np.frombuffer(raw, dtype="<u8", offset=at, count=size)
                at += 8 * size
        return out.reshape(len(p.elements), len(self.primes), 2, rows, p.degree)

    def residues(self, ciphertext: Any) -> Word:
        """Return the residues of a two-part ciphertext, shape (2, primes, n)."""
        raw = _saved(ciphertext)
        values = np.frombuffer(raw, dtype="<u8", offset=_CIPHERTEXT.size + _HEADER.size + 8)
        return values.reshape(2, -1, self.parameters.degree).astype(np.uint64)


class SecretScheme:
    """SEAL with a secret key: the client's operations."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        self.scheme = scheme
        if secret is None:
            self._key = sealapi.KeyGenerator(scheme.context).secret_key()
        else:
            self._key = sealapi.SecretKey()
            with _memory_file(_boxed(secret)) as (_, path):
                self._key.load(scheme.context, path)
        self._encryptor = sealapi.Encryptor(scheme.context, self._key)
        self._decryptor = sealapi.Decryptor(scheme.context, self._key)

    def secret_bytes(self) -> bytes:
        """Return the secret key. Whoever has it reads everything that this client encrypts."""
        return _saved(self._key)

    def encrypt(self, coefficients: Int) -> tuple[Word, bytes]:
        """Return (c0, seed of c1) of a symmetric encryption; SEAL draws a fresh seed from the OS for each."""
        return self._parse(self._encryptor.encrypt_symmetric(self.scheme.plaintext(coefficients)))

    def encrypt_zero(self) -> tuple[Word, bytes]:
        """Return (c0, seed) of an encryption of zero: with c1 expanded from the seed, that is a public key."""
        return self._parse(self._encryptor.encrypt_zero_symmetric())

    def switching_keys(self) -> Iterator[tuple[Word, bytes]]:
        """Yield (c0, seed) of each digit of the key for each of the parameters' automorphisms, in NTT form."""
        generator = sealapi.KeyGenerator(self.scheme.context, self._key)
        n, rows = self.scheme.parameters.degree, len(self.scheme.key_primes)
        for element in self.scheme.parameters.elements:
            raw = _saved(generator.create_galois_keys([element]))
            at = 32 + 8 + 8 * ((element - 1) // 2)
            (digits,) = struct.unpack_from("<Q", raw, at)
            at += 8
            for _ in range(digits):
                at += _KEY_HEAD
                c0 = np.frombuffer(raw, dtype="<u8", offset=at, count=rows * n).astype(np.uint64).reshape(rows, n)
                at += 8 * rows * n + _KEY_TAIL
                yield c0, raw[at - SEED_BYTES : at]

    def _parse(self, serializable: Any) -> tuple[Word, bytes]:
        raw = _saved(serializable)
        start = _CIPHERTEXT.size + _HEADER.size + 8
        count = len(self.scheme.primes) * self.scheme.parameters.degree
        c0 = np.frombuffer(raw, dtype="<u8", offset=start, count=count).astype(np.uint64)
        return c0.reshape(len(self.scheme.primes), -1), raw[-SEED_BYTES:]

    def decrypt(self, residues: Word, positions: npt.NDArray[np.intp]) -> Int:
        """Return the coefficients at `positions`, centred: in (-t/2, t/2]."""
        plain = sealapi.Plaintext()
        self._decryptor.decrypt(self.scheme.ciphertext(residues), plain)
        count = plain.coeff_count()
        values = np.array([plain.data(int(i)) if i < count else 0 for i in positions], dtype=np.int64)
        t = self.scheme.parameters.plain_modulus
        return np.where(values > t // 2, values - t, values)

    def noise_budget(self, residues: Word) -> int:
        """Return SEAL's invariant noise budget in bits; only meaningful with all of c0 present."""
        return int(self._decryptor.invariant_noise_budget(self.scheme.ciphertext(residues)))


def log2_modulus(primes: tuple[int, ...]) -> float:
    """Return log2 of a product of primes."""
    return sum(math.log2(q) for q in primes)
