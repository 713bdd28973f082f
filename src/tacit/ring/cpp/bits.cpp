// Bits, one to a byte, to planes and back.
#include "bits.hpp"

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 BLOCK = 64;          // elements at a time: one word of a plane
constexpr double GRAIN = 1 << 18;  // elements that a thread should have at least

#define TACIT_SOURCE "bits_impl.hpp"
#include "each_isa.hpp"

u64 planes_of(u64 count) { return (count + 7) / 8; }

void pack_bits(Memory bits, Memory plane, int threads) {
    const u64 n = size(bits);
    const u8* from = elements<u8>(bits, n);
    u8* to = elements<u8>(plane, planes_of(n));
    parallel(i64(n), BLOCK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(pack, from, to, u64(begin), u64(end))
    });
}

void unpack_bits(Memory plane, Memory bits, int threads) {
    const u64 n = size(bits);
    const u8* from = elements<u8>(plane, planes_of(n));
    u8* to = elements<u8>(bits, n);
    parallel(i64(n), BLOCK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(unpack, from, to, u64(begin), u64(end))
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "pack_bits", &pack_bits);
    kernel(m, "unpack_bits", &unpack_bits);
});

}  // namespace
}  // namespace tacit
