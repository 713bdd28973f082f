// Passes over memory of the two-party scheme: a bit times a number, and what a truncation adds up.
#include <bit>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 LOW = 0xFFFFFFFF;

// floor(v m / 2^64), unsigned, and whether something is left.
struct QuotientByShift {  // for m = 2^(64 - bits)
    int bits;
    u64 operator()(u64 v) const { return v >> bits; }
    u64 rest(u64 v) const { return u64{v << (64 - bits) != 0}; }
};

struct QuotientByProduct {
    u64 m;
    u64 operator()(u64 v) const {  // by halves of 32 bits, which vectors multiply; no processor has 64 x 64 -> 128 there
        const u64 low = v & LOW, high = v >> 32, m_low = m & LOW, m_high = m >> 32;
        const u64 middle = high * m_low + (low * m_low >> 32);
        const u64 other = low * m_high + (middle & LOW);
        return high * m_high + (middle >> 32) + (other >> 32);
    }
    u64 rest(u64 v) const { return u64{v * m != 0}; }
};

#define TACIT_SOURCE "two_party_passes_impl.hpp"
#include "each_isa.hpp"

int up(int width) {
    if (width < 1 || width > 8) refuse("words of " + std::to_string(width) + " bytes");
    return 64 - 8 * width;
}

// e = v - 2^up (r1 - r0)
void masked_numbers(Memory v_at, Memory zero_at, Memory one_at, int width, Memory out_at, int threads) {
    const u64 n = size(out_at);
    const u64 *v = elements<u64>(v_at, n), *zero = elements<u64>(zero_at, n), *one = elements<u64>(one_at, n);
    u64* out = elements<u64>(out_at, n);
    const int shift = up(width);
    by_cache_lines(n, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(masked_numbers, v, zero, one, shift, out, begin, end)
    });
}

// d v - (1 - 2 d) 2^up r0
void sender_share(Memory d_at, Memory v_at, Memory zero_at, int width, Memory out_at, int threads) {
    const u64 n = size(out_at);
    const u8* d = elements<u8>(d_at, n);
    const u64 *v = elements<u64>(v_at, n), *zero = elements<u64>(zero_at, n);
    u64* out = elements<u64>(out_at, n);
    const int shift = up(width);
    by_cache_lines(n, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(sender_share, d, v, zero, shift, out, begin, end)
    });
}

// (1 - 2 d) (beta e + 2^up r_beta)
void receiver_share(Memory d_at, Memory beta_at, Memory pad_at, Memory e_at, int width, Memory out_at, int threads) {
    const u64 n = size(out_at);
    const u8 *d = elements<u8>(d_at, n), *beta = elements<u8>(beta_at, n);
    const u64 *pad = elements<u64>(pad_at, n), *e = elements<u64>(e_at, n);
    u64* out = elements<u64>(out_at, n);
    const int shift = up(width);
    by_cache_lines(n, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(receiver_share, d, beta, pad, e, shift, out, begin, end)
    });
}

// x m / 2^64, rounded up or down, + wrap + constant; without a wrap, zero.
void quotient(Memory x_at, u64 m, Memory wrap_at, u64 constant, bool round_up, Memory out_at, int threads) {
    if (!m) refuse("a factor of zero");
    const u64 n = size(out_at);
    const u64 *x = elements<u64>(x_at, n), *wrap = elements_or_none<u64>(wrap_at, n);
    u64* out = elements<u64>(out_at, n);
    const auto run = [&](auto high) {
        by_cache_lines(n, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(quotient, high, x, wrap, constant, round_up, out, begin, end)
        });
    };
    if (std::has_single_bit(m) && m > 1)
        run(QuotientByShift{64 - std::countr_zero(m)});
    else
        run(QuotientByProduct{m});
}

const Adds names([](nb::module_& m) {
    m.def("masked_numbers", &masked_numbers, Unlocked());
    m.def("sender_share", &sender_share, Unlocked());
    m.def("receiver_share", &receiver_share, Unlocked());
    m.def("quotient", &quotient, Unlocked());
});

}  // namespace
}  // namespace tacit
