// Sines and cosines of multiples of an angle, kθv for k = 1, 2, 3, … or 1, 3, 5, …, with θ = 2π turn / 2^64.
#pragma once
#include <vector>

#include "isa.hpp"

namespace tacit {

struct Wave {
    double sine, cosine;  // p and q of p sin kθx + q cos kθx, times 2^(fractional bits of dealt words)
    double scale;         // 2^(fractional bits of public factors)
    int width;            // bytes of a dealt word
};

struct Waves {
    u64 turn;
    bool odd;
    std::vector<Wave> terms;
};

// For a mask a, words of p cos kθa - q sin kθa and p sin kθa + q cos kθa for each term, one after the other: see words.hpp,
// where neighbouring terms of one width are one run of words.
void wave_table(const Waves& waves, const u64* a, u64 count, u8* words, int threads);

// For a public E and shares of those words, the share of Σ p sin kθ(E + a) + q cos kθ(E + a), with all words at the top
// of the ring.
void wave_sum(const Waves& waves, const u64* e, u64 count, const u8* words, u64* out, int threads);

}  // namespace tacit
