// Passes over memory: what an operator does to each element, done while the element is in a register.
#pragma once
#include "isa.hpp"

namespace tacit {

// out = x b + y a (+ x y at the leader) + out, or - out; a, b may be null, for zero.
void multiply_add(const u64* x, const u64* b, const u64* y, const u64* a, bool leader, bool minus, u64 count, u64* out,
                  int threads);

// A masked number z = E + a, with E and a unsigned and E' = E + 2^62, times k = m 2^-64 is
//     z k  =  ceil(E' m / 2^64) - msb(E') m - m / 4  +  [floor(a m / 2^64)]  +  (msb(E') - 1) [msb(a) m]
//          =  public                                      +  [high]               +  factor        [wrap]
// up to a unit: see tacit.protocols.additive.truncation. Shares of `wrap`, a multiple of m, have so many bytes, its top ones.
struct Wrap {
    u8* data;
    int bytes;  // 1, 2, 4 or 8
};

// What is dealt: high and wrap of a, or, with a bit for each a, times that bit.
void scaled_parts(const u64* a, u64 m, const u8* bit, u64 count, u64* high, Wrap wrap, int threads);

// A share of z k; one party, the leader, adds what is public.
void scaled_share(const u64* opened, u64 m, const u64* high, Wrap wrap, bool leader, u64 count, u64* out, int threads);

// A share of b x, for b = c ^ beta with c public:  c [x] + (1 - 2 c) (E [beta] + [beta a])  where x = E + a, or with m
//                                                  c [x] + (1 - 2 c) (public [beta] + [beta high] + factor [beta wrap])
// where x = z k. `high` and `wrap` are those shares of products with beta; without m, `wrap` is not read.
void selected(const u64* opened, const u64* m, const u8* c, const u64* x, const u64* beta, const u64* high, Wrap wrap,
              u64 count, u64* out, int threads);

// round(x scale), halves to even, for |x scale| < 2^62; returns whether all of x, NaN excluded, is in this range.
template <class Float>
bool encode(const Float* x, double scale, u64 count, i64* out, int threads);

// v scale, each step rounded as IEEE says.
template <class Float>
void decode(const i64* v, double scale, u64 count, Float* out, int threads);

}  // namespace tacit
