// Comparison on planes: bits of many elements, eight to a byte, bit i of a byte for element i of eight.
#pragma once
#include "isa.hpp"

namespace tacit {

constexpr int CHUNKS = 16;  // digits of 4 bits in the low 63 bits, the last one of 3

// Tables of a: bit j of out[k, i] is [j < digit k of a[i]]; out is [CHUNKS, count].
void thermometer(const u64* a, u64 count, u16* out, int threads);

// Look digits of public numbers up in shared tables [CHUNKS, width]; number i uses column i mod width. Digit 4 q + p goes
// to row 4 p + q of `less` and `equal`, [CHUNKS, ceil(count / 8)]. One party, the leader, adds the public 1 of j = 0.
void lookup(const u16* tables, u64 width, const u64* numbers, u64 count, bool leader, u8* less, u8* equal, int threads);

// One node of the tree, on rows of `bytes` bytes each; the rows are those of tacit.ring.radix4.
void node_expand(const u8* masks, u64 bytes, bool top, u8* monomials, int threads);
void node_evaluate(const u8* opened, const u8* masks, const u8* monomials, const u8* less3, u64 bytes, bool top,
                   bool leader, u8* less, u8* equal, int threads);

void pack_bits(const u8* bits, u64 count, u8* plane, int threads);
void unpack_bits(const u8* plane, u64 count, u8* bits, int threads);

}  // namespace tacit
