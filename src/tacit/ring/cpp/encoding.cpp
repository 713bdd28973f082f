// Numbers to ring elements and back.
#include <atomic>
#include <cmath>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr double LIMIT = 0x1p62;

#define TACIT_SOURCE "encoding_impl.hpp"
#include "each_isa.hpp"

// round(x scale), halves to even, for |x scale| < 2^62; returns whether all of x, NaN excluded, is in this range.
template <class Float>
bool encode(const Float* x, double scale, u64 count, i64* out, int threads) {
    std::atomic<bool> fits{true};
    by_cache_lines(count, threads, [&](u64 begin, u64 end) {
        bool here = true;
        TACIT_CALL(encode, x, scale, out, begin, end, here)
        if (!here) fits = false;
    });
    return fits;
}

// v scale, each step rounded as IEEE says.
template <class Float>
void decode(const i64* v, double scale, u64 count, Float* out, int threads) {
    by_cache_lines(count, threads, [&](u64 begin, u64 end) { TACIT_CALL(decode, v, scale, out, begin, end) });
}

const Adds names([](nb::module_& m) {
    m.def("encode", [](Memory x, bool wide, double scale, Memory out, int threads) {
        const u64 n = size(x);
        i64* to = elements<i64>(out, n);
        return wide ? encode(elements<const double>(x, n), scale, n, to, threads)
                    : encode(elements<const float>(x, n), scale, n, to, threads);
    }, Unlocked());
    kernel(m, "decode", +[](Memory v, double scale, Memory out, bool wide, int threads) {
        const u64 n = size(v);
        const i64* from = elements<const i64>(v, n);
        if (wide)
            decode(from, scale, n, elements<double>(out, n), threads);
        else
            decode(from, scale, n, elements<float>(out, n), threads);
    });
});

}  // namespace
}  // namespace tacit
