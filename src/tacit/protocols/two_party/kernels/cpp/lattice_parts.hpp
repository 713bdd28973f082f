// What is made of one ciphertext at a time, in memory that fits into a core's second-level cache: a polynomial is 64 kB.
#pragma once
#include <cstring>
#include <optional>

#include "keystream.hpp"
#include "lattice.hpp"
#include "threads.hpp"

namespace tacit::lattice {

constexpr u64 RESERVE = 512;    // bytes for each polynomial, in the place of draws that are not below their prime
constexpr u64 SEED_BYTES = 16;  // of a key stream

inline void all_polynomials(u64 count, double grain, int threads, const auto& body) {
    parallel(i64(count), 1, worth(double(count), grain, threads), [&](i64 begin, i64 end) {
        for (i64 k = begin; k < end; ++k) body(u64(k));
    });
}

inline u64 count_of(const Memory& memory, u64 each) {
    if (size(memory) % each) refuse("part of a polynomial");
    return size(memory) / each;
}

// The bytes that uniform polynomials are drawn from: as they lie there, or of a seed's key stream, made when they are read.
class Uniform {
public:
    Uniform(const Basis& basis, const Memory& at, u64 count) : each_(PACKED * basis.size() * N + RESERVE) {
        if (size(at) == SEED_BYTES) stream_.emplace(elements<u8>(at, SEED_BYTES));
        else bytes_ = elements<u8>(at, count * each_);
    }
    // Some bytes of polynomial k: in `space` unless they are there.
    const u8* read(u64 k, u64 from, u64 count, u8* space) const {
        if (!stream_) return bytes_ + k * each_ + from;
        stream_->write(k * each_ + from, space, count, Into::store, 1);
        return space;
    }

private:
    u64 each_;
    const u8* bytes_ = nullptr;
    std::optional<KeyStream> stream_;
};

// The uniform residues of one polynomial, row by row. Of 47 bits, one in 2^27 is not below its prime, and is drawn again.
class Draws {
public:
    Draws(const Uniform& uniform, u64 k, const Basis& basis)
        : uniform_(uniform), k_(k), basis_(basis), space_(scratch(PACKED * N / 8)) {}
    // The next row; false if there is nothing left to draw from.
    bool row(const Loops& f, u64* out) {
        const u64 p = basis_.primes[l_].p;
        u8* space = reinterpret_cast<u8*>(space_.get());
        if (!f.uniform(uniform_.read(k_, PACKED * N * l_++, PACKED * N, space), out, p)) return true;
        const u8* spare = uniform_.read(k_, PACKED * N * basis_.size(), RESERVE, space);
        for (u64 i = 0; i < N; ++i)
            for (; out[i] >= p; used_ += 8) {
                if (used_ + 8 > RESERVE) return false;
                std::memcpy(&out[i], spare + used_, 8);
                out[i] &= (u64(1) << PRIME_BITS) - 1;
            }
        return true;
    }

private:
    const Uniform& uniform_;
    u64 k_, l_ = 0, used_ = 0;
    const Basis& basis_;
    std::unique_ptr<u64[]> space_;
};

// round(q m / t) mod p = (h - ((q mod t) m + h mod t)) / t, h = floor(t / 2); t is 2^64 where it is 0.
class Encoding {
public:
    Encoding(const Basis& basis, u64 t);
    // h - ((q mod t) m + h mod t), a signed number
    void rests(const Loops& f, const i64* m, i64* out) const { f.scaled(m, out, t_, scale_, half_); }
    void residues(const Loops& f, const i64* rests, u64* out, const Basis& basis, u64 l) const {
        f.residues(rests, out, basis.primes[l], lower_[l], upper_[l], add_[l]);
    }

private:
    u64 t_, scale_, half_;
    std::vector<Factor> lower_, upper_;
    std::vector<u64> add_;
};

// Encrypts under a secret: c0 = Δ m + e - a s, six bytes a residue.
class Encrypting {
public:
    Encrypting(const Basis& basis, const u64* secret, u64 t)
        : basis_(basis), secret_(secret), encoding_(basis, t), a_(scratch(N)), c_(scratch(N)), rests_(scratch(N)) {}
    // Of a message, or zeros if there is none, with these words of noise; false if nothing is left to draw from.
    bool one(const i64* message, const u64* noise, Draws draws, u8* out);

private:
    const Basis& basis_;
    const u64* secret_;
    const Encoding encoding_;
    std::unique_ptr<u64[]> a_, c_, rests_;
};

// Where results stand among the coefficients: some places, or all of them if there are none given.
struct Places {
    const i64* at;
    u64 count;
};

// Makes answers of sums of products, a prime after the other: see lattice_answer.cpp.
class Answering {
public:
    Answering(const Basis& basis, const u64* zero, int bits)
        : basis_(basis), zero_(zero), bits_(bits), y_(scratch(2 * basis.size() * N)), u_(scratch(N)), high_(scratch(N)),
          low_(scratch(N)), taken_(scratch(2 * N)) {}
    // The residues of both components of a sum for a prime, and the randomness of an encryption of zero.
    void row(u64 l, const u64* first, const u64* second, const u64* words);
    // V1, and the evaluator's share; whether that might be rounded in two ways.
    bool end(u8* out, const u64* mask, Places places, u64 t, u64 margin, u64* share);

private:
    const Basis& basis_;
    const u64* zero_;
    int bits_;
    std::unique_ptr<u64[]> y_, u_, high_, low_, taken_;
};

// Makes the owner's shares of answers. The basis has as many primes as V1 s needs.
class Finishing {
public:
    Finishing(const Basis& basis, const u64* secret, int bits);
    void one(const u8* answer, const u64* mask, Places places, u64 t, u64* share);

private:
    const Basis& basis_;
    const u64* secret_;
    int bits_;
    std::vector<Factor> by_, more_;
    std::vector<u64> add_;
    std::unique_ptr<u64[]> y_, low_, high_, upper_, taken_;
};

void check_bits(int bits);

}  // namespace tacit::lattice
