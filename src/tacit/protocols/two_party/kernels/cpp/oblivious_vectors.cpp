// Vectors b = c + a Δ, of which one party has Δ and b, the other a and c: a is in GF(2^64), all else in GF(2^64)^2.
//
// They begin with transfers, 64 for one; trees of which the other lacks a leaf give noise that nobody sees, and sums of
// ten of them hide it, by learning parity with noise. Everything is linear in a and c, and so in b.
#include <cstring>

#include "aes.hpp"
#include "keystream.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 TERMS = 10;              // of a sum
constexpr u64 WORDS = 1024;            // sums whose places are drawn at a time
constexpr u64 MODULUS = 0x1B;          // X^64 = X^4 + X^3 + X + 1
constexpr double GRAIN = 1 << 14;

struct Block {
    u64 low, high;
};

Block operator^(Block a, Block b) { return {a.low ^ b.low, a.high ^ b.high}; }
u64 twice(u64 x) { return x << 1 ^ (x >> 63) * MODULUS; }

struct Keys {
    alignas(16) RoundKeys rounds;
};

const Block* blocks(Memory at, u64 n) { return reinterpret_cast<const Block*>(elements<u64>(at, 2 * n)); }
Block* blocks_out(Memory at, u64 n) { return reinterpret_cast<Block*>(elements<u64>(at, 2 * n)); }

Keys keys_of(const nb::bytes& bytes, u64 at = 0) {
    if (bytes.size() < 16 * (at + 1)) refuse("a key that is too short");
    if (!KeyStream::available()) throw std::logic_error("no AES instructions");
    Keys keys;
    expand_key(reinterpret_cast<const u8*>(bytes.c_str()) + 16 * at, keys.rounds);
    return keys;
}

#if TACIT_X86
TACIT_BEGIN_TARGET("aes,ssse3,sse4.1")

// x = AES(x), of so many blocks at once.
template <int COUNT>
inline void encrypt(const RoundKeys& keys, Block* x) {
    const auto key = [&](int round) { return _mm_load_si128(reinterpret_cast<const __m128i*>(keys[round])); };
    __m128i s[COUNT];
    for (int i = 0; i < COUNT; ++i) s[i] = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)), key(0));
    for (int round = 1; round < 10; ++round)
        for (int i = 0; i < COUNT; ++i) s[i] = _mm_aesenc_si128(s[i], key(round));
    for (int i = 0; i < COUNT; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(x + i), _mm_aesenclast_si128(s[i], key(10)));
}
TACIT_END_TARGET

TACIT_BEGIN_TARGET("pclmul,sse4.1")
namespace carryless {
// x y modulo X^64 + X^4 + X^3 + X + 1
inline u64 product(u64 x, u64 y) {
    const __m128i modulus = _mm_set_epi64x(0, i64(MODULUS));
    const __m128i z = _mm_clmulepi64_si128(_mm_set_epi64x(0, i64(x)), _mm_set_epi64x(0, i64(y)), 0x00);
    const __m128i t = _mm_clmulepi64_si128(z, modulus, 0x01);
    const __m128i u = _mm_clmulepi64_si128(t, modulus, 0x01);
    return u64(_mm_cvtsi128_si64(_mm_xor_si128(_mm_xor_si128(z, t), u)));
}

void scaled(const u64* x, Block delta, Block* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = out[i] ^ Block{product(x[i], delta.low), product(x[i], delta.high)};
}
}  // namespace carryless
TACIT_END_TARGET
#else
template <int COUNT>
void encrypt(const RoundKeys&, Block*) { throw std::logic_error("no AES instructions"); }
#endif

namespace bitwise {
inline u64 product(u64 x, u64 y) {
    u64 z = 0;
    for (int bit = 63; bit >= 0; --bit) z = twice(z) ^ (y & (0 - (x >> bit & 1)));
    return z;
}

void scaled(const u64* x, Block delta, Block* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = out[i] ^ Block{product(x[i], delta.low), product(x[i], delta.high)};
}
}  // namespace bitwise

// out += x Δ
void scaled(Memory x_at, nb::bytes delta_bytes, Memory out_at, int threads) {
    const u64 n = size(x_at);
    const u64* x = elements<u64>(x_at, n);
    Block* out = blocks_out(out_at, n);
    if (delta_bytes.size() != 16) refuse("a difference that has not 16 bytes");
    Block delta;
    std::memcpy(&delta, delta_bytes.c_str(), 16);
    nb::gil_scoped_release unlock;
    parallel(i64(n), 64, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
#if TACIT_X86
        if (isa() != Isa::portable && __builtin_cpu_supports("pclmul"))
            return carryless::scaled(x, delta, out, u64(begin), u64(end));
#endif
        bitwise::scaled(x, delta, out, u64(begin), u64(end));
    });
}

// The sum of X^j times each of 64 blocks.
void packed(Memory x_at, Memory out_at) {
    const u64 n = size(out_at) / 2;
    const Block* x = blocks(x_at, 64 * n);
    Block* out = blocks_out(out_at, n);
    for (u64 i = 0; i < n; ++i) {
        Block sum{0, 0};
        for (u64 j = 64; j-- > 0;) sum = Block{twice(sum.low), twice(sum.high)} ^ x[64 * i + j];
        out[i] = sum;
    }
}

// H(x) = AES(AES(x) + t) + AES(x), t = (t_0, t_1 + number + j) for block j: [GKWY20, section 7.4], many blocks for an x.
void mixed(nb::bytes key, u64 number, Memory x_at, Memory tweaks_at, Memory out_at, int threads) {
    const u64 n = size(x_at) / 2;
    const Block* x = blocks(x_at, n);
    const u64 step = n ? size(tweaks_at) / n : 2, width = n ? size(out_at) / n : 1;
    if (step < 2 || !width) refuse("fewer tweaks or outputs than blocks");
    const u64* tweaks = elements<u64>(tweaks_at, step * n);
    u64* out = elements<u64>(out_at, width * n);
    const Keys keys = keys_of(key);
    nb::gil_scoped_release unlock;
    parallel(i64(n), 8, worth(double(n) * double(width), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 at = u64(begin); at < u64(end); at += 8) {
            const u64 here = std::min<u64>(8, u64(end) - at);
            Block u[8] = {}, s[8];
            std::memcpy(u, x + at, 16 * here);
            encrypt<8>(keys.rounds, u);
            for (u64 w = 0; w < width; w += 2) {
                for (u64 i = 0; i < 8; ++i) {
                    const u64* t = tweaks + step * (at + (i < here ? i : 0));
                    s[i] = u[i] ^ Block{t[0], t[1] ^ (number + w / 2)};
                }
                encrypt<8>(keys.rounds, s);
                for (u64 i = 0; i < here; ++i) {
                    const Block h = s[i] ^ u[i];
                    std::memcpy(out + width * (at + i) + w, &h, 8 * std::min<u64>(2, width - w));
                }
            }
        }
    });
}

// The children of `count` nodes, in their place: those of node i at 2 i and 2 i + 1.
void children(const Keys* keys, Block* nodes, u64 count) {
    const auto grow = [&](u64 from, auto lanes) {
        constexpr int LANES = decltype(lanes)::value;
        Block parents[LANES], left[LANES], right[LANES];
        std::memcpy(parents, nodes + from, sizeof parents);
        std::memcpy(left, parents, sizeof parents);
        std::memcpy(right, parents, sizeof parents);
        encrypt<LANES>(keys[0].rounds, left);
        encrypt<LANES>(keys[1].rounds, right);
        for (int i = LANES; i-- > 0;) {
            nodes[2 * (from + u64(i))] = left[i] ^ parents[i];
            nodes[2 * (from + u64(i)) + 1] = right[i] ^ parents[i];
        }
    };
    u64 at = count;
    for (; at >= 8; at -= 8) grow(at - 8, std::integral_constant<int, 8>());
    for (; at > 0; --at) grow(at - 1, std::integral_constant<int, 1>());
}

u64 checked(u64 levels) {
    if (!levels || levels > 24) refuse("trees of " + std::to_string(levels) + " levels");
    return levels;
}

// All leaves of trees with these roots, and the sums of the left and of the right nodes at each level.
void grown(nb::bytes key, Memory roots_at, u64 levels, Memory leaves_at, Memory sums_at, int threads) {
    const u64 n = size(roots_at) / 2, size = u64(1) << checked(levels);
    const Block* roots = blocks(roots_at, n);
    Block *leaves = blocks_out(leaves_at, n * size), *sums = blocks_out(sums_at, n * levels * 2);
    const Keys keys[2] = {keys_of(key), keys_of(key, 1)};
    nb::gil_scoped_release unlock;
    parallel(i64(n), 1, worth(double(n * size), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i) {
            Block* nodes = leaves + size * i;
            nodes[0] = roots[i];
            for (u64 level = 0; level < levels; ++level) {
                children(keys, nodes, u64(1) << level);
                Block side[2] = {};
                for (u64 x = 0; x < u64(2) << level; ++x) side[x & 1] = side[x & 1] ^ nodes[x];
                std::memcpy(sums + 2 * (levels * i + level), side, sizeof side);
            }
        }
    });
}

// All leaves but the one at the end of each path, which is zero, from the sums of the sides away from it; and their sum.
void regrown(nb::bytes key, Memory paths_at, Memory away_at, u64 levels, Memory leaves_at, Memory totals_at, int threads) {
    const u64 n = size(paths_at), size = u64(1) << checked(levels);
    const u64* paths = elements<u64>(paths_at, n);
    const Block* away = blocks(away_at, n * levels);
    Block *leaves = blocks_out(leaves_at, n * size), *totals = blocks_out(totals_at, n);
    for (u64 i = 0; i < n; ++i)
        if (paths[i] >= size) refuse("a path beyond the leaves of its tree");
    const Keys keys[2] = {keys_of(key), keys_of(key, 1)};
    nb::gil_scoped_release unlock;
    parallel(i64(n), 1, worth(double(n * size), GRAIN, threads), [&](i64 begin, i64 end) {
        for (u64 i = u64(begin); i < u64(end); ++i) {
            Block* nodes = leaves + size * i;
            nodes[0] = Block{0, 0};
            Block total{0, 0};
            for (u64 level = 0; level < levels; ++level) {
                children(keys, nodes, u64(1) << level);
                const u64 own = paths[i] >> (levels - 1 - level), other = own ^ 1;
                nodes[own] = nodes[other] = Block{0, 0};
                Block side[2] = {};
                for (u64 x = 0; x < u64(2) << level; ++x) side[x & 1] = side[x & 1] ^ nodes[x];
                nodes[other] = side[other & 1] ^ away[levels * i + level];
                total = side[own & 1] ^ away[levels * i + level];
            }
            totals[i] = total;
        }
    });
}

// out += sums of ten of the seeds, and of the words beside them where there are some; place 10 i + j is word 10 i + j of
// the key stream, times the number of seeds, over 2^32.
void coded(nb::bytes key, Memory seeds_at, Memory out_at, Memory words_at, Memory words_out_at, int threads) {
    const u64 k = size(seeds_at) / 2, n = size(out_at) / 2;
    if (!k || k >> 32) refuse("another number of seeds than 32 bits number");
    if (key.size() != 16) refuse("a key that has not 16 bytes");
    const Block* seeds = blocks(seeds_at, k);
    Block* out = blocks_out(out_at, n);
    const bool both = size(words_at) != 0;
    const u64* words = both ? elements<u64>(words_at, k) : nullptr;
    u64* words_out = both ? elements<u64>(words_out_at, n) : nullptr;
    const KeyStream stream(reinterpret_cast<const u8*>(key.c_str()));
    nb::gil_scoped_release unlock;
    parallel(i64(n), i64(WORDS), worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        std::vector<u32> drawn(TERMS * WORDS);
        for (u64 at = u64(begin); at < u64(end); at += WORDS) {
            const u64 here = std::min(WORDS, u64(end) - at);
            stream.write(4 * TERMS * at, reinterpret_cast<u8*>(drawn.data()), 4 * TERMS * here, Into::store, 1);
            for (u64 i = 0; i < here; ++i) {
                u64 place[TERMS];
                for (u64 j = 0; j < TERMS; ++j) place[j] = drawn[TERMS * i + j] * k >> 32;
                Block sum = out[at + i];
                for (u64 p : place) sum = sum ^ seeds[p];
                out[at + i] = sum;
                if (both) {
                    u64 word = words_out[at + i];
                    for (u64 p : place) word ^= words[p];
                    words_out[at + i] = word;
                }
            }
        }
    });
}

const Adds names([](nb::module_& m) {
    m.def("oblivious_scaled", &scaled);
    m.def("oblivious_packed", &packed, Unlocked());
    m.def("oblivious_mixed", &mixed);
    m.def("oblivious_grown", &grown);
    m.def("oblivious_regrown", &regrown);
    m.def("oblivious_coded", &coded);
});

}  // namespace
}  // namespace tacit
