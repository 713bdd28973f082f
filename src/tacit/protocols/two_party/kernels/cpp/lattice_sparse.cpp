// Sums of products with plaintexts that are made for one answer and have few coefficients each (tacit.fhe): they are
// transformed and multiplied some at a time, in memory that fits into a core's caches.
#include "lattice_parts.hpp"

namespace tacit::lattice {
namespace {

constexpr u64 SOME = 8;                    // plaintexts at a time
constexpr i64 LARGEST = i64(1) << 39;      // of a coefficient: below every prime

// out[a] = Σ_b ciphertexts[b] W[a, b] + key u[a] in coefficient form, [answers, 2, primes, N], where coefficient places[k] of
// W[a, b] is values[k], for starts[a, b] <= k < starts[a, b + 1]. No place occurs twice in one W.
void sparse(const Basis& basis, Memory ciphertexts_at, Memory key_at, Memory u_at, Memory starts_at, Memory places_at,
            Memory values_at, Memory out_at, int threads) {
    const u64 L = basis.size(), each = 2 * L * N, answers = count_of(u_at, N), terms = count_of(ciphertexts_at, each);
    const u64* ct = elements<u64>(ciphertexts_at, terms * each);
    const u64* key = elements<u64>(key_at, each);
    const i64* u = elements<i64>(u_at, answers * N);
    const i64* starts = elements<i64>(starts_at, answers * terms + 1);
    const u64 count = size(values_at);
    const i64 *places = elements<i64>(places_at, count), *values = elements<i64>(values_at, count);
    u64* out = elements<u64>(out_at, answers * each);
    for (u64 k = 0; k < answers * terms; ++k)
        if (starts[k] < 0 || starts[k] > starts[k + 1] || starts[k + 1] > i64(count)) refuse("plaintexts that are not there");
    for (u64 k = 0; k < count; ++k)
        if (places[k] < 0 || places[k] >= i64(N) || values[k] >= LARGEST || values[k] <= -LARGEST)
            refuse("a coefficient that is not there, or too large");
    const Loops& f = loops();
    parallel(i64(answers * L), 1, worth(double(answers * L * terms), 16, threads), [&](i64 begin, i64 end) {
        const auto w = scratch(SOME * N);
        for (u64 part = u64(begin); part < u64(end); ++part) {
            const u64 a = part / L, l = part % L;
            const Prime& prime = basis.primes[l];
            u64* sum = out + a * each + l * N;
            std::fill_n(sum, N, 0), std::fill_n(sum + L * N, N, 0);
            f.residues(u + a * N, w.get(), prime, prime.one, prime.half, prime.offset);
            f.forward(w.get(), prime);
            f.dot(key + l * N, each, w.get(), N, 1, sum, L * N, prime);
            for (u64 b = 0; b < terms; b += SOME) {
                const u64 here = std::min(SOME, terms - b);
                std::fill_n(w.get(), here * N, 0);
                for (u64 k = 0; k < here; ++k) {
                    u64* polynomial = w.get() + k * N;
                    for (i64 i = starts[a * terms + b + k]; i < starts[a * terms + b + k + 1]; ++i)
                        polynomial[places[i]] = static_cast<u64>(values[i] < 0 ? values[i] + i64(prime.p) : values[i]);
                    f.forward(polynomial, prime);
                }
                f.dot(ct + b * each + l * N, each, w.get(), N, here, sum, L * N, prime);
            }
            for (u64 c = 0; c < 2; ++c) f.inverse(sum + c * L * N, prime, prime.one);
        }
    });
}

const Adds names([](nb::module_& m) { m.def("lattice_sparse", &sparse, Unlocked()); });

}  // namespace
}  // namespace tacit::lattice
