// Ring-LWE ciphertexts: keys, encryption, what is received, plaintexts, and sums of their products.
//
// A polynomial modulo q = Π p_l is [primes, N] residues, transformed unless a name says otherwise. A ciphertext is two of
// them, c0 + c1 s = Δ m + noise, for a plaintext m modulo t: 2^64 where t is 0, or a prime of slots.
#include "lattice_parts.hpp"

namespace tacit::lattice {
namespace {

void transform(const Basis& basis, Memory data_at, bool back, int threads) {
    const u64 L = basis.size(), count = count_of(data_at, L * N);
    u64* data = elements<u64>(data_at, count * L * N);
    const Loops& f = loops();
    for (u64 k = 0; k < count * L; ++k)
        for (u64 i = 0; i < N; ++i)
            if (data[k * N + i] >= basis.primes[k % L].p) refuse("residues that are not below their prime");
    all_polynomials(count * L, 4, threads, [&](u64 k) {
        const Prime& prime = basis.primes[k % L];
        if (back) f.inverse(data + k * N, prime, prime.one);
        else f.forward(data + k * N, prime);
    });
}

// The secret s, of coefficients -1, 0 and 1.
void secret(const Basis& basis, Memory words_at, Memory out_at) {
    const u64* words = elements<u64>(words_at, N);
    u64* out = elements<u64>(out_at, basis.size() * N);
    const Loops& f = loops();
    for (u64 l = 0; l < basis.size(); ++l) {
        f.ternary(words, out + l * N, basis.primes[l]);
        f.forward(out + l * N, basis.primes[l]);
    }
}

// Encrypt messages, or zeros if there are none: first halves, six bytes a residue; the others are drawn.
bool encrypt(const Basis& basis, Memory secret_at, Memory uniform_at, Memory noise_at, Memory message_at, u64 t, Memory out_at,
             int threads) {
    const u64 L = basis.size(), count = count_of(noise_at, N), each = PACKED * L * N;
    const u64* s = elements<u64>(secret_at, L * N);
    const Uniform uniform(basis, uniform_at, count);
    const u64* noise = elements<u64>(noise_at, count * N);
    const i64* message = elements_or_none<i64>(message_at, count * N);
    u8* out = elements<u8>(out_at, count * each);
    std::vector<u8> failed(count);
    if (message && t)
        for (u64 i = 0; i < count * N; ++i)
            if (message[i] >= static_cast<i64>(t) || -message[i] >= static_cast<i64>(t)) refuse("a message beyond its modulus");
    all_polynomials(count, 4, threads, [&](u64 k) {
        Encrypting encrypting(basis, s, t);
        failed[k] = !encrypting.one(message ? message + k * N : nullptr, noise + k * N, Draws(uniform, k, basis), out + k * each);
    });
    return std::find(failed.begin(), failed.end(), 1) == failed.end();
}

// What has been received, [count, 2, primes, N], and whether all of it are residues.
bool expand(const Basis& basis, Memory packed_at, Memory uniform_at, Memory out_at, int threads) {
    const u64 L = basis.size(), each = PACKED * L * N, count = count_of(packed_at, each);
    const u8* packed = elements<u8>(packed_at, count * each);
    const Uniform uniform(basis, uniform_at, count);
    u64* out = elements<u64>(out_at, count * 2 * L * N);
    const Loops& f = loops();
    std::vector<u8> failed(count);
    all_polynomials(count, 4, threads, [&](u64 k) {
        u64* c = out + k * 2 * L * N;
        Draws draws(uniform, k, basis);
        for (u64 l = 0; l < L; ++l) {
            failed[k] |= !f.unpack(packed + k * each + PACKED * l * N, c + l * N, basis.primes[l].p);
            failed[k] |= !draws.row(f, c + (L + l) * N);
        }
    });
    return std::find(failed.begin(), failed.end(), 1) == failed.end();
}

// Signed integers as polynomials.
void plain(const Basis& basis, Memory values_at, Memory out_at, int threads) {
    const u64 L = basis.size(), count = count_of(values_at, N);
    const i64* values = elements<i64>(values_at, count * N);
    u64* out = elements<u64>(out_at, count * L * N);
    const Loops& f = loops();
    all_polynomials(count, 4, threads, [&](u64 k) {
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            u64* to = out + (k * L + l) * N;
            f.residues(values + k * N, to, prime, prime.one, prime.half, prime.offset);
            f.forward(to, prime);
        }
    });
}

// sums[r] += Σ_b ciphertexts[r, b] plaintexts[b].
void dot(const Basis& basis, Memory ciphertexts_at, Memory plaintexts_at, Memory sums_at, int threads) {
    const u64 L = basis.size(), each = 2 * L * N, rows = count_of(sums_at, each), terms = count_of(plaintexts_at, L * N);
    const u64* ct = elements<u64>(ciphertexts_at, rows * terms * each);
    const u64* w = elements<u64>(plaintexts_at, terms * L * N);
    u64* sums = elements<u64>(sums_at, rows * each);
    const Loops& f = loops();
    all_polynomials(rows * L, 4, threads, [&](u64 k) {
        const u64 r = k / L, l = k % L;
        for (u64 at = 0; at < terms; at += LONGEST) {
            const u64 *from = ct + (r * terms + at) * each + l * N, *by = w + (at * L + l) * N;
            f.dot(from, each, by, L * N, std::min(LONGEST, terms - at), sums + r * each + l * N, L * N, basis.primes[l]);
        }
    });
}

// The transforms of sums Σ_c y_c X^(c N / nw): nw values, each of them at N / nw neighbouring places.
void short_forward(u64* a, u64 nw, const Prime& prime) {
    for (u64 m = 1, t = nw / 2; m < nw; m *= 2, t /= 2)
        for (u64 i = 0; i < m; ++i)
            for (u64 j = 0; j < t; ++j) {
                u64 &x = a[2 * i * t + j], &y = a[2 * i * t + j + t];
                const u64 w = prime.forward.w[m + i];
                u64 v = y * w - static_cast<u64>(u128(y) * prime.forward.q64[m + i] >> 64) * prime.p;
                v = std::min(v, v - prime.p);
                y = x + prime.p - v;
                y = std::min(y, y - prime.p);
                x = std::min(x + v, x + v - prime.p);
            }
}

u64 residue(i64 v, const Prime& prime) {
    const u64 p = prime.p, low = static_cast<u64>(v < 0 ? ~v : v) % p;
    return v < 0 ? p - 1 - low : low;
}

// sums[r, o] += Σ_b Σ_j ciphertexts[r, b] X^j Σ_c y[b, j, o, c] X^(c N / nw); `powers` are those of X, [kw, primes, N].
void dot_strided(const Basis& basis, Memory ciphertexts_at, Memory powers_at, Memory y_at, Memory sums_at, u64 rows, u64 nw,
                 int threads) {
    const u64 L = basis.size(), each = 2 * L * N, kw = count_of(powers_at, L * N);
    if (!rows || !kw || count_of(sums_at, each) % rows || count_of(ciphertexts_at, each) % rows) refuse("rows that differ");
    const u64 outputs = count_of(sums_at, each) / rows, terms = count_of(ciphertexts_at, each) / rows, all = terms * kw;
    if (!nw || nw & (nw - 1) || nw > N / BLOCK || terms > LONGEST || all > LONGEST) refuse("a stride that it does not have");
    const u64* ct = elements<u64>(ciphertexts_at, rows * terms * each);
    const u64* powers = elements<u64>(powers_at, kw * L * N);
    const i64* y = elements<i64>(y_at, all * outputs * nw);
    u64* sums = elements<u64>(sums_at, rows * outputs * each);
    const u64 groups = (outputs + TOGETHER - 1) / TOGETHER, block = groups * all * TOGETHER, run = N / nw;
    std::vector<u64> w(L * nw * block);  // [primes, nw, groups, terms, TOGETHER]
    parallel(i64(L * all), 1, worth(double(L * all * outputs * nw), 1 << 13, threads), [&](i64 begin, i64 end) {
        std::vector<u64> value(nw);
        for (u64 part = u64(begin); part < u64(end); ++part) {
            const u64 l = part / all, t = part % all;
            for (u64 o = 0; o < outputs; ++o) {
                for (u64 k = 0; k < nw; ++k) value[k] = residue(y[(t * outputs + o) * nw + k], basis.primes[l]);
                short_forward(value.data(), nw, basis.primes[l]);
                u64* to = w.data() + l * nw * block + ((o / TOGETHER) * all + t) * TOGETHER + o % TOGETHER;
                for (u64 c = 0; c < nw; ++c) to[c * block] = value[c];
            }
        }
    });
    const Loops& f = loops();
    parallel(i64(L * nw), 1, threads, [&](i64 begin, i64 end) {
        std::vector<u64> panel(all * POINTS);
        for (u64 part = u64(begin); part < u64(end); ++part) {
            const u64 l = part / nw, c = part % nw;
            for (u64 at = c * run; at < (c + 1) * run; at += POINTS)
                for (u64 row = 0; row < 2 * rows; ++row) {  // both components of each row
                    const u64 place = (row % 2 * L + l) * N + at;
                    for (u64 b = 0; b < terms; ++b) {
                        const u64* from = ct + (row / 2 * terms + b) * each + place;
                        u64* to = panel.data() + b * kw * POINTS;
                        if (kw == 1) std::memcpy(to, from, 8 * POINTS);
                        else f.shifted(from, powers + l * N + at, to, L * N, kw, basis.primes[l]);
                    }
                    u64* sum = sums + row / 2 * outputs * each + place;
                    f.panel(panel.data(), w.data() + part * block, all, outputs, sum, each, basis.primes[l]);
                }
        }
    });
}

const Adds names([](nb::module_& m) {
    nb::class_<Basis>(m, "LatticeBasis").def(nb::init<const std::vector<u64>&>());
    m.attr("LATTICE_RESERVE") = RESERVE;
    m.def("lattice_transform", &transform, Unlocked());
    m.def("lattice_secret", &secret, Unlocked());
    m.def("lattice_encrypt", &encrypt, Unlocked());
    m.def("lattice_expand", &expand, Unlocked());
    m.def("lattice_plain", &plain, Unlocked());
    m.def("lattice_dot", &dot, Unlocked());
    m.def("lattice_dot_strided", &dot_strided, Unlocked());
});

}  // namespace

Encoding::Encoding(const Basis& basis, u64 t) : t_(t) {
    u64 q = 1;
    for (const Prime& prime : basis.primes) q = t ? times_mod(q, prime.p % t, t) : q * prime.p;
    scale_ = q;
    half_ = t ? t / 2 : u64(1) << 63;
    for (const Prime& prime : basis.primes) {
        const u64 p = prime.p, inverse = t ? inverse_mod(t, p) : inverse_mod(times_mod(prime.half.w, prime.half.w, p), p);
        lower_.push_back(factor(inverse, p));
        upper_.push_back(factor(times_mod(inverse, prime.half.w, p), p));
        add_.push_back(times_mod(prime.offset, inverse, p));
    }
}

bool Encrypting::one(const i64* message, const u64* noise, Draws draws, u8* out) {
    const Loops& f = loops();
    u64 *a = a_.get(), *c = c_.get();
    i64* rests = reinterpret_cast<i64*>(rests_.get());
    bool good = true;
    if (message) encoding_.rests(f, message, rests);
    for (u64 l = 0; l < basis_.size(); ++l) {
        const Prime& prime = basis_.primes[l];
        good &= draws.row(f, a);
        if (message) encoding_.residues(f, rests, c, basis_, l);
        else std::fill_n(c, N, 0);
        f.noise(noise, c, prime);
        f.forward(c, prime);
        f.product(a, secret_ + l * N, c, c, prime, true);
        f.pack(c, out + PACKED * l * N);
    }
    return good;
}

}  // namespace tacit::lattice
