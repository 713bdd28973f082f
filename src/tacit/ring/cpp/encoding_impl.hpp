// The body of encoding.cpp for one instruction set: plain loops, which the compiler turns into its vectors.

template <class Float>
inline void encode(const Float* x, double scale, i64* out, u64 begin, u64 end, bool& all_fit) {
    u64 outside = 0;
    for (u64 i = begin; i < end; ++i) {
        const double v = static_cast<double>(x[i]) * scale;
        const bool fits = std::fabs(v) < LIMIT;  // false for NaN, too
        const double kept = fits ? v : 0.0;
        out[i] = static_cast<i64>(std::rint(kept));
        outside |= !fits;
    }
    all_fit = !outside;
}

template <class Float>
inline void decode(const i64* v, double scale, Float* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = static_cast<Float>(static_cast<double>(v[i]) * scale);
}
