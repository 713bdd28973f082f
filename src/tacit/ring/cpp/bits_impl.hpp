// The body of bits.cpp for one instruction set. `begin` and `end` are elements, and begin is a multiple of 64.

inline void pack(const u8* bits, u8* plane, u64 begin, u64 end) {
    for (u64 at = begin; at < end; at += BLOCK) {
        const u64 size = std::min(BLOCK, end - at);
        u8 last[BLOCK] = {};
        if (size < BLOCK) std::memcpy(last, bits + at, size);
        const u64 word = pack_block(size < BLOCK ? last : bits + at);
        std::memcpy(plane + at / 8, &word, (size + 7) / 8);
    }
}

inline void unpack(const u8* plane, u8* bits, u64 begin, u64 end) {
    for (u64 at = begin; at < end; at += BLOCK) {
        const u64 size = std::min(BLOCK, end - at);
        u64 word = 0;
        std::memcpy(&word, plane + at / 8, (size + 7) / 8);
        u8 last[BLOCK];
        unpack_block(word, size < BLOCK ? last : bits + at);
        if (size < BLOCK) std::memcpy(bits + at, last, size);
    }
}
