// Planes: bits of many elements, eight to a byte, bit i of a byte for element i of eight. Here for 64 elements at a time.
#pragma once
#include <cstring>

#include "isa.hpp"

namespace tacit {
namespace {

namespace portable {
inline u64 pack_block(const u8* bits) {
    u64 word = 0;
    for (int i = 0; i < 8; ++i) {
        u64 x;
        std::memcpy(&x, bits + 8 * i, 8);
        word |= (x * 0x0102040810204080u >> 56) << 8 * i;  // the low bits of 8 bytes, gathered to one
    }
    return word;
}

inline void unpack_block(u64 word, u8* bits) {
    for (int i = 0; i < 8; ++i, word >>= 8) {
        const u64 one_of_each = (word & 0xFF) * 0x0101010101010101u & 0x8040201008040201u;
        const u64 x = (one_of_each + 0x00406070787C7E7Fu) >> 7 & 0x0101010101010101u;
        std::memcpy(bits + 8 * i, &x, 8);
    }
}
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
inline u64 pack_block(const u8* bits) {
    u64 word = 0;
    for (int i = 0; i < 2; ++i) {
        const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + 32 * i));
        word |= u64{static_cast<unsigned>(_mm256_movemask_epi8(_mm256_slli_epi16(x, 7)))} << 32 * i;
    }
    return word;
}
using portable::unpack_block;
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
inline u64 pack_block(const u8* bits) {
    return _mm512_test_epi8_mask(_mm512_loadu_si512(bits), _mm512_set1_epi8(1));
}

inline void unpack_block(u64 word, u8* bits) { _mm512_storeu_si512(bits, _mm512_maskz_set1_epi8(word, 1)); }
}  // namespace avx512
TACIT_END_TARGET
#endif

}  // namespace
}  // namespace tacit
