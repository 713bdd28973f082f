#include "words.hpp"

#include <cstring>
#include <stdexcept>

#include "threads.hpp"

namespace tacit {
namespace {

constexpr i64 STEP = 4096;         // words: threads work apart by pages
constexpr double GRAIN = 1 << 17;  // words a thread should have at least

namespace portable {
#include "words_impl.hpp"
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
#include "words_impl.hpp"
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
#include "words_impl.hpp"
}  // namespace avx512
TACIT_END_TARGET
#endif

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
        default: throw std::invalid_argument("a word has 1 to 8 bytes"); \
    }

template <class Body>
void share_out(u64 count, int threads, const Body& body) {
    parallel(i64(count), STEP, worth(double(count), GRAIN, threads),
             [&](i64 begin, i64 end) { body(u64(begin), u64(end)); });
}

}  // namespace

void widen(const u8* words, u64 count, int width, u64* out, int threads) {
    share_out(count, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, widen, words, count, out, begin, end) });
}

void narrow(const u64* in, u64 count, int width, u8* words, int threads) {
    share_out(count, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, narrow, in, count, words, begin, end) });
}

void subtract(u8* words, const u8* others, u64 count, int width, int threads) {
    share_out(count, threads, [&](u64 begin, u64 end) { TACIT_WORDS(width, subtract, words, others, count, begin, end) });
}

}  // namespace tacit
