"""The portable kernels of oblivious functions, in NumPy and the AES of `cryptography`: what native ones must equal.

A key is four uniform words, int64 [n, 4]: a value, and where it is found in a table: bits that choose among the 64
cells at its end, a segment, and three places of 21 bits, in that segment and in the two that follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

__all__ = ["CHOICES", "CORE", "DENSE", "TERMS", "Reference"]

DENSE = 64
"""Cells at the end of a table. More: keys that peeling leaves can depend on one another more; fewer: each look-up takes
less. All fail to find their values with probability 2^(d - 64), if d more of them are left than cells that they
have."""

CORE = 4096
"""Keys that elimination solves at most. Peeling leaves none or a few of large tables; of small ones perhaps all."""

TERMS = 10
"""Seeds in a sum of the code. More: the code is harder to see through; fewer: each sum takes less. As in [YWLZW20]."""

CHOICES = 3
"""Bins that a key may be in. More: fewer bins; fewer: the keys of the other table are fewer."""

RECORD = np.dtype([("low", "<i8"), ("high", "<i2")])

MODULUS = np.uint64(0x1B)
"""X^64 = X^4 + X^3 + X + 1."""

Words = npt.NDArray[np.uint64]


class Reference:
    """The kernels of tables and of vectors."""

    def encode(self, keys: Tensor, values: Tensor, length: int, starts: int, out: Tensor) -> bool:
        """Fill the cells of `out`, int64 [cells, width], so that each key finds its value [width]: [RR22] section 3.

        Cells that no key decides stay as they are. False, with probability below 2^-40, if it cannot be.
        """
        table, wanted = out.numpy().view(np.uint64), values.numpy().view(np.uint64)
        places, dense = _places(keys, length, starts), keys.numpy().view(np.uint64)[:, 1]
        order = _peeled(places, len(table) - DENSE)
        left = np.setdiff1d(np.arange(len(places)), [key for key, _ in order])
        if not _solved(places[left], dense[left], wanted[left], table):
            return False
        sums = _chosen(dense, table[-DENSE:])
        for key, cell in reversed(order):
            others = [table[c] for c in places[key] if c != cell]
            table[cell] = wanted[key] ^ sums[key] ^ others[0] ^ others[1]
        return True

    def decode(self, keys: Tensor, length: int, starts: int, cells: Tensor) -> Tensor:
        """The value of each key in a table [cells, width]: int64 [n, width]."""
        table = cells.numpy().view(np.uint64)
        _checked(len(table), length, starts)
        x, y, z = (table[column] for column in _places(keys, length, starts).T)
        found = x ^ y ^ z ^ _chosen(keys.numpy().view(np.uint64)[:, 1], table[-DENSE:])
        return torch.from_numpy(found.view(np.int64))

    def matches(self, low: Tensor, high: Tensor, their_low: Tensor, their_high: Tensor) -> Tensor | None:
        """Where each pair of a word and 16 bits stands among others, -1 if it does not: int64 [n].

        None if theirs are no uniform words, among which the search would take too long.
        """
        if not len(their_low):
            return torch.full((len(low),), -1)
        mine, theirs = _records(low, high), _records(their_low, their_high)
        order = np.argsort(theirs, kind="stable")  # bytes that are no hashes take no longer: nothing is hashed here
        at = np.searchsorted(theirs, mine, sorter=order)
        places = order[np.minimum(at, len(order) - 1)]
        return torch.from_numpy(np.where(theirs[places] == mine, places, -1))

    def add_scaled(self, x: Tensor, delta: bytes, out: Tensor) -> None:
        """Add x Δ to `out`, int64 [n, 2], x being in GF(2^64) and Δ a pair of such."""
        words, table = x.numpy().view(np.uint64), out.numpy().view(np.uint64)
        power = np.frombuffer(delta, np.uint64)
        for bit in range(64):
            table ^= ((words >> np.uint64(bit)) & np.uint64(1))[:, None] * power
            power = _twice(power)

    def packed(self, x: Tensor) -> Tensor:
        """The sums of X^j x_j over 64 blocks each: int64 [64 n, 2] -> [n, 2]."""
        parts = x.numpy().view(np.uint64).reshape(-1, 64, 2)
        total = np.zeros((len(parts), 2), np.uint64)
        for j in reversed(range(64)):
            total = _twice(total) ^ parts[:, j]
        return torch.from_numpy(total.view(np.int64))

    def mixed(self, key: bytes, number: int, x: Tensor, tweaks: Tensor, width: int = 2) -> Tensor:
        """The hashes of blocks int64 [n, 2] under tweaks t, the first two words of rows: int64 [n, width].

        Block j of a hash is AES(u + t + (0, number + j)) + u, with u = AES(x), the number being added to the second
        word of t by XOR. [GKWY20] section 7.4
        """
        t = tweaks.numpy().view(np.uint64)[:, :2]
        u = _encrypted(key, x.numpy().view(np.uint64))
        out = []
        for j in range((width + 1) // 2):
            at = t ^ np.array([0, number + j], np.uint64)
            out.append(_encrypted(key, u ^ at) ^ u)
        joined = np.ascontiguousarray(np.concatenate(out, axis=1)[:, :width]) if out else np.empty((len(u), 0))
        return torch.from_numpy(joined.view(np.int64))

    def grown(self, key: bytes, roots: Tensor, levels: int, leaves: Tensor) -> Tensor:
        """Write the leaves of trees, int64 [trees * 2^levels, 2], and return the sums of both sides of each level.

        The children of x are AES(key of the side, x) + x. Sums are int64 [trees, levels, 2, 2], the left side first.
        """
        nodes, sums = roots.numpy().view(np.uint64)[:, None], []
        for _ in range(levels):
            nodes = _children(key, nodes)
            sums.append(np.stack([_sum(nodes[:, 0::2]), _sum(nodes[:, 1::2])], axis=1))
        leaves.numpy().view(np.uint64)[:] = nodes.reshape(-1, 2)
        return torch.from_numpy(np.stack(sums, axis=1).view(np.int64))

    def regrown(self, key: bytes, paths: Tensor, away: Tensor, levels: int, leaves: Tensor) -> Tensor:
        """Write all leaves but that at the end of each path, which is zero, and return their sums, int64 [trees, 2].

        `away` has the sum of the side of each level that the path does not go: int64 [trees, levels, 2].
        """
        path, known = paths.numpy(), away.numpy().view(np.uint64)
        rows, nodes = np.arange(len(path)), np.zeros((len(path), 1, 2), np.uint64)
        for level in range(levels):
            nodes = _children(key, nodes)
            own = path >> (levels - 1 - level)
            nodes[rows, own] = nodes[rows, own ^ 1] = 0
            sides = np.stack([_sum(nodes[:, 0::2]), _sum(nodes[:, 1::2])], axis=1)
            nodes[rows, own ^ 1] = sides[rows, (own ^ 1) & 1] ^ known[:, level]
        leaves.numpy().view(np.uint64)[:] = nodes.reshape(-1, 2)
        return torch.from_numpy(_sum(nodes).view(np.int64))

    def add_coded(
        self, key: bytes, seeds: Tensor, out: Tensor, words: Tensor | None = None, words_out: Tensor | None = None
    ) -> None:
        """Add to each row of `out`, int64 [n, 2], ten of the seeds [k, 2]; and the same of `words` to `words_out`.

        The place of term j of row i is word 10 i + j, of 32 bits, of the key stream, times k, over 2^32.
        """
        k, n = len(seeds), len(out)
        stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(4 * TERMS * n))
        places = (np.frombuffer(stream, np.uint32).astype(np.uint64) * np.uint64(k) >> np.uint64(32)).reshape(n, TERMS)
        for source, target in ((seeds, out), (words, words_out)):
            if source is None or target is None:
                continue
            for j in range(TERMS):
                target.numpy()[:] ^= source.numpy()[places[:, j].astype(np.int64)]

    def placed(self, places: Tensor, bins: int) -> Tensor | None:
        """Which of its bins [n, 3] each key gets, no two the same one, uint8 [n]; None if that cannot be."""
        wanted = places.tolist()
        owner, choice = [-1] * bins, [0] * len(wanted)
        for key in range(len(wanted)):
            steps, seen, at = [(key, j, -1) for j in range(CHOICES)], set(wanted[key]), 0
            while at < len(steps) and owner[wanted[steps[at][0]][steps[at][1]]] >= 0:
                there = owner[wanted[steps[at][0]][steps[at][1]]]
                steps += [(there, j, at) for j, b in enumerate(wanted[there]) if b not in seen]
                seen.update(wanted[there])
                at += 1
            if at == len(steps):
                return None
            while at >= 0:  # along the way that led here, each key makes room for the one before
                k, j, at = steps[at]
                owner[wanted[k][j]], choice[k] = k, j
        return torch.tensor(choice, dtype=torch.uint8)

    def routed(self, order: Tensor, switches: int) -> Tensor:
        """The switches of a network by which output i gets input order[i], stage after stage: uint8 [switches].

        A network of n wires is a row of n / 2 switches, a network of n / 2 wires for what leaves them above, one of
        the rest for what leaves them below, and a row of n / 2 switches; the last of an odd number of wires goes past
        them, below. Two wires are one switch. Blocks of one depth stand side by side. [BD02]
        """
        before: list[list[int]] = []
        behind: list[list[int]] = []
        blocks = [order.tolist()]
        while any(len(block) > 1 for block in blocks):
            parts = [_routed(block) for block in blocks]
            before.append([bit for part in parts for bit in part[0]])
            behind.append([bit for part in parts for bit in part[1]])
            blocks = [inner for part in parts for inner in part[2:]]
        return torch.tensor([bit for row in (*before, *reversed(behind)) for bit in row], dtype=torch.uint8)

    def gaps(self, x: Tensor, depth: int, count: int, *, behind: bool) -> Tensor:
        """The first less the second wire of each of `count` switches of a stage: [n, width] -> [count, width]."""
        first, second, _, _ = _switches(len(x), depth, behind=behind)
        return x[first] - x[second]

    def switched(self, x: Tensor, depth: int, swaps: Tensor | None, t: Tensor, *, behind: bool) -> Tensor:
        """A stage: the wires of each switch, exchanged where it says so, less t above, plus t below."""
        first, second, above, below = _switches(len(x), depth, behind=behind)
        out = x.clone()
        swap = torch.zeros(len(first), dtype=torch.bool) if swaps is None else swaps.bool()
        out[above] = torch.where(swap[:, None], x[second], x[first]) - t
        out[below] = torch.where(swap[:, None], x[first], x[second]) + t
        return out


def _routed(order: list[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """The switches of a block before and behind what is inside of it, and the orders of both parts inside."""
    n, half = len(order), len(order) // 2
    if n < 3:
        return order[:half], [], [0] * half, [0] * (n - half)
    inverse, before, behind = {x: i for i, x in enumerate(order)}, [0] * half, [-1] * half
    above, below = [0] * half, [0] * (n - half)

    def follow(output: int) -> None:
        """This output comes from below: so what its input shares a switch with goes above."""
        while True:
            x = order[output]
            below[output // 2] = x // 2
            if n % 2 and x == n - 1:
                return
            before[x // 2] = 1 - x % 2
            other = inverse[x ^ 1]
            above[other // 2] = (x ^ 1) // 2
            if behind[other // 2] >= 0:
                return
            behind[other // 2] = other % 2
            output = other ^ 1

    if n % 2:
        follow(n - 1)
    for i in range(half):
        if behind[i] < 0:
            behind[i] = 0
            follow(2 * i + 1)
    return before, behind, above, below


def _switches(n: int, depth: int, *, behind: bool) -> tuple[list[int], list[int], list[int], list[int]]:
    """The wires of each switch of a stage, and where they go."""
    sizes = [n]
    for _ in range(depth):
        sizes = [part for size in sizes for part in (size // 2, size - size // 2)]
    at = 0
    pairs: tuple[list[int], list[int]] = ([], [])
    halves: tuple[list[int], list[int]] = ([], [])
    for size in sizes:
        half = size // 2 if size > (2 if behind else 1) else 0
        for wires, first, step in ((pairs, 0, 2), (halves, size // 2, 1)):
            wires[0].extend(at + step * i for i in range(half))
            wires[1].extend(at + (first if step == 1 else 1) + step * i for i in range(half))
        at += size
    return (*halves, *pairs) if behind else (*pairs, *halves)


def _records(low: Tensor, high: Tensor) -> npt.NDArray[Any]:
    out = np.empty(len(low), RECORD)
    out["low"], out["high"] = low.numpy(), high.numpy()
    return out


def _checked(cells: int, length: int, starts: int) -> None:
    if cells != (starts + 2) * length + DENSE:
        raise ValueError(f"a table of {cells} cells has not {starts} + 2 segments of {length}")


def _places(keys: Tensor, length: int, starts: int) -> npt.NDArray[np.int64]:
    """The three cells of each key."""
    words = keys.numpy().view(np.uint64)
    segment, offsets = words[:, 2], words[:, 3]
    low, many = segment & np.uint64(0xFFFFFFFF), np.uint64(starts)
    start = ((segment >> np.uint64(32)) * many + (low * many >> np.uint64(32))) >> np.uint64(32)
    columns = [
        (start + np.uint64(k)) * np.uint64(length) + (offsets >> np.uint64(21 * k) & np.uint64(length - 1))
        for k in range(3)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def _peeled(places: npt.NDArray[np.int64], sparse: int) -> list[tuple[int, int]]:
    """Keys, each with a cell that none of those after it has."""
    degree, total = np.zeros(sparse, np.int64), np.zeros(sparse, np.int64)
    for column in places.T:
        np.add.at(degree, column, 1)
        np.bitwise_xor.at(total, column, np.arange(len(places)))
    order, waiting = [], np.flatnonzero(degree == 1).tolist()
    while waiting:
        at = waiting.pop()
        if degree[at] != 1:
            continue
        key = int(total[at])
        order.append((key, at))
        for cell in places[key].tolist():
            total[cell] ^= key
            degree[cell] -= 1
            if degree[cell] == 1:
                waiting.append(cell)
    return order


def _solved(places: npt.NDArray[np.int64], dense: Words, values: Words, table: Words) -> bool:
    """Change cells so that the keys that are left find their values, by elimination. False if they cannot."""
    if not len(places):
        return True
    if len(places) > CORE:
        return False
    columns, at = np.unique(places, return_inverse=True)
    matrix = np.zeros((len(places), len(columns) + DENSE), bool)
    np.put_along_axis(matrix, at.reshape(places.shape), True, axis=1)
    matrix[:, len(columns) :] = _bits(dense)
    cells = np.concatenate([columns, np.arange(len(table) - DENSE, len(table))])
    rest = values ^ _chosen(dense, table[-DENSE:]) ^ np.bitwise_xor.reduce(table[places], axis=1)
    rank, pivots = 0, []
    for column in range(matrix.shape[1]):
        rows = np.flatnonzero(matrix[rank:, column]) + rank
        if not len(rows):
            continue
        for part in (matrix, rest):
            part[[rank, rows[0]]] = part[[rows[0], rank]]
        others = np.flatnonzero(matrix[:, column])
        others = others[others != rank]
        matrix[others] ^= matrix[rank]
        rest[others] ^= rest[rank]
        pivots.append(column)
        rank += 1
        if rank == len(matrix):
            break
    if rest[rank:].any():
        return False
    table[cells[pivots]] ^= rest[:rank]
    return True


def _bits(words: Words) -> npt.NDArray[Any]:
    return (words[:, None] >> np.arange(DENSE, dtype=np.uint64) & np.uint64(1)).astype(bool)


def _chosen(dense: Words, cells: Words) -> Words:
    """The sums of the cells at the end that the bits of words choose: [n], [64, width] -> [n, width]."""
    total = np.zeros((len(dense), cells.shape[1]), np.uint64)
    for bit, cell in enumerate(cells):
        total ^= (dense >> np.uint64(bit) & np.uint64(1))[:, None] * cell
    return total


def _twice(x: Words) -> Words:
    doubled: Words = x << np.uint64(1) ^ (x >> np.uint64(63)) * MODULUS
    return doubled


def _sum(nodes: Words) -> Words:
    total: Words = np.bitwise_xor.reduce(nodes, axis=1)
    return total


def _children(key: bytes, nodes: Words) -> Words:
    """[trees, n, 2] -> [trees, 2 n, 2]."""
    sides = [_encrypted(key[16 * side : 16 * side + 16], nodes) ^ nodes for side in (0, 1)]
    return np.stack(sides, axis=2).reshape(len(nodes), -1, 2)


def _encrypted(key: bytes, blocks: Words) -> Words:
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a permutation, not a mode
    data = aes.update(np.ascontiguousarray(blocks).tobytes())
    return np.frombuffer(data, np.uint64).reshape(blocks.shape)
