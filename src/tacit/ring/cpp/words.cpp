// Words of 1 to 8 bytes: the tops of ring elements that are zero below, as they are dealt.
#include <cstring>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr i64 STEP = 4096;         // words: threads work apart by pages
constexpr double GRAIN = 1 << 17;  // words a thread should have at least

#define TACIT_SOURCE "words_impl.hpp"
#include "each_isa.hpp"

#define TACIT_WORDS(width, function, ...)                                 \
    switch (width) {                                                      \
        case 1: TACIT_CALL(function<1>, __VA_ARGS__) break;               \
        case 2: TACIT_CALL(function<2>, __VA_ARGS__) break;               \
        case 3: TACIT_CALL(function<3>, __VA_ARGS__) break;               \
        case 4: TACIT_CALL(function<4>, __VA_ARGS__) break;               \
        case 5: TACIT_CALL(function<5>, __VA_ARGS__) break;               \
        case 6: TACIT_CALL(function<6>, __VA_ARGS__) break;               \
        case 7: TACIT_CALL(function<7>, __VA_ARGS__) break;               \
        case 8: TACIT_CALL(function<8>, __VA_ARGS__) break;               \
        default: refuse("words of another width");                       \
    }

template <class Body>
void share_out(u64 count, int threads, const Body& body) {
    parallel(i64(count), STEP, worth(double(count), GRAIN, threads),
             [&](i64 begin, i64 end) { body(u64(begin), u64(end)); });
}

u64 words_of(u64 bytes, int width) {
    if (width < 1 || width > 8 || bytes % width) refuse("words of another width");
    return bytes / width;
}

const Adds names([](nb::module_& m) {
    kernel(m, "widen", +[](Memory words, int width, Memory out, int threads) {
        const u64 n = words_of(size(words), width);
        const u8* from = elements<u8>(words, n * width);
        u64* to = elements<u64>(out, n);
        share_out(n, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, widen, from, n, to, begin, end) });
    });
    kernel(m, "narrow", +[](Memory in, int width, Memory words, int threads) {
        const u64 n = words_of(size(words), width);
        const u64* from = elements<u64>(in, n);
        u8* to = elements<u8>(words, n * width);
        share_out(n, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, narrow, from, n, to, begin, end) });
    });
    kernel(m, "subtract_words", +[](Memory words, Memory others, int width, int threads) {  // words -= others
        const u64 n = words_of(size(words), width);
        u8* to = elements<u8>(words, n * width);
        const u8* from = elements<u8>(others, n * width);
        share_out(n, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, subtract, to, from, n, begin, end) });
    });
});

}  // namespace
}  // namespace tacit
