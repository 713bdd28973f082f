// Comparison on planes, see bits.hpp: tables of digits, look-ups in them, and the nodes of a tree.
#include <array>
#include <cstring>
#include <utility>

#include "bits.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr int CHUNKS = 16;        // digits of 4 bits in the low 63 bits, the last one of 3
constexpr u64 BLOCK = 64;         // elements at a time: one word of a plane
// Elements for which one row of the tables is read or written before the next. Longer: memory sees fewer, longer streams
// in place of 16 at once (a look-up takes 3.2 ns at 512, 4.5 at 64); shorter: the digits stay in the first-level cache.
constexpr u64 RUN = 512;
constexpr double GRAIN = 1 << 16;  // elements, or bytes of a plane, that a thread should have at least

// The node of tacit.protocols.additive.kernels.radix4,
//     L = l3 + q3 (l2 + q2 (l1 + q1 l0))        Q = q3 q2 q1 q0
// as sets of input bits, which are opened under masks: sets of masks are the monomials whose shares are dealt.
using Set = unsigned;
constexpr Set L0 = 1, L1 = 2, L2 = 4, Q0 = 8, Q1 = 16, Q2 = 32, Q3 = 64;
constexpr std::array<Set, 7> INPUTS = {L2, L1, L0, Q3, Q2, Q1, Q0};  // rows of opened bits and of their masks
constexpr std::array<Set, 4> PRODUCTS = {Q3 | L2, Q3 | Q2 | L1, Q3 | Q2 | Q1 | L0, Q3 | Q2 | Q1 | Q0};

constexpr int bits_in(Set s) { return __builtin_popcount(s); }

// The order of names written out: the first bit in which two sets of one size differ decides.
constexpr bool before(Set a, Set b) {
    if (bits_in(a) != bits_in(b)) return bits_in(a) < bits_in(b);
    const Set differ = a ^ b;
    return (a & differ & (~differ + 1)) != 0;
}

constexpr bool inside(Set s, bool top) {
    for (int p = 0; p < (top ? 3 : 4); ++p)
        if ((s & ~PRODUCTS[p]) == 0) return true;
    return false;
}

template <bool TOP>
constexpr auto monomials() {
    std::array<Set, TOP ? 15 : 22> list{};
    std::size_t count = 0;
    for (Set s = 1; s < 128; ++s) {
        if (bits_in(s) < 2 || !inside(s, TOP)) continue;
        std::size_t at = count++;
        for (; at > 0 && before(s, list[at - 1]); --at) list[at] = list[at - 1];
        list[at] = s;
    }
    return list;
}

template <bool TOP>
constexpr auto MONOMIALS = monomials<TOP>();

template <class List>
constexpr int row_of(const List& list, Set s) {
    for (std::size_t i = 0; i < list.size(); ++i)
        if (list[i] == s) return static_cast<int>(i);
    return -1;
}

constexpr Set lowest(Set s) { return s & (~s + 1); }

typedef u64 Wide __attribute__((vector_size(64)));  // a cache line of each row at a time

struct Pair {
    u64 less, equal;
};

namespace portable {
inline Pair look_up(const u16* row, const u16* digits, bool leader) {
    u8 below[BLOCK], same[BLOCK];
    for (u64 i = 0; i < BLOCK; ++i) {
        const unsigned table = row[i], digit = digits[i];
        below[i] = static_cast<u8>(table >> digit & 1);
        same[i] = static_cast<u8>(((table << 1 | leader) >> digit & 1) ^ below[i]);
    }
    return {pack_block(below), pack_block(same)};
}
#include "comparison_impl.hpp"
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
inline Pair look_up(const u16* row, const u16* digits, bool leader) {
    const auto read = [](const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); };
    const __m256i low = _mm256_broadcastsi128_si256(_mm_set_epi64x(0, i64(0x8040201008040201)));  // bytes of 2^digit
    const __m256i high = _mm256_broadcastsi128_si256(_mm_set_epi64x(i64(0x8040201008040201), 0));
    Pair out{0, 0};
    for (int i = 0; i < 2; ++i) {
        __m256i less[2], equal[2];
        for (int half = 0; half < 2; ++half) {
            const __m256i table = read(row + 32 * i + 16 * half), digit = read(digits + 32 * i + 16 * half);
            const __m256i bit = _mm256_or_si256(
                _mm256_shuffle_epi8(low, _mm256_or_si256(digit, _mm256_set1_epi16(i16(0x8000)))),
                _mm256_shuffle_epi8(high, _mm256_or_si256(_mm256_slli_epi16(digit, 8), _mm256_set1_epi16(0x0080))));
            const __m256i under = _mm256_srli_epi16(bit, 1);  // none for digit 0, where the leader's public 1 stands
            const __m256i first = _mm256_cmpeq_epi16(under, _mm256_setzero_si256());
            __m256i upto = _mm256_cmpeq_epi16(_mm256_and_si256(table, under), under);
            if (!leader) upto = _mm256_andnot_si256(first, upto);
            less[half] = _mm256_cmpeq_epi16(_mm256_and_si256(table, bit), bit);
            equal[half] = _mm256_xor_si256(upto, less[half]);
        }
        const auto bits = [](const __m256i* halves) {  // the halves' words, in order, to bytes, to bits
            const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(halves[0], halves[1]), 0xD8);
            return u64{static_cast<unsigned>(_mm256_movemask_epi8(bytes))};
        };
        out.less |= bits(less) << 32 * i;
        out.equal |= bits(equal) << 32 * i;
    }
    return out;
}
#include "comparison_impl.hpp"
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
inline Pair look_up(const u16* row, const u16* digits, bool leader) {
    Pair out{0, 0};
    for (int i = 0; i < 2; ++i) {
        const __m512i table = _mm512_loadu_si512(row + 32 * i);
        const __m512i bit = _mm512_sllv_epi16(_mm512_set1_epi16(1), _mm512_loadu_si512(digits + 32 * i));
        const __m512i under = _mm512_srli_epi16(bit, 1);  // none for digit 0, where the leader's public 1 stands
        const u64 below = _mm512_test_epi16_mask(table, bit);
        const u64 upto = _mm512_test_epi16_mask(table, under);
        const u64 first = leader ? u64{_mm512_testn_epi16_mask(under, under)} : 0;
        out.less |= below << 32 * i;
        out.equal |= (below ^ upto ^ first) << 32 * i;
    }
    return out;
}
#include "comparison_impl.hpp"
}  // namespace avx512
TACIT_END_TARGET
#endif

u64 planes_of(u64 count) { return (count + 7) / 8; }

// The first of the digits that so many rows have: the top ones, all of some nodes.
int first_of(u64 rows) {
    if (!rows || rows > CHUNKS || rows % 4) refuse("tables of another number of digits");
    return CHUNKS - int(rows);
}

// Tables of a: bit j of out[k, i] is [j < digit k of a[i]]; out is [CHUNKS, count], or has the rows of the top digits.
void thermometer(Memory a_at, Memory out_at, u64 rows, int threads) {
    const u64 n = size(a_at);
    const int first = first_of(rows);
    const u64* a = elements<u64>(a_at, n);
    u16* out = elements<u16>(out_at, rows * n);
    parallel(i64(n), BLOCK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(thermometer, a, n, out, first, u64(begin), u64(end))
    });
}

// Look digits of public numbers up in shared tables [digits, width]; number i uses column i mod width. Digit 4 q + p of
// Q nodes goes to row Q p + q of `less` and `equal`, [digits, ceil(count / 8)]. One
// party, the leader, adds the public 1 of j = 0.
void lookup(Memory tables_at, u64 digits, Memory numbers_at, bool leader, Memory less_at, Memory equal_at, int threads) {
    const int first = first_of(digits);
    const u64 n = size(numbers_at), width = size(tables_at) / digits, rows = digits * planes_of(n);
    if (n && (!width || n % width)) refuse("tables for another number of elements");
    const u16* tables = elements<u16>(tables_at, digits * width);
    const u64* numbers = elements<u64>(numbers_at, n);
    u8 *less = elements<u8>(less_at, rows), *equal = elements<u8>(equal_at, rows);
    if (!n) return;
    parallel(i64(n), BLOCK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(lookup, tables, width, numbers, n, leader, less, equal, first, u64(begin), u64(end))
    });
}

// One node of the tree, on rows of so many bytes each; the rows are those of tacit.protocols.additive.kernels.radix4.
u64 inputs_of(bool top) { return top ? 6 : 7; }
u64 monomials_of(bool top) { return top ? MONOMIALS<true>.size() : MONOMIALS<false>.size(); }

void node_expand(Memory masks_at, bool top, Memory out_at, int threads) {
    const u64 bytes = size(masks_at) / inputs_of(top);
    const u8* masks = elements<u8>(masks_at, inputs_of(top) * bytes);
    u8* out = elements<u8>(out_at, monomials_of(top) * bytes);
    parallel(i64(bytes), BLOCK, worth(double(bytes), GRAIN, threads), [&](i64 begin, i64 end) {
        if (top) {
            TACIT_CALL(expand<true>, masks, bytes, out, u64(begin), u64(end))
        } else {
            TACIT_CALL(expand<false>, masks, bytes, out, u64(begin), u64(end))
        }
    });
}

void node_evaluate(Memory opened_at, Memory masks_at, Memory monomials_at, Memory less3_at, bool top, bool leader,
                   Memory less_at, Memory equal_at, int threads) {
    const u64 bytes = size(less3_at);
    const u8 *opened = elements<u8>(opened_at, inputs_of(top) * bytes), *less3 = elements<u8>(less3_at, bytes);
    const u8 *masks = elements<u8>(masks_at, inputs_of(top) * bytes);
    const u8 *monomials = elements<u8>(monomials_at, monomials_of(top) * bytes);
    u8 *less = elements<u8>(less_at, bytes), *equal = top ? nullptr : elements<u8>(equal_at, bytes);
    const u8 one = leader ? 0xFF : 0;
    parallel(i64(bytes), BLOCK, worth(double(bytes), GRAIN, threads), [&](i64 begin, i64 end) {
        if (top) {
            TACIT_CALL(evaluate<true>, opened, masks, monomials, less3, bytes, one, less, equal, u64(begin), u64(end))
        } else {
            TACIT_CALL(evaluate<false>, opened, masks, monomials, less3, bytes, one, less, equal, u64(begin), u64(end))
        }
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "thermometer", &thermometer);
    kernel(m, "lookup", &lookup);
    kernel(m, "node_expand", &node_expand);
    kernel(m, "node_evaluate", &node_evaluate);
});

}  // namespace
}  // namespace tacit
