// The body of ot_extend.cpp for one instruction set: 128 rows of bits, turned into blocks of 128 bits.

// A vector of bytes of each row at a time: bytes of eight rows side by side, each eight of them turned, and then those of
// the sixteen eights side by side.
inline void turn(const u8 (*rows)[WIDTH], u8* out) {
    constexpr int EIGHTS = ROWS / 8;
    alignas(64) Vec eights[8][EIGHTS];
    for (u64 at = 0; at < WIDTH; at += sizeof(Vec)) {
        for (int g = 0; g < EIGHTS; ++g) {
            Vec a[8], b[8];
            for (int r = 0; r < 8; ++r) a[FIRST_ROW + NEXT_ROW * r] = load(rows[8 * g + r] + at);
            for (int r = 0; r < 4; ++r) {
                b[2 * r] = low8(a[2 * r], a[2 * r + 1]);
                b[2 * r + 1] = high8(a[2 * r], a[2 * r + 1]);
            }
            for (int r = 0; r < 2; ++r)
                for (int h = 0; h < 2; ++h) {
                    a[4 * r + 2 * h] = low16(b[4 * r + h], b[4 * r + 2 + h]);
                    a[4 * r + 2 * h + 1] = high16(b[4 * r + h], b[4 * r + 2 + h]);
                }
            for (int h = 0; h < 4; ++h) {  // columns 16 l + 2 m and the next one in lane l of vector m
                eights[2 * h][g] = turned(low32(a[h], a[4 + h]));
                eights[2 * h + 1][g] = turned(high32(a[h], a[4 + h]));
            }
        }
        for (int m = 0; m < 8; ++m) {
            Vec a[EIGHTS], b[EIGHTS];
            for (int r = 0; r < 8; ++r) {
                b[2 * r] = low8(eights[m][2 * r], eights[m][2 * r + 1]);
                b[2 * r + 1] = high8(eights[m][2 * r], eights[m][2 * r + 1]);
            }
            for (int r = 0; r < 4; ++r)
                for (int h = 0; h < 2; ++h) {
                    a[4 * r + 2 * h] = low16(b[4 * r + h], b[4 * r + 2 + h]);
                    a[4 * r + 2 * h + 1] = high16(b[4 * r + h], b[4 * r + 2 + h]);
                }
            for (int r = 0; r < 2; ++r)
                for (int h = 0; h < 4; ++h) {
                    b[8 * r + 2 * h] = low32(a[8 * r + h], a[8 * r + 4 + h]);
                    b[8 * r + 2 * h + 1] = high32(a[8 * r + h], a[8 * r + 4 + h]);
                }
            for (int h = 0; h < 8; ++h) {
                a[2 * h] = low64(b[h], b[8 + h]);
                a[2 * h + 1] = high64(b[h], b[8 + h]);
            }
            store(a, out + 16 * (8 * at + 16 * static_cast<u64>(m)));
        }
    }
}
