"""Many sparse ciphertexts out of a dense one: what a server does to a query before it multiplies [ACLS18] Fig. 3.

With sigma_l the automorphism X -> X^(n / 2^l + 1), which leaves X^j alone where j is an even multiple of 2^l and turns
its sign where it is an odd one, level l makes of a ciphertext c, with inputs at multiples of 2^l only,

    c + sigma_l(c)                        the even multiples, doubled,
    (c - sigma_l(c)) X^(-2^l)             the odd ones, doubled and moved to even places.

After L levels piece r has the inputs that were at r + i 2^L, times 2^L, at X^(i 2^L). That factor is taken out of the
weights. sigma switches keys: a client sends one key for each level, once. Nothing here depends on the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.fhe.layout import Int
from tacit.fhe.seal import Scheme


def spread(scheme: Scheme, ciphertext: Any, keys: Any, pieces: int) -> list[Any]:
    """Return the first `pieces` pieces of a ciphertext. Input and output are in coefficient form."""
    n, evaluator, current = scheme.parameters.degree, scheme.evaluator, [ciphertext]
    for level, element in enumerate(scheme.parameters.elements):
        back = np.zeros(n, dtype=np.int64)
        back[n - (1 << level)] = 1  # X^(-k) = -X^(n - k); SEAL lets the noise of a product with -1 grow by t
        move, following = scheme.plaintext(back), [None] * min(2 * len(current), pieces)
        for r, c in enumerate(current):
            turned = scheme.empty()
            evaluator.apply_galois(c, element, keys, turned)
            if r + (1 << level) < pieces:
                odd = scheme.empty()
                evaluator.sub(turned, c, odd)
                evaluator.multiply_plain_inplace(odd, move)
                following[r + (1 << level)] = odd
            evaluator.add_inplace(turned, c)
            following[r] = turned
        current = following
    return current


def undone(values: Int, pieces: int, t: int) -> Int:
    """Return weights modulo the odd t, centred, for inputs that spreading has multiplied by `pieces`."""
    product = np.mod(values, t).astype(np.uint64) * np.uint64(pow(pieces, -1, t))  # t <= 2^32: no sign bit to spare
    scaled: Int = (product % np.uint64(t)).astype(np.int64)
    return np.where(scaled > t // 2, scaled - t, scaled)
