// The body of two_party_passes.cpp for one instruction set: plain loops, which the compiler turns into its vectors.
// -v = (v ^ ones) - ones, where ones has all bits of a negative sign, and none of a positive one.

inline void masked_numbers(const u64* v, const u64* zero, const u64* one, int shift, u64* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = v[i] - ((one[i] - zero[i]) << shift);
}

inline void sender_share(const u8* d, const u64* v, const u64* zero, int shift, u64* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) {
        const u64 ones = 0 - u64{d[i]};
        out[i] = (v[i] & ones) - (((zero[i] << shift) ^ ones) - ones);
    }
}

inline void receiver_share(const u8* d, const u8* beta, const u64* pad, const u64* e, int shift, u64* out, u64 begin,
                           u64 end) {
    for (u64 i = begin; i < end; ++i) {
        const u64 ones = 0 - u64{d[i]};
        const u64 inner = (e[i] & (0 - u64{beta[i]})) + (pad[i] << shift);
        out[i] = (inner ^ ones) - ones;
    }
}

template <class High>
inline void quotient(High high, const u64* x, const u64* wrap, u64 constant, bool round_up, u64* out, u64 begin,
                     u64 end) {
    const auto each = [&](auto more) {
        for (u64 i = begin; i < end; ++i) out[i] = high(x[i]) + more(i) + constant;
    };
    if (wrap && round_up) each([&](u64 i) { return wrap[i] + high.rest(x[i]); });
    else if (wrap) each([&](u64 i) { return wrap[i]; });
    else if (round_up) each([&](u64 i) { return high.rest(x[i]); });
    else each([](u64) { return u64{0}; });
}
