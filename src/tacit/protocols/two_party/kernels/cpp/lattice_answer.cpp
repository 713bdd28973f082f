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

void check_bits(int bits) {
    if (bits != 68 && bits != 96 && bits != 112) refuse("answers of another width");
}

const i64* positions_of(const Memory& at) {
    const i64* positions = elements<i64>(at, size(at));
    for (u64 k = 0; k < size(at); ++k)
        if (positions[k] < 0 || positions[k] >= i64(N)) refuse("a coefficient that is not there");
    return positions;
}

// What `places` numbers of 128 bits are, plus or minus those of the mask.
class Taken {
public:
    explicit Taken(u64 places)
        : count_(places), high_(scratch(places + 8)), low_(scratch(places + 8)), out_(scratch(places + 8)) {}
    void take(const u64* high, const u64* low, const i64* positions, const u64* mask, bool minus) {
        for (u64 k = 0; k < count_ + 8; ++k) {
            if (k >= count_) {
                high_[k] = low_[k] = 0;  // not doubtful
                continue;
            }
            const u64 i = u64(positions[k]);
            const u128 v = u128(high[i]) << 64 | low[i], m = u128(mask[2 * k + 1]) << 64 | mask[2 * k];
            const u128 sum = minus ? v - m : v + m;
            high_[k] = static_cast<u64>(sum >> 64), low_[k] = static_cast<u64>(sum);
        }
    }
    bool round(const Loops& f, u64 t, u64 margin, u64* to) {
        const bool doubtful = f.rounded(high_.get(), low_.get(), count_, t, margin, out_.get());
        std::memcpy(to, out_.get(), 8 * count_);
        return doubtful;
    }

private:
    u64 count_;
    std::unique_ptr<u64[]> high_, low_, out_;
};

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
    const Fraction& fraction = basis.fraction;
    all_polynomials(count, threads, [&](u64 k) {
        const auto y = scratch(each), u = scratch(N), high = scratch(N), low = scratch(N);
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            f.ternary(words + k * N, u.get(), prime);
            f.forward(u.get(), prime);
            for (u64 c = 0; c < 2; ++c) {
                u64* to = y.get() + (c * L + l) * N;
                f.product(zero + (c * L + l) * N, u.get(), sums + k * each + (c * L + l) * N, to, prime, false);
                f.inverse(to, prime, fraction.digit[l]);
            }
            f.add_noise(words + k * N, y.get() + (L + l) * N, prime, fraction.digit[l]);
        }
        f.fraction(fraction, y.get() + L * N, high.get(), low.get());
        f.split(high.get(), low.get(), bits, out + k * answer_bytes(bits));
        f.fraction(fraction, y.get(), high.get(), low.get());
        Taken taken(places);
        taken.take(high.get(), low.get(), positions, mask + 2 * k * places, true);
        doubtful[k] = taken.round(f, t, margin, share + k * places);
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
    const Fraction& fraction = basis.fraction;
    all_polynomials(count, threads, [&](u64 k) {
        const auto y = scratch(L * N), low = scratch(N), high = scratch(N), upper = scratch(N);
        i64* above = reinterpret_cast<i64*>(high.get());
        f.joined(answers + k * bytes, bits, above, low.get());
        for (u64 i = 0; i < N; ++i) low[i] ^= u64(1) << 63;  // `residues` takes signed numbers
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            const u64 p = prime.p, square = times_mod(prime.half.w, prime.half.w, p);  // 2^64
            f.residues(reinterpret_cast<const i64*>(low.get()), y.get() + l * N, prime, prime.one, prime.half, 0);
            const Factor by = factor(square, p), more = factor(times_mod(square, prime.half.w, p), p);
            f.residues(above, upper.get(), prime, by, more, times_mod(prime.offset, square, p));
            f.sum(upper.get(), y.get() + l * N, prime);
            f.forward(y.get() + l * N, prime);
            f.product(y.get() + l * N, s + l * N, nullptr, y.get() + l * N, prime, false);
            f.inverse(y.get() + l * N, prime, fraction.digit[l]);
        }
        f.whole(fraction, y.get(), bits, high.get(), low.get());
        Taken taken(places);
        taken.take(high.get(), low.get(), positions, mask + 2 * k * places, false);
        taken.round(f, t, 0, share + k * places);
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
        f.centre(to, prime.p);
    });
}

constexpr u64 LIFT = u64(1) << 8;  // times a prime of 40 bits or more is above any other of 47

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
    const auto inverse = [&](int of, int modulo) { return factor(inverse_mod(t[of], t[modulo]), t[modulo]); };
    const Factor i01 = L > 1 ? inverse(0, 1) : Factor{}, i02 = L > 2 ? inverse(0, 2) : Factor{};
    const Factor i12 = L > 2 ? inverse(1, 2) : Factor{};
    const auto times = [](u64 v, const Factor& by, u64 p) {  // of any v
        const u64 r = v * by.w - static_cast<u64>(u128(v) * by.q64 >> 64) * p;
        return std::min(r, r - p);
    };
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
        if (L > 1) d[1] = times(residues[count + i] + LIFT * t[1] - d[0], i01, t[1]);
        if (L > 2) {
            const u64 first = times(residues[2 * count + i] + LIFT * t[2] - d[0], i02, t[2]);
            d[2] = times(first + LIFT * t[2] - d[1], i12, t[2]);
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
