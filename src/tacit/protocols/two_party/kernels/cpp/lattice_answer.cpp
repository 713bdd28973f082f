// Answers: sums of products under a fresh encryption of zero, switched to a short power of two, and what each side makes
// of its half.
//
//     c0 + c1 s = Δ m + noise mod q          V_i = round(c_i 2^k / q) mod 2^k          V0 + V1 s = m 2^k / t + noise mod 2^k
//
// The evaluator sends V1 and keeps V0 - u, the owner has u + V1 s, where u is uniform and both draw it: each is uniform
// whatever the noise is. Numbers modulo 2^k stand at the top of 128 bits, where they are fractions of one.
#include <cstring>

#include "lattice.hpp"
#include "threads.hpp"

namespace tacit::lattice {
namespace {

void all_polynomials(u64 count, int threads, const auto& body) {
    parallel(i64(count), 1, worth(double(count), 2, threads), [&](i64 begin, i64 end) {
        for (i64 k = begin; k < end; ++k) body(u64(k));
    });
}

// The low 64 bits of each number, and after all of them the bits above: 4 a number, or whole bytes.
void store_answer(u8* out, u64 i, u128 v, int bits) {
    const u64 low = static_cast<u64>(v), high = static_cast<u64>(v >> 64);
    std::memcpy(out + 8 * i, &low, 8);
    u8* above = out + 8 * N;
    if (bits == 68) above[i / 2] = static_cast<u8>(i % 2 ? above[i / 2] | high << 4 : high & 15);
    else std::memcpy(above + i * u64(bits - 64) / 8, &high, std::size_t(bits - 64) / 8);
}

u128 load_answer(const u8* in, u64 i, int bits) {
    u64 low, high = 0;
    std::memcpy(&low, in + 8 * i, 8);
    const u8* above = in + 8 * N;
    if (bits == 68) high = above[i / 2] >> (i % 2 ? 4 : 0) & 15;
    else std::memcpy(&high, above + i * u64(bits - 64) / 8, std::size_t(bits - 64) / 8);
    return u128(high) << 64 | low;
}

// round(v t / 2^128), modulo t, and whether what it was rounded by is within `margin` / 2^64 of a half.
struct Rounded {
    u64 value;
    bool doubtful;
};
inline Rounded rounded(u128 v, u64 t, u64 margin) {
    const u64 high = static_cast<u64>(v >> 64), low = static_cast<u64>(v);
    u128 scaled = (t ? u128(high) * t + static_cast<u64>(u128(low) * t >> 64) : v) + (u64(1) << 63);
    const u64 whole = static_cast<u64>(scaled >> 64), rest = static_cast<u64>(scaled);
    return {t && whole == t ? 0 : whole, rest < margin || -rest < margin};
}

void check_bits(int bits) {
    if (bits != 68 && bits != 96 && bits != 112) refuse("answers of another width");
}

const i64* positions_of(const Memory& at) {
    const i64* positions = elements<i64>(at, size(at));
    for (u64 k = 0; k < size(at); ++k)
        if (positions[k] < 0 || positions[k] >= i64(N)) refuse("a coefficient that is not there");
    return positions;
}

// y_l = c_l / (Π / p_l) mod p_l, the digits that a fraction is summed from.
std::vector<Factor> digits(const Basis& basis) {
    std::vector<Factor> scale;
    for (std::size_t l = 0; l < basis.size(); ++l) {
        const u64 p = basis.primes[l].p;
        scale.push_back(factor(inverse_mod(basis.but(l, p), p), p));
    }
    return scale;
}

// c / q as a fraction of 2^128, off by less than 2^-124.
inline u128 fraction_of(const Fraction& f, const u64* y, u64 L, u64 i) {
    u128 sum = 0;
    for (u64 l = 0; l < L; ++l) {
        const u64 v = y[l * N + i];
        sum += f.whole[l] * v + static_cast<u64>(u128(v) * f.rest[l] >> 64);
    }
    return sum;
}

// From sums [count, 2, primes, N]: V1 of each, [count, bytes], and shares [count, positions]. `zero` is the public key,
// [2, primes, N], `words` the randomness of an encryption of zero, `mask` the numbers u. A result that might be rounded
// another way at the two sides is marked, and the caller answers again.
void answer(const Basis& basis, Memory zero_at, Memory sums_at, Memory words_at, Memory mask_at, Memory positions_at, u64 t,
            int bits, u64 margin, Memory out_at, Memory share_at, Memory doubtful_at, int threads) {
    check_bits(bits);
    const u64 L = basis.size(), each = 2 * L * N, count = size(doubtful_at), places = size(positions_at);
    const u64* zero = elements<u64>(zero_at, each);
    const u64* sums = elements<u64>(sums_at, count * each);
    const u64* words = elements<u64>(words_at, count * N);
    const u64* mask = elements<u64>(mask_at, count * places * 2);
    const i64* positions = positions_of(positions_at);
    u8* out = elements<u8>(out_at, count * answer_bytes(bits));
    u64* share = elements<u64>(share_at, count * places);
    u8* doubtful = elements<u8>(doubtful_at, count);
    const Loops& f = loops();
    const Fraction fraction(basis);
    const auto scale = digits(basis);
    const int below = 128 - bits;
    const u128 half = u128(1) << (below - 1);
    all_polynomials(count, threads, [&](u64 k) {
        std::vector<u64> y(each), u(N);
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            f.ternary(words + k * N, u.data(), prime);
            f.forward(u.data(), prime);
            for (u64 c = 0; c < 2; ++c) {
                u64* to = y.data() + (c * L + l) * N;
                f.product(zero + (c * L + l) * N, u.data(), sums + k * each + (c * L + l) * N, to, prime, false);
                f.inverse(to, prime, scale[l]);
            }
            u64 noise[2 * CENTRE + 1];
            for (int e = 0; e <= 2 * CENTRE; ++e) noise[e] = times_mod((prime.p + u64(e) - CENTRE) % prime.p, scale[l].w, prime.p);
            u64* to = y.data() + (L + l) * N;
            constexpr u64 MASK = (u64(1) << CENTRE) - 1;
            for (u64 i = 0; i < N; ++i) {
                const u64 word = words[k * N + i];
                to[i] += noise[CENTRE + __builtin_popcountll(word & MASK) - __builtin_popcountll(word >> CENTRE & MASK)];
            }
        }
        u8* bytes = out + k * answer_bytes(bits);
        for (u64 i = 0; i < N; ++i)
            store_answer(bytes, i, (fraction_of(fraction, y.data() + L * N, L, i) + half) >> below, bits);
        u8 doubts = 0;
        for (u64 at = 0; at < places; ++at) {
            const u64* m = mask + 2 * (k * places + at);
            const u128 v = fraction_of(fraction, y.data(), L, u64(positions[at])) - (u128(m[1]) << 64 | m[0]);
            const Rounded r = rounded(v, t, margin);
            share[k * places + at] = r.value;
            doubts |= u8(r.doubtful);
        }
        doubtful[k] = doubts;
    });
}

// The owner's shares, from V1 and u. `basis` has as many primes as V1 s needs.
void finish(const Basis& basis, Memory secret_at, Memory answers_at, Memory mask_at, Memory positions_at, u64 t, int bits,
            Memory share_at, int threads) {
    check_bits(bits);
    const u64 L = basis.size(), places = size(positions_at), bytes = answer_bytes(bits), count = size(answers_at) / bytes;
    if (i64(L) * (PRIME_BITS - 1) < bits + LOG_N) refuse("too few primes for an answer");
    const u64* s = elements<u64>(secret_at, L * N);
    const u8* answers = elements<u8>(answers_at, count * bytes);
    const u64* mask = elements<u64>(mask_at, count * places * 2);
    const i64* positions = positions_of(positions_at);
    u64* share = elements<u64>(share_at, count * places);
    const Loops& f = loops();
    const Fraction fraction(basis);
    const auto scale = digits(basis);
    all_polynomials(count, threads, [&](u64 k) {
        std::vector<u64> y(L * N);
        std::vector<i64> low(N), high(N);
        for (u64 i = 0; i < N; ++i) {  // V1 = low + 2^63 + 2^64 high, both signed
            const i128 v = static_cast<i128>(load_answer(answers + k * bytes, i, bits) << (128 - bits)) >> (128 - bits);
            low[i] = static_cast<i64>(static_cast<u64>(v) ^ u64(1) << 63);
            high[i] = static_cast<i64>(v >> 64);
        }
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            const u64 p = prime.p, square = times_mod(prime.half.w, prime.half.w, p);  // 2^64
            std::vector<u64> upper(N);
            f.residues(low.data(), y.data() + l * N, prime, prime.one, prime.half, 0);
            const Factor by = factor(square, p), above = factor(times_mod(square, prime.half.w, p), p);
            f.residues(high.data(), upper.data(), prime, by, above, times_mod(prime.offset, square, p));
            f.sum(upper.data(), y.data() + l * N, prime);
            f.forward(y.data() + l * N, prime);
            f.product(y.data() + l * N, s + l * N, nullptr, y.data() + l * N, prime, false);
            f.inverse(y.data() + l * N, prime, scale[l]);
        }
        for (u64 at = 0; at < places; ++at) {  // c = Σ y_l Π / p_l - round(Σ y_l / p_l) Π, far below Π / 2
            const u64 i = u64(positions[at]);
            u128 c = 0;
            double turns = 0.5;
            for (u64 l = 0; l < L; ++l) {
                c += fraction.others[l] * y[l * N + i];
                turns += static_cast<double>(y[l * N + i]) * fraction.reciprocal[l];
            }
            c -= fraction.product * static_cast<u64>(turns);
            const u64* m = mask + 2 * (k * places + at);
            share[k * places + at] = rounded((c << (128 - bits)) + (u128(m[1]) << 64 | m[0]), t, 0).value;
        }
    });
}

// Signed integers in slots: what has them as values, its coefficients between -t / 2 and t / 2.
void into_slots(const Basis& basis, Memory values_at, Memory out_at, int threads) {
    if (basis.size() != 1) refuse("another number of primes");
    const u64 count = size(values_at) / N;
    const i64* values = elements<i64>(values_at, count * N);
    i64* out = elements<i64>(out_at, count * N);
    const Prime& prime = basis.primes[0];
    const Loops& f = loops();
    all_polynomials(count, threads, [&](u64 k) {
        u64* to = reinterpret_cast<u64*>(out + k * N);
        f.residues(values + k * N, to, prime, prime.one, prime.half, prime.offset);
        f.sum(nullptr, to, prime);
        f.inverse(to, prime, prime.one);
        for (u64 i = 0; i < N; ++i) out[k * N + i] -= to[i] > prime.p / 2 ? i64(prime.p) : 0;
    });
}

// Numbers s below T = Π t_l from their residues [primes, count]: (s + shift T / 4 mod T) mod 2^64, and whether that is T / 2
// or more. T is below 2^141.
void combine(const Basis& basis, Memory residues_at, bool shift, Memory out_at, Memory upper_at) {
    const u64 L = basis.size(), count = size(out_at);
    const u64* residues = elements<u64>(residues_at, L * count);
    u64* out = elements<u64>(out_at, count);
    u8* upper = elements<u8>(upper_at, count);
    if (L > 3) refuse("another number of primes");
    // mixed radix: s = d0 + t0 (d1 + t1 d2); T / 4 and T / 2 in the same digits, from the top
    u64 t[3] = {1, 1, 1};
    for (u64 l = 0; l < L; ++l) t[l] = basis.primes[l].p;
    const u64 i01 = L > 1 ? inverse_mod(t[0], t[1]) : 0, i02 = L > 2 ? inverse_mod(t[0], t[2]) : 0;
    const u64 i12 = L > 2 ? inverse_mod(t[1], t[2]) : 0;
    const auto share_of = [&](u64 divisor, u64 (&digit)[3]) {  // floor(T / divisor)
        u64 carry = 1;                                          // of T = 1 · t0 t1 t2
        for (i64 l = i64(L) - 1; l >= 0; --l) {
            const u128 v = u128(carry) * t[l];
            digit[l] = static_cast<u64>(v / divisor), carry = static_cast<u64>(v % divisor);
        }
    };
    u64 quarter[3] = {}, half[3] = {};
    share_of(4, quarter), share_of(2, half);
    for (u64 i = 0; i < count; ++i) {
        u64 d[3] = {0, 0, 0};
        for (u64 l = 0; l < L; ++l)
            if (residues[l * count + i] >= t[l]) refuse("residues that are not below their prime");
        d[0] = residues[i];
        if (L > 1) d[1] = times_mod(residues[count + i] + t[1] - d[0] % t[1], i01, t[1]);
        if (L > 2) {
            const u64 first = times_mod(residues[2 * count + i] + t[2] - d[0] % t[2], i02, t[2]);
            d[2] = times_mod(first + t[2] - d[1] % t[2], i12, t[2]);
        }
        if (shift) {
            u64 carry = 0;
            for (u64 l = 0; l < L; ++l) {
                d[l] += quarter[l] + carry;
                carry = d[l] >= t[l];
                d[l] -= carry ? t[l] : 0;
            }
        }
        bool above = true;  // s >= floor(T / 2) + 1, for T is odd
        for (u64 l = 0; l < L; ++l) above = d[l] != half[l] ? d[l] > half[l] : l ? above : false;
        upper[i] = above;
        out[i] = d[0] + t[0] * (d[1] + t[1] * d[2]);
    }
}

const Adds names([](nb::module_& m) {
    m.def("lattice_answer", &answer, Unlocked());
    m.def("lattice_finish", &finish, Unlocked());
    m.def("lattice_into_slots", &into_slots, Unlocked());
    m.def("lattice_combine", &combine, Unlocked());
});

}  // namespace
}  // namespace tacit::lattice
