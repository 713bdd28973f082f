// AES-128 by the processor's instructions: round keys, and blocks one or four at a time.
#pragma once
#include "isa.hpp"

namespace tacit {

using RoundKeys = u8[11][16];  // each aligned to 16 bytes where it lies

inline void forget(void* memory, std::size_t count) {
    volatile u8* all = static_cast<u8*>(memory);
    for (std::size_t i = 0; i < count; ++i) all[i] = 0;
}

#if TACIT_X86
namespace {
TACIT_BEGIN_TARGET("aes,ssse3,sse4.1")

template <int ROUND>
inline __m128i next_round_key(__m128i key) {
    const __m128i word = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(key, ROUND), 0xFF);
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, word);
}

inline void expand_key(const u8* key, u8 (*round_keys)[16]) {
    __m128i k = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
    int round = 0;
    const auto keep = [&] { _mm_store_si128(reinterpret_cast<__m128i*>(round_keys[round++]), k); };
    keep();
    k = next_round_key<0x01>(k), keep();
    k = next_round_key<0x02>(k), keep();
    k = next_round_key<0x04>(k), keep();
    k = next_round_key<0x08>(k), keep();
    k = next_round_key<0x10>(k), keep();
    k = next_round_key<0x20>(k), keep();
    k = next_round_key<0x40>(k), keep();
    k = next_round_key<0x80>(k), keep();
    k = next_round_key<0x1B>(k), keep();
    k = next_round_key<0x36>(k), keep();
}

TACIT_END_TARGET
}  // namespace
#else
namespace {
inline void expand_key(const u8*, u8 (*)[16]) {}
}  // namespace
#endif

}  // namespace tacit
