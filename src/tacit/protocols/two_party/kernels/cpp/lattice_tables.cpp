// The tables of a prime and of a modulus, made once a process.
#include "lattice.hpp"

namespace tacit::lattice {
namespace {

u64 reversed(u64 k) {
    u64 out = 0;
    for (int bit = 0; bit < LOG_N; ++bit) out |= (k >> bit & 1) << (LOG_N - 1 - bit);
    return out;
}

// The first of 2, 3, … whose power is a 2N-th root of unity: both parties find the same.
u64 root_of(u64 p) {
    for (u64 g = 2; g < 1000; ++g) {
        const u64 root = power_mod(g, (p - 1) / (2 * N), p);
        if (power_mod(root, N, p) == p - 1) return root;
    }
    refuse("a modulus that is not prime");
}

void fill(Factors& all, Factors& last, u64 root, u64 p) {
    std::vector<u64> powers(N);
    powers[0] = 1;
    for (u64 k = 1; k < N; ++k) powers[k] = times_mod(powers[k - 1], root, p);
    all.resize(N);
    for (u64 k = 0; k < N; ++k) all.set(k, factor(powers[reversed(k)], p));
    last.resize(N / 64 * 56);
    for (u64 block = 0; block < N / 64; ++block)
        for (int level = 0; level < 3; ++level)
            for (u64 b = 0; b < (u64(1) << level); ++b)
                for (u64 lane = 0; lane < 8; ++lane) {
                    const u64 from = ((N / 8 + 8 * block + lane) << level) + b;
                    const u64 to = block * 56 + 8 * ((1 << level) - 1 + b) + lane;
                    last.set(to, {all.w[from], all.q52[from], all.q64[from]});
                }
}

}  // namespace

u64 power_mod(u64 base, u64 exponent, u64 p) {
    u64 out = 1;
    for (base %= p; exponent; exponent >>= 1, base = times_mod(base, base, p))
        if (exponent & 1) out = times_mod(out, base, p);
    return out;
}

Factor factor(u64 w, u64 p) {
    const u64 quotient = static_cast<u64>((u128(w) << 64) / p);
    return {w, quotient >> 12, quotient};
}

void Factors::resize(u64 count) { w.resize(count), q52.resize(count), q64.resize(count); }

void Factors::set(u64 at, const Factor& f) { w[at] = f.w, q52[at] = f.q52, q64[at] = f.q64; }

Prime::Prime(u64 prime) : p(prime) {
    if (p < (u64(1) << 40) || p >> PRIME_BITS || p % (2 * N) != 1) refuse("a modulus that has no transform");
    one = factor(1, p), carry = factor((LOW52 + 1) % p, p), half = factor(u64(1) << 32, p);
    offset = p - (u64(1) << 63) % p, shrink = inverse_mod(N, p);
    const u64 root = root_of(p);
    fill(forward, forward_last, root, p);
    fill(inverse, inverse_last, inverse_mod(root, p), p);
}

namespace {

std::vector<Prime> checked(const std::vector<u64>& moduli) {
    if (moduli.empty() || moduli.size() > MOST) refuse("another number of primes");
    std::vector<Prime> primes;
    for (const u64 p : moduli) {
        for (const Prime& other : primes)
            if (other.p == p) refuse("a prime twice");
        primes.emplace_back(p);
    }
    return primes;
}

}  // namespace

Basis::Basis(const std::vector<u64>& moduli) : primes(checked(moduli)), fraction(primes) {}

Fraction::Fraction(const std::vector<Prime>& primes) : size(primes.size()) {
    const auto multiply = [](u64 (&v)[3], u64 by) {
        u128 carry = 0;
        for (u64& limb : v) carry += u128(limb) * by, limb = static_cast<u64>(carry) & LOW52, carry >>= 52;
    };
    u64 product[3] = {1, 0, 0};
    for (std::size_t l = 0; l < size; ++l) {
        const u64 p = primes[l].p;
        u64 rest = 1;
        for (u64& digit : inverse[l]) {
            const u128 v = u128(rest) << 52;
            digit = static_cast<u64>(v / p), rest = static_cast<u64>(v % p);
        }
        reciprocal[l] = 1.0 / static_cast<double>(p);
        others[l][0] = 1, others[l][1] = others[l][2] = 0;
        u64 but = 1;
        for (std::size_t k = 0; k < size; ++k) {
            if (k == l) continue;
            multiply(others[l], primes[k].p);
            but = times_mod(but, primes[k].p % p, p);
        }
        digit[l] = factor(inverse_mod(but, p), p);
        multiply(product, p);
    }
    u64 carry = 1;
    for (int k = 0; k < 3; ++k) {
        const u64 limb = (~product[k] & LOW52) + carry;
        minus[k] = limb & LOW52, carry = limb >> 52;
    }
}

}  // namespace tacit::lattice
