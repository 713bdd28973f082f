#include "passes.hpp"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>

#include "threads.hpp"

namespace tacit {
namespace {

constexpr i64 STEP = 64;           // elements: bounds of threads fall on cache lines, of bits too
constexpr double GRAIN = 1 << 17;  // elements that a thread should have at least: some 50 µs
constexpr double LIMIT = 0x1p62;
constexpr u64 SHIFT_UP = u64{1} << 62, LOW = 0xFFFFFFFF;

// floor(v m / 2^64) and what follows from it for the public part of a scaled number; see passes.hpp.
struct HighOfShift {  // for m = 2^(64 - bits)
    u64 m;
    int bits;
    u64 operator()(u64 v) const { return v >> bits; }
    u64 of_public(u64 up) const {
        return static_cast<u64>(static_cast<i64>(up) >> bits) + u64{up << (64 - bits) != 0} - (m >> 2);
    }
};

struct HighOfProduct {
    u64 m;
    u64 operator()(u64 v) const {  // by halves of 32 bits, which vectors multiply; no processor has 64 x 64 -> 128 there
        const u64 low = v & LOW, high = v >> 32, m_low = m & LOW, m_high = m >> 32;
        const u64 middle = high * m_low + (low * m_low >> 32);
        const u64 other = low * m_high + (middle & LOW);
        return high * m_high + (middle >> 32) + (other >> 32);
    }
    u64 of_public(u64 up) const { return (*this)(up) - (m & (0 - (up >> 63))) + u64{up * m != 0} - (m >> 2); }
};

template <class Word>
inline u64 load_word(const u8* data, u64 i) {
    Word w;
    std::memcpy(&w, data + sizeof w * i, sizeof w);
    return u64{w} << (64 - 8 * sizeof w);
}

template <class Word>
inline void store_word(u8* data, u64 i, u64 v) {
    const Word w = static_cast<Word>(v >> (64 - 8 * sizeof w));
    std::memcpy(data + sizeof w * i, &w, sizeof w);
}

namespace portable {
#include "passes_impl.hpp"
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
#include "passes_impl.hpp"
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
#include "passes_impl.hpp"
}  // namespace avx512
TACIT_END_TARGET
#endif

// Call body(high, word) with what m and the bytes of a wrap stand for.
template <class Body>
void for_kind(u64 m, int bytes, const Body& body) {
    const auto with_high = [&](auto high) {
        switch (bytes) {
            case 1: return body(high, u8{});
            case 2: return body(high, u16{});
            case 4: return body(high, u32{});
            default: return body(high, u64{});
        }
    };
    if (std::has_single_bit(m))
        with_high(HighOfShift{m, 64 - std::countr_zero(m)});
    else
        with_high(HighOfProduct{m});
}

template <class Body>
void shared(u64 count, int threads, const Body& body) {
    parallel(i64(count), STEP, worth(double(count), GRAIN, threads),
             [&](i64 begin, i64 end) { body(u64(begin), u64(end)); });
}

}  // namespace

void multiply_add(const u64* x, const u64* b, const u64* y, const u64* a, bool leader, bool minus, u64 count, u64* out,
                  int threads) {
    shared(count, threads, [&](u64 begin, u64 end) {
        TACIT_CALL(multiply_add, x, b, y, a, leader, minus, out, begin, end)
    });
}

void scaled_parts(const u64* a, u64 m, const u8* bit, u64 count, u64* high, Wrap wrap, int threads) {
    for_kind(m, wrap.bytes, [&](auto high_of, auto word) {
        shared(count, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(scaled_parts, high_of, word, a, bit, high, wrap.data, begin, end)
        });
    });
}

void scaled_share(const u64* opened, u64 m, const u64* high, Wrap wrap, bool leader, u64 count, u64* out, int threads) {
    for_kind(m, wrap.bytes, [&](auto high_of, auto word) {
        shared(count, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(scaled_share, high_of, word, opened, high, wrap.data, leader, out, begin, end)
        });
    });
}

void selected(const u64* opened, const u64* m, const u8* c, const u64* x, const u64* beta, const u64* high, Wrap wrap,
              u64 count, u64* out, int threads) {
    if (!m) {
        return shared(count, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(selected_simple, opened, c, x, beta, high, out, begin, end)
        });
    }
    for_kind(*m, wrap.bytes, [&](auto high_of, auto word) {
        shared(count, threads, [&](u64 begin, u64 end) {
            TACIT_CALL(selected_scaled, high_of, word, opened, c, x, beta, high, wrap.data, out, begin, end)
        });
    });
}

template <class Float>
bool encode(const Float* x, double scale, u64 count, i64* out, int threads) {
    std::atomic<bool> fits{true};
    shared(count, threads, [&](u64 begin, u64 end) {
        bool here = true;
#if TACIT_X86
        switch (isa()) {
            case Isa::avx512: here = avx512::encode(x, scale, out, begin, end); break;
            case Isa::avx2: here = avx2::encode(x, scale, out, begin, end); break;
            case Isa::portable: here = portable::encode(x, scale, out, begin, end); break;
        }
#else
        here = portable::encode(x, scale, out, begin, end);
#endif
        if (!here) fits = false;
    });
    return fits;
}

template <class Float>
void decode(const i64* v, double scale, u64 count, Float* out, int threads) {
    shared(count, threads, [&](u64 begin, u64 end) { TACIT_CALL(decode, v, scale, out, begin, end) });
}

template bool encode(const float*, double, u64, i64*, int);
template bool encode(const double*, double, u64, i64*, int);
template void decode(const i64*, double, u64, float*, int);
template void decode(const i64*, double, u64, double*, int);

}  // namespace tacit
