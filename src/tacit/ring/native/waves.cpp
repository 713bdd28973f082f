#include "waves.hpp"

#include <cstring>
#include <stdexcept>

#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 BLOCK = 256;         // elements: five doubles of each, 10 KB, stay in the first-level cache
constexpr double GRAIN = 1 << 17;  // words that a thread should have at least

constexpr double RADIANS = 0x1.921fb54442d18p-52;  // 2π 2^-54
constexpr double SINE[] = {1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800};
constexpr double COSINE[] = {1.0,        -1.0 / 2,       1.0 / 24,        -1.0 / 720,
                             1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200};

// Where a term's words lie: in a run of so many words, which begins at so many bytes, from these words on.
struct Place {
    u64 bytes, run, on_sine, on_cosine;
};

std::vector<Place> places_of(const Waves& waves, u64 count) {
    std::vector<Place> places;
    u64 bytes = 0;
    for (std::size_t k = 0; k < waves.terms.size();) {
        const int width = waves.terms[k].width;
        if (width < 1 || width > 8) throw std::invalid_argument("a word has 1 to 8 bytes");
        std::size_t stop = k;
        while (stop < waves.terms.size() && waves.terms[stop].width == width) ++stop;
        const u64 run = 2 * (stop - k) * count;
        for (u64 at = 0; k < stop; ++k, at += 2 * count) places.push_back({bytes, run, at, at + count});
        bytes += static_cast<u64>(width) * run;
    }
    return places;
}

namespace portable {
#include "words_impl.hpp"
#include "waves_impl.hpp"
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
#include "words_impl.hpp"
#include "waves_impl.hpp"
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
#include "words_impl.hpp"
#include "waves_impl.hpp"
}  // namespace avx512
TACIT_END_TARGET
#endif

int threads_for(const Waves& waves, u64 count, int threads) {
    return worth(2.0 * double(count) * double(waves.terms.size()), GRAIN, threads);
}

}  // namespace

void wave_table(const Waves& waves, const u64* a, u64 count, u8* words, int threads) {
    const auto places = places_of(waves, count);
    parallel(i64(count), BLOCK, threads_for(waves, count, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(table, waves, a, places, words, u64(begin), u64(end))
    });
}

void wave_sum(const Waves& waves, const u64* e, u64 count, const u8* words, u64* out, int threads) {
    const auto places = places_of(waves, count);
    parallel(i64(count), BLOCK, threads_for(waves, count, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(sum, waves, e, places, words, out, u64(begin), u64(end))
    });
}

}  // namespace tacit
