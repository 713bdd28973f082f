// Polynomials modulo X^8192 + 1 and primes below 2^47: tables, and what the files of ring-LWE kernels share.
#pragma once
#include <vector>

#include "module.hpp"

namespace tacit::lattice {

using u128 = unsigned __int128;
using i128 = __int128;

constexpr int LOG_N = 13;
constexpr u64 N = u64(1) << LOG_N;
constexpr int MOST = 4;             // primes of a modulus
constexpr int PRIME_BITS = 47;      // five bits below the 52 that IFMA multiplies: no reduction within a transform
constexpr u64 PACKED = 6;           // bytes of a residue on its way
constexpr u64 LOW52 = (u64(1) << 52) - 1;
constexpr int CENTRE = 21;          // noise: the difference of two sums of so many bits, σ = sqrt(21 / 2) = 3.24

inline u64 times_mod(u64 a, u64 b, u64 p) { return static_cast<u64>(u128(a) * b % p); }
u64 power_mod(u64 base, u64 exponent, u64 p);
inline u64 inverse_mod(u64 a, u64 p) { return power_mod(a % p, p - 2, p); }

// A factor w with floor(w 2^52 / p) and floor(w 2^64 / p), by which x w mod p takes no division [Har14] Alg. 2.
struct Factor {
    u64 w, q52, q64;
};
Factor factor(u64 w, u64 p);

// Factors side by side.
struct Factors {
    std::vector<u64> w, q52, q64;
    void resize(u64 count);
    void set(u64 at, const Factor& f);
};

// A prime p = 1 mod 2N and the tables of its transforms.
struct Prime {
    explicit Prime(u64 p);
    u64 p;
    Factor one, carry, half;         // 1, 2^52 and 2^32
    u64 offset;                      // -2^63 mod p
    u64 shrink;                      // 1 / N
    Factors forward, inverse;        // powers of the root ψ and of 1/ψ, exponents in bit-reversed order
    Factors forward_last, inverse_last;  // those of the last three levels by lanes: [block of 64][7][8]
};

// A modulus: the product of several primes.
struct Basis {
    explicit Basis(const std::vector<u64>& primes);
    std::vector<Prime> primes;
    u64 size() const { return primes.size(); }
    u64 but(std::size_t l, u64 modulo) const;  // the product of the other primes, modulo a number below 2^47
};

// Fixed-point constants of a basis: residues y_l of v Π / p_l, a number c = Σ y_l Π / p_l mod Π, and c / Π as a fraction.
struct Fraction {
    explicit Fraction(const Basis& basis);
    u128 whole[MOST];                // floor(2^128 / p_l)
    u64 rest[MOST];                  // floor(2^192 / p_l) mod 2^64
    u128 others[MOST], product;      // Π / p_l and Π, mod 2^128
    double reciprocal[MOST];
};

// What the inner loops of an instruction set are: one object for each.
struct Loops {
    void (*forward)(u64* a, const Prime& prime);
    void (*inverse)(u64* a, const Prime& prime, const Factor& scale);  // canonical residues times `scale` / N
    void (*residues)(const i64* values, u64* out, const Prime& prime, const Factor& low, const Factor& high, u64 add);
    void (*sum)(const u64* x, u64* out, const Prime& prime);           // out + x, canonical; nothing is zeros
    void (*noise)(const u64* words, u64* out, const Prime& prime);     // out += centred noise, < 6p before a transform
    void (*ternary)(const u64* words, u64* out, const Prime& prime);
    void (*product)(const u64* x, const u64* y, const u64* add, u64* out, const Prime& prime, bool minus);  // add ± x y
    void (*pack)(const u64* values, u8* out);
    bool (*unpack)(const u8* bytes, u64* out, u64 p);                  // whether all are below p
    u64 (*uniform)(const u8* bytes, u64* out, u64 p);                  // how many are not, of 47 bits
    void (*dot)(const u64* ct, u64 ct_step, const u64* w, u64 w_step, u64 terms, u64* acc, u64 acc_step, const Prime& prime);
    void (*panel)(const u64* panel, const u64* w, u64 terms, u64 outputs, u64* acc, u64 acc_step, const Prime& prime);
    void (*shifted)(const u64* x, const u64* power, u64* out, u64 out_step, u64 count, const Prime& prime);
};
constexpr u64 POINTS = 16;           // of a panel
constexpr u64 BLOCK = 64;            // places that a transform leaves in an order of its own
constexpr u64 TOGETHER = 4;          // outputs of a panel at a time
constexpr u64 LONGEST = 512;         // terms summed before they are reduced: sums of high halves stay below 2^52

const Loops& loops();                // of the instruction set in use
std::string loops_name();

// Fractions and answers, in 128-bit integers.
constexpr u64 answer_bytes(int bits) { return N * static_cast<u64>(bits) / 8; }

}  // namespace tacit::lattice
