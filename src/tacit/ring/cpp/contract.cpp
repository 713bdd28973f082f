// Blocked, packed and register-tiled sums of products modulo 2^64, after [GG08]; operands are gathered as in [Mat18].
#include "contract.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "module.hpp"
#include "threads.hpp"
#include "tiles.hpp"

namespace tacit {
namespace {

// Blocks for the caches. A panel of y (DEPTH_BLOCK x 24 elements, 36 KiB) should stay in a first-level cache of 48 KiB
// while a block of x (ROW_BLOCK x DEPTH_BLOCK, 384 KiB) streams from the second level; y's block may fill the third.
// Deeper: fewer passes over z; less deep: smaller panels.
constexpr i64 DEPTH_BLOCK = 192, ROW_BLOCK = 256, COLUMN_BLOCK = 3072;

// Up to this many rows, a panel of y is read where it lies: packing costs about as much as two tiles of rows.
constexpr i64 DIRECT_ROWS = 16;

// Up to this many rows, a product is bound by reading y, and a stream over it beats tiles: up to FEW_ROWS always, and
// beyond where y, of LARGE elements, fills a second-level cache. Measured with 5 to 8 rows: tiles are as fast for
// 64 x 64 and 128 x 128, a fifth faster for 784 x 128; the stream is twice as fast for 1024 x 1024 and 512 x 2048.
constexpr i64 THIN_ROWS = 8, FEW_ROWS = 4, LARGE = 1 << 17;
constexpr i64 THIN_COLUMNS = 512;  // sums of eight rows fill most of a first-level cache: 32 KiB

constexpr double GRAIN = 1e6, TILED_GRAIN = 4e6;  // products a thread should have at least: some 40 and 100 µs of them

inline u64 ring(u64 x) { return x; }
inline u64 ring(std::int32_t x) { return static_cast<u64>(static_cast<i64>(x)); }

bool contiguous(const i64* axis, i64 count) {
    for (i64 i = 1; i < count; ++i)
        if (axis[i] != axis[0] + i) return false;
    return true;
}

// Space for packed operands, grown when needed, and the steps from row to row of a packed panel.
class Workspace {
public:
    u64* x(i64 count) { return grown(x_, count); }
    u64* y(i64 count) { return grown(y_, count); }

    const i64* steps(i64 width) {
        auto& table = steps_[width];
        if (table.empty())
            for (i64 k = 0; k < DEPTH_BLOCK; ++k) table.push_back(k * width);
        return table.data();
    }

private:
    // A line of the cache, so that no vector of a panel is read from two of them: that takes twice as long.
    struct alignas(64) Line {
        u64 elements[8];
    };
    struct Space {
        std::unique_ptr<Line[]> lines;  // not cleared
        i64 count = 0;
    };

    static u64* grown(Space& space, i64 count) {
        if (space.count < count) space = {std::unique_ptr<Line[]>(new Line[(count + 7) / 8]), count};
        return space.lines[0].elements;
    }

    Space x_, y_;
    std::array<std::vector<i64>, 33> steps_;  // by width, which is at most VECTORS WIDTH
};

namespace portable {
constexpr int WIDTH = 1, ROWS = 4, VECTORS = 3;
using Vec = u64;
inline Vec load(const u64* from) { return *from; }
inline Vec load(const std::int32_t* from) { return ring(*from); }
inline void store(u64* to, Vec v) { *to = v; }
inline Vec broadcast(u64 x) { return x; }
inline Vec plus(Vec x, Vec y) { return x + y; }
inline void transpose(Vec (&)[WIDTH]) {}
struct Sum {
    Vec total;
    void clear() { total = 0; }
    void add_product(Vec x, Vec y) { total += x * y; }
    Vec value() const { return total; }
};
#include "contract_impl.hpp"
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
constexpr int WIDTH = 4, ROWS = 4, VECTORS = 1;
using Vec = __m256i;
inline Vec load(const u64* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
inline Vec load(const std::int32_t* from) {
    return _mm256_cvtepi32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline void store(u64* to, Vec v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
inline Vec broadcast(u64 x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
inline Vec plus(Vec x, Vec y) { return _mm256_add_epi64(x, y); }
inline void transpose(Vec (&v)[WIDTH]) {
    const Vec a = _mm256_unpacklo_epi64(v[0], v[1]), b = _mm256_unpackhi_epi64(v[0], v[1]);
    const Vec c = _mm256_unpacklo_epi64(v[2], v[3]), d = _mm256_unpackhi_epi64(v[2], v[3]);
    v[0] = _mm256_permute2x128_si256(a, c, 0x20);
    v[1] = _mm256_permute2x128_si256(b, d, 0x20);
    v[2] = _mm256_permute2x128_si256(a, c, 0x31);
    v[3] = _mm256_permute2x128_si256(b, d, 0x31);
}
// x y = xl yl + (xl yh + xh yl) 2^32 in halves of 32 bits; the two cross products are one 32-bit product of x with y's
// halves swapped, summed apart in halves of their own, and shifted and joined once at the end.
struct Sum {
    Vec low, cross;
    void clear() { low = cross = _mm256_setzero_si256(); }
    void add_product(Vec x, Vec y) {
        low = _mm256_add_epi64(low, _mm256_mul_epu32(x, y));
        cross = _mm256_add_epi32(cross, _mm256_mullo_epi32(x, _mm256_shuffle_epi32(y, 0xB1)));
    }
    Vec value() const {
        const Vec joined = _mm256_add_epi32(cross, _mm256_srli_epi64(cross, 32));
        return _mm256_add_epi64(low, _mm256_slli_epi64(joined, 32));
    }
};
#include "contract_impl.hpp"
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
// 24 sums, 3 vectors of y, x and a product fit in 32 registers. vpmullq is one micro-operation on AMD (8 products a
// cycle) and three on Intel, where halves of 32 bits as above would take five.
constexpr int WIDTH = 8, ROWS = 8, VECTORS = 3;
using Vec = __m512i;
inline Vec load(const u64* from) { return _mm512_loadu_si512(from); }
inline Vec load(const std::int32_t* from) {
    return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void store(u64* to, Vec v) { _mm512_storeu_si512(to, v); }
inline Vec broadcast(u64 x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
inline Vec plus(Vec x, Vec y) { return _mm512_add_epi64(x, y); }
#include "transpose_impl.hpp"
struct Sum {
    Vec total;
    void clear() { total = _mm512_setzero_si512(); }
    void add_product(Vec x, Vec y) { total = _mm512_add_epi64(total, _mm512_mullo_epi64(x, y)); }
    Vec value() const { return total; }
};
#include "contract_impl.hpp"
}  // namespace avx512
TACIT_END_TARGET
#endif

template <class Y>
using Block = decltype(&portable::block<Y>);
template <class Y>
using Thin = decltype(&portable::thin<Y>);

template <class Y>
Block<Y> block_of(Isa isa) {
#if TACIT_X86
    if (isa >= Isa::avx512) return avx512::block<Y>;
    if (isa == Isa::avx2) return avx2::block<Y>;
#endif
    return portable::block<Y>;
}

template <class Y>
Thin<Y> thin_of(Isa isa) {
#if TACIT_X86
    if (isa >= Isa::avx512) return avx512::thin<Y>;
    if (isa == Isa::avx2) return avx2::thin<Y>;
#endif
    return portable::thin<Y>;
}

template <class Y>
void few(Strided<const u64> x, Strided<const Y> y, Strided<u64> z, i64 m, i64 k, i64 n, int threads) {
    const Thin<Y> thin = thin_of<Y>(isa());
    parallel(n, 64, worth(double(k) * n, GRAIN, threads), [&](i64 begin, i64 end) {
        thin({x.data, 0, x.row, x.column}, {y.data + begin * y.column, 0, y.row, y.column},
             {z.data + begin * z.column, 0, z.row, z.column}, m, k, end - begin);
    });
}

std::vector<i64> steps(i64 count, i64 step) {
    std::vector<i64> axis(count);
    for (i64 i = 0; i < count; ++i) axis[i] = i * step;
    return axis;
}

// Vectors run along columns; so z^T = y^T x^T if that fills them better.
bool narrow(i64 rows, i64 columns) {
    const auto cost = [](i64 m, i64 n) { return m * ((n + 7) / 8); };
    return 10 * cost(columns, rows) < 9 * cost(rows, columns);
}

}  // namespace

void contract(const Contraction& c, int threads) {
    const i64 m = static_cast<i64>(c.x_rows.size()), n = static_cast<i64>(c.y_columns.size());
    const i64 k = static_cast<i64>(c.x_inner.size()), batch = static_cast<i64>(c.x_first.size());
    const bool tiles = tiled(m, k, n);
    if (!tiles && !c.shared && !c.short_y && narrow(m, n)) {
        return contract({c.y, c.x, c.z, c.y_columns, c.y_inner, c.x_inner, c.x_rows, c.z_columns, c.z_rows, c.y_first,
                         c.x_first, c.z_first}, threads);
    }
    const auto block = [&c, tiles, use = isa()](i64 b, i64 top, i64 bottom, i64 left, i64 right, Workspace& s) {
        if (tiles)
            tiled_block(c, b, top, bottom, left, right);
        else if (c.short_y)
            block_of<std::int32_t>(use)(c, c.short_y, b, top, bottom, left, right, s);
        else
            block_of<u64>(use)(c, c.y, b, top, bottom, left, right, s);
    };
    const int useful = worth(double(batch) * m * n * k, tiles ? TILED_GRAIN : GRAIN, threads);
    if (batch >= useful) {
        return parallel(batch, 1, useful, [&](i64 begin, i64 end) {
            Workspace space;
            for (i64 b = begin; b < end; ++b) block(b, 0, m, 0, n, space);
        });
    }
    for (i64 b = 0; b < batch; ++b) {
        if (c.shared)
            parallel(n / c.shared, 1, useful, [&](i64 begin, i64 end) {
                Workspace s;
                block(b, 0, m, begin * c.shared, end * c.shared, s);
            });
        else if (m > n)
            parallel(m, tiles ? 16 : 8, useful, [&](i64 begin, i64 end) { Workspace s; block(b, begin, end, 0, n, s); });
        else
            parallel(n, tiles ? 16 : 24, useful, [&](i64 begin, i64 end) { Workspace s; block(b, 0, m, begin, end, s); });
    }
}

void matmul(Strided<const u64> x, Strided<const u64> y, Strided<u64> z, i64 batch, i64 m, i64 k, i64 n, int threads) {
    if (n <= THIN_ROWS && n < m) {
        const auto turned = [](auto s) { return decltype(s){s.data, s.batch, s.column, s.row}; };
        return matmul(turned(y), turned(x), turned(z), batch, n, k, m, threads);
    }
    if (m <= (k * n < LARGE ? FEW_ROWS : THIN_ROWS)) {
        const auto of = [](auto s, i64 b) { return decltype(s){s.data + b * s.batch, 0, s.row, s.column}; };
        for (i64 b = 0; b < batch; ++b) few(of(x, b), of(y, b), of(z, b), m, k, n, threads);
        return;
    }
    const auto x_rows = steps(m, x.row), x_inner = steps(k, x.column), x_first = steps(batch, x.batch);
    const auto y_inner = steps(k, y.row), y_columns = steps(n, y.column), y_first = steps(batch, y.batch);
    const auto z_rows = steps(m, z.row), z_columns = steps(n, z.column), z_first = steps(batch, z.batch);
    contract({x.data, y.data, z.data, x_rows, x_inner, y_inner, y_columns, z_rows, z_columns, x_first, y_first, z_first},
             threads);
}

void matmul_short(Strided<const u64> x, Strided<const std::int32_t> y, Strided<u64> z, i64 m, i64 k, i64 n,
                  int threads) {
    if (m <= THIN_ROWS) return few(x, y, z, m, k, n, threads);
    if (n <= THIN_ROWS || (narrow(m, n) && !tiled(m, k, n))) {  // the operands change places, and there is little to widen
        std::vector<u64> wide(k * n);
        for (i64 i = 0; i < k; ++i)
            for (i64 j = 0; j < n; ++j) wide[i * n + j] = ring(y.data[i * y.row + j * y.column]);
        return matmul(x, {wide.data(), 0, n, 1}, z, 1, m, k, n, threads);
    }
    const auto x_rows = steps(m, x.row), x_inner = steps(k, x.column), y_inner = steps(k, y.row), first = steps(1, 0);
    const auto y_columns = steps(n, y.column), z_rows = steps(m, z.row), z_columns = steps(n, z.column);
    Contraction c{x.data, nullptr, z.data, x_rows, x_inner, y_inner, y_columns, z_rows, z_columns, first, first, first};
    c.short_y = y.data;
    contract(c, threads);
}

namespace {

using Tables = std::tuple<Memory, Memory, Memory>;        // first, rows, columns
using Steps = std::tuple<std::uintptr_t, i64, i64, i64>;  // address, and steps of batch, row and column

template <class T>
Strided<T> strided(const Steps& at) {
    const auto [address, batch, row, column] = at;
    return {reinterpret_cast<T*>(address), batch, row, column};
}

Axis axis(const Memory& table) { return {elements<const i64>(table, size(table)), size(table)}; }

// A matrix for each place of `first`; all of its elements lie inside of the tensor.
struct Matrices {
    u64* data;
    Axis first, rows, columns;

    Matrices(const Memory& memory, const Tables& at)
        : data(elements<u64>(memory, size(memory))), first(axis(std::get<0>(at))), rows(axis(std::get<1>(at))),
          columns(axis(std::get<2>(at))) {
        i64 lowest = 0, highest = 0;
        for (const Axis& places : {first, rows, columns}) {
            if (places.empty()) return;  // no elements
            const auto [low, high] = std::ranges::minmax(places);
            if (__builtin_add_overflow(lowest, low, &lowest) || __builtin_add_overflow(highest, high, &highest))
                refuse("places beyond all memory");
        }
        if (lowest < 0 || static_cast<u64>(highest) >= size(memory)) refuse("places outside of a tensor");
    }
};

Contraction contraction(const Matrices& x, const Matrices& y, const Matrices& z) {
    if (x.first.size() != y.first.size() || x.first.size() != z.first.size() || x.columns.size() != y.rows.size() ||
        x.rows.size() != z.rows.size() || y.columns.size() != z.columns.size())
        refuse("matrices of sizes that do not fit");
    return {x.data, y.data, z.data, x.rows, x.columns, y.rows, y.columns, z.rows, z.columns, x.first, y.first, z.first};
}

const Adds names([](nb::module_& m) {
    kernel(m, "matmul", +[](Steps x, Steps y, Steps z, i64 batch, i64 rows, i64 inner, i64 columns, int threads) {
        matmul(strided<const u64>(x), strided<const u64>(y), strided<u64>(z), batch, rows, inner, columns, threads);
    });
    kernel(m, "matmul_short", +[](Steps x, Steps y, Steps z, i64 rows, i64 inner, i64 columns, int threads) {
        matmul_short(strided<const u64>(x), strided<const std::int32_t>(y), strided<u64>(z), rows, inner, columns, threads);
    });
    kernel(m, "contract", +[](Memory x, Tables x_at, Memory y, Tables y_at, Memory z, Tables z_at, int threads) {
        contract(contraction({x, x_at}, {y, y_at}, {z, z_at}), threads);
    });
    kernel(m, "contract_shared", +[](Memory x, Tables x_at, Memory y, Tables y_at, Memory z, Tables z_at, i64 shared,
                                int threads) {
        Contraction c = contraction({x, x_at}, {y, y_at}, {z, z_at});
        if (shared < 1 || c.z_columns.size() % u64(shared)) refuse("columns that are no whole runs");
        c.shared = shared;
        contract(c, threads);
    });
});

}  // namespace
}  // namespace tacit
