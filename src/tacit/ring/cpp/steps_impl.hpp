// Rows of elements, in blocks of 64-bit words; included by steps.cpp once for each instruction set.

template <class T>
inline void load_as(const u8* from, i64 step, u64 count, u64* out) {
    const auto put = [&](i64 by) {
        for (u64 i = 0; i < count; ++i) {
            T v;
            std::memcpy(&v, from + i64(i) * by, sizeof v);
            out[i] = static_cast<u64>(static_cast<i64>(v));
        }
    };
    step == sizeof(T) ? put(sizeof(T)) : put(step);
}

template <class T>
inline void store_as(u8* to, i64 step, u64 count, const u64* in) {
    const auto put = [&](i64 by) {
        for (u64 i = 0; i < count; ++i) {
            const T v = static_cast<T>(in[i]);
            std::memcpy(to + i64(i) * by, &v, sizeof v);
        }
    };
    step == sizeof(T) ? put(sizeof(T)) : put(step);
}

inline void load(Type type, const u8* from, i64 step, u64 count, u64* out) {
    switch (type) {
        case Type::int64: return load_as<i64>(from, step, count, out);
        case Type::int32: return load_as<std::int32_t>(from, step, count, out);
        case Type::int16: return load_as<i16>(from, step, count, out);
        case Type::int8: return load_as<std::int8_t>(from, step, count, out);
        default: return load_as<u8>(from, step, count, out);
    }
}

inline void store(Type type, u8* to, i64 step, u64 count, u64* in) {
    switch (type) {
        case Type::int64: return store_as<u64>(to, step, count, in);
        case Type::int32: return store_as<u32>(to, step, count, in);
        case Type::int16: return store_as<u16>(to, step, count, in);
        case Type::boolean:
            for (u64 i = 0; i < count; ++i) in[i] = in[i] != 0;
            [[fallthrough]];
        default: return store_as<u8>(to, step, count, in);
    }
}

// A block of a lane, where it lies if it can be read as it is.
inline const u64* block_of(const Lane& lane, u64 at, u64 count, u64* space) {
    if (!lane.from) return lane.filled;
    const u8* from = lane.from + i64(at) * lane.step;
    if (lane.type == Type::int64 && lane.step == 8 && reinterpret_cast<std::uintptr_t>(from) % 8 == 0)
        return reinterpret_cast<const u64*>(from);
    load(lane.type, from, lane.step, count, space);
    return space;
}

template <class Op>
inline void each(const u64* a, const u64* b, u64* out, u64 count, const Op& op) {
    for (u64 i = 0; i < count; ++i) out[i] = op(a[i], b[i]);
}

inline void compute(Kind kind, u64 factor, const u64* a, const u64* b, u64* out, u64 n) {
    const auto sign = [](u64 v) { return static_cast<i64>(v); };
    switch (kind) {
        case Kind::add:
            if (factor == 1) return each(a, b, out, n, [](u64 x, u64 y) { return x + y; });
            if (factor == ~u64{0}) return each(a, b, out, n, [](u64 x, u64 y) { return x - y; });
            return each(a, b, out, n, [=](u64 x, u64 y) { return x + factor * y; });
        case Kind::multiply: return each(a, b, out, n, [](u64 x, u64 y) { return x * y; });
        case Kind::exclusive_or: return each(a, b, out, n, [](u64 x, u64 y) { return x ^ y; });
        case Kind::both: return each(a, b, out, n, [](u64 x, u64 y) { return x & y; });
        case Kind::either: return each(a, b, out, n, [](u64 x, u64 y) { return x | y; });
        case Kind::shift_up: return each(a, b, out, n, [](u64 x, u64 y) { return y < 64 ? x << y : 0; });
        case Kind::shift_down:
            return each(a, b, out, n, [=](u64 x, u64 y) { return u64(sign(x) >> (y < 64 ? y : 63)); });
        case Kind::less: return each(a, b, out, n, [=](u64 x, u64 y) { return u64(sign(x) < sign(y)); });
        case Kind::greater: return each(a, b, out, n, [=](u64 x, u64 y) { return u64(sign(x) > sign(y)); });
        case Kind::equal: return each(a, b, out, n, [](u64 x, u64 y) { return u64(x == y); });
        case Kind::unequal: return each(a, b, out, n, [](u64 x, u64 y) { return u64(x != y); });
    }
}

// out[i] = a[i] op b[i].
inline void row(Kind kind, u64 factor, const Lane& a, const Lane& b, u8* out, i64 out_step, Type out_type, u64 count) {
    alignas(64) u64 left[BLOCK], right[BLOCK], made[BLOCK];
    const bool direct = out_type == Type::int64 && out_step == 8 && reinterpret_cast<std::uintptr_t>(out) % 8 == 0;
    for (u64 at = 0; at < count; at += BLOCK) {
        const u64 n = std::min(BLOCK, count - at);
        u8* to = out + i64(at) * out_step;
        u64* into = direct ? reinterpret_cast<u64*>(to) : made;
        compute(kind, factor, block_of(a, at, n, left), block_of(b, at, n, right), into, n);
        if (!direct) store(out_type, to, out_step, n, made);
    }
}

// The sum of a row.
inline void total(const Lane& a, u64 count, u64& sum) {
    alignas(64) u64 space[BLOCK];
    for (u64 at = 0; at < count; at += BLOCK) {
        const u64 n = std::min(BLOCK, count - at);
        const u64* block = block_of(a, at, n, space);
        for (u64 i = 0; i < n; ++i) sum += block[i];
    }
}
