// Polynomials modulo X^8192 + 1 and primes below 2^47: tables, and what the files of ring-LWE kernels share.
#pragma once
#include <memory>
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

// Memory for a while, with anything in it.
inline std::unique_ptr<u64[]> scratch(u64 count) { return std::make_unique_for_overwrite<u64[]>(count); }

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

// Constants of a modulus Π in limbs of 52 bits. From residues y_l of v Π / p_l: a number c = Σ y_l Π / p_l mod Π, and c / Π.
struct Fraction {
    explicit Fraction(const std::vector<Prime>& primes);
    u64 size;
    u64 inverse[MOST][4];            // 1 / p_l, from the place of 2^-52 down
    u64 others[MOST][3], minus[3];   // Π / p_l and -Π modulo 2^156, from the lowest up
    double reciprocal[MOST];
    Factor digit[MOST];              // 1 / (Π / p_l) mod p_l: the y_l of a residue c_l is this times it
};

// A modulus: the product of several primes.
struct Basis {
    explicit Basis(const std::vector<u64>& primes);
    std::vector<Prime> primes;
    u64 size() const { return primes.size(); }
    Fraction fraction;
};

// Numbers below T = Π t_l in mixed radix, d0 + t0 (d1 + t1 d2), from their residues: constants, those of floor(T / 4) and of
// floor(T / 2) with them.
struct Radix {
    explicit Radix(const Basis& slots);
    u64 size;
    u64 t[3] = {1, 1, 1}, quarter[3] = {}, half[3] = {};
    Factor first[3] = {}, second = {};  // 1 / t0 modulo each, 1 / t1 modulo the last
};

// What the inner loops of an instruction set are: one object for each.
struct Loops {
    void (*forward)(u64* a, const Prime& prime);
    void (*inverse)(u64* a, const Prime& prime, const Factor& scale);  // canonical residues times `scale` / N
    void (*residues)(const i64* values, u64* out, const Prime& prime, const Factor& low, const Factor& high, u64 add);
    void (*sum)(const u64* x, u64* out, const Prime& prime);           // out + x, canonical; nothing is zeros
    void (*scaled)(const i64* m, i64* out, u64 t, u64 scale, u64 half);  // half - (scale m + half mod t)
    void (*centre)(u64* a, u64 p);                                     // [0, p) to signed numbers between -p / 2 and p / 2
    void (*add_noise)(const u64* words, u64* y, const Prime& prime, const Factor& scale);  // y + scale noise
    void (*fraction)(const Fraction& f, const u64* y, u64* high, u64* low);                // c / Π as 128 bits
    void (*whole)(const Fraction& f, const u64* y, int bits, u64* high, u64* low);         // c mod 2^bits at their top
    void (*split)(u64* high, u64* low, int bits, u8* out);             // 128 bits rounded to the first ones, as sent
    void (*joined)(const u8* in, int bits, i64* high, u64* low);
    void (*masked)(u64* high, u64* low, const u64* mask, u64 count, bool minus);  // numbers of 128 bits ± those of a mask
    bool (*combined)(const Radix& r, const u64* residues, u64 step, u64 count, bool shift, u64* out, u8* upper);
    bool (*rounded)(const u64* high, const u64* low, u64 count, u64 t, u64 margin, u64* out);  // see `answer`
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

constexpr u64 answer_bytes(int bits) { return N * static_cast<u64>(bits) / 8; }

}  // namespace tacit::lattice
