// Digests of the keys of tables' rows: SHA-256 of texts, each behind its length, of which those of ASCII are brought to
// the form in which keys are compared on the way; see tacit.records.keys. Ref: FIPS 180-4.
#include <cstring>
#include <utility>

#include "module.hpp"
#include "threads.hpp"

#if TACIT_X86
#include <cpuid.h>
#endif

namespace tacit {
namespace {

constexpr double GRAIN = 1 << 13;  // rows that a thread should have at least: a digest takes some 100 ns
enum State : u8 { DIGESTED, KEYLESS, FOREIGN };

alignas(16) constexpr u32 K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

inline u32 turned(u32 x, int n) { return x >> n | x << (32 - n); }

void compress(u32* h, const u8* block) {
    u32 w[64];
    for (int t = 0; t < 16; ++t)
        w[t] = u32(block[4 * t]) << 24 | u32(block[4 * t + 1]) << 16 | u32(block[4 * t + 2]) << 8 | block[4 * t + 3];
    for (int t = 16; t < 64; ++t) {
        const u32 s0 = turned(w[t - 15], 7) ^ turned(w[t - 15], 18) ^ w[t - 15] >> 3;
        const u32 s1 = turned(w[t - 2], 17) ^ turned(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    u32 v[8];
    std::memcpy(v, h, sizeof v);
    for (int t = 0; t < 64; ++t) {
        const u32 s1 = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25);
        const u32 t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[t] + w[t];
        const u32 s0 = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
        const u32 t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        for (int i = 7; i; --i) v[i] = v[i - 1];
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; ++i) h[i] += v[i];
}

#if TACIT_X86
TACIT_BEGIN_TARGET("sse4.1,ssse3,sha")
void compress_by_instructions(u32* h, const u8* block) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i dcba = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(h)), 0xB1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(h + 4)), 0x1B);
    const __m128i first = _mm_alignr_epi8(dcba, hgfe, 8), second = _mm_blend_epi16(hgfe, dcba, 0xF0);
    __m128i abef = first, cdgh = second, w[4];
    for (int i = 0; i < 4; ++i)
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), order);
    for (int i = 0; i < 16; ++i) {  // four rounds each
        __m128i k = _mm_add_epi32(w[i & 3], _mm_load_si128(reinterpret_cast<const __m128i*>(K) + i));
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0E));
        if (i < 12) {  // the words of four rounds, sixteen later
            const __m128i later = _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4);
            const __m128i some = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), later);
            w[i & 3] = _mm_sha256msg2_epu32(some, w[(i + 3) & 3]);
        }
    }
    abef = _mm_add_epi32(abef, first), cdgh = _mm_add_epi32(cdgh, second);
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(h), _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}
TACIT_END_TARGET

// The instructions for SHA-256 wait for upper halves of registers that somebody has left behind, three times as long.
TACIT_BEGIN_TARGET("avx")
void forget_upper_halves() { _mm256_zeroupper(); }
TACIT_END_TARGET
#endif

using Compress = void (*)(u32*, const u8*);

Compress best(bool instructions) {
#if TACIT_X86
    unsigned a, b, c, d;
    if (instructions && best_isa() != Isa::portable && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1)
        return compress_by_instructions;
#endif
    (void)instructions;
    return compress;
}

class Sha256 {
public:
    explicit Sha256(Compress compress) : compress_(compress) {}

    void add(const u8* data, u64 count) {
        length_ += count;
        while (count) {
            const u64 some = std::min<u64>(count, 64 - filled_);
            std::memcpy(block_ + filled_, data, some);
            filled_ += some, data += some, count -= some;
            if (filled_ == 64) compress_(h_, block_), filled_ = 0;
        }
    }

    void first_half(u8* out) {  // of the digest: 128 bits
        block_[filled_++] = 0x80;
        if (filled_ > 56) {
            std::memset(block_ + filled_, 0, 64 - filled_);
            compress_(h_, block_), filled_ = 0;
        }
        std::memset(block_ + filled_, 0, 56 - filled_);
        for (int i = 0; i < 8; ++i) block_[56 + i] = u8(8 * length_ >> 8 * (7 - i));
        compress_(h_, block_);
        for (int i = 0; i < 16; ++i) out[i] = u8(h_[i / 4] >> 8 * (3 - i % 4));
    }

private:
    Compress compress_;
    u32 h_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    u8 block_[64];
    u64 filled_ = 0, length_ = 0;
};

// Texts of one column of the key, text i at [offsets[i], offsets[i + 1]); whether they have to be brought to a form.
struct Column {
    const u8* data;
    const u32* offsets;
    bool raw;
};

inline bool blank(u8 c) { return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31); }

// The length without a fraction of zeros, of a text that is a whole number with one: -?[0-9]+[.]0+.
u64 whole(const u8* text, u64 count) {
    u64 end = count;
    while (end && text[end - 1] == '0') --end;
    if (end == count || !end || text[end - 1] != '.') return count;
    const u64 first = text[0] == '-', point = end - 1;
    if (point == first) return count;
    for (u64 i = first; i < point; ++i)
        if (text[i] < '0' || text[i] > '9') return count;
    return point;
}

State digested(const std::vector<Column>& columns, u64 row, Compress compress, std::vector<u8>& form, u8* out) {
    Sha256 sha(compress);
    bool keyless = false;
    for (const Column& column : columns) {
        const u8* text = column.data + column.offsets[row];
        u64 count = column.offsets[row + 1] - column.offsets[row];
        if (column.raw) {
            u8 all = 0;
            for (u64 i = 0; i < count; ++i) all |= text[i];
            if (all >= 128) return FOREIGN;
            while (count && blank(text[0])) ++text, --count;
            while (count && blank(text[count - 1])) --count;
            form.resize(count);
            for (u64 i = 0; i < count; ++i) form[i] = u8(text[i] + (text[i] >= 'A' && text[i] <= 'Z' ? 32 : 0));
            text = form.data();
            count = whole(text, count);
        }
        keyless |= !count;
        const std::string length = std::to_string(count) + ":";
        sha.add(reinterpret_cast<const u8*>(length.data()), length.size());
        sha.add(text, count);
    }
    if (keyless) return KEYLESS;
    sha.first_half(out);
    return DIGESTED;
}

// state: 0 where out [rows, 16] is the digest, 1 for rows of which a column is empty, 2 where a raw text is not of ASCII.
void key_digests(const std::vector<std::tuple<Memory, Memory, bool>>& texts, Memory out_at, Memory state_at,
                 bool instructions, int threads) {
    const u64 rows = size(state_at);
    u8* out = elements<u8>(out_at, 16 * rows);
    u8* state = elements<u8>(state_at, rows);
    std::vector<Column> columns;
    for (const auto& [data, offsets, raw] : texts) {
        const u32* at = elements<u32>(offsets, rows + 1);
        for (u64 i = 0; i < rows; ++i)
            if (at[i] > at[i + 1]) refuse("texts that end before they begin");
        if (at[rows] > size(data)) refuse("texts beyond the last");
        columns.push_back({elements<u8>(data, size(data)), at, raw});
    }
    const Compress compress = best(instructions);
    parallel(i64(rows), 1, worth(double(rows), GRAIN, threads), [&](i64 begin, i64 end) {
        std::vector<u8> form;
#if TACIT_X86
        if (compress == compress_by_instructions) forget_upper_halves();
#endif
        for (i64 i = begin; i < end; ++i) state[i] = digested(columns, u64(i), compress, form, out + 16 * i);
    });
}

const Adds names([](nb::module_& m) { m.def("key_digests", &key_digests, Unlocked()); });

}  // namespace
}  // namespace tacit
