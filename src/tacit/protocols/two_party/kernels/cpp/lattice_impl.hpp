// The inner loops for one instruction set. From the including namespace: a Vec of WIDTH residues; load, store, all; add,
// sub, low (the lesser), times(x, w, quotient, m) in [0, 2p); wide sums of products; and quotients of Factors.

struct Mod {
    explicit Mod(const Prime& prime)
        : p(all(prime.p)), twice(all(2 * prime.p)), many(all(8 * prime.p)), minus(all((u64(1) << 52) - prime.p)),
          one(all(prime.one.w)), one_quotient(all(quotient(prime.one))), carry(all(prime.carry.w)),
          carry_quotient(all(quotient(prime.carry))) {}
    Vec p, twice, many, minus, one, one_quotient, carry, carry_quotient;
};

inline Vec halved(Vec x, const Mod& m) { return times(x, m.one, m.one_quotient, m); }        // to [0, 2p)
inline Vec canonical(Vec x, const Mod& m) { return low(x, sub(x, m.p)); }                    // from [0, 2p) to [0, p)
inline Vec reduced(Vec x, const Mod& m) { return canonical(halved(x, m), m); }

// x, y -> x + w y, x - w y: what is below b p before is below (b + 2) p after, for any y below 2^52.
inline void forward_pair(Vec& x, Vec& y, Vec w, Vec q, const Mod& m) {
    const Vec v = times(y, w, q, m);
    y = sub(add(x, m.twice), v);
    x = add(x, v);
}

// x, y -> x + y, w (x - y), for y below 8 p.
inline void inverse_pair(Vec& x, Vec& y, Vec w, Vec q, const Mod& m) {
    const Vec v = sub(add(x, m.many), y);
    x = add(x, y);
    y = times(v, w, q, m);
}

// LEVELS levels at once, on 2^LEVELS vectors that lie a step apart, from a level of m0 blocks on.
template <int LEVELS>
void forward_levels(u64* a, const Prime& prime, u64 m0, const Mod& m) {
    constexpr int R = 1 << LEVELS;
    const u64 step = N / (m0 * R);
    const u64 *ws = prime.forward.w.data(), *qs = quotients(prime.forward);
    for (u64 i = 0; i < m0; ++i) {
        Vec w[R], q[R];
#pragma GCC unroll 8
        for (int s = 0; s < LEVELS; ++s)
#pragma GCC unroll 8
            for (int b = 0; b < (1 << s); ++b) {
                w[(1 << s) + b] = all(ws[(m0 << s) + (i << s) + b]);
                q[(1 << s) + b] = all(qs[(m0 << s) + (i << s) + b]);
            }
        u64* block = a + i * R * step;
        for (u64 j = 0; j < step; j += WIDTH) {
            Vec x[R];
#pragma GCC unroll 8
            for (int k = 0; k < R; ++k) x[k] = load(block + k * step + j);
#pragma GCC unroll 8
            for (int s = 0; s < LEVELS; ++s)
#pragma GCC unroll 8
                for (int b = 0; b < (1 << s); ++b)
#pragma GCC unroll 8
                    for (int k = 0; k < (R >> (s + 1)); ++k) {
                        const int at = b * (R >> s) + k;
                        forward_pair(x[at], x[at + (R >> (s + 1))], w[(1 << s) + b], q[(1 << s) + b], m);
                    }
#pragma GCC unroll 8
            for (int k = 0; k < R; ++k) store(block + k * step + j, x[k]);
        }
    }
}

// The same backwards: below 2p before and after, or canonical and scaled at the end.
template <int LEVELS>
void inverse_levels(u64* a, const Prime& prime, u64 m0, const Mod& m, const Factor* scale) {
    constexpr int R = 1 << LEVELS;
    const u64 step = N / (m0 * R);
    const u64 *ws = prime.inverse.w.data(), *qs = quotients(prime.inverse);
    const Vec by = all(scale ? scale->w : 1), by_quotient = all(scale ? quotient(*scale) : 0);
    for (u64 i = 0; i < m0; ++i) {
        Vec w[R], q[R];
#pragma GCC unroll 8
        for (int s = 0; s < LEVELS; ++s)
#pragma GCC unroll 8
            for (int b = 0; b < (1 << s); ++b) {
                w[(1 << s) + b] = all(ws[(m0 << s) + (i << s) + b]);
                q[(1 << s) + b] = all(qs[(m0 << s) + (i << s) + b]);
            }
        u64* block = a + i * R * step;
        for (u64 j = 0; j < step; j += WIDTH) {
            Vec x[R];
#pragma GCC unroll 8
            for (int k = 0; k < R; ++k) x[k] = load(block + k * step + j);
#pragma GCC unroll 8
            for (int s = LEVELS - 1; s >= 0; --s)
#pragma GCC unroll 8
                for (int b = 0; b < (1 << s); ++b)
#pragma GCC unroll 8
                    for (int k = 0; k < (R >> (s + 1)); ++k) {
                        const int at = b * (R >> s) + k;
                        inverse_pair(x[at], x[at + (R >> (s + 1))], w[(1 << s) + b], q[(1 << s) + b], m);
                    }
#pragma GCC unroll 8
            for (int k = 0; k < R; ++k) {
                if (scale) x[k] = canonical(times(x[k], by, by_quotient, m), m);
                else if (k < R / 2) x[k] = halved(x[k], m);  // the others have been multiplied in the last level
                store(block + k * step + j, x[k]);
            }
        }
    }
}

// The last six levels, on blocks of 64: the result lies as 8 x 8 matrices, transposed.
inline void forward_block(u64* a, const Prime& prime, const Mod& m);
inline void inverse_block(u64* a, const Prime& prime, const Mod& m);

void forward(u64* a, const Prime& prime) {  // below 6p before, canonical after
    const Mod m(prime);
    forward_levels<3>(a, prime, 1, m);
    forward_levels<2>(a, prime, 8, m);
    forward_levels<2>(a, prime, 32, m);
    forward_block(a, prime, m);
}

void inverse(u64* a, const Prime& prime, const Factor& scale) {
    const Mod m(prime);
    const Factor by = factor(times_mod(scale.w, prime.shrink, prime.p), prime.p);
    inverse_block(a, prime, m);
    inverse_levels<2>(a, prime, 32, m, nullptr);
    inverse_levels<2>(a, prime, 8, m, nullptr);
    inverse_levels<3>(a, prime, 1, m, &by);
}

// out = low w + high w' + add, of the halves of v + 2^63: below 5p.
void residues(const i64* values, u64* out, const Prime& prime, const Factor& lower, const Factor& upper, u64 add_p) {
    const Mod m(prime);
    const Vec lw = all(lower.w), lq = all(quotient(lower)), hw = all(upper.w), hq = all(quotient(upper));
    const Vec plus = all(add_p), top = all(u64(1) << 63), half = all(0xFFFFFFFF);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec v = exclusive(load(reinterpret_cast<const u64*>(values) + i), top);
        const Vec sum = add(times(both(v, half), lw, lq, m), times(right<32>(v), hw, hq, m));
        store(out + i, add(sum, plus));
    }
}

void sum(const u64* x, u64* out, const Prime& prime) {
    const Mod m(prime);
    for (u64 i = 0; i < N; i += WIDTH) store(out + i, reduced(x ? add(load(x + i), load(out + i)) : load(out + i), m));
}

inline Vec centred(Vec word, Vec mask, const Mod& m) {  // noise + p, of the low 42 bits
    return sub(add(m.p, ones(both(word, mask))), ones(both(right<CENTRE>(word), mask)));
}

void noise(const u64* words, u64* out, const Prime& prime) {
    const Mod m(prime);
    const Vec mask = all((u64(1) << CENTRE) - 1);
    for (u64 i = 0; i < N; i += WIDTH) store(out + i, add(load(out + i), centred(load(words + i), mask, m)));
}

void ternary(const u64* words, u64* out, const Prime& prime) {  // -1, 0 or 1, plus p, of the top 22 bits
    const Mod m(prime);
    const Vec less = all(prime.p - 1);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec top = right<42>(load(words + i));
        store(out + i, add(right<22>(add(add(top, top), top)), less));
    }
}

inline Vec product_of(Vec x, Vec y, const Mod& m) {  // below 4p
    Wide sum;
    sum.clear();
    sum.add_product(x, y);
    return sum.value(m);
}

void product(const u64* x, const u64* y, const u64* plus, u64* out, const Prime& prime, bool minus) {
    const Mod m(prime);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec v = product_of(load(x + i), load(y + i), m);
        const Vec base = plus ? load(plus + i) : all(0);
        store(out + i, reduced(minus ? sub(add(base, m.many), v) : add(base, v), m));
    }
}

void pack(const u64* values, u8* out) {
    for (u64 i = 0; i < N; i += WIDTH) store_packed(out + PACKED * i, load(values + i));
}

bool unpack(const u8* bytes, u64* out, u64 p) {
    u64 wrong = 0;
    const Vec bound = all(p);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec v = load_packed(bytes + PACKED * i);
        wrong += not_below(v, bound);
        store(out + i, v);
    }
    return wrong == 0;
}

u64 uniform(const u8* bytes, u64* out, u64 p) {
    u64 wrong = 0;
    const Vec bound = all(p), mask = all((u64(1) << PRIME_BITS) - 1);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec v = both(load_packed(bytes + PACKED * i), mask);
        wrong += not_below(v, bound);
        store(out + i, v);
    }
    return wrong;
}

// acc += Σ_b ct[b] w[b] at every point, for both components of a ciphertext.
void dot(const u64* ct, u64 ct_step, const u64* w, u64 w_step, u64 terms, u64* acc, u64 acc_step, const Prime& prime) {
    constexpr int V = WIDTH == 8 ? 4 : 8;
    const Mod m(prime);
    const u64 other = acc_step;  // components of a ciphertext lie as far apart as those of the sum
    for (u64 i = 0; i < N; i += V * WIDTH) {
        Wide one[V], two[V];
        for (int v = 0; v < V; ++v) one[v].clear(), two[v].clear();
        for (u64 b = 0; b < terms; ++b) {
            const u64 *c = ct + b * ct_step + i, *y = w + b * w_step + i;
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) {
                const Vec by = load(y + v * WIDTH);
                one[v].add_product(load(c + v * WIDTH), by);
                two[v].add_product(load(c + other + v * WIDTH), by);
            }
        }
        for (int v = 0; v < V; ++v) {
            u64* to = acc + i + v * WIDTH;
            store(to, reduced(add(load(to), one[v].value(m)), m));
            store(to + other, reduced(add(load(to + other), two[v].value(m)), m));
        }
    }
}

// acc[o] += Σ_t panel[t] w[o, t], for a panel of POINTS points and w [outputs / TOGETHER, terms, TOGETHER].
void panel(const u64* points, const u64* w, u64 terms, u64 outputs, u64* acc, u64 acc_step, const Prime& prime) {
    constexpr int V = POINTS / WIDTH >= 4 ? 4 : POINTS / WIDTH;
    const Mod m(prime);
    for (u64 o = 0; o < outputs; o += TOGETHER, w += terms * TOGETHER) {
        for (u64 i = 0; i < POINTS; i += V * WIDTH) {
            Wide sum[TOGETHER][V];
            for (auto& row : sum)
                for (auto& s : row) s.clear();
            for (u64 t = 0; t < terms; ++t) {
                Vec x[V];
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) x[v] = load(points + t * POINTS + i + v * WIDTH);
#pragma GCC unroll 4
                for (u64 k = 0; k < TOGETHER; ++k) {
                    const Vec by = all(w[t * TOGETHER + k]);
#pragma GCC unroll 4
                    for (int v = 0; v < V; ++v) sum[k][v].add_product(x[v], by);
                }
            }
            for (u64 k = 0; k < TOGETHER && o + k < outputs; ++k)
                for (int v = 0; v < V; ++v) {
                    u64* to = acc + (o + k) * acc_step + i + v * WIDTH;
                    store(to, reduced(add(load(to), sum[k][v].value(m)), m));
                }
        }
    }
}

// out[j] = x power[j] at POINTS points.
void shifted(const u64* x, const u64* power, u64* out, u64 power_step, u64 count, const Prime& prime) {
    const Mod m(prime);
    for (u64 j = 0; j < count; ++j)
        for (u64 i = 0; i < POINTS; i += WIDTH)
            store(out + j * POINTS + i, reduced(product_of(load(x + i), load(power + j * power_step + i), m), m));
}

const Loops LOOPS = {forward, inverse, residues, sum, noise, ternary, product, pack, unpack, uniform, dot, panel, shifted};
