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
inline void quotient(High high, const u64* x, const u64* wrap, u64 constant, u64* out, u64 begin, u64 end) {
    if (wrap) {
        for (u64 i = begin; i < end; ++i) out[i] = high(x[i]) + wrap[i] + constant;
    } else {
        for (u64 i = begin; i < end; ++i) out[i] = high(x[i]) + constant;
    }
}
