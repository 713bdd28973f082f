// The body of two_party_tables.cpp for one instruction set. Elements from begin to end, in blocks of 64 but for the last.

inline void open_digits(const u64* x, const u8* choice, u8* u, u8* d, u64 n, u64 begin, u64 end) {
    for (u64 k = 0; k < DIGITS; ++k) {
        const u64 mask = k + 1 < DIGITS ? 15 : 7;
        u8* own = u + k * n;
        const u8* random = choice + k * n;
        u8* opened = d + k * n / 2;
        for (u64 i = begin; i < end; ++i) own[i] = static_cast<u8>(x[i] >> 4 * k & mask);
        for (u64 i = begin / 2; i < end / 2; ++i)
            opened[i] = static_cast<u8>(((own[2 * i] - random[2 * i]) & 15) |
                                        ((own[2 * i + 1] - random[2 * i + 1]) & 15) << 4);
    }
}

inline void send_tables(const u64* x, u64 threshold, const u8* d, const u32* pads, u32* message, Planes planes, u64 n,
                        u64 begin, u64 end) {
    u8 turns[BLOCK] = {}, less[BLOCK] = {}, equal[BLOCK] = {};
    for (u64 k = 0; k < DIGITS; ++k) {
        u8 *less_row = planes.row(0, k), *equal_row = planes.row(1, k);
        const u32* pad = pads + k * n;
        u32* out = message + k * n;
        for (u64 start = begin; start < end; start += BLOCK) {
            const u64 count = end - start < BLOCK ? end - start : BLOCK;
            const u8* opened = d + (k * n + start) / 2;
            for (u64 i = 0; i < count / 2; ++i) {
                turns[2 * i] = opened[i] & 15;
                turns[2 * i + 1] = opened[i] >> 4;
            }
            for (u64 i = 0; i < count; ++i) {
                const u32 own = static_cast<u32>((~(x[start + i] - threshold) & ~TOP) >> 4 * k & 15);
                const u32 above = static_cast<u32>(u64{0x5555555555555555} << (2 * own + 2));
                const u32 table = above | u32{1} << (2 * own + 1);
                const u32 turn = 2u * turns[i], p = pad[start + i];
                const u32 masked = table ^ (p << turn | p >> ((32 - turn) & 31));
                out[start + i] = masked ^ (masked & 3) * 0x55555555u;
                less[i] = masked & 1;
                equal[i] = masked >> 1 & 1;
            }
            store_block(less_row + start / 8, pack_block(less), count);
            store_block(equal_row + start / 8, pack_block(equal), count);
        }
    }
}

inline void read_tables(const u32* message, const u8* u, const u8* pad, Planes planes, u64 n, u64 begin, u64 end) {
    u8 less[BLOCK] = {}, equal[BLOCK] = {};
    for (u64 k = 0; k < DIGITS; ++k) {
        u8 *less_row = planes.row(0, k), *equal_row = planes.row(1, k);
        const u64 row = k * n;
        for (u64 start = begin; start < end; start += BLOCK) {
            const u64 count = end - start < BLOCK ? end - start : BLOCK;
            for (u64 i = 0; i < count; ++i) {
                const u64 at = row + start + i;
                const u32 entry = (message[at] >> 2 * (u[at] & 15)) ^ pad[at];
                less[i] = entry & 1;
                equal[i] = entry >> 1 & 1;
            }
            store_block(less_row + start / 8, pack_block(less), count);
            store_block(equal_row + start / 8, pack_block(equal), count);
        }
    }
}

inline void joined_pad(const u8* pad, u64* out, u64 n, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = 0;
    for (u64 k = 0; k < WORD; ++k)
        for (u64 i = begin; i < end; ++i) out[i] |= u64{pad[k * n + i]} << 2 * k;
}

inline void joined_pads(const u32* pads, u64* out, u64 n, u64 begin, u64 end) {
    for (u64 start = begin; start < end; start += BLOCK) {
        const u64 stop = end - start < BLOCK ? end : start + BLOCK;
        for (u64 j = 0; j < DIGITS; ++j) {
            u64* row = out + j * n;
            for (u64 i = start; i < stop; ++i) row[i] = 0;
            for (u64 k = 0; k < WORD; ++k)
                for (u64 i = start; i < stop; ++i) row[i] |= u64{pads[k * n + i] >> 2 * j & 3} << 2 * k;
        }
    }
}
