// Sums of products modulo 2^64 in limbs of 8 bits, by the tile registers of AMX: 65 G of them a second where vectors of
// 64-bit products make 9.
//
// With x = sum over i of x_i 2^(8i), and y alike,
//   x y = sum over s < 8 of 2^(8s) D_s,   D_s = sum over i + j = s of x_i y_j,
// 36 products of limbs, 26 where y has 4 of them: numbers of 32 bits with a sign, whose highest limb has the sign. Sums of
// D_s over a block's depth fit in 32 bits where s < 4, and only their low 32 bits count elsewhere.
#include "tiles.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <stdexcept>

namespace tacit {

#if TACIT_AMX
namespace {

// A tile register: 16 rows of 64 bytes. Those of x have 64 steps of the sum in a row; those of y have four steps for each of
// 16 columns in a row; those of sums have 16 columns of 32 bits.
constexpr i64 SIDE = 16, STEP = 64, TILE = 1024, LIMBS = 8, SHORT_LIMBS = 4;

// Blocks for the caches: the panel of x (3 x 8 tiles, 24 KiB) stays in a first-level cache of 48 KiB, while those of y
// (COLUMN_BLOCK columns, 768 KiB) come from the second level. Deeper panels of x push one another out; shallower ones take
// more passes over z. Measured: depth 128, 192 and 256 make 50, 57 and 47 G/s.
constexpr i64 STEPS = 3, COLUMN_BLOCK = 512;

TACIT_BEGIN_TARGET(TACIT_AVX512_AMX)

struct alignas(64) Line {
    u8 bytes[64];
};

// Memory for packed panels, not cleared.
std::unique_ptr<Line[]> panels(i64 columns, i64 steps, i64 limbs) {
    const i64 count = (columns + SIDE - 1) / SIDE * steps * limbs;
    return std::unique_ptr<Line[]>(new Line[count * (TILE / sizeof(Line))]);
}

// The registers of this thread, in the shape above; released so that nothing stays in them.
class Registers {
public:
    Registers() {
        struct alignas(64) {
            u8 palette = 1, start = 0, none[14] = {};
            u16 bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
            u8 rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
        } shape;
        _tile_loadconfig(&shape);
    }
    ~Registers() { _tile_release(); }
    Registers(const Registers&) = delete;
};

// Up to eight places along an axis, neighbours in memory or not.
struct Lanes {
    __mmask8 some = 0;
    bool neighbours = true;
    i64 first = 0;
    __m512i places = _mm512_setzero_si512();

    Lanes() = default;
    Lanes(const i64* axis, i64 count) {
        if (count <= 0) return;
        some = static_cast<__mmask8>(count < 8 ? (1 << count) - 1 : 255);
        first = axis[0];
        places = _mm512_maskz_loadu_epi64(some, axis);
        const __m512i run = _mm512_add_epi64(_mm512_set1_epi64(first), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
        neighbours = _mm512_mask_cmpneq_epi64_mask(some, places, run) == 0;
    }
    __m512i load(const u64* from) const {
        if (neighbours) return _mm512_maskz_loadu_epi64(some, from + first);
        return _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), some, places, from, 8);
    }
    __m512i load(const std::int32_t* from) const {
        const __m256i none = _mm256_setzero_si256();
        return _mm512_cvtepi32_epi64(neighbours ? _mm256_maskz_loadu_epi32(some, from + first)
                                                : _mm512_mask_i64gather_epi32(none, some, places, from, 4));
    }
    void store(u64* to, __m512i v) const {
        if (neighbours) return _mm512_mask_storeu_epi64(to + first, some, v);
        _mm512_mask_i64scatter_epi64(to, some, places, v, 8);
    }
};

#include "transpose_impl.hpp"

// Half b of row a of a tile, 32 bits, goes to half a of row b.
void transpose_tile(u8* tile) {
    __m512i v[16], t[16];
    for (int i = 0; i < 16; ++i) v[i] = _mm512_load_si512(tile + 64 * i);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int odd = 0; odd < 2; ++odd) {  // v[i + c]: word c of each quarter, of the rows i to i + 3
            v[i + 2 * odd] = _mm512_unpacklo_epi64(t[i + odd], t[i + 2 + odd]);
            v[i + 2 * odd + 1] = _mm512_unpackhi_epi64(t[i + odd], t[i + 2 + odd]);
        }
    for (int c = 0; c < 4; ++c) {  // quarters of four vectors, as a matrix of four by four
        const __m512i a = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x44), b = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xEE);
        const __m512i d = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x44), e = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xEE);
        _mm512_store_si512(tile + 64 * c, _mm512_shuffle_i32x4(a, d, 0x88));
        _mm512_store_si512(tile + 64 * (4 + c), _mm512_shuffle_i32x4(a, d, 0xDD));
        _mm512_store_si512(tile + 64 * (8 + c), _mm512_shuffle_i32x4(b, e, 0x88));
        _mm512_store_si512(tile + 64 * (12 + c), _mm512_shuffle_i32x4(b, e, 0xDD));
    }
}

// Bytes 8 e + l -> 8 l + e: the limbs l of eight elements e.
inline __m512i by_limbs(__m512i v) {
    alignas(64) static constexpr auto ORDER = [] {
        std::array<u8, 64> order{};
        for (int l = 0; l < 8; ++l)
            for (int e = 0; e < 8; ++e) order[8 * l + e] = static_cast<u8>(8 * e + l);
        return order;
    }();
    return _mm512_permutexvar_epi8(_mm512_load_si512(ORDER.data()), v);
}

// Bytes 32 h + 8 t + c -> 32 h + 4 c + t: four steps t for each of eight columns c.
inline __m512i by_fours(__m512i v) {
    alignas(64) static constexpr auto ORDER = [] {
        std::array<u8, 64> order{};
        for (int h = 0; h < 2; ++h)
            for (int t = 0; t < 4; ++t)
                for (int c = 0; c < 8; ++c) order[32 * h + 4 * c + t] = static_cast<u8>(32 * h + 8 * t + c);
        return order;
    }();
    return _mm512_permutexvar_epi8(_mm512_load_si512(ORDER.data()), v);
}

// A line of a tile for each limb of 64 elements in a row: to[l][k] = limb l of from[along[k]].
template <int L, class T>
inline void split_row(const T* from, const Lanes* along, u8* to) {
    __m512i v[8];
    for (int e = 0; e < 8; ++e) v[e] = by_limbs(along[e].load(from));
    transpose(v);
    for (int l = 0; l < L; ++l) _mm512_store_si512(to + TILE * l, v[l]);
}

// The same of up to four steps for each of 16 columns: to[l][i, t] = limb l of from[inner[t] + across[i]].
template <int L, class T>
inline void split_fours(const T* from, const i64* inner, i64 depth, const Lanes* across, u8* to) {
    __m512i v[8];
    for (int t = 0; t < 4; ++t)
        for (int h = 0; h < 2; ++h)
            v[4 * h + t] = t < depth ? by_limbs(across[h].load(from + inner[t])) : _mm512_setzero_si512();
    transpose(v);
    for (int l = 0; l < L; ++l) _mm512_store_si512(to + TILE * l, by_fours(v[l]));
}

inline bool easy(const Lanes* lanes, i64 count) {
    return std::all_of(lanes, lanes + count, [](const Lanes& eight) { return eight.neighbours; });
}

// Panels of 16 rows (or columns) in limbs, L tiles for each STEP of the depth; zeros beyond the ends. Read along the memory,
// line by line, where one of the axes lies so, for what comes from memory comes fastest in long lines; what then lies the
// other way is turned.
template <int L, bool ROWS, class T>
void pack(const T* from, const i64* inner, i64 depth, const i64* outer, i64 count, const Lanes* across, u8* to) {
    const i64 panels = (count + SIDE - 1) / SIDE, steps = (depth + STEP - 1) / STEP, panel = steps * TILE * L;
    Lanes along[8 * STEPS];
    for (i64 e = 0; e < 8 * steps; ++e) along[e] = {inner + 8 * e, depth - 8 * e};
    const bool along_easy = easy(along, 8 * steps), across_easy = easy(across, 2 * panels);
    const bool rows = ROWS ? along_easy || !across_easy : along_easy && !across_easy;
    if (rows) {
        for (i64 i = 0; i < panels * SIDE; ++i)
            for (i64 s = 0; s < steps; ++s) {
                u8* line = to + i / SIDE * panel + s * TILE * L + i % SIDE * STEP;
                if (i < count)
                    split_row<L>(from + outer[i], along + 8 * s, line);
                else
                    for (int l = 0; l < L; ++l) _mm512_store_si512(line + TILE * l, _mm512_setzero_si512());
            }
    } else {
        for (i64 k = 0; k < steps * STEP; k += 4)
            for (i64 p = 0; p < panels; ++p)
                split_fours<L>(from, inner + k, depth - k, across + 2 * p,
                               to + p * panel + k / STEP * TILE * L + k % STEP / 4 * STEP);
    }
    if (rows != ROWS)
        for (i64 t = 0; t < panels * steps * L; ++t) transpose_tile(to + TILE * t);
}

// Sums of limbs, D_0 to D_3 and D_4 to D_7, of a tile.
struct alignas(64) Sums {
    u32 low[4][SIDE][SIDE], high[4][SIDE][SIDE];

    // z[r, i] (+)= sum over s of 2^(8s) D_s[r, i], for m rows.
    void settle(u64* z, const i64* rows, i64 m, const Lanes (&columns)[2], bool first) const {
        for (i64 r = 0; r < m; ++r) {
            const auto top = [&](int s) { return _mm512_slli_epi32(_mm512_load_si512(high[s][r]), 8 * s); };
            const __m512i tops = _mm512_add_epi32(_mm512_add_epi32(top(0), top(1)), _mm512_add_epi32(top(2), top(3)));
            for (int half = 0; half < 2; ++half) {
                const auto wide = [&](__m256i d, int by) { return _mm512_slli_epi64(_mm512_cvtepi32_epi64(d), by); };
                const auto part = [&](int s) {
                    return wide(_mm256_load_si256(reinterpret_cast<const __m256i*>(&low[s][r][8 * half])), 8 * s);
                };
                const __m512i above = wide(half ? _mm512_extracti64x4_epi64(tops, 1) : _mm512_castsi512_si256(tops), 32);
                const __m512i even = _mm512_add_epi64(part(0), part(2)), odd = _mm512_add_epi64(part(1), part(3));
                const __m512i sum = _mm512_add_epi64(_mm512_add_epi64(even, odd), above);
                u64* line = z + rows[r];
                columns[half].store(line, first ? sum : _mm512_add_epi64(columns[half].load(line), sum));
            }
        }
    }
};

// Have the places of a tile at hand when its sums are there.
inline void expect(const u64* z, const i64* rows, i64 m, const Lanes (&columns)[2]) {
    for (i64 r = 0; r < m; ++r)
        for (const Lanes& half : columns) _mm_prefetch(reinterpret_cast<const char*>(z + rows[r] + half.first), _MM_HINT_T0);
}

// Tiles of y's limb j in register 7; of x's limbs i in 4 to 6, register 4 + i % 3; sums in 0 to 3.
#define TACIT_X(to, i) _tile_loadd(to, x + TILE * (i), STEP);
#define TACIT_Y(j) _tile_loadd(7, y + TILE * (j), STEP);

// D_4 to D_7 of a tile, each limb read once.
template <int L>
void multiply_high(const u8* x, const u8* y, i64 steps, Sums& sums) {
    constexpr bool SHORT = L == SHORT_LIMBS;
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (i64 k = 0; k < steps; ++k, x += TILE * LIMBS, y += TILE * L) {
        TACIT_X(5, 7) TACIT_X(4, 6) TACIT_X(6, 5)
        TACIT_Y(0) _tile_dpbuud(3, 5, 7); TACIT_X(5, 4) _tile_dpbuud(2, 4, 7); _tile_dpbuud(1, 6, 7); _tile_dpbuud(0, 5, 7);
        TACIT_Y(1) _tile_dpbuud(3, 4, 7); TACIT_X(4, 3) _tile_dpbuud(2, 6, 7); _tile_dpbuud(1, 5, 7); _tile_dpbuud(0, 4, 7);
        TACIT_Y(2) _tile_dpbuud(3, 6, 7); TACIT_X(6, 2) _tile_dpbuud(2, 5, 7); _tile_dpbuud(1, 4, 7); _tile_dpbuud(0, 6, 7);
        TACIT_Y(3)
        if constexpr (SHORT) {
            _tile_dpbusd(3, 5, 7); TACIT_X(5, 1) _tile_dpbusd(2, 4, 7); _tile_dpbusd(1, 6, 7); _tile_dpbusd(0, 5, 7);
        } else {
            _tile_dpbuud(3, 5, 7); TACIT_X(5, 1) _tile_dpbuud(2, 4, 7); _tile_dpbuud(1, 6, 7); _tile_dpbuud(0, 5, 7);
            TACIT_Y(4) _tile_dpbuud(3, 4, 7); TACIT_X(4, 0) _tile_dpbuud(2, 6, 7); _tile_dpbuud(1, 5, 7); _tile_dpbuud(0, 4, 7);
            TACIT_Y(5) _tile_dpbuud(3, 6, 7); _tile_dpbuud(2, 5, 7); _tile_dpbuud(1, 4, 7);
            TACIT_Y(6) _tile_dpbuud(3, 5, 7); _tile_dpbuud(2, 4, 7);
            TACIT_Y(7) _tile_dpbuud(3, 4, 7);
        }
    }
    _tile_stored(0, sums.high[0], STEP); _tile_stored(1, sums.high[1], STEP);
    _tile_stored(2, sums.high[2], STEP); _tile_stored(3, sums.high[3], STEP);
}

// D_0 to D_3 of a tile.
template <int L>
void multiply_low(const u8* x, const u8* y, i64 steps, Sums& sums) {
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    for (i64 k = 0; k < steps; ++k, x += TILE * LIMBS, y += TILE * L) {
        TACIT_X(4, 3) TACIT_X(6, 2) TACIT_X(5, 1)
        TACIT_Y(0) _tile_dpbuud(3, 4, 7); TACIT_X(4, 0) _tile_dpbuud(2, 6, 7); _tile_dpbuud(1, 5, 7); _tile_dpbuud(0, 4, 7);
        TACIT_Y(1) _tile_dpbuud(3, 6, 7); _tile_dpbuud(2, 5, 7); _tile_dpbuud(1, 4, 7);
        TACIT_Y(2) _tile_dpbuud(3, 5, 7); _tile_dpbuud(2, 4, 7);
        TACIT_Y(3)
        if constexpr (L == SHORT_LIMBS) {
            _tile_dpbusd(3, 4, 7);
        } else {
            _tile_dpbuud(3, 4, 7);
        }
    }
    _tile_stored(0, sums.low[0], STEP); _tile_stored(1, sums.low[1], STEP);
    _tile_stored(2, sums.low[2], STEP); _tile_stored(3, sums.low[3], STEP);
}

template <int L, class Y>
void block(const Contraction& c, const u64* x, const Y* y, u64* z, i64 top, i64 bottom, i64 left, i64 right) {
    const i64 depth_all = static_cast<i64>(c.x_inner.size()), steps_all = (depth_all + STEP - 1) / STEP;
    const i64 passes = (steps_all + STEPS - 1) / STEPS;
    const auto left_panels = panels(SIDE, STEPS, LIMBS), right_panels = panels(std::min(COLUMN_BLOCK, right - left), STEPS, L);
    u8 *const a = left_panels[0].bytes, *const b = right_panels[0].bytes;
    const Registers registers;
    Sums sums;
    for (i64 jc = left; jc < right; jc += COLUMN_BLOCK) {
        const i64 n = std::min(COLUMN_BLOCK, right - jc);
        const i64 *y_columns = c.y_columns.data() + jc, *z_columns = c.z_columns.data() + jc;
        Lanes across[2 * COLUMN_BLOCK / SIDE];
        for (i64 j = 0; j < COLUMN_BLOCK; j += 8) across[j / 8] = {y_columns + j, n - j};
        for (i64 pass = 0; pass < passes; ++pass) {
            const i64 kc = steps_all * pass / passes * STEP, end = std::min(depth_all, steps_all * (pass + 1) / passes * STEP);
            const i64 depth = end - kc, steps = (depth + STEP - 1) / STEP, panel = steps * TILE * L;
            pack<L, false>(y, c.y_inner.data() + kc, depth, y_columns, n, across, b);
            for (i64 i = top; i < bottom; i += SIDE) {
                const i64 m = std::min(SIDE, bottom - i), *x_rows = c.x_rows.data() + i, *z_rows = c.z_rows.data() + i;
                const Lanes rows[2] = {{x_rows, m}, {x_rows + 8, m - 8}};
                pack<LIMBS, true>(x, c.x_inner.data() + kc, depth, x_rows, m, rows, a);
                asm volatile("" ::: "memory");  // GCC does not know that tiles are read from memory
                for (i64 j = 0; j < n; j += SIDE) {
                    const Lanes columns[2] = {{z_columns + j, n - j}, {z_columns + j + 8, n - j - 8}};
                    expect(z, z_rows, m, columns);
                    multiply_high<L>(a, b + j / SIDE * panel, steps, sums);
                    multiply_low<L>(a, b + j / SIDE * panel, steps, sums);
                    sums.settle(z, z_rows, m, columns, pass == 0 && !c.shared);
                }
            }
        }
    }
}

TACIT_END_TARGET

}  // namespace

bool tiled(i64 m, i64 k, i64 n) {
    if (isa() != Isa::amx) return false;
    // Cycles, by measurements from 5 x 4 x 256 to 1024 x 1024 x 1024: 36 products of tiles and what settles their sums,
    // packing, and a start; vectors take some four products a cycle, more where they come out of the caches.
    constexpr double SUMS = 1000, PACKED = 1.1, START = 3000, VECTORS = 0.26;
    const auto padded = [](i64 count, i64 by) { return double((count + by - 1) / by * by); };
    const double rows = padded(m, SIDE), columns = padded(n, SIDE), depth = padded(k, STEP);
    const double cost = SUMS * (rows / SIDE) * (columns / SIDE) * (depth / STEP) + PACKED * (rows + columns) * depth + START;
    return cost < VECTORS * double(m) * double(n) * double(k);
}

void tiled_block(const Contraction& c, i64 batch, i64 top, i64 bottom, i64 left, i64 right) {
    const u64* x = c.x + c.x_first[batch];
    u64* z = c.z + c.z_first[batch];
    if (c.short_y)
        block<SHORT_LIMBS>(c, x, c.short_y + c.y_first[batch], z, top, bottom, left, right);
    else
        block<LIMBS>(c, x, c.y + c.y_first[batch], z, top, bottom, left, right);
}

#else

bool tiled(i64, i64, i64) { return false; }

void tiled_block(const Contraction&, i64, i64, i64, i64, i64, i64) { throw std::logic_error("no tiles"); }

#endif

}  // namespace tacit
