// Sums of rows by the bins that they are in, and the ways that bits send rows.
#include <algorithm>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 ROWS = 2048;        // at a time, for all columns: what is added up stays in a cache
constexpr double GRAIN = 1 << 20;  // sums that a thread should have at least

// out[bin of row i in column c, :] += w[i, :] for the rows [begin, end) of one column, with M numbers a row, or m.
template <u64 M>
void add_rows(const u8* bins, const u64* w, u64 m, u64* out, u64 begin, u64 end) {
    const u64 width = M ? M : m;
    for (u64 i = begin; i < end; ++i) {
        u64* sum = out + bins[i] * width;
        const u64* row = w + i * width;
        for (u64 j = 0; j < width; ++j) sum[j] += row[j];
    }
}

void bin_sums(Memory codes, Memory weights, Memory sums, u64 columns, u64 rows, u64 count, u64 width, int threads) {
    const u8* bins = elements<u8>(codes, columns * rows);
    const u64* w = elements<u64>(weights, rows * width);
    u64* out = elements<u64>(sums, columns * count * width);
    if (count < 1 || count > 256) refuse("bins that are none of 1 to 256");
    u8 last = 0;
    for (u64 i = 0; i < columns * rows; ++i) last = std::max(last, bins[i]);
    if (last >= count) refuse("a bin beyond the last");
    std::fill_n(out, columns * count * width, 0);
    const auto add = width == 2 ? add_rows<2> : width == 4 ? add_rows<4> : width == 8 ? add_rows<8> : add_rows<0>;
    parallel(i64(columns), 1, worth(double(columns) * double(rows) * double(width), GRAIN, threads),
             [&](i64 first, i64 last) {
                 for (u64 begin = 0; begin < rows; begin += ROWS)
                     for (u64 c = u64(first); c < u64(last); ++c)
                         add(bins + c * rows, w, width, out + c * count * width, begin, std::min(rows, begin + ROWS));
             });
}

// out[r, c] = the parity of the bits that row r of x and column c of y both have, words one after the other: x [words,
// rows], y [words, columns].
constexpr u64 BLOCK = 512;

#define PARITIES                                                                                             \
    inline void parities(const u64* x, const u64* y, u8* out, u64 words, u64 rows, u64 columns, u64 begin, u64 end) { \
        u64 sums[BLOCK];                                                                                     \
        for (u64 at = begin; at < end; at += BLOCK) {                                                        \
            const u64 count = std::min(BLOCK, end - at);                                                     \
            for (u64 c = 0; c < columns; ++c) {                                                              \
                for (u64 r = 0; r < count; ++r) sums[r] = 0;                                                 \
                for (u64 k = 0; k < words; ++k) {                                                            \
                    const u64 *line = x + k * rows + at, both = y[k * columns + c];                          \
                    for (u64 r = 0; r < count; ++r) sums[r] ^= line[r] & both;                               \
                }                                                                                            \
                for (u64 r = 0; r < count; ++r) {                                                            \
                    u64 bits = sums[r];                                                                      \
                    for (int shift = 32; shift; shift >>= 1) bits ^= bits >> shift;                          \
                    sums[r] = bits & 1;                                                                      \
                }                                                                                            \
                for (u64 r = 0; r < count; ++r) out[(at + r) * columns + c] = u8(sums[r]);                   \
            }                                                                                                \
        }                                                                                                    \
    }

namespace portable {
PARITIES
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
PARITIES
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
PARITIES
}  // namespace avx512
TACIT_END_TARGET
#endif

void parities_of(Memory left, Memory right, Memory result, u64 words, u64 rows, u64 columns, int threads) {
    const u64* x = elements<u64>(left, words * rows);
    const u64* y = elements<u64>(right, words * columns);
    u8* out = elements<u8>(result, rows * columns);
    parallel(i64(rows), i64(BLOCK), worth(double(words) * double(rows) * double(columns), GRAIN, threads),
             [&](i64 begin, i64 end) {
                 TACIT_CALL(parities, x, y, out, words, rows, columns, u64(begin), u64(end))
             });
}

const Adds names([](nb::module_& m) {
    kernel(m, "bin_sums", &bin_sums);
    kernel(m, "parities", &parities_of);
});

}  // namespace
}  // namespace tacit
