// A level of what a server does to a dense ciphertext to have many sparse ones [ACLS18] Fig. 3; tacit.fhe says why.
//
//     turned = σ(c), under the same key by a switch            σ: X -> X^(N / step + 1)
//     out[r] = c + turned,    out[r + step] = (c - turned) X^-step
//
// A switch takes the digits d_i = σ(c1) mod p_i to Σ_i d_i key_i, modulo the primes and one more, P, and divides by P,
// rounding. Ciphertexts are residues in coefficient form here, keys are transformed.
#include "lattice_parts.hpp"

namespace tacit::lattice {
namespace {

u64 times_factor(u64 x, const Factor& f, u64 p) {  // for any x, canonical
    const u64 v = x * f.w - static_cast<u64>(u128(x) * f.q64 >> 64) * p;
    return std::min(v, v - p);
}

// out = σ(in), where σ takes X to X^element.
void turn(const u64* in, u64* out, u64 element, u64 p) {
    for (u64 j = 0, to = 0; j < N; ++j, to = (to + element) & (2 * N - 1))
        out[to & (N - 1)] = to < N || !in[j] ? in[j] : p - in[j];
}

class Switching {
public:
    Switching(const Basis& basis, const u64* keys, u64 element)
        : basis_(basis), keys_(keys), element_(element), L_(basis.size() - 1), turned_(scratch(2 * L_ * N)),
          digits_(scratch(L_ * N)), sums_(scratch(2 * (L_ + 1) * N)) {
        const Prime& special = basis.primes[L_];
        for (u64 l = 0; l < L_; ++l) {
            const u64 p = basis.primes[l].p;
            by_.push_back(factor(inverse_mod(special.p % p, p), p));
            middle_.push_back(special.p / 2 % p);
        }
    }

    // σ(c) as a ciphertext under the same key, [2, primes, N].
    const u64* one(const u64* c) {
        const Loops& f = loops();
        for (u64 k = 0; k < 2 * L_; ++k) turn(c + k * N, turned_.get() + k * N, element_, basis_.primes[k % L_].p);
        const u64 other = (L_ + 1) * N;
        std::fill_n(sums_.get(), 2 * other, 0);
        for (u64 l = 0; l <= L_; ++l) {
            const Prime& prime = basis_.primes[l];
            for (u64 i = 0; i < L_; ++i) {
                u64* digit = digits_.get() + i * N;
                const i64* values = reinterpret_cast<const i64*>(turned_.get() + (L_ + i) * N);
                f.residues(values, digit, prime, prime.one, prime.half, prime.offset);
                f.forward(digit, prime);
            }
            f.dot(keys_ + l * N, 2 * other, digits_.get(), N, L_, sums_.get() + l * N, other, prime);
            for (u64 c = 0; c < 2; ++c) f.inverse(sums_.get() + c * other + l * N, prime, l < L_ ? by_[l] : prime.one);
        }
        for (u64 c = 0; c < 2; ++c) divided(sums_.get() + c * other, turned_.get() + c * L_ * N, c == 0);
        return turned_.get();
    }

private:
    // to = round(sum / P), added to what is there or in its place. The rows of a sum have been divided by P modulo p_l.
    void divided(u64* sum, u64* to, bool add) const {
        const u64 P = basis_.primes[L_].p;
        u64* rest = sum + L_ * N;
        for (u64 i = 0; i < N; ++i) rest[i] = std::min(rest[i] + P / 2, rest[i] + P / 2 - P);
        for (u64 l = 0; l < L_; ++l) {
            const u64 p = basis_.primes[l].p, up = times_factor(middle_[l], by_[l], p);
            for (u64 i = 0; i < N; ++i) {
                const u64 v = sum[l * N + i] + up + p - times_factor(rest[i], by_[l], p) + (add ? to[l * N + i] : 0);
                const u64 once = std::min(v, v - 2 * p);  // below 4p before
                to[l * N + i] = std::min(once, once - p);
            }
        }
    }

    const Basis& basis_;
    const u64* keys_;
    u64 element_, L_;
    std::unique_ptr<u64[]> turned_, digits_, sums_;
    std::vector<Factor> by_;
    std::vector<u64> middle_;
};

// From ciphertexts [count, 2, primes, N] those of the next level, as many as `out` has. The last prime of the basis is P;
// `keys` is [digits, 2, primes and P, N].
void spread(const Basis& basis, Memory keys_at, Memory in_at, u64 step, Memory out_at, int threads) {
    if (basis.size() < 2 || !step || step & (step - 1) || step >= N) refuse("a level that there is not");
    const u64 L = basis.size() - 1, each = 2 * L * N, count = count_of(in_at, each), more = count_of(out_at, each);
    const u64* keys = elements<u64>(keys_at, L * 2 * (L + 1) * N);
    const u64* in = elements<u64>(in_at, count * each);
    u64* out = elements<u64>(out_at, more * each);
    if (count > step || more < count || more > step + count) refuse("other ciphertexts than a level has");
    for (u64 k = 0; k < count * 2 * L; ++k)
        for (u64 i = 0; i < N; ++i)
            if (in[k * N + i] >= basis.primes[k % L].p) refuse("residues that are not below their prime");
    parallel(i64(count), 1, worth(double(count), 1, threads), [&](i64 begin, i64 end) {
        Switching switching(basis, keys, N / step + 1);
        for (u64 r = u64(begin); r < u64(end); ++r) {
            const u64* turned = switching.one(in + r * each);
            for (u64 k = 0; k < 2 * L; ++k) {
                const u64 p = basis.primes[k % L].p;
                const u64 *x = in + r * each + k * N, *y = turned + k * N;
                u64* even = out + r * each + k * N;
                for (u64 i = 0; i < N; ++i) even[i] = std::min(x[i] + y[i], x[i] + y[i] - p);
                if (r + step >= more) continue;
                u64* odd = out + (r + step) * each + k * N;
                const auto less = [p](u64 a, u64 b) { return std::min(a - b, a - b + p); };
                for (u64 i = step; i < N; ++i) odd[i - step] = less(x[i], y[i]);
                for (u64 i = 0; i < step; ++i) odd[N - step + i] = less(y[i], x[i]);  // X^-1 = -X^(N - 1)
            }
        }
    });
}

const Adds names([](nb::module_& m) { m.def("lattice_spread", &spread, Unlocked()); });

}  // namespace
}  // namespace tacit::lattice
