// The body of ot_hash.cpp for one instruction set, on one batch at most.

inline void words(const RoundKeys& keys, const Block* x, Block delta, u64* out, u64 count) {
    Block h[BATCH];
    hash(keys, x, delta, h, count);
    for (u64 i = 0; i < count; ++i) out[i] = h[i].low;
}

inline void planes(const RoundKeys& keys, const Block* x, Block delta, u64 width, u8* out, u64 stride, u64 count) {
    Block h[BATCH];
    hash(keys, x, delta, h, count);
    for (u64 at = 0; at < count; at += 64) {
        const u64 size = std::min<u64>(64, count - at);
        u8 bytes[64] = {}, shifted[64];
        for (u64 i = 0; i < size; ++i) bytes[i] = static_cast<u8>(h[at + i].low);
        for (u64 w = 0; w < width; ++w) {
            for (u64 i = 0; i < 64; ++i) shifted[i] = bytes[i] >> w & 1;
            const u64 word = pack_block(shifted);
            std::memcpy(out + w * stride + at / 8, &word, (size + 7) / 8);
        }
    }
}

// x_0 + γ (x_1 + γ (x_2 + γ x_3))
inline void bases(const Quads& q, u64 at, Block* out, u64 count) {
    for (u64 i = 0; i < count; ++i) {
        const Block* x = q.x + at + i;
        out[i] = x[0] ^ twice(x[q.n] ^ twice(x[2 * q.n] ^ twice(x[3 * q.n])));
    }
}

inline void tables(const RoundKeys& keys, const Quads& q, const Block* d, u64 at, u64 tables, u32* out, u64 stride,
                   u64 count) {
    Block x[BATCH];
    bases(q, at, x, count);
    leaves(keys, x, d, tables, out, stride, count);
}

inline void entries(const RoundKeys& keys, const Quads& q, u64 at, u64 tables, u8* out, u64 stride, u64 count) {
    Block x[BATCH], h[BATCH];
    bases(q, at, x, count);
    hash(keys, x, Block{0, 0}, h, count);
    for (u64 t = 0; t < tables; ++t)
        for (u64 i = 0; i < count; ++i) {
            const u64 half = t < 32 ? h[i].low : h[i].high;
            out[t * stride + i] = static_cast<u8>(half >> 2 * (t % 32) & 3);
        }
}
