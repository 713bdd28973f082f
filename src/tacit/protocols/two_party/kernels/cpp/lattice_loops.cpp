// The inner loops of ring-LWE with IFMA, eight residues at a time, and without: the same results.
#include <cstring>

#include <nanobind/stl/string.h>

#include "lattice.hpp"

namespace tacit::lattice {
namespace {

namespace portable {
using Vec = u64;
constexpr u64 WIDTH = 1;
struct Mod;
inline Vec load(const u64* at) { return *at; }
inline void store(u64* at, Vec v) { *at = v; }
inline Vec all(u64 v) { return v; }
inline Vec add(Vec x, Vec y) { return x + y; }
inline Vec sub(Vec x, Vec y) { return x - y; }
inline Vec lesser(Vec x, Vec y) { return x < y ? x : y; }
inline Vec less(Vec x, Vec y) { return x < y; }
inline u64 any(Vec x) { return x; }
inline Vec both(Vec x, Vec y) { return x & y; }
inline Vec exclusive(Vec x, Vec y) { return x ^ y; }
template <int BITS> inline Vec right(Vec x) { return x >> BITS; }
template <int BITS> inline Vec left(Vec x) { return x << BITS; }
inline Vec right_by(Vec x, u64 bits) { return x >> bits; }
inline Vec left_by(Vec x, u64 bits) { return x << bits; }
inline Vec add_low(Vec sum, Vec x, Vec y) { return sum + (static_cast<u64>(u128(x & LOW52) * (y & LOW52)) & LOW52); }
inline Vec add_high(Vec sum, Vec x, Vec y) { return sum + static_cast<u64>(u128(x & LOW52) * (y & LOW52) >> 52); }
using Real = double;
inline Real all_real(double v) { return v; }
inline Real real(Vec v) { return static_cast<double>(v); }
inline Vec truncated(Real v) { return static_cast<u64>(v); }
inline Vec ones(Vec x) { return static_cast<u64>(__builtin_popcountll(x)); }
inline u64 not_below(Vec x, Vec bound) { return x >= bound; }
inline u64 quotient(const Factor& f) { return f.q64; }
inline const u64* quotients(const Factors& f) { return f.q64.data(); }
inline Vec low_product(Vec x, Vec y) { return x * y; }
inline void load_pairs(const u64* at, Vec& first, Vec& second) { first = at[0], second = at[1]; }
inline void store_bits(u8* at, Vec v) { *at = static_cast<u8>(v); }
inline Vec load_packed(const u8* at) {
    u64 v = 0;
    std::memcpy(&v, at, PACKED);
    return v;
}
inline void store_packed(u8* at, Vec v) { std::memcpy(at, &v, PACKED); }
inline Vec times(Vec x, Vec w, Vec q, const Mod& m);
struct Wide {
    u128 sum;
    void clear() { sum = 0; }
    void add_product(Vec x, Vec y) { sum += u128(x) * y; }
    Vec value(const Mod& m) const;
};
#include "lattice_impl.hpp"

inline Vec times(Vec x, Vec w, Vec q, const Mod& m) { return x * w - static_cast<u64>(u128(x) * q >> 64) * m.p; }

Vec Wide::value(const Mod& m) const {  // below 2^104, in two parts
    const u64 upper = static_cast<u64>(sum >> 52), lower = static_cast<u64>(sum) & LOW52;
    return add(times(upper, m.carry, m.carry_quotient, m), halved(lower, m));
}

inline void turn(u64* a) {  // each block of 64 as a matrix of 8 x 8, transposed
    for (u64 block = 0; block < N; block += 64)
        for (u64 i = 0; i < 8; ++i)
            for (u64 j = 0; j < i; ++j) std::swap(a[block + 8 * i + j], a[block + 8 * j + i]);
}

inline void forward_block(u64* a, const Prime& prime, const Mod& m) {
    forward_levels<3>(a, prime, 128, m);
    forward_levels<3>(a, prime, 1024, m);
    for (u64 i = 0; i < N; ++i) a[i] = reduced(a[i], m);
    turn(a);
}

inline void inverse_block(u64* a, const Prime& prime, const Mod& m) {
    turn(a);
    inverse_levels<3>(a, prime, 1024, m, nullptr);
    inverse_levels<3>(a, prime, 128, m, nullptr);
}
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET("avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,avx512vpopcntdq,prefer-vector-width=512")
namespace ifma {
using Vec = __m512i;
constexpr u64 WIDTH = 8;
struct Mod;
inline Vec load(const u64* at) { return _mm512_loadu_si512(at); }
inline void store(u64* at, Vec v) { _mm512_storeu_si512(at, v); }
inline Vec all(u64 v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
inline Vec add(Vec x, Vec y) { return _mm512_add_epi64(x, y); }
inline Vec sub(Vec x, Vec y) { return _mm512_sub_epi64(x, y); }
inline Vec lesser(Vec x, Vec y) { return _mm512_min_epu64(x, y); }
inline Vec less(Vec x, Vec y) { return _mm512_maskz_set1_epi64(_mm512_cmplt_epu64_mask(x, y), 1); }
inline u64 any(Vec x) { return _mm512_test_epi64_mask(x, x); }
inline Vec both(Vec x, Vec y) { return _mm512_and_si512(x, y); }
inline Vec exclusive(Vec x, Vec y) { return _mm512_xor_si512(x, y); }
template <int BITS> inline Vec right(Vec x) { return _mm512_srli_epi64(x, BITS); }
template <int BITS> inline Vec left(Vec x) { return _mm512_slli_epi64(x, BITS); }
inline Vec right_by(Vec x, u64 bits) { return _mm512_srl_epi64(x, _mm_cvtsi64_si128(static_cast<long long>(bits))); }
inline Vec left_by(Vec x, u64 bits) { return _mm512_sll_epi64(x, _mm_cvtsi64_si128(static_cast<long long>(bits))); }
inline Vec add_low(Vec sum, Vec x, Vec y) { return _mm512_madd52lo_epu64(sum, x, y); }
inline Vec add_high(Vec sum, Vec x, Vec y) { return _mm512_madd52hi_epu64(sum, x, y); }
using Real = __m512d;
inline Real all_real(double v) { return _mm512_set1_pd(v); }
inline Real real(Vec v) { return _mm512_cvtepu64_pd(v); }
inline Vec truncated(Real v) { return _mm512_cvttpd_epu64(v); }
inline Vec ones(Vec x) { return _mm512_popcnt_epi64(x); }
inline u64 not_below(Vec x, Vec bound) { return _mm512_cmpge_epu64_mask(x, bound) != 0; }
inline u64 quotient(const Factor& f) { return f.q52; }
inline const u64* quotients(const Factors& f) { return f.q52.data(); }
inline Vec low_product(Vec x, Vec y) { return _mm512_mullo_epi64(x, y); }
inline void load_pairs(const u64* at, Vec& first, Vec& second) {
    const Vec one = load(at), two = load(at + 8), even = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    first = _mm512_permutex2var_epi64(one, even, two);
    second = _mm512_permutex2var_epi64(one, _mm512_add_epi64(even, all(1)), two);
}
inline void store_bits(u8* at, Vec v) { _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm512_cvtepi64_epi8(v)); }
constexpr __mmask32 THREE_QUARTERS = 0xFFFFFF;  // 24 words of 16 bits: eight residues of 48
inline Vec load_packed(const u8* at) {
    const __m512i from = _mm512_set_epi16(0, 23, 22, 21, 0, 20, 19, 18, 0, 17, 16, 15, 0, 14, 13, 12, 0, 11, 10, 9, 0, 8, 7, 6,
                                          0, 5, 4, 3, 0, 2, 1, 0);
    return _mm512_maskz_permutexvar_epi16(0x77777777, from, _mm512_maskz_loadu_epi16(THREE_QUARTERS, at));
}
inline void store_packed(u8* at, Vec v) {
    const __m512i from = _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 30, 29, 28, 26, 25, 24, 22, 21, 20, 18, 17, 16, 14, 13, 12,
                                          10, 9, 8, 6, 5, 4, 2, 1, 0);
    _mm512_mask_storeu_epi16(at, THREE_QUARTERS, _mm512_permutexvar_epi16(from, v));
}
inline Vec times(Vec x, Vec w, Vec q, const Mod& m);
struct Wide {
    Vec lower, upper;
    void clear() { lower = upper = _mm512_setzero_si512(); }
    void add_product(Vec x, Vec y) {
        lower = _mm512_madd52lo_epu64(lower, x, y);
        upper = _mm512_madd52hi_epu64(upper, x, y);
    }
    Vec value(const Mod& m) const;
};
#include "lattice_impl.hpp"

inline Vec times(Vec x, Vec w, Vec q, const Mod& m) {
    const Vec zero = _mm512_setzero_si512();
    const Vec k = _mm512_madd52hi_epu64(zero, x, q);
    const Vec r = _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(zero, x, w), k, m.minus);
    return _mm512_and_si512(r, all(LOW52));
}

inline Vec Wide::value(const Mod& m) const {
    const Vec high = add(upper, right<52>(lower));
    return add(times(high, m.carry, m.carry_quotient, m), halved(both(lower, all(LOW52)), m));
}

inline void transpose(Vec (&r)[8]) {
    Vec t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        const Vec a = _mm512_shuffle_i64x2(t[i], t[i + 2], 0x88), b = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0x88);
        const Vec c = _mm512_shuffle_i64x2(t[i], t[i + 2], 0xDD), d = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0xDD);
        r[i] = _mm512_shuffle_i64x2(a, b, 0x88);
        r[i + 4] = _mm512_shuffle_i64x2(a, b, 0xDD);
        r[i + 2] = _mm512_shuffle_i64x2(c, d, 0x88);
        r[i + 6] = _mm512_shuffle_i64x2(c, d, 0xDD);
    }
}

inline void forward_block(u64* a, const Prime& prime, const Mod& m) {
    const u64 *ws = prime.forward.w.data(), *qs = quotients(prime.forward);
    const u64 *lw = prime.forward_last.w.data(), *lq = quotients(prime.forward_last);
    for (u64 block = 0; block < N / 64; ++block, a += 64, lw += 56, lq += 56) {
        Vec x[8];
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) x[k] = load(a + 8 * k);
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s)
#pragma GCC unroll 4
            for (int b = 0; b < (1 << s); ++b) {
                const u64 at = ((128 + block) << s) + b;
                const Vec w = all(ws[at]), q = all(qs[at]);
#pragma GCC unroll 4
                for (int k = 0; k < (4 >> s); ++k) forward_pair(x[b * (8 >> s) + k], x[b * (8 >> s) + k + (4 >> s)], w, q, m);
            }
        transpose(x);
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s)
#pragma GCC unroll 4
            for (int b = 0; b < (1 << s); ++b) {
                const int at = 8 * ((1 << s) - 1 + b);
                const Vec w = load(lw + at), q = load(lq + at);
#pragma GCC unroll 4
                for (int k = 0; k < (4 >> s); ++k) forward_pair(x[b * (8 >> s) + k], x[b * (8 >> s) + k + (4 >> s)], w, q, m);
            }
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) store(a + 8 * k, reduced(x[k], m));
    }
}

inline void inverse_block(u64* a, const Prime& prime, const Mod& m) {
    const u64 *ws = prime.inverse.w.data(), *qs = quotients(prime.inverse);
    const u64 *lw = prime.inverse_last.w.data(), *lq = quotients(prime.inverse_last);
    for (u64 block = 0; block < N / 64; ++block, a += 64, lw += 56, lq += 56) {
        Vec x[8];
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) x[k] = load(a + 8 * k);
#pragma GCC unroll 3
        for (int s = 2; s >= 0; --s)
#pragma GCC unroll 4
            for (int b = 0; b < (1 << s); ++b) {
                const int at = 8 * ((1 << s) - 1 + b);
                const Vec w = load(lw + at), q = load(lq + at);
#pragma GCC unroll 4
                for (int k = 0; k < (4 >> s); ++k) inverse_pair(x[b * (8 >> s) + k], x[b * (8 >> s) + k + (4 >> s)], w, q, m);
            }
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) x[k] = halved(x[k], m);
        transpose(x);
#pragma GCC unroll 3
        for (int s = 2; s >= 0; --s)
#pragma GCC unroll 4
            for (int b = 0; b < (1 << s); ++b) {
                const u64 at = ((128 + block) << s) + b;
                const Vec w = all(ws[at]), q = all(qs[at]);
#pragma GCC unroll 4
                for (int k = 0; k < (4 >> s); ++k) inverse_pair(x[b * (8 >> s) + k], x[b * (8 >> s) + k + (4 >> s)], w, q, m);
            }
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) store(a + 8 * k, k < 4 ? halved(x[k], m) : x[k]);
    }
}
}  // namespace ifma
TACIT_END_TARGET

bool has_ifma() {
    return isa() >= Isa::avx512 && __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

const Adds names([](nb::module_& m) { m.def("lattice_loops", &loops_name); });

}  // namespace

const Loops& loops() {
#if TACIT_X86
    if (has_ifma()) return ifma::LOOPS;
#endif
    return portable::LOOPS;
}

std::string loops_name() {
#if TACIT_X86
    if (has_ifma()) return "ifma";
#endif
    return "portable";
}

}  // namespace tacit::lattice
