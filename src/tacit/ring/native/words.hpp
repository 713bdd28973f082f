// Words of 1 to 8 bytes: the tops of ring elements that are zero below, as they are dealt.
#pragma once
#include "isa.hpp"

namespace tacit {

void widen(const u8* words, u64 count, int width, u64* out, int threads);
void narrow(const u64* in, u64 count, int width, u8* words, int threads);
void subtract(u8* words, const u8* others, u64 count, int width, int threads);  // words -= others

}  // namespace tacit
