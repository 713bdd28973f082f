#include "keystream.hpp"

#include <array>
#include <cstring>
#include <stdexcept>

#include "aes.hpp"
#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

// Key stream on its way into memory. It should stay in the first-level cache; larger saves little.
constexpr u64 BUFFER = 4096;
constexpr double GRAIN = 1 << 20;  // bytes a thread should have at least: some 50 µs

// Write so many blocks of 16 bytes, from a block number on.
using Fill = void (*)(const u8 (*round_keys)[16], u64 block, u64 count, u8* out);

#if TACIT_X86
TACIT_BEGIN_TARGET("aes,ssse3,sse4.1")

// Eight blocks at a time hide the latency of a round.
void fill_aes(const u8 (*round_keys)[16], u64 block, u64 count, u8* out) {
    constexpr u64 LANES = 8;
    const auto key = [&](int round) { return _mm_load_si128(reinterpret_cast<const __m128i*>(round_keys[round])); };
    for (u64 done = 0; done < count; done += LANES) {
        __m128i state[LANES];
        for (u64 i = 0; i < LANES; ++i) {
            const auto number = static_cast<long long>(__builtin_bswap64(block + done + i));
            state[i] = _mm_xor_si128(_mm_set_epi64x(number, 0), key(0));
        }
        for (int round = 1; round < 10; ++round)
            for (auto& s : state) s = _mm_aesenc_si128(s, key(round));
        for (u64 i = 0; i < LANES && done + i < count; ++i) {
            const __m128i last = _mm_aesenclast_si128(state[i], key(10));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * (done + i)), last);
        }
    }
}
TACIT_END_TARGET

TACIT_BEGIN_TARGET("aes,vaes,avx512f,avx512bw")

// Four vectors of four blocks at a time.
void fill_vaes(const u8 (*round_keys)[16], u64 block, u64 count, u8* out) {
    constexpr u64 VECTORS = 4;
    __m512i key[11];
    for (int round = 0; round <= 10; ++round)
        key[round] = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(round_keys[round])));
    const __m512i backwards = _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m512i within = _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0);
    for (u64 done = 0; done < count; done += 4 * VECTORS) {
        __m512i state[VECTORS];
        for (u64 i = 0; i < VECTORS; ++i) {
            const auto first = static_cast<long long>(block + done + 4 * i);
            const __m512i numbers = _mm512_add_epi64(within, _mm512_set_epi64(0, first, 0, first, 0, first, 0, first));
            state[i] = _mm512_xor_si512(_mm512_shuffle_epi8(numbers, backwards), key[0]);
        }
        for (int round = 1; round < 10; ++round)
            for (auto& s : state) s = _mm512_aesenc_epi128(s, key[round]);
        for (u64 i = 0; i < VECTORS && done + 4 * i < count; ++i) {
            const __m512i last = _mm512_aesenclast_epi128(state[i], key[10]);
            const u64 words = 2 * std::min<u64>(4, count - done - 4 * i);
            _mm512_mask_storeu_epi64(out + 16 * (done + 4 * i), static_cast<__mmask8>((1u << words) - 1), last);
        }
    }
}
TACIT_END_TARGET

Fill fill_of(Isa isa) {
    return isa >= Isa::avx512 && __builtin_cpu_supports("vaes") ? fill_vaes : fill_aes;
}
#else
Fill fill_of(Isa) { throw std::logic_error("no AES instructions"); }
#endif

template <class Word, class Op>
void combine(u8* out, const u8* stream, u64 count, const Op& op) {
    for (u64 at = 0; at < count; at += sizeof(Word)) {
        Word v, s;
        std::memcpy(&v, out + at, sizeof v);
        std::memcpy(&s, stream + at, sizeof s);
        v = static_cast<Word>(op(v, s));
        std::memcpy(out + at, &v, sizeof v);
    }
}

void put(u8* out, const u8* stream, u64 count, Into how) {
    switch (how) {
        case Into::store: std::memcpy(out, stream, count); break;
        case Into::add: combine<u64>(out, stream, count, [](u64 v, u64 s) { return v + s; }); break;
        case Into::subtract: combine<u64>(out, stream, count, [](u64 v, u64 s) { return v - s; }); break;
        case Into::subtract_1: combine<u8>(out, stream, count, [](u8 v, u8 s) { return v - s; }); break;
        case Into::subtract_2: combine<u16>(out, stream, count, [](u16 v, u16 s) { return v - s; }); break;
        case Into::subtract_4: combine<u32>(out, stream, count, [](u32 v, u32 s) { return v - s; }); break;
        case Into::exclusive_or: combine<u8>(out, stream, count, [](u8 v, u8 s) { return v ^ s; }); break;
    }
}

}  // namespace

KeyStream::KeyStream(const u8* key) {
    if (!available()) throw std::logic_error("no AES instructions");
    expand_key(key, round_keys_);
}

KeyStream::~KeyStream() { forget(round_keys_, sizeof round_keys_); }

bool KeyStream::available() {
#if TACIT_X86
    return isa() != Isa::portable && __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1");
#else
    return false;
#endif
}

u64 KeyStream::take(u64 count) {
    const std::scoped_lock lock(one_at_a_time_);
    const u64 position = position_;
    position_ += count;
    return position;
}

u64 KeyStream::take_few(u64 count, u64 run) {
    const std::scoped_lock lock(one_at_a_time_);
    if (count > run) throw std::invalid_argument("a request longer than a run");
    if (few_ + count > end_) {
        first_ = few_ = position_;
        position_ += run;
        end_ = position_;
    }
    const u64 position = few_;
    few_ = first_ + ((position + count - first_ + 7) & ~u64{7});
    return position;
}

void KeyStream::write(u64 position, u8* out, u64 count, Into how, int threads) const {
    const Fill fill = fill_of(isa());
    parallel(static_cast<i64>(count), BUFFER, worth(double(count), GRAIN, threads), [&](i64 begin, i64 end) {
        alignas(64) u8 buffer[BUFFER];
        const u64 last = static_cast<u64>(end);
        for (u64 at = static_cast<u64>(begin); at < last;) {
            const u64 block = (position + at) / 16, skip = (position + at) % 16;
            const u64 size = std::min(BUFFER - 16, last - at), blocks = (skip + size + 15) / 16;
            if (how == Into::store && skip == 0 && size % 16 == 0) {
                fill(round_keys_, block, blocks, out + at);
            } else {
                fill(round_keys_, block, blocks, buffer);
                put(out + at, buffer + skip, size, how);
            }
            at += size;
        }
    });
}

namespace {

// The next bytes of a stream, combined with memory: large requests, or few of them.
class Drawn final : public Step {
public:
    Drawn(KeyStream& stream, u8* out, u64 count, Into how, int threads)
        : stream_(stream), out_(out), count_(count), run_(0), how_(how), threads_(threads) {}
    Drawn(KeyStream& stream, u8* out, u64 count, u64 run)
        : stream_(stream), out_(out), count_(count), run_(run), how_(Into::store), threads_(1) {}

    void run() override {
        const u64 position = run_ ? stream_.take_few(count_, run_) : stream_.take(count_);
        if (out_) stream_.write(position, out_, count_, how_, threads_);
    }

private:
    KeyStream& stream_;
    u8* out_;  // none: they are passed over
    u64 count_, run_;
    Into how_;
    int threads_;
};

// Memory that a stream is combined with, in elements of so many bytes.
u8* words(const Memory& out, int bytes, int how) {
    if (how < 0 || how >= WAYS || (bytes != word_of(static_cast<Into>(how)) && how != int(Into::store)))
        refuse("elements of another size than it adds");
    return elements<u8>(out, size(out));
}

const Adds names([](nb::module_& m) {
    nb::class_<KeyStream>(m, "KeyStream")
        .def("__init__", [](KeyStream* self, nb::bytes key) {
            if (key.size() != 16) throw std::invalid_argument("a key of AES-128 has 16 bytes");
            new (self) KeyStream(reinterpret_cast<const u8*>(key.c_str()));
        })
        .def_static("available", &KeyStream::available)
        .def("write", [](KeyStream& self, Memory out, int bytes, int how, int threads) {
            u8* data = words(out, bytes, how);
            const u64 count = size(out) * static_cast<u64>(bytes), position = self.take(count);
            nb::gil_scoped_release unlock;
            self.write(position, data, count, static_cast<Into>(how), threads);
        })
        .def("few", &KeyStream::take_few)
        .def("read", [](const KeyStream& self, u64 position, Memory out) {  // of what was set apart
            self.write(position, elements<u8>(out, size(out)), size(out), Into::store, 1);
        })
        .def("step", [](KeyStream& self, Memory out, int bytes, int how, int threads) -> Step* {
            u8* data = words(out, bytes, how);
            return new Drawn(self, data, size(out) * static_cast<u64>(bytes), static_cast<Into>(how), threads);
        }, nb::rv_policy::take_ownership, nb::keep_alive<0, 1>())
        .def("few_step", [](KeyStream& self, Memory out, u64 run) -> Step* {
            return new Drawn(self, elements<u8>(out, size(out)), size(out), run);
        }, nb::rv_policy::take_ownership, nb::keep_alive<0, 1>())
        .def("pass_over", [](KeyStream& self, u64 count, u64 run) -> Step* {
            return new Drawn(self, nullptr, count, run);
        }, nb::rv_policy::take_ownership, nb::keep_alive<0, 1>());
});

}  // namespace
}  // namespace tacit
