// The body of comparison.cpp for one instruction set; look_up, for 64 elements at a time, comes from the including
// namespace. `begin` and `end` are elements, or bytes of a row, and begin is a multiple of 64.

// The 16 digits of 64 numbers, or of fewer and zeros.
inline void digits_of(const u64* numbers, u64 count, u16 (*digits)[BLOCK]) {
    u64 number[BLOCK] = {};
    std::memcpy(number, numbers, 8 * count);
    for (int quarter = 0; quarter < 4; ++quarter) {
        u16 part[BLOCK];
        for (u64 i = 0; i < BLOCK; ++i) part[i] = static_cast<u16>(number[i] >> 16 * quarter);
        for (int k = 0; k < 4; ++k) {
            const u16 mask = 4 * quarter + k < CHUNKS - 1 ? 15 : 7;
            for (u64 i = 0; i < BLOCK; ++i) digits[4 * quarter + k][i] = static_cast<u16>(part[i] >> 4 * k) & mask;
        }
    }
}

inline void thermometer(const u64* a, u64 count, u16* out, int first, u64 begin, u64 end) {
    alignas(64) u16 digits[RUN / BLOCK][CHUNKS][BLOCK];
    for (u64 at = begin; at < end; at += RUN) {
        const u64 size = std::min(RUN, end - at);
        for (u64 i = 0; i < size; i += BLOCK) digits_of(a + at + i, std::min(BLOCK, size - i), digits[i / BLOCK]);
        for (int k = first; k < CHUNKS; ++k) {
            u16* row = out + (k - first) * count + at;
            for (u64 i = 0; i < size; i += BLOCK) {
                __builtin_prefetch(row + i + RUN, 1);
                __builtin_prefetch(row + i + RUN + BLOCK / 2, 1);
                u16 table[BLOCK];
                for (u64 j = 0; j < BLOCK; ++j) table[j] = static_cast<u16>((1u << digits[i / BLOCK][k][j]) - 1);
                std::memcpy(row + i, table, 2 * std::min(BLOCK, size - i));
            }
        }
    }
}

inline void lookup(const u16* tables, u64 width, const u64* numbers, u64 count, bool leader, u8* less, u8* equal,
                   int first, u64 begin, u64 end) {
    const u64 bytes = (count + 7) / 8;
    const int nodes = (CHUNKS - first) / 4;
    alignas(64) u16 digits[RUN / BLOCK][CHUNKS][BLOCK];
    u16 copy[BLOCK] = {};
    for (u64 at = begin; at < end; at += RUN) {
        const u64 run = std::min(RUN, end - at);
        for (u64 i = 0; i < run; i += BLOCK) digits_of(numbers + at + i, std::min(BLOCK, run - i), digits[i / BLOCK]);
        for (int k = first; k < CHUNKS; ++k) {
            const u16* row = tables + (k - first) * width;
            for (u64 i = 0; i < run; i += BLOCK) {
                const u64 size = std::min(BLOCK, run - i), column = (at + i) % width;
                const u16* part = row + column;
                __builtin_prefetch(part + RUN);
                __builtin_prefetch(part + RUN + BLOCK / 2);
                if (column + BLOCK > width) {  // past the last column comes the first one again
                    for (u64 j = 0; j < size; ++j) copy[j] = row[(column + j) % width];
                    part = copy;
                }
                Pair found = look_up(part, digits[i / BLOCK][k], leader);
                if (size < BLOCK) {
                    found.less &= (u64{1} << size) - 1;
                    found.equal &= (u64{1} << size) - 1;
                }
                const u64 place = (nodes * (k % 4) + (k - first) / 4) * bytes + (at + i) / 8;
                std::memcpy(less + place, &found.less, (size + 7) / 8);
                std::memcpy(equal + place, &found.equal, (size + 7) / 8);
            }
        }
    }
}

template <class Word>
inline Word load(const u8* from) {
    Word w;
    std::memcpy(&w, from, sizeof w);
    return w;
}

template <class Word>
inline void store(u8* to, Word w) {
    std::memcpy(to, &w, sizeof w);
}

// All rows at one place: `rows` bytes apart.
template <class Word, bool TOP>
struct Node {
    const u8 *opened, *masks, *monomials;
    u64 rows;
    Word one;

    // The share of a product of masks.
    template <Set MASKS>
    Word share() const {
        if constexpr (MASKS == 0)
            return one;
        else if constexpr (bits_in(MASKS) == 1)
            return load<Word>(masks + row_of(INPUTS, MASKS) * rows);
        else
            return load<Word>(monomials + row_of(MONOMIALS<TOP>, MASKS) * rows);
    }

    // The share of the product of inputs BITS, each V + m, and masks MASKS: one input after the other is opened up.
    template <Set BITS, Set MASKS = 0>
    Word product() const {
        if constexpr (BITS == 0) {
            return share<MASKS>();
        } else {
            constexpr Set bit = lowest(BITS);
            const Word v = load<Word>(opened + row_of(INPUTS, bit) * rows);
            return (v & product<BITS ^ bit, MASKS>()) ^ product<BITS ^ bit, (MASKS | bit)>();
        }
    }
};

template <class Word, bool TOP>
inline void evaluate_at(const u8* opened, const u8* masks, const u8* monomials, const u8* less3, u64 rows, Word one,
                        u8* less, u8* equal) {
    const Node<Word, TOP> node{opened, masks, monomials, rows, one};
    Word sum = load<Word>(less3);
    sum ^= node.template product<PRODUCTS[0]>();
    sum ^= node.template product<PRODUCTS[1]>();
    sum ^= node.template product<PRODUCTS[2]>();
    store(less, sum);
    if constexpr (!TOP) store(equal, node.template product<PRODUCTS[3]>());
}

template <bool TOP>
inline void evaluate(const u8* opened, const u8* masks, const u8* monomials, const u8* less3, u64 rows, u8 one, u8* less,
                     u8* equal, u64 begin, u64 end) {
    const Wide ones = Wide{} + (one ? ~u64{0} : 0);
    u64 at = begin;
    for (; at + sizeof(Wide) <= end; at += sizeof(Wide))
        evaluate_at<Wide, TOP>(opened + at, masks + at, monomials + at, less3 + at, rows, ones, less + at, equal + at);
    for (; at < end; ++at)
        evaluate_at<u8, TOP>(opened + at, masks + at, monomials + at, less3 + at, rows, one, less + at, equal + at);
}

template <class Word, bool TOP, std::size_t... I>
inline void expand_at(const u8* masks, u64 rows, u8* out, std::index_sequence<I...>) {
    Word mask[INPUTS.size()];
    for (std::size_t i = 0; i < INPUTS.size() - TOP; ++i) mask[i] = load<Word>(masks + i * rows);
    const auto monomial = [&](Set s) {
        Word all = mask[row_of(INPUTS, lowest(s))];
        for (s ^= lowest(s); s; s ^= lowest(s)) all &= mask[row_of(INPUTS, lowest(s))];
        return all;
    };
    (store<Word>(out + I * rows, monomial(MONOMIALS<TOP>[I])), ...);
}

template <bool TOP>
inline void expand(const u8* masks, u64 rows, u8* out, u64 begin, u64 end) {
    constexpr auto all = std::make_index_sequence<MONOMIALS<TOP>.size()>{};
    u64 at = begin;
    for (; at + sizeof(Wide) <= end; at += sizeof(Wide)) expand_at<Wide, TOP>(masks + at, rows, out + at, all);
    for (; at < end; ++at) expand_at<u8, TOP>(masks + at, rows, out + at, all);
}
