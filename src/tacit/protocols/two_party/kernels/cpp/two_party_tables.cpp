// Comparisons of the two-party scheme: digits that are opened, tables of them, and the entries that are read. The letters
// are those of tacit.protocols.two_party.comparison.
#include "bits.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 DIGITS = 16;          // of 4 bits in the low 63 bits, the last one of 3
constexpr u64 WORD = 32;            // messages of 2 bits that make a ring element
constexpr u64 BLOCK = 64;           // elements at a time: one word of a plane
constexpr u64 TOP = u64{1} << 63;
constexpr double GRAIN = 1 << 13;   // elements that a thread should have at least

// Where the planes of (l, e) lie: [2, DIGITS, thresholds, n / 8], of which one threshold is written.
struct Planes {
    u8* data;
    u64 thresholds, at, bytes;
    u8* row(u64 which, u64 digit) const { return data + ((which * DIGITS + digit) * thresholds + at) * bytes; }
};

// Write the first `bits` of a block, a multiple of 8 of them.
inline void store_block(u8* to, u64 word, u64 bits) { std::memcpy(to, &word, bits / 8); }

#define TACIT_SOURCE "two_party_tables_impl.hpp"
#include "each_isa.hpp"

u64 whole(u64 n) {
    if (n % 8) refuse(std::to_string(n) + " elements, which are no whole bytes of a plane");
    return n;
}

Planes planes_of(const Memory& memory, u64 thresholds, u64 at, u64 n) {
    if (at >= thresholds) refuse("a threshold beyond the last");
    return {elements<u8>(memory, 2 * DIGITS * thresholds * n / 8), thresholds, at, n / 8};
}

template <class Body>
void by_blocks(u64 n, int threads, const Body& body) {
    parallel(i64(n), BLOCK, worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) { body(u64(begin), u64(end)); });
}

void open_digits(Memory x_at, Memory choice_at, Memory u_at, Memory d_at, int threads) {
    const u64 n = whole(size(x_at));
    const u64* x = elements<u64>(x_at, n);
    const u8* choice = elements<u8>(choice_at, DIGITS * n);
    u8 *u = elements<u8>(u_at, DIGITS * n), *d = elements<u8>(d_at, DIGITS * n / 2);
    by_blocks(n, threads, [&](u64 begin, u64 end) { TACIT_CALL(open_digits, x, choice, u, d, n, begin, end) });
}

void send_tables(Memory x_at, u64 threshold, Memory d_at, Memory pads_at, Memory message_at, Memory planes_at,
                 u64 thresholds, u64 at, int threads) {
    const u64 n = whole(size(x_at));
    const u64* x = elements<u64>(x_at, n);
    const u8* d = elements<u8>(d_at, DIGITS * n / 2);
    const u32* pads = elements<u32>(pads_at, DIGITS * n);
    u32* message = elements<u32>(message_at, DIGITS * n);
    const Planes planes = planes_of(planes_at, thresholds, at, n);
    by_blocks(n, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(send_tables, x, threshold, d, pads, message, planes, n, begin, end)
    });
}

void read_tables(Memory message_at, Memory u_at, Memory pad_at, Memory planes_at, u64 thresholds, u64 at, int threads) {
    const u64 n = whole(size(u_at) / DIGITS);
    const u32* message = elements<u32>(message_at, DIGITS * n);
    const u8 *u = elements<u8>(u_at, DIGITS * n), *pad = elements<u8>(pad_at, DIGITS * n);
    const Planes planes = planes_of(planes_at, thresholds, at, n);
    by_blocks(n, threads, [&](u64 begin, u64 end) { TACIT_CALL(read_tables, message, u, pad, planes, n, begin, end) });
}

void joined_pad(Memory pad_at, Memory out_at, int threads) {
    const u64 n = size(out_at);
    const u8* pad = elements<u8>(pad_at, WORD * n);
    u64* out = elements<u64>(out_at, n);
    by_blocks(n, threads, [&](u64 begin, u64 end) { TACIT_CALL(joined_pad, pad, out, n, begin, end) });
}

void joined_pads(Memory pads_at, Memory out_at, int threads) {
    const u64 n = size(out_at) / DIGITS;
    const u32* pads = elements<u32>(pads_at, WORD * n);
    u64* out = elements<u64>(out_at, DIGITS * n);
    by_blocks(n, threads, [&](u64 begin, u64 end) { TACIT_CALL(joined_pads, pads, out, n, begin, end) });
}

const Adds names([](nb::module_& m) {
    m.def("joined_pad", &joined_pad, Unlocked());
    m.def("joined_pads", &joined_pads, Unlocked());
    m.def("open_digits", &open_digits, Unlocked());
    m.def("send_tables", &send_tables, Unlocked());
    m.def("read_tables", &read_tables, Unlocked());
});

}  // namespace
}  // namespace tacit
