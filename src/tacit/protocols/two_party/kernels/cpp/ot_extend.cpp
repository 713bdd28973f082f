// The extension of oblivious transfers [Roy22]: 128 rows of bits from the key streams of trees' leaves, turned into
// transfers of 128 bits.
//
// There are 128 / L trees of 2^L leaves, L being 4 or 8. A leaf is a key; r_x is the key stream of leaf x, in bits. Row
// L i + k is the sum of all r_x of tree i whose x has bit k, and the correction of a tree is the sum of all its r_x. Bit r
// of transfer j is bit j of row r; eight transfers lie in a byte of a row, the first one lowest.
#include <cstring>
#include <vector>

#include "aes.hpp"
#include "bits.hpp"
#include "keystream.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 ROWS = 128, MOST_TREES = 32;
constexpr u64 LEAVES = 16, LEVELS = 4;  // leaves whose sums are made in registers: a tree, or a sixteenth of one
constexpr u64 BLOCKS = 16;           // of a key stream at a time
constexpr u64 WIDTH = 16 * BLOCKS;   // bytes of a row
constexpr u64 CHUNK = 8 * WIDTH;     // transfers
constexpr double GRAIN = 1 << 15;    // transfers that a thread should have at least: some 100 µs

// What a party makes of a chunk; corrections only where it knows leaf 0 of every tree, so all of them.
struct Rows {
    alignas(64) u8 sums[ROWS][WIDTH];
    alignas(64) u8 corrections[MOST_TREES][WIDTH];
};

using Leaves = u8[LEAVES][11][16];

#if TACIT_X86
TACIT_BEGIN_TARGET("aes,ssse3,sse4.1")

inline void stream(const u8 (*round_keys)[16], u64 block, u8* out) {
    constexpr u64 LANES = 8;
    const auto key = [&](int round) { return _mm_load_si128(reinterpret_cast<const __m128i*>(round_keys[round])); };
    for (u64 done = 0; done < BLOCKS; done += LANES) {
        __m128i state[LANES];
        for (u64 i = 0; i < LANES; ++i) {
            const auto number = static_cast<long long>(__builtin_bswap64(block + done + i));
            state[i] = _mm_xor_si128(_mm_set_epi64x(number, 0), key(0));
        }
        for (int round = 1; round < 10; ++round)
            for (auto& s : state) s = _mm_aesenc_si128(s, key(round));
        for (u64 i = 0; i < LANES; ++i)
            _mm_store_si128(reinterpret_cast<__m128i*>(out + 16 * (done + i)), _mm_aesenclast_si128(state[i], key(10)));
    }
}
TACIT_END_TARGET

TACIT_BEGIN_TARGET("aes,avx2,bmi,bmi2")
namespace narrow {

typedef u64 Part __attribute__((vector_size(32)));

// Sixteen leaves from FIRST on: their sums by the bits of x are added to `sums`, and the sum of all to `all`.
template <u64 FIRST>
void add_leaves(const Leaves& keys, u64 block, u8 (*sums)[WIDTH], u8* all) {
    alignas(64) u8 leaves[LEAVES][WIDTH];
    for (u64 x = FIRST; x < LEAVES; ++x) stream(keys[x], block, leaves[x]);
    for (u64 at = 0; at < WIDTH; at += sizeof(Part)) {
        Part total{}, parts[LEVELS] = {};
#pragma GCC unroll 16
        for (u64 x = FIRST; x < LEAVES; ++x) {
            const Part r = *reinterpret_cast<const Part*>(leaves[x] + at);
            total ^= r;
#pragma GCC unroll 4
            for (u64 k = 0; k < LEVELS; ++k)
                if (x >> k & 1) parts[k] ^= r;
        }
        for (u64 k = 0; k < LEVELS; ++k) *reinterpret_cast<Part*>(sums[k] + at) ^= parts[k];
        *reinterpret_cast<Part*>(all + at) ^= total;
    }
}

typedef __m256i Vec;
constexpr int FIRST_ROW = 0, NEXT_ROW = 1;

inline Vec load(const u8* from) { return _mm256_load_si256(reinterpret_cast<const Vec*>(from)); }
inline Vec low8(Vec a, Vec b) { return _mm256_unpacklo_epi8(a, b); }
inline Vec high8(Vec a, Vec b) { return _mm256_unpackhi_epi8(a, b); }
inline Vec low16(Vec a, Vec b) { return _mm256_unpacklo_epi16(a, b); }
inline Vec high16(Vec a, Vec b) { return _mm256_unpackhi_epi16(a, b); }
inline Vec low32(Vec a, Vec b) { return _mm256_unpacklo_epi32(a, b); }
inline Vec high32(Vec a, Vec b) { return _mm256_unpackhi_epi32(a, b); }
inline Vec low64(Vec a, Vec b) { return _mm256_unpacklo_epi64(a, b); }
inline Vec high64(Vec a, Vec b) { return _mm256_unpackhi_epi64(a, b); }

// 8 rows of 8 bits, a byte for each, turned: squares of 1, 2 and 4 bits swap places across the diagonal.
template <int SHIFT>
inline Vec swapped(Vec x, u64 mask) {
    const Vec t = _mm256_and_si256(_mm256_xor_si256(x, _mm256_srli_epi64(x, SHIFT)), _mm256_set1_epi64x(i64(mask)));
    return _mm256_xor_si256(x, _mm256_xor_si256(t, _mm256_slli_epi64(t, SHIFT)));
}

inline Vec turned(Vec x) {
    x = swapped<7>(x, 0x00AA00AA00AA00AA);
    x = swapped<14>(x, 0x0000CCCC0000CCCC);
    return swapped<28>(x, 0x00000000F0F0F0F0);
}

// Lane l of vector j is transfer 128 l + j.
inline void store(const Vec* a, u8* out) {
    for (int j = 0; j < 16; j += 2)
        for (int l = 0; l < 2; ++l) {
            const Vec both = l ? _mm256_permute2x128_si256(a[j], a[j + 1], 0x31)
                               : _mm256_permute2x128_si256(a[j], a[j + 1], 0x20);
            _mm256_storeu_si256(reinterpret_cast<Vec*>(out + 16 * (128 * l + j)), both);
        }
}

#include "ot_extend_impl.hpp"
}  // namespace narrow
TACIT_END_TARGET

TACIT_BEGIN_TARGET("aes,vaes,gfni,bmi,bmi2,avx2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace wide {

// The same, with all 16 blocks of a leaf at once, and the sums in registers.
template <u64 FIRST>
void add_leaves(const Leaves& keys, u64 block, u8 (*sums)[WIDTH], u8* all) {
    constexpr int VECTORS = BLOCKS / 4;
    const __m512i backwards = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i within = _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
    __m512i counter[VECTORS], total[VECTORS], parts[LEVELS][VECTORS];
    for (int n = 0; n < VECTORS; ++n) {
        const auto first = static_cast<long long>(block) + 4 * n;
        const __m512i numbers = _mm512_add_epi64(within, _mm512_set_epi64(0, first, 0, first, 0, first, 0, first));
        counter[n] = _mm512_shuffle_epi8(numbers, backwards);
        total[n] = _mm512_load_si512(all + 64 * n);
        for (u64 k = 0; k < LEVELS; ++k) parts[k][n] = _mm512_load_si512(sums[k] + 64 * n);
    }
#pragma GCC unroll 16
    for (u64 x = FIRST; x < LEAVES; ++x) {
        const auto key = [&](int round) {
            return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys[x][round])));
        };
        __m512i state[VECTORS];
        const __m512i first = key(0);
        for (int n = 0; n < VECTORS; ++n) state[n] = _mm512_xor_si512(counter[n], first);
#pragma GCC unroll 9
        for (int round = 1; round < 10; ++round) {
            const __m512i k = key(round);
            for (int n = 0; n < VECTORS; ++n) state[n] = _mm512_aesenc_epi128(state[n], k);
        }
        const __m512i last = key(10);
        for (int n = 0; n < VECTORS; ++n) {
            const __m512i r = _mm512_aesenclast_epi128(state[n], last);
            total[n] = _mm512_xor_si512(total[n], r);
#pragma GCC unroll 4
            for (u64 k = 0; k < LEVELS; ++k)
                if (x >> k & 1) parts[k][n] = _mm512_xor_si512(parts[k][n], r);
        }
    }
    for (int n = 0; n < VECTORS; ++n) {
        for (u64 k = 0; k < LEVELS; ++k) _mm512_store_si512(sums[k] + 64 * n, parts[k][n]);
        _mm512_store_si512(all + 64 * n, total[n]);
    }
}

typedef __m512i Vec;
constexpr int FIRST_ROW = 7, NEXT_ROW = -1;  // the turning instruction numbers the rows of a matrix from the last one on

inline Vec load(const u8* from) { return _mm512_load_si512(from); }
inline Vec low8(Vec a, Vec b) { return _mm512_unpacklo_epi8(a, b); }
inline Vec high8(Vec a, Vec b) { return _mm512_unpackhi_epi8(a, b); }
inline Vec low16(Vec a, Vec b) { return _mm512_unpacklo_epi16(a, b); }
inline Vec high16(Vec a, Vec b) { return _mm512_unpackhi_epi16(a, b); }
inline Vec low32(Vec a, Vec b) { return _mm512_unpacklo_epi32(a, b); }
inline Vec high32(Vec a, Vec b) { return _mm512_unpackhi_epi32(a, b); }
inline Vec low64(Vec a, Vec b) { return _mm512_unpacklo_epi64(a, b); }
inline Vec high64(Vec a, Vec b) { return _mm512_unpackhi_epi64(a, b); }

// The product of a matrix of 8 rows with the vectors 1, 2, 4, …, 128: its columns.
inline Vec turned(Vec x) { return _mm512_gf2p8affine_epi64_epi8(_mm512_set1_epi64(i64(0x8040201008040201u)), x, 0); }

// Lane l of vector j is transfer 128 l + j.
inline void store(const Vec* a, u8* out) {
    for (int j = 0; j < 16; j += 4) {
        const Vec p = _mm512_shuffle_i32x4(a[j], a[j + 1], 0x44), q = _mm512_shuffle_i32x4(a[j], a[j + 1], 0xEE);
        const Vec s = _mm512_shuffle_i32x4(a[j + 2], a[j + 3], 0x44), t = _mm512_shuffle_i32x4(a[j + 2], a[j + 3], 0xEE);
        _mm512_storeu_si512(out + 16 * j, _mm512_shuffle_i32x4(p, s, 0x88));
        _mm512_storeu_si512(out + 16 * (128 + j), _mm512_shuffle_i32x4(p, s, 0xDD));
        _mm512_storeu_si512(out + 16 * (256 + j), _mm512_shuffle_i32x4(q, t, 0x88));
        _mm512_storeu_si512(out + 16 * (384 + j), _mm512_shuffle_i32x4(q, t, 0xDD));
    }
}

#include "ot_extend_impl.hpp"
}  // namespace wide
TACIT_END_TARGET

bool is_wide() {
    return isa() >= Isa::avx512 && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("gfni");
}

template <u64 FIRST>
void add_leaves(const Leaves& keys, u64 block, u8 (*sums)[WIDTH], u8* all) {
    is_wide() ? wide::add_leaves<FIRST>(keys, block, sums, all) : narrow::add_leaves<FIRST>(keys, block, sums, all);
}

void turn(const Rows& rows, u8* out) { is_wide() ? wide::turn(rows.sums, out) : narrow::turn(rows.sums, out); }
#else
template <u64>
void add_leaves(const Leaves&, u64, u8 (*)[WIDTH], u8*) { throw std::logic_error("no AES instructions"); }
void turn(const Rows&, u8*) { throw std::logic_error("no AES instructions"); }
#endif

// to = a + bit b, in the same time whatever the bit is.
inline void add(u8* to, const u8* a, const u8* b, u64 bit = 1) {
    const u64 mask = 0 - bit;
    for (u64 at = 0; at < WIDTH; at += 8) {
        u64 x, y;
        std::memcpy(&x, a + at, 8), std::memcpy(&y, b + at, 8);
        x ^= y & mask;
        std::memcpy(to + at, &x, 8);
    }
}

u64 whole_chunks(u64 count) {
    if (count % CHUNK) refuse("a number of transfers that is no multiple of " + std::to_string(CHUNK));
    return count;
}

// The leaves of all trees, 16 bytes each, one tree after the other, ready to be extended.
class Trees {
public:
    Trees(u64 levels, const u8* leaves, u64 bytes) : levels_(levels) {
        if (levels != 4 && levels != 8) refuse("trees of " + std::to_string(levels) + " levels");
        if (bytes != 16 * (trees() << levels)) refuse("another number of leaves than its trees have");
        if (!KeyStream::available()) throw std::logic_error("no AES instructions");
        keys_.resize((trees() << levels) / LEAVES);
        for (u64 leaf = 0; leaf < bytes / 16; ++leaf)
            expand_key(leaves + 16 * leaf, keys_[leaf / LEAVES].rounds[leaf % LEAVES]);
    }
    ~Trees() { forget(keys_.data(), keys_.size() * sizeof(Sixteen)); }
    Trees(const Trees&) = delete;
    Trees& operator=(const Trees&) = delete;

    // Of who knows all leaves: the transfers t, their choices (the correction of tree 0), a byte each, and for every other
    // tree its correction plus that of tree 0, which is sent: a row for each, chunk by chunk.
    void receive(u64 block, Memory t_at, Memory choice_at, Memory sent_at, int threads) const {
        const u64 n = whole_chunks(size(choice_at));
        u8 *choice = elements<u8>(choice_at, n), *sent = elements<u8>(sent_at, (trees() - 1) * (n / 8));
        u8* t = elements<u8>(t_at, 2 * n);
        parallel(i64(n), CHUNK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
            Rows rows;
            for (u64 at = u64(begin); at < u64(end); at += CHUNK) {
                fill<0>(block + at / 128, rows);
                turn(rows, t + 16 * at);
                unpack(rows.corrections[0], choice + at);
                for (u64 i = 1; i < trees(); ++i) add(sent + row_of(at, i), rows.corrections[i], rows.corrections[0]);
            }
            forget(&rows, sizeof rows);
        });
    }

    // Of who knows all but leaf Δ_i, numbered so that leaf x is what the other knows as leaf x + Δ_i: the transfers
    // q = t + choice Δ, from what the other has sent.
    void send(const u8* delta, u64 block, Memory sent_at, Memory q_at, int threads) const {
        const u64 n = whole_chunks(size(q_at) / 2);
        const u8* sent = elements<u8>(sent_at, (trees() - 1) * (n / 8));
        u8* q = elements<u8>(q_at, 2 * n);
        parallel(i64(n), CHUNK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
            Rows rows;
            for (u64 at = u64(begin); at < u64(end); at += CHUNK) {
                fill<1>(block + at / 128, rows);
                for (u64 row = levels_; row < ROWS; ++row)
                    add(rows.sums[row], rows.sums[row], sent + row_of(at, row / levels_), delta[row / 8] >> row % 8 & 1);
                turn(rows, q + 16 * at);
            }
            forget(&rows, sizeof rows);
        });
    }

private:
    struct Sixteen {
        alignas(16) Leaves rounds;
    };

    u64 trees() const { return ROWS / levels_; }

    // Where the row of a tree begins, for the chunk from transfer `at` on.
    u64 row_of(u64 at, u64 tree) const { return (at / CHUNK * (trees() - 1) + tree - 1) * WIDTH; }

    // The rows of a chunk, from all leaves or from all but the first one of each tree.
    template <u64 FIRST>
    void fill(u64 block, Rows& rows) const {
        std::memset(&rows, 0, sizeof rows);
        for (u64 i = 0; i < trees(); ++i) {
            u8(*sums)[WIDTH] = rows.sums + levels_ * i;
            if (levels_ == LEVELS) {
                add_leaves<FIRST>(keys_[i].rounds, block, sums, rows.corrections[i]);
                continue;
            }
            for (u64 high = 0; high < LEAVES; ++high) {  // the leaves 16 high and on, whose sum goes by the bits of high
                alignas(64) u8 all[WIDTH] = {};
                const Leaves& keys = keys_[LEAVES * i + high].rounds;
                high ? add_leaves<0>(keys, block, sums, all) : add_leaves<FIRST>(keys, block, sums, all);
                for (u64 k = 0; k < LEVELS; ++k)
                    if (high >> k & 1) add(sums[LEVELS + k], sums[LEVELS + k], all);
                add(rows.corrections[i], rows.corrections[i], all);
            }
        }
    }

    static void unpack(const u8* plane, u8* bits) {
        for (u64 at = 0; at < CHUNK; at += 64) {
            u64 word;
            std::memcpy(&word, plane + at / 8, 8);
            portable::unpack_block(word, bits + at);
        }
    }

    u64 levels_;
    std::vector<Sixteen> keys_;
};

const Adds names([](nb::module_& m) {
    nb::class_<Trees>(m, "TransferTrees")
        .def("__init__", [](Trees* self, u64 levels, nb::bytes leaves) {
            new (self) Trees(levels, reinterpret_cast<const u8*>(leaves.c_str()), leaves.size());
        })
        .def("receive", &Trees::receive, Unlocked())
        .def("send", [](const Trees& self, nb::bytes delta, u64 block, Memory sent, Memory q, int threads) {
            if (delta.size() != 16) refuse("a difference that has not 16 bytes");
            u8 copy[16];
            std::memcpy(copy, delta.c_str(), 16);
            nb::gil_scoped_release unlock;
            self.send(copy, block, sent, q, threads);
        });
});

}  // namespace
}  // namespace tacit
