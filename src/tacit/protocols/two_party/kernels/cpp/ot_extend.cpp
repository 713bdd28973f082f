// The extension of oblivious transfers [Roy22], with trees of 16 leaves: 128 rows of bits from 512 key streams, turned into
// transfers of 128 bits.
//
// Leaf x of tree i is a key; r_x is its key stream, in bits. Row 4 i + k is the sum of all r_x whose x has bit k, and the
// correction of tree i is the sum of all its r_x. Bit r of transfer j is bit j of row r; eight transfers lie in a byte of
// a row, the first one lowest.
#include <cstring>

#include "aes.hpp"
#include "bits.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 TREES = 32, LEAVES = 16, LEVELS = 4, ROWS = TREES * LEVELS;
constexpr u64 BLOCKS = 16;           // of a key stream at a time
constexpr u64 WIDTH = 16 * BLOCKS;   // bytes of a row
constexpr u64 CHUNK = 8 * WIDTH;     // transfers
constexpr double GRAIN = 1 << 15;    // transfers that a thread should have at least: some 100 µs
constexpr u64 TILE = 64;             // bytes of rows that are turned at a time

// What a party makes of a chunk: `all` says whether it knows leaf 0 of every tree, so all of them.
struct Rows {
    alignas(64) u8 sums[ROWS][WIDTH];
    alignas(64) u8 corrections[TREES][WIDTH];  // where all leaves are known
};

using TreeKeys = u8[LEAVES][11][16];

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

template <bool ALL>
void fill(const TreeKeys* trees, u64 block, Rows& rows) {
    alignas(64) u8 leaves[LEAVES][WIDTH];
    for (u64 i = 0; i < TREES; ++i) {
        for (u64 x = ALL ? 0 : 1; x < LEAVES; ++x) stream(trees[i][x], block, leaves[x]);
        for (u64 at = 0; at < WIDTH; at += sizeof(Part)) {
            Part all{}, sums[LEVELS] = {};
#pragma GCC unroll 16
            for (u64 x = ALL ? 0 : 1; x < LEAVES; ++x) {
                const Part r = *reinterpret_cast<const Part*>(leaves[x] + at);
                if (ALL) all ^= r;
#pragma GCC unroll 4
                for (u64 k = 0; k < LEVELS; ++k)
                    if (x >> k & 1) sums[k] ^= r;
            }
            for (u64 k = 0; k < LEVELS; ++k) *reinterpret_cast<Part*>(rows.sums[LEVELS * i + k] + at) = sums[k];
            if (ALL) *reinterpret_cast<Part*>(rows.corrections[i] + at) = all;
        }
    }
}

// 8 rows of 8 bits, a byte for each, turned: Hacker's Delight, 7-3.
inline u64 turned(u64 x) {
    u64 t = (x ^ x >> 7) & 0x00AA00AA00AA00AAu;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000CCCC0000CCCCu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000F0F0F0F0u;
    return x ^ t ^ t << 28;
}

void turn(const u8 (*rows)[WIDTH], u8* out) {
    for (u64 g = 0; g < ROWS / 8; ++g)
        for (u64 at = 0; at < WIDTH; ++at) {
            u64 x = 0;
            for (u64 r = 0; r < 8; ++r) x |= u64{rows[8 * g + r][at]} << 8 * r;
            x = turned(x);
            for (u64 b = 0; b < 8; ++b) out[16 * (8 * at + b) + g] = static_cast<u8>(x >> 8 * b);
        }
}

}  // namespace narrow
TACIT_END_TARGET

TACIT_BEGIN_TARGET("aes,vaes,gfni,bmi,bmi2,avx2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace wide {

// All 16 blocks of a leaf at once, and the sums of a tree, in registers.
template <bool ALL>
void fill(const TreeKeys* trees, u64 block, Rows& rows) {
    constexpr int VECTORS = BLOCKS / 4;
    const __m512i backwards = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i within = _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
    __m512i counter[VECTORS];
    for (int n = 0; n < VECTORS; ++n) {
        const auto first = static_cast<long long>(block) + 4 * n;
        const __m512i numbers = _mm512_add_epi64(within, _mm512_set_epi64(0, first, 0, first, 0, first, 0, first));
        counter[n] = _mm512_shuffle_epi8(numbers, backwards);
    }
    for (u64 i = 0; i < TREES; ++i) {
        __m512i all[VECTORS], sums[LEVELS][VECTORS];
        for (int n = 0; n < VECTORS; ++n) {
            all[n] = _mm512_setzero_si512();
            for (u64 k = 0; k < LEVELS; ++k) sums[k][n] = _mm512_setzero_si512();
        }
#pragma GCC unroll 16
        for (u64 x = ALL ? 0 : 1; x < LEAVES; ++x) {
            const auto key = [&](int round) {
                return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(trees[i][x][round])));
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
                if (ALL) all[n] = _mm512_xor_si512(all[n], r);
#pragma GCC unroll 4
                for (u64 k = 0; k < LEVELS; ++k)
                    if (x >> k & 1) sums[k][n] = _mm512_xor_si512(sums[k][n], r);
            }
        }
        for (int n = 0; n < VECTORS; ++n) {
            for (u64 k = 0; k < LEVELS; ++k) _mm512_store_si512(rows.sums[LEVELS * i + k] + 64 * n, sums[k][n]);
            if (ALL) _mm512_store_si512(rows.corrections[i] + 64 * n, all[n]);
        }
    }
}

// 64 bytes of all rows at a time: bytes of eight rows side by side, each eight turned by one instruction, and then those
// of the sixteen eights side by side.
void turn(const u8 (*rows)[WIDTH], u8* out) {
    const __m512i each = _mm512_set1_epi64(static_cast<long long>(0x8040201008040201u));
    constexpr int EIGHTS = ROWS / 8;
    alignas(64) __m512i turned[8][EIGHTS];
    for (u64 at = 0; at < WIDTH; at += TILE) {
        for (int g = 0; g < EIGHTS; ++g) {
            __m512i a[8], b[8];
            // the instruction numbers the rows of its matrix from the last one on
            for (int r = 0; r < 8; ++r) a[7 - r] = _mm512_load_si512(rows[8 * g + r] + at);
            for (int r = 0; r < 4; ++r) {
                b[2 * r] = _mm512_unpacklo_epi8(a[2 * r], a[2 * r + 1]);
                b[2 * r + 1] = _mm512_unpackhi_epi8(a[2 * r], a[2 * r + 1]);
            }
            for (int r = 0; r < 2; ++r)
                for (int h = 0; h < 2; ++h) {
                    a[4 * r + 2 * h] = _mm512_unpacklo_epi16(b[4 * r + h], b[4 * r + 2 + h]);
                    a[4 * r + 2 * h + 1] = _mm512_unpackhi_epi16(b[4 * r + h], b[4 * r + 2 + h]);
                }
            for (int h = 0; h < 4; ++h) {  // columns 16 l + 2 m and the next one in lane l of vector m
                turned[2 * h][g] = _mm512_gf2p8affine_epi64_epi8(each, _mm512_unpacklo_epi32(a[h], a[4 + h]), 0);
                turned[2 * h + 1][g] = _mm512_gf2p8affine_epi64_epi8(each, _mm512_unpackhi_epi32(a[h], a[4 + h]), 0);
            }
        }
        for (int m = 0; m < 8; ++m) {
            __m512i a[EIGHTS], b[EIGHTS];
            for (int r = 0; r < 8; ++r) {  // b: [pair of bytes][half]
                b[2 * r] = _mm512_unpacklo_epi8(turned[m][2 * r], turned[m][2 * r + 1]);
                b[2 * r + 1] = _mm512_unpackhi_epi8(turned[m][2 * r], turned[m][2 * r + 1]);
            }
            for (int r = 0; r < 4; ++r)
                for (int h = 0; h < 2; ++h) {
                    a[4 * r + 2 * h] = _mm512_unpacklo_epi16(b[4 * r + h], b[4 * r + 2 + h]);
                    a[4 * r + 2 * h + 1] = _mm512_unpackhi_epi16(b[4 * r + h], b[4 * r + 2 + h]);
                }
            for (int r = 0; r < 2; ++r)
                for (int h = 0; h < 4; ++h) {
                    b[8 * r + 2 * h] = _mm512_unpacklo_epi32(a[8 * r + h], a[8 * r + 4 + h]);
                    b[8 * r + 2 * h + 1] = _mm512_unpackhi_epi32(a[8 * r + h], a[8 * r + 4 + h]);
                }
            for (int h = 0; h < 8; ++h) {
                a[2 * h] = _mm512_unpacklo_epi64(b[h], b[8 + h]);
                a[2 * h + 1] = _mm512_unpackhi_epi64(b[h], b[8 + h]);
            }
            for (int j = 0; j < 16; j += 4) {  // lane l of vector j is transfer 128 l + 16 m + j of the tile
                const __m512i p = _mm512_shuffle_i32x4(a[j], a[j + 1], 0x44), q = _mm512_shuffle_i32x4(a[j], a[j + 1], 0xEE);
                const __m512i s = _mm512_shuffle_i32x4(a[j + 2], a[j + 3], 0x44);
                const __m512i t = _mm512_shuffle_i32x4(a[j + 2], a[j + 3], 0xEE);
                u8* to = out + 16 * (8 * at + 16 * static_cast<u64>(m) + static_cast<u64>(j));
                _mm512_storeu_si512(to, _mm512_shuffle_i32x4(p, s, 0x88));
                _mm512_storeu_si512(to + 16 * 128, _mm512_shuffle_i32x4(p, s, 0xDD));
                _mm512_storeu_si512(to + 16 * 256, _mm512_shuffle_i32x4(q, t, 0x88));
                _mm512_storeu_si512(to + 16 * 384, _mm512_shuffle_i32x4(q, t, 0xDD));
            }
        }
    }
}

}  // namespace wide
TACIT_END_TARGET

bool is_wide() {
    return isa() == Isa::avx512 && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("gfni");
}

template <bool ALL>
void fill(const TreeKeys* trees, u64 block, Rows& rows) {
    is_wide() ? wide::fill<ALL>(trees, block, rows) : narrow::fill<ALL>(trees, block, rows);
}

void turn(const Rows& rows, u8* out) { is_wide() ? wide::turn(rows.sums, out) : narrow::turn(rows.sums, out); }
#else
template <bool ALL>
void fill(const TreeKeys*, u64, Rows&) { throw std::logic_error("no AES instructions"); }
void turn(const Rows&, u8*) { throw std::logic_error("no AES instructions"); }
#endif

inline void add(u8* to, const u8* a, const u8* b) {
    for (u64 at = 0; at < WIDTH; at += 8) {
        u64 x, y;
        std::memcpy(&x, a + at, 8), std::memcpy(&y, b + at, 8);
        x ^= y;
        std::memcpy(to + at, &x, 8);
    }
}

u64 whole_chunks(u64 count) {
    if (count % CHUNK) refuse("a number of transfers that is no multiple of " + std::to_string(CHUNK));
    return count;
}

// The leaves of 32 trees, ready to be extended; bytes 16 (16 i + x) on are leaf x of tree i.
class Trees {
public:
    explicit Trees(const u8* leaves) {
        if (isa() == Isa::portable) throw std::logic_error("no AES instructions");
        for (u64 i = 0; i < TREES; ++i)
            for (u64 x = 0; x < LEAVES; ++x) expand_key(leaves + 16 * (LEAVES * i + x), keys_[i][x]);
    }
    ~Trees() { forget(keys_, sizeof keys_); }
    Trees(const Trees&) = delete;
    Trees& operator=(const Trees&) = delete;

    // Of who knows all leaves: the transfers t, their choices (the correction of tree 0), a byte each, and for every other
    // tree its correction plus that of tree 0, which is sent: 31 rows for each chunk.
    void receive(u64 block, Memory t_at, Memory choice_at, Memory sent_at, int threads) const {
        const u64 n = whole_chunks(size(choice_at));
        u8 *choice = elements<u8>(choice_at, n), *sent = elements<u8>(sent_at, (TREES - 1) * (n / 8));
        u8* t = elements<u8>(t_at, 2 * n);
        parallel(i64(n), CHUNK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
            Rows rows;
            for (u64 at = u64(begin); at < u64(end); at += CHUNK) {
                fill<true>(keys_, block + at / 128, rows);
                turn(rows, t + 16 * at);
                unpack(rows.corrections[0], choice + at);
                for (u64 i = 1; i < TREES; ++i)
                    add(sent + row_of(at, i), rows.corrections[i], rows.corrections[0]);
            }
            forget(&rows, sizeof rows);
        });
    }

    // Of who knows all but leaf Δ_i, numbered so that leaf x is what the other knows as leaf x + Δ_i: the transfers
    // q = t + choice Δ, from what the other has sent.
    void send(const u8* delta, u64 block, Memory sent_at, Memory q_at, int threads) const {
        const u64 n = whole_chunks(size(q_at) / 2);
        const u8* sent = elements<u8>(sent_at, (TREES - 1) * (n / 8));
        u8* q = elements<u8>(q_at, 2 * n);
        parallel(i64(n), CHUNK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
            Rows rows;
            for (u64 at = u64(begin); at < u64(end); at += CHUNK) {
                fill<false>(keys_, block + at / 128, rows);
                for (u64 row = LEVELS; row < ROWS; ++row)
                    if (delta[row / 8] >> row % 8 & 1)
                        add(rows.sums[row], rows.sums[row], sent + row_of(at, row / LEVELS));
                turn(rows, q + 16 * at);
            }
            forget(&rows, sizeof rows);
        });
    }

private:
    // Where the row of a tree begins, for the chunk from transfer `at` on.
    static u64 row_of(u64 at, u64 tree) { return (at / CHUNK * (TREES - 1) + tree - 1) * WIDTH; }

    static void unpack(const u8* plane, u8* bits) {
        for (u64 at = 0; at < CHUNK; at += 64) {
            u64 word;
            std::memcpy(&word, plane + at / 8, 8);
            portable::unpack_block(word, bits + at);
        }
    }

    alignas(16) TreeKeys keys_[TREES];
};

const Adds names([](nb::module_& m) {
    nb::class_<Trees>(m, "TransferTrees")
        .def("__init__", [](Trees* self, nb::bytes leaves) {
            if (leaves.size() != 16 * LEAVES * TREES) refuse("another number of leaves than 32 times 16");
            new (self) Trees(reinterpret_cast<const u8*>(leaves.c_str()));
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
