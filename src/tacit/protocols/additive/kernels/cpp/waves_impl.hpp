// The body of waves.cpp for one instruction set: plain loops over blocks of elements, which compilers make vectors of.
// Every step is one IEEE addition or product, in the order of tacit.protocols.additive.kernels.waves, and no compiler may join or reorder them:
// all parties must get the same public factors, to the last bit.
#include "words_impl.hpp"

// Sine and cosine of the present multiple of an angle and of the one before, for each element of a block.
struct alignas(64) Angles {
    double sine[BLOCK], cosine[BLOCK], sine_before[BLOCK], cosine_before[BLOCK], twice[BLOCK];
};

inline u64 bits_of(double x) {
    u64 bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline double real_of(u64 bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The integer next to a double of less than 2^51, the even one of two: what the sum with 1.5 * 2^52 has in its low bits.
inline u64 rounded(double x) { return bits_of(x + 0x1.8p52) - 0x4338000000000000u; }

// The double of an integer of at most 2^51 in magnitude.
inline double real(i64 x) { return real_of(static_cast<u64>(x) + 0x4338000000000000u) - 0x1.8p52; }

template <std::size_t N>
inline double horner(double x, const double (&coefficients)[N]) {
    double total = coefficients[N - 1];
    for (std::size_t i = N - 1; i-- > 0;) total = total * x + coefficients[i];
    return total;
}

// The blocks of these loops are whole, whatever the elements in use, and apart in memory; that lets them become vectors.
template <bool ODD>
inline void start(const u64* __restrict v, u64 turn, Angles& __restrict at) {
    for (u64 i = 0; i < BLOCK; ++i) {
        const u64 angle = v[i] * turn;                           // in units of 2^-64 turns
        const u64 quarter = (angle + (u64{1} << 61)) >> 62;      // the nearest
        const i64 rest = static_cast<i64>(angle - (quarter << 62)) >> 10;
        const double y = real(rest) * RADIANS, square = y * y;   // |y| <= π / 4
        const u64 sine = bits_of(y * horner(square, SINE)), cosine = bits_of(horner(square, COSINE));
        const u64 swap = (sine ^ cosine) & (0 - (quarter & 1));
        const double s = real_of(sine ^ swap ^ (quarter >> 1) << 63);
        const double c = real_of(cosine ^ swap ^ ((quarter >> 1) ^ (quarter & 1)) << 63);
        at.sine[i] = s;
        at.cosine[i] = c;
        at.sine_before[i] = ODD ? -s : 0.0;
        at.cosine_before[i] = ODD ? c : 1.0;
        at.twice[i] = ODD ? 2.0 - 4.0 * (s * s) : 2.0 * c;  // 2 cos of the step to the next multiple
    }
}

// sin (k+1)φ = 2 cos φ sin kφ - sin (k-1)φ, and so the cosine.
inline void advance(Angles& __restrict at) {
    for (u64 i = 0; i < BLOCK; ++i) {
        const double s = at.twice[i] * at.sine[i] - at.sine_before[i];
        const double c = at.twice[i] * at.cosine[i] - at.cosine_before[i];
        at.sine_before[i] = at.sine[i];
        at.cosine_before[i] = at.cosine[i];
        at.sine[i] = s;
        at.cosine[i] = c;
    }
}

inline void dealt(const Angles& __restrict at, Wave wave, u64* __restrict on_sine, u64* __restrict on_cosine) {
    for (u64 i = 0; i < BLOCK; ++i) {
        on_sine[i] = rounded(wave.sine * at.cosine[i] - wave.cosine * at.sine[i]);
        on_cosine[i] = rounded(wave.sine * at.sine[i] + wave.cosine * at.cosine[i]);
    }
}

inline void add(const Angles& __restrict at, Wave wave, const u64* __restrict on_sine, const u64* __restrict on_cosine,
                u64* __restrict total) {
    for (u64 i = 0; i < BLOCK; ++i)
        total[i] += rounded(at.sine[i] * wave.scale) * on_sine[i] + rounded(at.cosine[i] * wave.scale) * on_cosine[i];
}

template <int W>
inline void put(const u64* __restrict values, u8* __restrict words, u64 run, u64 first, u64 count) {
    for (u64 i = 0; i < count; ++i) set_word<W>(words, run, first + i, values[i]);
}

template <int W>
inline void get(const u8* __restrict words, u64 run, u64 first, u64 count, u64* __restrict values) {
    for (u64 i = 0; i < count; ++i) values[i] = word<W>(words, run, first + i) << (64 - 8 * W);
}

#define TACIT_OF_WIDTH(width, function, ...)     \
    switch (width) {                             \
        case 1: function<1>(__VA_ARGS__); break; \
        case 2: function<2>(__VA_ARGS__); break; \
        case 3: function<3>(__VA_ARGS__); break; \
        case 4: function<4>(__VA_ARGS__); break; \
        case 5: function<5>(__VA_ARGS__); break; \
        case 6: function<6>(__VA_ARGS__); break; \
        case 7: function<7>(__VA_ARGS__); break; \
        case 8: function<8>(__VA_ARGS__); break; \
    }

inline void begin_block(const Waves& waves, const u64* v, u64 count, Angles& at) {
    alignas(64) u64 values[BLOCK] = {};
    std::memcpy(values, v, 8 * count);
    waves.odd ? start<true>(values, waves.turn, at) : start<false>(values, waves.turn, at);
}

inline void table(const Waves& waves, const u64* v, const std::vector<Place>& places, u8* words, u64 begin, u64 end) {
    Angles at;
    alignas(64) u64 on_sine[BLOCK], on_cosine[BLOCK];
    for (u64 first = begin; first < end; first += BLOCK) {
        const u64 count = std::min(BLOCK, end - first);
        begin_block(waves, v + first, count, at);
        for (std::size_t k = 0; k < places.size(); ++k) {
            const auto [bytes, run, sine_at, cosine_at] = places[k];
            if (k) advance(at);
            dealt(at, waves.terms[k], on_sine, on_cosine);
            TACIT_OF_WIDTH(waves.terms[k].width, put, on_sine, words + bytes, run, sine_at + first, count)
            TACIT_OF_WIDTH(waves.terms[k].width, put, on_cosine, words + bytes, run, cosine_at + first, count)
        }
    }
}

inline void sum(const Waves& waves, const u64* v, const std::vector<Place>& places, const u8* words, u64* out,
                u64 begin, u64 end) {
    Angles at;
    alignas(64) u64 on_sine[BLOCK] = {}, on_cosine[BLOCK] = {}, total[BLOCK];
    for (u64 first = begin; first < end; first += BLOCK) {
        const u64 count = std::min(BLOCK, end - first);
        begin_block(waves, v + first, count, at);
        std::memset(total, 0, sizeof total);
        for (std::size_t k = 0; k < places.size(); ++k) {
            const auto [bytes, run, sine_at, cosine_at] = places[k];
            if (k) advance(at);
            TACIT_OF_WIDTH(waves.terms[k].width, get, words + bytes, run, sine_at + first, count, on_sine)
            TACIT_OF_WIDTH(waves.terms[k].width, get, words + bytes, run, cosine_at + first, count, on_cosine)
            add(at, waves.terms[k], on_sine, on_cosine, total);
        }
        std::memcpy(out + first, total, 8 * count);
    }
}

#undef TACIT_OF_WIDTH
