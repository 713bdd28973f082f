// Sines and cosines of multiples of an angle, kθv for k = 1, 2, 3, … or 1, 3, 5, …, with θ = 2π turn / 2^64.
#include <cstring>
#include <vector>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 BLOCK = 256;         // elements: five doubles of each, 10 KB, stay in the first-level cache
constexpr double GRAIN = 1 << 17;  // words that a thread should have at least

constexpr double RADIANS = 0x1.921fb54442d18p-52;  // 2π 2^-54
constexpr double SINE[] = {1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800};
constexpr double COSINE[] = {1.0,        -1.0 / 2,       1.0 / 24,        -1.0 / 720,
                             1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200};

struct Wave {
    double sine, cosine;  // p and q of p sin kθx + q cos kθx, times 2^(fractional bits of dealt words)
    double scale;         // 2^(fractional bits of public factors)
    int width;            // bytes of a dealt word
};

struct Waves {
    u64 turn;
    bool odd;
    std::vector<Wave> terms;
};

// Where a term's words lie: in a run of so many words, which begins at so many bytes, from these words on.
struct Place {
    u64 bytes, run, on_sine, on_cosine;
};

std::vector<Place> places_of(const Waves& waves, u64 count) {
    std::vector<Place> places;
    u64 bytes = 0;
    for (std::size_t k = 0; k < waves.terms.size();) {
        const int width = waves.terms[k].width;
        std::size_t stop = k;
        while (stop < waves.terms.size() && waves.terms[stop].width == width) ++stop;
        const u64 run = 2 * (stop - k) * count;
        for (u64 at = 0; k < stop; ++k, at += 2 * count) places.push_back({bytes, run, at, at + count});
        bytes += static_cast<u64>(width) * run;
    }
    return places;
}

#define TACIT_SOURCE "waves_impl.hpp"
#include "each_isa.hpp"

int threads_for(const Waves& waves, u64 count, int threads) {
    return worth(2.0 * double(count) * double(waves.terms.size()), GRAIN, threads);
}

using Terms = std::vector<std::tuple<double, double, double, int>>;  // sine, cosine, scale, width

Waves waves_of(u64 turn, bool odd, const Terms& terms) {
    Waves waves{turn, odd, {}};
    for (const auto& [sine, cosine, scale, width] : terms) {
        if (width < 1 || width > 8) refuse("words of another width");
        waves.terms.push_back({sine, cosine, scale, width});
    }
    return waves;
}

u64 bytes_of(const Waves& waves, u64 count) {
    u64 width = 0;
    for (const Wave& wave : waves.terms) width += 2 * static_cast<u64>(wave.width);
    return width * count;
}

// For a mask a, words of p cos kθa - q sin kθa and p sin kθa + q cos kθa for each term, one after the other: see
// words_impl.hpp, where neighbouring terms of one width are one run of words.
void wave_table(u64 turn, bool odd, const Terms& terms, Memory a_at, Memory words_at, int threads) {
    const Waves waves = waves_of(turn, odd, terms);
    const u64 n = size(a_at);
    const u64* a = elements<u64>(a_at, n);
    u8* words = elements<u8>(words_at, bytes_of(waves, n));
    const auto places = places_of(waves, n);
    parallel(i64(n), BLOCK, threads_for(waves, n, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(table, waves, a, places, words, u64(begin), u64(end))
    });
}

// For a public E and shares of those words, the share of Σ p sin kθ(E + a) + q cos kθ(E + a), with all words at the top
// of the ring.
void wave_sum(u64 turn, bool odd, const Terms& terms, Memory e_at, Memory words_at, Memory out_at, int threads) {
    const Waves waves = waves_of(turn, odd, terms);
    const u64 n = size(e_at);
    const u64* e = elements<u64>(e_at, n);
    const u8* words = elements<u8>(words_at, bytes_of(waves, n));
    u64* out = elements<u64>(out_at, n);
    const auto places = places_of(waves, n);
    parallel(i64(n), BLOCK, threads_for(waves, n, threads), [&](i64 begin, i64 end) {
        TACIT_CALL(sum, waves, e, places, words, out, u64(begin), u64(end))
    });
}

const Adds names([](nb::module_& m) {
    kernel(m, "wave_table", &wave_table);
    kernel(m, "wave_sum", &wave_sum);
});

}  // namespace
}  // namespace tacit
