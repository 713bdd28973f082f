// Comparison in one level, by digits of up to 8 bits: tables of masks, look-ups in them, and one node of all digits.
//
//     R = l7 + q7 (l6 + q6 (l5 + … + q1 l0))        over GF(2)
//
// A word has l_d as bit d and q_d as bit 8 + d, and is opened under a mask of λ_d and e_d. What is dealt for a mask are six
// words: A[S] = ∏_{j in S} e_j for S among 1 … 7, where e_j counts as bit 7 - j of S, and B_d[S] = λ_d A[S] for S among
// d + 1 … 7: two words of A, two of B_0, one of B_1, and one of B_2 (from bit 0 on), B_3 (32), B_4 (48), B_5 and B_6.
//
// Of numbers whose top bits tell enough, digits are of fewer bits, and are the top ones: digit d of eight or six. Six are
// d = 2 … 7, which leaves the first word of A and the last one.
#include <cstring>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 DIGITS = 8, WORDS = 6, FEW = 6, FEW_WORDS = 2;  // of a number, and words of a mask; where there are fewer
constexpr double GRAIN = 1 << 12;               // elements that a thread should have at least
constexpr int LATER[] = {0, 32, 48, 56, 60};    // where B_2 … B_6 begin

// Digits: how many, of so many bits, the bytes of a table.
struct Cut {
    u64 count, bits, row;
    Cut(int count_, int bits_) : count(u64(count_)), bits(u64(bits_)), row((u64{1} << bits_) / 8) {
        if ((count != DIGITS && count != FEW) || bits_ < 4 || bits_ > 8) refuse("digits of another size");
    }
    // Digit k of those there are, below the sign.
    unsigned digit(u64 number, u64 k) const {
        return (number & ~u64{0} >> 1) >> (64 - bits * (count - k)) & ((u64{1} << bits) - 1);
    }
};

// Tables of a: bit j of out[i, k] is [j < digit k of a[i]]; out is [count, digits, bytes].
void wide_tables(Memory a_at, int digits, int bits, Memory out_at, int threads) {
    const u64 n = size(a_at);
    const Cut cut(digits, bits);
    const u64* a = elements<u64>(a_at, n);
    u8* out = elements<u8>(out_at, cut.count * cut.row * n);
    parallel(i64(n), 1, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i)
            for (u64 k = 0; k < cut.count; ++k) {
                const unsigned d = cut.digit(a[i], k);
                u8* row = out + (cut.count * i + k) * cut.row;
                std::memset(row, 0, cut.row);
                std::memset(row, 0xFF, d / 8);
                row[d / 8] = static_cast<u8>((1u << d % 8) - 1);
            }
    });
}

// Look digits of public numbers up in shared tables of `width` masks; number i uses mask i mod width. One party, the
// leader, adds the public 1 of [0 <= digit].
void wide_lookup(
    Memory tables_at, int digits, int bits, Memory numbers_at, bool leader, Memory out_at, int threads
) {
    const Cut cut(digits, bits);
    const u64 n = size(numbers_at), width = size(tables_at) / (cut.count * cut.row), first = DIGITS - cut.count;
    if (n && (!width || n % width)) refuse("tables for another number of elements");
    const u8* tables = elements<u8>(tables_at, cut.count * cut.row * width);
    const u64* numbers = elements<u64>(numbers_at, n);
    u16* out = elements<u16>(out_at, n);
    parallel(i64(n), 1, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i) {
            const u8* rows = tables + i % width * cut.count * cut.row;
            unsigned word = 0;
            for (u64 k = 0; k < cut.count; ++k) {
                const unsigned u = cut.digit(numbers[i], k);
                const u8* row = rows + k * cut.row;
                const unsigned less = row[u / 8] >> u % 8 & 1;
                const unsigned before = u - (u > 0);
                const unsigned upto = u > 0 ? row[before / 8] >> before % 8 & 1 : unsigned{leader};
                word |= (less | (less ^ upto) << 8) << (first + k);
            }
            out[i] = static_cast<u16>(word);
        }
    });
}

// What is dealt for masks of words of eight digits, or of six.
void wide_expand(Memory masks_at, Memory out_at, int threads) {
    const u64 n = size(masks_at), words = size(out_at) / (n ? n : 1);
    const u16* masks = elements<u16>(masks_at, n);
    if (n && words != WORDS && words != FEW_WORDS) refuse("products of another number of digits");
    u64* out = elements<u64>(out_at, words * n);
    parallel(i64(n), 1, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i) {
            const u64 m = masks[i];
            const auto e = [m](int j) { return m >> (8 + j) & 1; };
            const auto lambda = [m](int d) { return ~((m >> d & 1) - 1); };  // all bits of it
            u64 low = 1;
            for (int j = 7; j > 1; --j) low |= e(j) ? low << (1 << (7 - j)) : 0;
            u64* row = out + words * i;
            row[0] = low;
            if (words == WORDS) {
                const u64 high = e(1) ? low : 0;
                row[1] = high;
                row[2] = low & lambda(0);
                row[3] = high & lambda(0);
                row[4] = low & lambda(1);
            }
            u64& last = row[words - 1];
            last = 0;
            for (int d = 2; d < 7; ++d) last |= (low & lambda(d) & ((u64{1} << (128 >> d)) - 1)) << LATER[d - 2];
        }
    });
}

// A party's share of R, a byte for each word: from its share of the word, the opened one, and its share of what is dealt.
void wide_evaluate(Memory opened_at, Memory words_at, Memory dealt_at, bool leader, Memory out_at, int threads) {
    const u64 n = size(opened_at), count = size(dealt_at) / (n ? n : 1);
    const u16 *opened = elements<u16>(opened_at, n), *words = elements<u16>(words_at, n);
    if (n && count != WORDS && count != FEW_WORDS) refuse("products of another number of digits");
    const u64* dealt = elements<u64>(dealt_at, count * n);
    u8* out = elements<u8>(out_at, n);
    parallel(i64(n), 1, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i) {
            const u64 v = opened[i];
            const auto every = [v](int bit) { return ~((v >> bit & 1) - 1); };  // all bits of it
            const u64* row = dealt + count * i;
            const u64 low = (row[0] & ~u64{1}) | u64{leader}, last = row[count - 1];  // A[∅] = 1 is public
            // Σ_d, from the inside: fold l_d + … by q_{d+1} = V + e
            u64 sum = 0;
            if (count == WORDS) {
                const u64 high = row[1];
                sum = (every(9) & (row[2] ^ (low & every(0)))) ^ row[3] ^ (high & every(0));
                sum ^= row[4] ^ (low & every(1));
            }
            for (int d = 2; d < 8; ++d) {
                const int half = 128 >> d;
                const u64 mask = (u64{1} << half) - 1;
                sum = (every(8 + d) & sum & mask) ^ (sum >> half);
                if (d < 7) sum ^= (last >> LATER[d - 2] & mask) ^ (low & every(d) & mask);
            }
            out[i] = static_cast<u8>((sum ^ words[i] >> 7) & 1);
        }
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "wide_tables", &wide_tables);
    kernel(m, "wide_lookup", &wide_lookup);
    kernel(m, "wide_expand", &wide_expand);
    kernel(m, "wide_evaluate", &wide_evaluate);
});

}  // namespace
}  // namespace tacit
