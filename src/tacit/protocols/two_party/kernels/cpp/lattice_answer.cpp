// Answers: sums of products under a fresh encryption of zero, switched to a short power of two, and what each side makes
// of its half.
//
//     c0 + c1 s = Δ m + noise mod q          V_i = round(c_i 2^k / q) mod 2^k          V0 + V1 s = m 2^k / t + noise mod 2^k
//
// The evaluator sends V1 and keeps V0 - u, the owner has u + V1 s, where u is uniform and both draw it: each is uniform
// whatever the noise is. Numbers modulo 2^k stand at the top of 128 bits, where they are fractions of one.
#include "lattice_parts.hpp"

namespace tacit::lattice {
namespace {

const i64* positions_of(const Memory& at) {
    const i64* positions = elements<i64>(at, size(at));
    if (size(at) > N) refuse("more places than coefficients");
    for (u64 k = 0; k < size(at); ++k)
        if (positions[k] < 0 || positions[k] >= i64(N)) refuse("a coefficient that is not there");
    return positions;
}

// Numbers of 128 bits at some places, plus or minus those of the mask, rounded; whether one might be rounded in two ways.
// `taken` is memory for two polynomials.
bool rounded(const Loops& f, u64* high, u64* low, u64* taken, Places places, const u64* mask, bool minus, u64 t, u64 margin,
             u64* share) {
    const u64 count = places.count;
    if (places.at) {
        for (u64 k = 0; k < count; ++k) taken[k] = high[places.at[k]], taken[N + k] = low[places.at[k]];
        high = taken, low = taken + N;
    }
    f.masked(high, low, mask, count, minus);
    if (count % 8 == 0) return f.rounded(high, low, count, t, margin, share);
    const u64 rest = count % 8, whole = count - rest;
    u64 some[3][8] = {};  // zeros are not doubtful
    std::copy_n(high + whole, rest, some[0]), std::copy_n(low + whole, rest, some[1]);
    const bool doubtful = f.rounded(high, low, whole, t, margin, share);
    const bool more = f.rounded(some[0], some[1], 8, t, margin, some[2]);
    std::copy_n(some[2], rest, share + whole);
    return doubtful || more;
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
    all_polynomials(count, 2, threads, [&](u64 k) {
        Answering answering(basis, zero, bits);
        const u64* sum = sums + k * each;
        for (u64 l = 0; l < L; ++l) answering.row(l, sum + l * N, sum + (L + l) * N, words + k * N);
        u8* to = out + k * answer_bytes(bits);
        doubtful[k] = answering.end(to, mask + 2 * k * places, {positions, places}, t, margin, share + k * places);
    });
}

// The owner's shares, from V1 and u. `basis` has as many primes as V1 s needs.
void finish(const Basis& basis, Memory secret_at, Memory answers_at, Memory mask_at, Memory positions_at, u64 t, int bits,
            Memory share_at, int threads) {
    check_bits(bits);
    const u64 L = basis.size(), places = size(positions_at), bytes = answer_bytes(bits), count = size(answers_at) / bytes;
    const u64* s = elements<u64>(secret_at, L * N);
    const u8* answers = elements<u8>(answers_at, count * bytes);
    const u64* mask = elements<u64>(mask_at, count * places * 2);
    const i64* positions = positions_of(positions_at);
    u64* share = elements<u64>(share_at, count * places);
    all_polynomials(count, 2, threads, [&](u64 k) {
        Finishing(basis, s, bits).one(answers + k * bytes, mask + 2 * k * places, {positions, places}, t, share + k * places);
    });
}

const Adds names([](nb::module_& m) {
    m.def("lattice_answer", &answer, Unlocked());
    m.def("lattice_finish", &finish, Unlocked());
});

}  // namespace

void check_bits(int bits) {
    if (bits != 68 && bits != 96 && bits != 112) refuse("answers of another width");
}

void Answering::row(u64 l, const u64* first, const u64* second, const u64* words) {
    const Loops& f = loops();
    const u64 L = basis_.size();
    const Prime& prime = basis_.primes[l];
    const Factor& digit = basis_.fraction.digit[l];
    f.ternary(words, u_.get(), prime);
    f.forward(u_.get(), prime);
    for (u64 c = 0; c < 2; ++c) {
        u64* to = y_.get() + (c * L + l) * N;
        f.product(zero_ + (c * L + l) * N, u_.get(), c ? second : first, to, prime, false);
        f.inverse(to, prime, digit);
    }
    f.add_noise(words, y_.get() + (L + l) * N, prime, digit);
}

bool Answering::end(u8* out, const u64* mask, Places places, u64 t, u64 margin, u64* share) {
    const Loops& f = loops();
    const Fraction& fraction = basis_.fraction;
    f.fraction(fraction, y_.get() + basis_.size() * N, high_.get(), low_.get());
    f.split(high_.get(), low_.get(), bits_, out);
    f.fraction(fraction, y_.get(), high_.get(), low_.get());
    return rounded(f, high_.get(), low_.get(), taken_.get(), places, mask, true, t, margin, share);
}

Finishing::Finishing(const Basis& basis, const u64* secret, int bits)
    : basis_(basis), secret_(secret), bits_(bits), y_(scratch(basis.size() * N)), low_(scratch(N)), high_(scratch(N)),
      upper_(scratch(N)), taken_(scratch(2 * N)) {
    if (i64(basis.size()) * (PRIME_BITS - 1) < bits + LOG_N) refuse("too few primes for an answer");
    for (const Prime& prime : basis.primes) {
        const u64 p = prime.p, square = times_mod(prime.half.w, prime.half.w, p);  // 2^64
        by_.push_back(factor(square, p)), more_.push_back(factor(times_mod(square, prime.half.w, p), p));
        add_.push_back(times_mod(prime.offset, square, p));
    }
}

void Finishing::one(const u8* answer, const u64* mask, Places places, u64 t, u64* share) {
    const Loops& f = loops();
    const u64 L = basis_.size();
    u64* low = low_.get();
    i64* above = reinterpret_cast<i64*>(high_.get());
    f.joined(answer, bits_, above, low);
    for (u64 i = 0; i < N; ++i) low[i] ^= u64(1) << 63;  // `residues` takes signed numbers
    for (u64 l = 0; l < L; ++l) {
        const Prime& prime = basis_.primes[l];
        u64* y = y_.get() + l * N;
        f.residues(reinterpret_cast<const i64*>(low), y, prime, prime.one, prime.half, 0);
        f.residues(above, upper_.get(), prime, by_[l], more_[l], add_[l]);
        f.sum(upper_.get(), y, prime);
        f.forward(y, prime);
        f.product(y, secret_ + l * N, nullptr, y, prime, false);
        f.inverse(y, prime, basis_.fraction.digit[l]);
    }
    f.whole(basis_.fraction, y_.get(), bits_, high_.get(), low);
    rounded(f, high_.get(), low, taken_.get(), places, mask, false, t, 0, share);
}

}  // namespace tacit::lattice
