// Passes over memory: what an operator does to each element, done while the element is in a register.
#include <bit>
#include <cstring>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 SHIFT_UP = u64{1} << 62, LOW = 0xFFFFFFFF;

// A masked number z = E + a, with E and a unsigned and E' = E + 2^62, times k = m 2^-64 is
//     z k  =  ceil(E' m / 2^64) - msb(E') m - m / 4  +  [floor(a m / 2^64)]  +  (msb(E') - 1) [msb(a) m]
//          =  public                                      +  [high]               +  factor        [wrap]
// up to a unit: see tacit.protocols.additive.truncation. Shares of `wrap`, a multiple of m, have so many bytes, its top ones.
struct Wrap {
    u8* data;
    int bytes;  // 1, 2, 4 or 8
};

Wrap wrap_of(const Memory& memory, u64 count, int bytes) {
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) refuse("words of " + std::to_string(bytes) + " bytes");
    return {elements<u8>(memory, count), bytes};
}

// floor(v m / 2^64) and what follows from it for the public part.
struct HighOfShift {  // for m = 2^(64 - bits)
    u64 m;
    int bits;
    u64 operator()(u64 v) const { return v >> bits; }
    u64 of_public(u64 up) const {
        return static_cast<u64>(static_cast<i64>(up) >> bits) + u64{up << (64 - bits) != 0} - (m >> 2);
    }
};

struct HighOfProduct {
    u64 m;
    u64 operator()(u64 v) const {  // by halves of 32 bits, which vectors multiply; no processor has 64 x 64 -> 128 there
        const u64 low = v & LOW, high = v >> 32, m_low = m & LOW, m_high = m >> 32;
        const u64 middle = high * m_low + (low * m_low >> 32);
        const u64 other = low * m_high + (middle & LOW);
        return high * m_high + (middle >> 32) + (other >> 32);
    }
    u64 of_public(u64 up) const { return (*this)(up) - (m & (0 - (up >> 63))) + u64{up * m != 0} - (m >> 2); }
};

template <class Word>
inline u64 load_word(const u8* data, u64 i) {
    Word w;
    std::memcpy(&w, data + sizeof w * i, sizeof w);
    return u64{w} << (64 - 8 * sizeof w);
}

template <class Word>
inline void store_word(u8* data, u64 i, u64 v) {
    const Word w = static_cast<Word>(v >> (64 - 8 * sizeof w));
    std::memcpy(data + sizeof w * i, &w, sizeof w);
}

#define TACIT_SOURCE "passes_impl.hpp"
#include "each_isa.hpp"

// Call body(high, word) with what m and the bytes of a wrap stand for.
template <class Body>
void for_kind(u64 m, int bytes, const Body& body) {
    const auto with_high = [&](auto high) {
        switch (bytes) {
            case 1: return body(high, u8{});
            case 2: return body(high, u16{});
            case 4: return body(high, u32{});
            default: return body(high, u64{});
        }
    };
    if (std::has_single_bit(m))
        with_high(HighOfShift{m, 64 - std::countr_zero(m)});
    else
        with_high(HighOfProduct{m});
}

// out = x b + y a (+ x y at the leader) + out, or - out; a, b may be null, for zero.
void multiply_add(Memory x_at, Memory b_at, Memory y_at, Memory a_at, bool leader, bool minus, Memory out_at, int threads) {
    const u64 n = size(out_at);
    const u64 *x = elements<u64>(x_at, n), *b = elements_or_none<u64>(b_at, n);
    const u64 *y = elements<u64>(y_at, n), *a = elements_or_none<u64>(a_at, n);
    u64* out = elements<u64>(out_at, n);
    by_cache_lines(n, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(multiply_add, x, b, y, a, leader, minus, out, begin, end)
    });
}

// What is dealt: high and wrap of a, or, with a bit for each a, times that bit.
void scaled_parts(Memory a_at, u64 m, Memory bit_at, Memory high_at, Memory wrap_at, int bytes, int threads) {
    const u64 n = size(a_at);
    const u64* a = elements<u64>(a_at, n);
    const u8* bit = elements_or_none<u8>(bit_at, n);
    u64* high = elements<u64>(high_at, n);
    const Wrap wrap = wrap_of(wrap_at, n, bytes);
    for_kind(m, bytes, [&](auto high_of, auto word) {
        by_cache_lines(n, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(scaled_parts, high_of, word, a, bit, high, wrap.data, begin, end)
        });
    });
}

// A share of z k; one party, the leader, adds what is public.
void scaled_share(Memory opened_at, u64 m, Memory high_at, Memory wrap_at, int bytes, bool leader, Memory out_at,
                  int threads) {
    const u64 n = size(opened_at);
    const u64 *opened = elements<u64>(opened_at, n), *high = elements<u64>(high_at, n);
    const Wrap wrap = wrap_of(wrap_at, n, bytes);
    u64* out = elements<u64>(out_at, n);
    for_kind(m, bytes, [&](auto high_of, auto word) {
        by_cache_lines(n, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(scaled_share, high_of, word, opened, high, wrap.data, leader, out, begin, end)
        });
    });
}

// A share of b x, for b = c ^ beta with c public:  c [x] + (1 - 2 c) (E [beta] + [beta a])  where x = E + a, or with m
//                                                  c [x] + (1 - 2 c) (public [beta] + [beta high] + factor [beta wrap])
// where x = z k. `high` and `wrap` are those shares of products with beta; without m, which is where a wrap has no bytes,
// it is not read.
void selected(Memory opened_at, u64 m, Memory c_at, Memory x_at, Memory beta_at, Memory high_at, Memory wrap_at, int bytes,
              Memory out_at, int threads) {
    const u64 n = size(opened_at);
    const u64 *opened = elements<u64>(opened_at, n), *x = elements<u64>(x_at, n);
    const u64 *beta = elements<u64>(beta_at, n), *high = elements<u64>(high_at, n);
    const u8* c = elements<u8>(c_at, n);
    u64* out = elements<u64>(out_at, n);
    if (!bytes) {
        return by_cache_lines(n, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(selected_simple, opened, c, x, beta, high, out, begin, end)
        });
    }
    const Wrap wrap = wrap_of(wrap_at, n, bytes);
    for_kind(m, bytes, [&](auto high_of, auto word) {
        by_cache_lines(n, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(selected_scaled, high_of, word, opened, c, x, beta, high, wrap.data, out, begin, end)
        });
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "multiply_add", &multiply_add);
    kernel(m, "scaled_parts", &scaled_parts);
    kernel(m, "scaled_share", &scaled_share);
    kernel(m, "selected", &selected);
});

}  // namespace
}  // namespace tacit
