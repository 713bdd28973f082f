// Oblivious transfers of 128 bits, hashed: H(x) = AES(k, x) + x, with a key k for each batch [GKWY20, section 7.2].
//
// A transfer is q at the sender, who has the messages H(q) and H(q + Δ), and t = q + choice Δ at the receiver, who has
// H(t). Batch i of a call has the key AES(master, number + i), the number as a counter, big end first. Messages are the
// low bits of a hash.
#include <cstring>

#include "aes.hpp"
#include "bits.hpp"
#include "keystream.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 BATCH = 1024;  // transfers with one key of the hash
constexpr u64 ENTRIES = 16;  // of a table, of two bits each
constexpr u64 GROUP = 64;    // tables whose entries one hash gives
constexpr double GRAIN = 1 << 15, TABLE_GRAIN = 1 << 13;  // items that a thread should have at least: some 100 µs

struct Block {
    u64 low, high;
};

Block operator^(Block a, Block b) { return {a.low ^ b.low, a.high ^ b.high}; }

// γ x in GF(2^128): γ is a root of X^128 + X^7 + X^2 + X + 1, bit i of a block the coefficient of γ^i.
Block twice(Block x) { return {x.low << 1 ^ (x.high >> 63) * 0x87, x.high << 1 | x.low >> 63}; }

struct Quads {
    const Block* x;
    u64 n;
};

struct Keys {
    alignas(16) RoundKeys rounds;
    ~Keys() { forget(rounds, sizeof rounds); }
};

#if TACIT_X86
TACIT_BEGIN_TARGET("aes,ssse3,sse4.1,avx2,bmi,bmi2")
namespace narrow {

using avx2::pack_block;

template <int COUNT>
inline void encrypt(const RoundKeys& keys, __m128i* x) {
    const auto key = [&](int round) { return _mm_load_si128(reinterpret_cast<const __m128i*>(keys[round])); };
    __m128i s[COUNT];
    for (int i = 0; i < COUNT; ++i) s[i] = _mm_xor_si128(x[i], key(0));
    for (int round = 1; round < 10; ++round)
        for (int i = 0; i < COUNT; ++i) s[i] = _mm_aesenc_si128(s[i], key(round));
    for (int i = 0; i < COUNT; ++i) x[i] = _mm_aesenclast_si128(s[i], key(10));
}

inline __m128i load(const void* from) { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }
inline void store(void* to, __m128i x) { _mm_storeu_si128(static_cast<__m128i*>(to), x); }

// out = H(x + Δ)
void hash(const RoundKeys& keys, const Block* x, Block delta, Block* out, u64 count) {
    const __m128i d = load(&delta);
    u64 at = 0;
    for (; at + 8 <= count; at += 8) {
        __m128i in[8], s[8];
        for (int i = 0; i < 8; ++i) s[i] = in[i] = _mm_xor_si128(load(x + at + i), d);
        encrypt<8>(keys, s);
        for (int i = 0; i < 8; ++i) store(out + at + i, _mm_xor_si128(s[i], in[i]));
    }
    for (; at < count; ++at) {
        const __m128i in = _mm_xor_si128(load(x + at), d);
        __m128i s = in;
        encrypt<1>(keys, &s);
        store(out + at, _mm_xor_si128(s, in));
    }
}

// Entry j of table t of digit i is bits 2 t and 2 t + 1 of H(x_i + d_j): bits 2 j and 2 j + 1 of pads[t][i].
void leaves(const RoundKeys& keys, const Block* x, const Block* d, u64 tables, u32* pads, u64 stride, u64 count) {
    for (u64 i = 0; i < count; ++i) {
        const __m128i base = load(x + i);
        Block leaf[ENTRIES];
        for (u64 half = 0; half < ENTRIES; half += 8) {
            __m128i in[8], s[8];
            for (u64 j = 0; j < 8; ++j) s[j] = in[j] = _mm_xor_si128(base, load(d + half + j));
            encrypt<8>(keys, s);
            for (u64 j = 0; j < 8; ++j) store(leaf + half + j, _mm_xor_si128(s[j], in[j]));
        }
        for (u64 t = 0; t < tables; ++t) {
            u64 word = 0;
            for (u64 j = 0; j < ENTRIES; ++j) word |= ((t < 32 ? leaf[j].low : leaf[j].high) >> 2 * (t % 32) & 3) << 2 * j;
            pads[t * stride + i] = static_cast<u32>(word);
        }
    }
}

#include "ot_hash_impl.hpp"
}  // namespace narrow
TACIT_END_TARGET

TACIT_BEGIN_TARGET("aes,vaes,bmi,bmi2,avx2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace wide {

using avx512::pack_block;

struct Wide {
    __m512i round[11];
};

inline Wide broadcast(const RoundKeys& keys) {
    Wide wide;
    for (int r = 0; r <= 10; ++r)
        wide.round[r] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(keys[r])));
    return wide;
}

inline __m512i four(const Block& x) { return _mm512_set_epi64(i64(x.high), i64(x.low), i64(x.high), i64(x.low),
                                                               i64(x.high), i64(x.low), i64(x.high), i64(x.low)); }

// x = H(x), of 4 COUNT blocks.
template <int COUNT>
inline void encrypt(const Wide& keys, __m512i* x) {
    __m512i s[COUNT];
    for (int i = 0; i < COUNT; ++i) s[i] = _mm512_xor_si512(x[i], keys.round[0]);
#pragma GCC unroll 9
    for (int round = 1; round < 10; ++round)
        for (int i = 0; i < COUNT; ++i) s[i] = _mm512_aesenc_epi128(s[i], keys.round[round]);
    for (int i = 0; i < COUNT; ++i) x[i] = _mm512_xor_si512(x[i], _mm512_aesenclast_epi128(s[i], keys.round[10]));
}

void hash(const RoundKeys& round_keys, const Block* x, Block delta, Block* out, u64 count) {
    constexpr u64 VECTORS = 8, STEP = 4 * VECTORS;
    const Wide keys = broadcast(round_keys);
    const __m512i d = four(delta);
    u64 at = 0;
    for (; at + STEP <= count; at += STEP) {
        __m512i s[VECTORS];
        for (u64 i = 0; i < VECTORS; ++i) s[i] = _mm512_xor_si512(_mm512_loadu_si512(x + at + 4 * i), d);
        encrypt<VECTORS>(keys, s);
        for (u64 i = 0; i < VECTORS; ++i) _mm512_storeu_si512(out + at + 4 * i, s[i]);
    }
    for (; at < count; at += 4) {
        const auto mask = static_cast<__mmask8>((1u << 2 * std::min<u64>(4, count - at)) - 1);
        __m512i s = _mm512_xor_si512(_mm512_maskz_loadu_epi64(mask, x + at), d);
        encrypt<1>(keys, &s);
        _mm512_mask_storeu_epi64(out + at, mask, s);
    }
}

void leaves(const RoundKeys& round_keys, const Block* x, const Block* d, u64 tables, u32* pads, u64 stride, u64 count) {
    const Wide keys = broadcast(round_keys);
    __m512i offset[4];
    for (int j = 0; j < 4; ++j) offset[j] = _mm512_loadu_si512(d + 4 * j);
    // Word w of eight leaves, from two vectors of four.
    const __m512i first = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
    const auto entries = [&](const __m512i* h, u64 i) {
        for (u64 w = 0; 16 * w < tables; ++w) {
            const __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(int(w)));
            const __m512i low = _mm512_permutex2var_epi32(h[0], index, h[1]);
            const __m512i high = _mm512_permutex2var_epi32(h[2], index, h[3]);
            const __m512i words = _mm512_mask_blend_epi64(0xF0, low, high);
            for (u64 t = 16 * w; t < std::min(tables, 16 * w + 16); ++t) {
                const int bit = 1 << 2 * (t % 16);
                const u32 even = _mm512_test_epi32_mask(words, _mm512_set1_epi32(bit));
                const u32 odd = _mm512_test_epi32_mask(words, _mm512_set1_epi32(int(unsigned(bit) << 1)));
                pads[t * stride + i] = _pdep_u32(even, 0x55555555u) | _pdep_u32(odd, 0xAAAAAAAAu);
            }
        }
    };
    u64 i = 0;
    for (; i + 2 <= count; i += 2) {
        const __m512i one = four(x[i]), other = four(x[i + 1]);
        __m512i s[8];
        for (int j = 0; j < 4; ++j) s[j] = _mm512_xor_si512(one, offset[j]), s[4 + j] = _mm512_xor_si512(other, offset[j]);
        encrypt<8>(keys, s);
        entries(s, i);
        entries(s + 4, i + 1);
    }
    for (; i < count; ++i) {
        __m512i s[4];
        for (int j = 0; j < 4; ++j) s[j] = _mm512_xor_si512(four(x[i]), offset[j]);
        encrypt<4>(keys, s);
        entries(s, i);
    }
}

#include "ot_hash_impl.hpp"
}  // namespace wide
TACIT_END_TARGET

// Call the copy for the instruction set in use.
#define TACIT_HASH(function, ...) \
    (isa() >= Isa::avx512 && __builtin_cpu_supports("vaes") ? wide::function(__VA_ARGS__) : narrow::function(__VA_ARGS__))

void encrypt_block(const RoundKeys& keys, u64 number, u8* out) {
    alignas(16) u8 block[16] = {};
    number = __builtin_bswap64(number);
    std::memcpy(block + 8, &number, 8);
    __m128i x = narrow::load(block);
    narrow::encrypt<1>(keys, &x);
    narrow::store(out, x);
}
#else
#define TACIT_HASH(function, ...) throw std::logic_error("no AES instructions")
void encrypt_block(const RoundKeys&, u64, u8*) { throw std::logic_error("no AES instructions"); }
#endif

// The keys of batches, from the master's.
class Batches {
public:
    Batches(const nb::bytes& master, u64 number) : number_(number) {
        if (master.size() != 16) refuse("a key that has not 16 bytes");
        if (!KeyStream::available()) throw std::logic_error("no AES instructions");
        expand_key(reinterpret_cast<const u8*>(master.c_str()), master_.rounds);
    }

    void set(Keys& keys, u64 index) const {
        u8 key[16];
        encrypt_block(master_.rounds, number_ + index, key);
        expand_key(key, keys.rounds);
        forget(key, sizeof key);
    }

private:
    Keys master_;
    u64 number_;
};

Block block_of(const nb::bytes& bytes) {
    if (bytes.size() != 16) refuse("a difference that has not 16 bytes");
    Block block;
    std::memcpy(&block, bytes.c_str(), 16);
    return block;
}

// Call body(keys, first item, items, batch) for each batch of `count` items, on several threads.
template <class Body>
void by_batch(const Batches& batches, u64 keys_each, u64 count, double grain, int threads, const Body& body) {
    parallel(i64(count), BATCH, worth(double(count), grain, threads), [&](i64 begin, i64 end) {
        Keys keys;
        for (u64 at = u64(begin); at < u64(end); at += BATCH)
            for (u64 k = 0; k < keys_each; ++k) {
                batches.set(keys, at / BATCH * keys_each + k);
                body(keys.rounds, at, std::min(BATCH, u64(end) - at), k);
            }
    });
}

// The items from `first` on that a call writes, of `all` there are in a row of its output.
void within(u64 first, u64 count, u64 all) {
    if (first > all || count > all - first) refuse("items beyond the end of its output");
}

// H(x + Δ) of each transfer: its first 8 bytes, to items `first` and up.
void words(nb::bytes master, u64 number, Memory x_at, nb::bytes delta_bytes, Memory out_at, u64 first, int threads) {
    const u64 n = size(x_at) / 2, all = size(out_at);
    within(first, n, all);
    const Batches batches(master, number);
    const Block delta = block_of(delta_bytes);
    const Block* x = reinterpret_cast<const Block*>(elements<u64>(x_at, 2 * n));
    u64* out = elements<u64>(out_at, all) + first;
    nb::gil_scoped_release unlock;
    by_batch(batches, 1, n, GRAIN, threads, [&](const RoundKeys& keys, u64 at, u64 count, u64) {
        TACIT_HASH(words, keys, x + at, delta, out + at, count);
    });
}

// The first bits of H(x + Δ) of each transfer, as planes.
void bits(nb::bytes master, u64 number, Memory x_at, nb::bytes delta_bytes, u64 width, Memory out_at, u64 first,
          int threads) {
    if (width < 1 || width > 8) refuse("messages of " + std::to_string(width) + " bits");
    const u64 n = size(x_at) / 2, bytes = size(out_at) / width;
    if (first % 64) refuse("planes that begin within a word");
    within(first / 8, (n + 7) / 8, bytes);
    const Batches batches(master, number);
    const Block delta = block_of(delta_bytes);
    const Block* x = reinterpret_cast<const Block*>(elements<u64>(x_at, 2 * n));
    u8* out = elements<u8>(out_at, width * bytes) + first / 8;
    nb::gil_scoped_release unlock;
    by_batch(batches, 1, n, GRAIN, threads, [&](const RoundKeys& keys, u64 at, u64 count, u64) {
        TACIT_HASH(planes, keys, x + at, delta, width, out + at / 8, bytes, count);
    });
}

u64 groups_of(u64 tables) {
    if (tables < 1 || tables > 1 << 20) refuse("another number of tables than it takes");
    return (tables + GROUP - 1) / GROUP;
}

// Four transfers of 1 of 2 make one of 1 of 16: transfers i, n + i, 2 n + i and 3 n + i are those of item i.
Quads quads(Memory x_at) {
    const u64 n = size(x_at) / 8;
    return {reinterpret_cast<const Block*>(elements<u64>(x_at, 8 * n)), n};
}

// Entry j of table t of item i: bits 2 t and 2 t + 1 of H(x + f(j) Δ), f(j) = the sum of γ^k over the bits k of j, and
// x = the sum of γ^k x_k. They are bits 2 j and 2 j + 1 of out[t][i].
void tables(nb::bytes master, u64 number, Memory x_at, nb::bytes delta_bytes, u64 tables, Memory out_at, u64 first,
            int threads) {
    const u64 groups = groups_of(tables), all = size(out_at) / tables;
    const Quads x = quads(x_at);
    within(first, x.n, all);
    const Batches batches(master, number);
    u32* out = elements<u32>(out_at, tables * all) + first;
    Block d[ENTRIES] = {};
    Block power = block_of(delta_bytes);
    for (u64 bit = 1; bit < ENTRIES; bit *= 2, power = twice(power))
        for (u64 j = 0; j < ENTRIES; ++j)
            if (j & bit) d[j] = d[j] ^ power;
    {
        nb::gil_scoped_release unlock;
        by_batch(batches, groups, x.n, TABLE_GRAIN, threads, [&](const RoundKeys& keys, u64 at, u64 count, u64 group) {
            const u64 t = GROUP * group, here = std::min(GROUP, tables - t);
            TACIT_HASH(tables, keys, x, d, at, here, out + t * all + at, all, count);
        });
    }
    forget(d, sizeof d);
}

void entries(nb::bytes master, u64 number, Memory x_at, u64 tables, Memory out_at, u64 first, int threads) {
    const u64 groups = groups_of(tables), all = size(out_at) / tables;
    const Quads x = quads(x_at);
    within(first, x.n, all);
    const Batches batches(master, number);
    u8* out = elements<u8>(out_at, tables * all) + first;
    nb::gil_scoped_release unlock;
    by_batch(batches, groups, x.n, GRAIN, threads, [&](const RoundKeys& keys, u64 at, u64 count, u64 group) {
        const u64 t = GROUP * group, here = std::min(GROUP, tables - t);
        TACIT_HASH(entries, keys, x, at, here, out + t * all + at, all, count);
    });
}

// AES(key, x) of each block, by the code of the hash: for its known answers.
void encrypt_blocks(nb::bytes key, Memory x_at, Memory out_at) {
    const u64 n = size(x_at) / 2;
    const Block* x = reinterpret_cast<const Block*>(elements<u64>(x_at, 2 * n));
    Block* out = reinterpret_cast<Block*>(elements<u64>(out_at, 2 * n));
    if (key.size() != 16) refuse("a key that has not 16 bytes");
    if (!KeyStream::available()) throw std::logic_error("no AES instructions");
    Keys keys;
    expand_key(reinterpret_cast<const u8*>(key.c_str()), keys.rounds);
    TACIT_HASH(hash, keys.rounds, x, Block{0, 0}, out, n);
    for (u64 i = 0; i < n; ++i) out[i] = out[i] ^ x[i];
}

const Adds names([](nb::module_& m) {
    m.def("transfer_words", &words);
    m.def("transfer_bits", &bits);
    m.def("transfer_tables", &tables);
    m.def("transfer_entries", &entries);
    m.def("transfer_blocks", &encrypt_blocks);
});

}  // namespace
}  // namespace tacit
