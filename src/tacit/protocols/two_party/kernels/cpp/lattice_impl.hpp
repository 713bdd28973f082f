// The inner loops for one instruction set. From the including namespace: a Vec of WIDTH residues; load, store, all; add,
// sub, lesser, times(x, w, quotient, m) in [0, 2p); wide sums of products; and quotients of Factors.

struct Mod {
    explicit Mod(const Prime& prime) : Mod(prime.p, prime.one, prime.carry) {}
    Mod(u64 prime, const Factor& unit, const Factor& high)
        : p(all(prime)), twice(all(2 * prime)), many(all(8 * prime)), minus(all((u64(1) << 52) - prime)), one(all(unit.w)),
          one_quotient(all(quotient(unit))), carry(all(high.w)), carry_quotient(all(quotient(high))) {}
    Vec p, twice, many, minus, one, one_quotient, carry, carry_quotient;
};

inline Vec halved(Vec x, const Mod& m) { return times(x, m.one, m.one_quotient, m); }        // to [0, 2p)
inline Vec canonical(Vec x, const Mod& m) { return lesser(x, sub(x, m.p)); }                    // from [0, 2p) to [0, p)
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

void add_noise(const u64* words, u64* y, const Prime& prime, const Factor& scale) {
    const Mod m(prime);
    const Vec mask = all((u64(1) << CENTRE) - 1), by = all(scale.w), by_quotient = all(quotient(scale));
    for (u64 i = 0; i < N; i += WIDTH)
        store(y + i, reduced(add(load(y + i), times(centred(load(words + i), mask, m), by, by_quotient, m)), m));
}

void scaled(const i64* m, i64* out, u64 t, u64 scale, u64 half) {
    if (!t) {
        for (u64 i = 0; i < N; ++i) out[i] = static_cast<i64>(half - (scale * static_cast<u64>(m[i]) + half));
        return;
    }
    const Factor by = factor(scale, t);
    const Mod mod(t, factor(1, t), factor(1, t));
    const Vec w = all(by.w), q = all(quotient(by)), middle = all(half), top = all(u64(1) << 63);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec signed_m = load(reinterpret_cast<const u64*>(m) + i);
        const Vec negative = sub(all(0), right<63>(both(signed_m, top)));
        const Vec v = add(times(add(signed_m, both(negative, mod.p)), w, q, mod), middle);
        store(reinterpret_cast<u64*>(out) + i, sub(middle, canonical(canonical(v, mod), mod)));
    }
}

void centre(u64* a, u64 p) {
    const Vec half = all(p / 2), whole = all(p);
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec v = load(a + i);
        store(a + i, sub(v, both(sub(all(0), less(half, v)), whole)));
    }
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

// Σ y_l / p_l modulo 1, off by less than 2^-152.
void fraction(const Fraction& f, const u64* y, u64* high, u64* low) {
    const Vec mask = all(LOW52);
    for (u64 i = 0; i < N; i += WIDTH) {
        Vec one = all(0), two = all(0), three = all(0);
        for (u64 l = 0; l < f.size; ++l) {
            const Vec v = load(y + l * N + i);
            const Vec a = all(f.inverse[l][0]), b = all(f.inverse[l][1]), c = all(f.inverse[l][2]), d = all(f.inverse[l][3]);
            one = add_high(add_low(one, v, a), v, b);
            two = add_high(add_low(two, v, b), v, c);
            three = add_high(add_low(three, v, c), v, d);
        }
        two = add(two, right<52>(three));
        one = add(one, right<52>(two));
        two = both(two, mask), three = both(three, mask);
        store(high + i, add(left<12>(one), right<40>(two)));
        store(low + i, add(left<24>(two), right<28>(three)));
    }
}

// Σ y_l Π / p_l - round(Σ y_l / p_l) Π, which is far below Π / 2 in magnitude.
void whole(const Fraction& f, const u64* y, int bits, u64* high, u64* low) {
    const Vec mask = all(LOW52);
    const u64 up = static_cast<u64>(128 - bits);
    for (u64 i = 0; i < N; i += WIDTH) {
        Vec c[3] = {all(0), all(0), all(0)};
        Real turns = all_real(0.5);
        const auto add_product = [&](Vec v, const u64 (&limbs)[3]) {
            const Vec w0 = all(limbs[0]), w1 = all(limbs[1]), w2 = all(limbs[2]);
            c[0] = add_low(c[0], v, w0);
            c[1] = add_low(add_high(c[1], v, w0), v, w1);
            c[2] = add_low(add_high(c[2], v, w1), v, w2);
        };
        for (u64 l = 0; l < f.size; ++l) {
            const Vec v = load(y + l * N + i);
            add_product(v, f.others[l]);
            turns = turns + real(v) * all_real(f.reciprocal[l]);
        }
        add_product(truncated(turns), f.minus);
        c[1] = add(c[1], right<52>(c[0]));
        c[2] = add(c[2], right<52>(c[1]));
        const Vec lo = add(both(c[0], mask), left<52>(c[1])), hi = add(right<12>(both(c[1], mask)), left<40>(c[2]));
        store(high + i, add(left_by(hi, up), right_by(lo, 64 - up)));
        store(low + i, left_by(lo, up));
    }
}

// Numbers of `bits` bits on their way: the low 64 bits of each, and then those above, 4 a number or whole bytes.
void split(u64* high, u64* low, int bits, u8* out) {
    const u64 up = static_cast<u64>(bits - 64);
    const Vec half = all(u64(1) << (127 - bits));
    for (u64 i = 0; i < N; i += WIDTH) {
        const Vec lo = add(load(low + i), half), hi = add(load(high + i), less(lo, half));
        store(low + i, add(left_by(hi, up), right_by(lo, 64 - up)));
        store(high + i, right_by(hi, 64 - up));
    }
    std::memcpy(out, low, 8 * N);
    out += 8 * N;
    if (bits == 68) {
        for (u64 i = 0; i < N / 2; ++i) out[i] = static_cast<u8>(high[2 * i] | high[2 * i + 1] << 4);
    } else if (bits == 96) {
        for (u64 i = 0; i < N; ++i) {
            const u32 word = static_cast<u32>(high[i]);
            std::memcpy(out + 4 * i, &word, 4);
        }
    } else {
        pack(high, out);
    }
}

void joined(const u8* in, int bits, i64* high, u64* low) {
    const int sign = 128 - bits;
    std::memcpy(low, in, 8 * N);
    in += 8 * N;
    if (bits == 68) {
        for (u64 i = 0; i < N / 2; ++i) high[2 * i] = in[i] & 15, high[2 * i + 1] = in[i] >> 4;
    } else if (bits == 96) {
        for (u64 i = 0; i < N; ++i) {
            u32 word;
            std::memcpy(&word, in + 4 * i, 4);
            high[i] = word;
        }
    } else {
        for (u64 i = 0; i < N; i += WIDTH) store(reinterpret_cast<u64*>(high) + i, load_packed(in + PACKED * i));
    }
    for (u64 i = 0; i < N; ++i) high[i] = static_cast<i64>(static_cast<u64>(high[i]) << sign) >> sign;
}

void masked(u64* high, u64* low, const u64* mask, u64 count, bool minus) {
    const auto one = [minus](Vec& hi, Vec& lo, Vec more, Vec below) {
        const Vec sum = minus ? sub(lo, below) : add(lo, below), carry = minus ? less(lo, below) : less(sum, lo);
        hi = minus ? sub(sub(hi, more), carry) : add(add(hi, more), carry), lo = sum;
    };
    u64 i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        Vec hi = load(high + i), lo = load(low + i), more, below;
        load_pairs(mask + 2 * i, below, more);
        one(hi, lo, more, below);
        store(high + i, hi), store(low + i, lo);
    }
    for (; i < count; ++i) {
        const u64 below = mask[2 * i], lo = low[i], sum = minus ? lo - below : lo + below;
        const u64 carry = minus ? lo < below : sum < lo;
        high[i] = minus ? high[i] - mask[2 * i + 1] - carry : high[i] + mask[2 * i + 1] + carry, low[i] = sum;
    }
}

// Numbers s below T from residues: (s + shift T / 4 mod T) mod 2^64, and whether that is over T / 2. False if a residue is
// not below its prime. `count` is a multiple of eight.
bool combined(const Radix& r, const u64* residues, u64 step, u64 count, bool shift, u64* out, u8* upper) {
    const Mod mods[3] = {Mod(r.t[0], Factor{}, Factor{}), Mod(r.t[1], Factor{}, Factor{}), Mod(r.t[2], Factor{}, Factor{})};
    const auto digit = [](Vec residue, Vec before, const Factor& by, const Mod& m) {  // what is below 2 t before
        return canonical(times(sub(add(residue, m.twice), before), all(by.w), all(quotient(by)), m), m);
    };
    u64 wrong = 0;
    for (u64 i = 0; i < count; i += WIDTH) {
        Vec d[3] = {load(residues + i), all(0), all(0)};
        wrong += not_below(d[0], mods[0].p);
        for (u64 l = 1; l < r.size; ++l) {
            const Vec residue = load(residues + l * step + i);
            wrong += not_below(residue, mods[l].p);
            d[l] = digit(residue, d[0], r.first[l], mods[l]);
            if (l == 2) d[2] = digit(d[2], d[1], r.second, mods[2]);
        }
        if (shift) {
            Vec carry = all(0);
            for (u64 l = 0; l < r.size; ++l) {
                const Vec sum = add(add(d[l], all(r.quarter[l])), carry);
                carry = sub(all(1), less(sum, mods[l].p));
                d[l] = canonical(sum, mods[l]);
            }
        }
        Vec above = all(1);  // s >= floor(T / 2) + 1, for T is odd
        for (u64 l = 0; l < r.size; ++l) {
            const Vec half = all(r.half[l]), less_here = less(d[l], half), more = less(half, d[l]);
            const Vec equal = sub(all(1), add(less_here, more));
            above = l ? add(more, both(equal, above)) : more;
        }
        store_bits(upper + i, above);
        Vec value = d[r.size - 1];
        for (u64 l = r.size - 1; l-- > 0;) value = add(d[l], low_product(all(r.t[l]), value));
        store(out + i, value);
    }
    return wrong == 0;
}

// round(v t / 2^128) modulo t, and whether one of them was within margin / 2^64 of a half; t of 44 bits, or 2^64 if 0.
bool rounded(const u64* high, const u64* low, u64 count, u64 t, u64 margin, u64* out) {
    const Vec by = all(t), mask = all(LOW52), near = all(margin), nearer = all(2 * margin), top = all(u64(1) << 63);
    u64 doubtful = 0;
    for (u64 i = 0; i < count; i += WIDTH) {
        Vec w = load(high + i), r = load(low + i);
        if (t) {  // by the first 104 bits of v
            const Vec a = right<12>(w), b = add(both(left<40>(w), mask), right<24>(r)), none = all(0);
            const Vec f = add_high(add_low(none, a, by), b, by);
            w = add(add_high(none, a, by), right<52>(f));
            r = add(left<12>(f), right<40>(add_low(none, b, by)));
        }
        w = add(w, right<63>(r));
        store(out + i, t ? lesser(w, sub(w, by)) : w);
        doubtful += any(less(add(sub(r, top), near), nearer));
    }
    return doubtful != 0;
}

const Loops LOOPS = {forward, inverse, residues, sum, scaled, centre, add_noise, fraction, whole, split, joined,
                     masked, combined, rounded, noise, ternary, product, pack, unpack, uniform, dot, panel, shifted};
