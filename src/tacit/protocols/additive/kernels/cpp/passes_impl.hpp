// The body of passes.cpp for one instruction set: plain loops, which the compiler turns into its vectors.

inline void multiply_add(const u64* x, const u64* b, const u64* y, const u64* a, bool leader, bool minus, u64* out,
                         u64 begin, u64 end) {
    const u64 flip = minus ? ~u64{0} : 0;  // -v = (v ^ ones) - ones
    const auto each = [&](auto product) {
        for (u64 i = begin; i < end; ++i) out[i] = product(i) + ((out[i] ^ flip) - flip);
    };
    if (a && b && leader) each([&](u64 i) { return x[i] * (y[i] + b[i]) + y[i] * a[i]; });
    else if (a && b) each([&](u64 i) { return x[i] * b[i] + y[i] * a[i]; });
    else if (a && leader) each([&](u64 i) { return y[i] * (x[i] + a[i]); });
    else if (a) each([&](u64 i) { return y[i] * a[i]; });
    else if (b && leader) each([&](u64 i) { return x[i] * (y[i] + b[i]); });
    else if (b) each([&](u64 i) { return x[i] * b[i]; });
    else if (leader) each([&](u64 i) { return x[i] * y[i]; });
    else each([&](u64) { return u64{0}; });
}

template <class High, class Word>
inline void scaled_parts(High high_of, Word, const u64* a, const u8* bit, u64* high, u8* wrap, u64 begin, u64 end) {
    const auto each = [&](auto chosen) {
        for (u64 i = begin; i < end; ++i) {
            const u64 mask = chosen(i);
            high[i] = high_of(a[i]) & mask;
            store_word<Word>(wrap, i, high_of.m & (0 - (a[i] >> 63)) & mask);
        }
    };
    if (bit)
        each([&](u64 i) { return 0 - u64{bit[i]}; });
    else
        each([](u64) { return ~u64{0}; });
}

template <class High, class Word>
inline void scaled_share(High high_of, Word, const u64* opened, const u64* high, const u8* wrap, bool leader, u64* out,
                         u64 begin, u64 end) {
    if (leader) {
        for (u64 i = begin; i < end; ++i) {
            const u64 up = opened[i] + SHIFT_UP, w = load_word<Word>(wrap, i);
            out[i] = high[i] + high_of.of_public(up) - (w & ((up >> 63) - 1));
        }
    } else {
        for (u64 i = begin; i < end; ++i) {
            const u64 up = opened[i] + SHIFT_UP, w = load_word<Word>(wrap, i);
            out[i] = high[i] - (w & ((up >> 63) - 1));
        }
    }
}

template <class High, class Word>
inline void selected_scaled(High high_of, Word, const u64* opened, const u8* c, const u64* x, const u64* beta,
                            const u64* high, const u8* wrap, u64* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) {
        const u64 up = opened[i] + SHIFT_UP, w = load_word<Word>(wrap, i), ones = 0 - u64{c[i]};
        const u64 inner = high_of.of_public(up) * beta[i] + high[i] - (w & ((up >> 63) - 1));
        out[i] = ((inner ^ ones) - ones) + (x[i] & ones);
    }
}

inline void selected_simple(const u64* opened, const u8* c, const u64* x, const u64* beta, const u64* product, u64* out,
                            u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) {
        const u64 inner = opened[i] * beta[i] + product[i], ones = 0 - u64{c[i]};
        out[i] = ((inner ^ ones) - ones) + (x[i] & ones);
    }
}
