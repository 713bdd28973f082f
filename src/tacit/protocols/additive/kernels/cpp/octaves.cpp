// Powers of two of masked exponents: what is dealt for a mask, and what becomes of a share of it; see octaves.py.
#include <algorithm>
#include <cstring>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 BLOCK = 256;         // elements: their digits and powers, 4 KB, stay in the first-level cache
constexpr double GRAIN = 1 << 15;  // elements that a thread should have at least

constexpr double LN2 = 0x1.62e42fefa39efp-1;
constexpr int DEGREE = 16;

// 1 / k!, each rounded once: factorials below 2^53 are doubles.
constexpr struct Series {
    double terms[DEGREE + 1];
    constexpr Series() : terms{} {
        double factorial = 1;
        for (int k = 0; k <= DEGREE; ++k) {
            factorial *= k ? k : 1;
            terms[k] = 1 / factorial;
        }
    }
} SERIES;

// Where digits lie: in v + offset, modulo period + 1, the high one from bit `shift` on; the rest times unit counts steps of
// so many octaves.
struct Cut {
    u64 offset, period;
    int shift;
    double unit, step;
    Cut(u64 offset_, u64 period_, int shift_, double unit_, double step_)
        : offset(offset_), period(period_), shift(shift_), unit(unit_), step(step_) {
        if (shift < 0 || shift > 63 || (period & (period + 1))) refuse("digits of another size");
        const double most = static_cast<double>((u64{1} << shift) - 1) * unit * step;
        if (!(most >= 0 && most <= 32)) refuse("exponents of another range");
    }
    u64 entries() const { return (period >> shift) + 1; }
};

#define TACIT_SOURCE "octaves_impl.hpp"
#include "each_isa.hpp"

// A share of the power of each public number, from shares of its mask's table, a row for each high digit.
void octave_share(u64 offset, u64 period, int shift, double unit, double step, double scale, Memory e_at, Memory part_at,
                  Memory out_at, int threads) {
    const Cut c(offset, period, shift, unit, step);
    const u64 n = size(e_at);
    const u64 *e = elements<u64>(e_at, n), *part = elements<u64>(part_at, c.entries() * n);
    u64* out = elements<u64>(out_at, n);
    parallel(i64(n), i64(BLOCK), worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(share, c, scale, e, part, n, out, u64(begin), u64(end))
    });
}

// The table of masks, whose rows are so many octaves apart, and whose entries have so many zeros below.
void octave_table(u64 period, int shift, double unit, double step, double scale, u64 octaves, int zeros, Memory a_at,
                  Memory out_at, int threads) {
    const Cut c(0, period, shift, unit, step);
    const u64 n = size(a_at);
    if (zeros < 0 || zeros > 63 || octaves > 64 || c.entries() > 1000 / std::max(octaves, u64{1})) refuse("entries of another size");
    const u64* a = elements<u64>(a_at, n);
    u64* out = elements<u64>(out_at, c.entries() * n);
    parallel(i64(n), i64(BLOCK), worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(table, c, scale, octaves, zeros, a, c.entries(), n, out, u64(begin), u64(end))
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "octave_share", &octave_share);
    kernel(m, "octave_table", &octave_table);
});

}  // namespace
}  // namespace tacit
