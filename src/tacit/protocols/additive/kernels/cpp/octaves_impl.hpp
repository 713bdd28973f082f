// The body of octaves.cpp for one instruction set: plain loops over blocks of elements, which compilers make vectors of.
// Every step is one IEEE addition or product, in the order of tacit.protocols.additive.kernels.octaves, and no compiler may
// join or reorder them: all parties must get the same public factors, to the last bit.

// 2^k, for a k among the exponents of normal doubles.
inline double power(u64 k) {
    const u64 bits = (1023 + k) << 52;
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// 2^x for 0 <= x < 32.
inline double exp2_of(double x) {
    const int whole = static_cast<int>(x);
    const double rest = (x - whole) * LN2;
    double total = SERIES.terms[DEGREE];
#pragma GCC unroll 16
    for (int k = DEGREE; k-- > 0;) total = total * rest + SERIES.terms[k];
    return total * power(static_cast<u64>(whole));
}

// The integer next to 0 <= x < 2^63, the even one of two: above 2^52 doubles are integers.
inline u64 rounded(double x) {
    return static_cast<u64>(static_cast<i64>(x < 0x1p52 ? (x + 0x1p52) - 0x1p52 : x));
}

// The high digits of a block, and 2^low of what is below them.
inline void cut(const Cut& c, const u64* __restrict v, u64 count, u64* __restrict high, double* __restrict low) {
    for (u64 i = 0; i < count; ++i) {
        const u64 at = (v[i] + c.offset) & c.period;
        high[i] = at >> c.shift;
        low[i] = static_cast<double>(static_cast<i64>(at & ((u64{1} << c.shift) - 1))) * c.unit * c.step;
    }
    for (u64 i = 0; i < count; ++i) low[i] = exp2_of(low[i]);
}

inline void share(const Cut& c, double scale, const u64* e, const u64* part, u64 n, u64* __restrict out, u64 begin, u64 end) {
    alignas(64) u64 high[BLOCK];
    alignas(64) double low[BLOCK];
    for (u64 first = begin; first < end; first += BLOCK) {
        const u64 count = std::min(BLOCK, end - first);
        cut(c, e + first, count, high, low);
        for (u64 i = 0; i < count; ++i) out[first + i] = rounded(low[i] * scale) * part[high[i] * n + first + i];
    }
}

inline void table(const Cut& c, double scale, u64 octaves, int zeros, const u64* a, u64 entries, u64 n, u64* __restrict out,
                  u64 begin, u64 end) {
    alignas(64) u64 high[BLOCK];
    alignas(64) double low[BLOCK];
    for (u64 first = begin; first < end; first += BLOCK) {
        const u64 count = std::min(BLOCK, end - first);
        cut(c, a + first, count, high, low);
        for (u64 i = 0; i < count; ++i) low[i] *= scale;
        for (u64 j = 0; j < entries; ++j)
            for (u64 i = 0; i < count; ++i)
                out[j * n + first + i] = rounded(low[i] * power(octaves * ((j + high[i]) & (entries - 1)))) << zeros;
    }
}
