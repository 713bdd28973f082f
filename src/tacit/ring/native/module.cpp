// The Python module tacit.ring._native. A tensor comes as a pair, the address of its memory and how many elements it has:
// tacit.ring.native, the only caller, checks what they are, and here every kernel checks that they are as many as it will
// read or write, before it does. Every kernel runs without the interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "contract.hpp"
#include "isa.hpp"
#include "keystream.hpp"
#include "passes.hpp"
#include "planes.hpp"
#include "waves.hpp"
#include "words.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace tacit {
namespace {

using Memory = std::tuple<std::uintptr_t, u64>;        // address, elements
using Tables = std::tuple<Memory, Memory, Memory>;     // first, rows, columns
using Steps = std::tuple<std::uintptr_t, i64, i64, i64>;  // address, and steps of batch, row and column
using Terms = std::vector<std::tuple<double, double, double, int>>;  // sine, cosine, scale, width

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument("a kernel was called with " + why); }

// The memory of exactly `count` elements.
template <class T>
T* elements(const Memory& memory, u64 count) {
    const auto [address, size] = memory;
    if (size != count) refuse(std::to_string(size) + " elements in the place of " + std::to_string(count));
    if (!address && count) refuse("a tensor without memory");
    return reinterpret_cast<T*>(address);
}

// The same, where there may be nothing.
template <class T>
T* elements_or_none(const Memory& memory, u64 count) {
    return std::get<0>(memory) ? elements<T>(memory, count) : nullptr;
}

u64 size(const Memory& memory) { return std::get<1>(memory); }

Wrap wrap_of(const Memory& memory, u64 count, int bytes) {
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) refuse("words of " + std::to_string(bytes) + " bytes");
    return {elements<u8>(memory, count), bytes};
}

u64 words_of(u64 bytes, int width) {
    if (width < 1 || width > 8 || bytes % width) refuse("words of another width");
    return bytes / width;
}

template <class T>
Strided<T> strided(const Steps& at) {
    const auto [address, batch, row, column] = at;
    return {reinterpret_cast<T*>(address), batch, row, column};
}

Axis axis(const Memory& table) { return {elements<const i64>(table, size(table)), size(table)}; }

// A matrix for each place of `first`; all of its elements lie inside of the tensor.
struct Matrices {
    u64* data;
    Axis first, rows, columns;

    Matrices(const Memory& memory, const Tables& at)
        : data(elements<u64>(memory, size(memory))), first(axis(std::get<0>(at))), rows(axis(std::get<1>(at))),
          columns(axis(std::get<2>(at))) {
        i64 lowest = 0, highest = 0;
        for (const Axis& places : {first, rows, columns}) {
            if (places.empty()) return;  // no elements
            const auto [low, high] = std::ranges::minmax(places);
            if (__builtin_add_overflow(lowest, low, &lowest) || __builtin_add_overflow(highest, high, &highest))
                refuse("places beyond all memory");
        }
        if (lowest < 0 || static_cast<u64>(highest) >= size(memory)) refuse("places outside of a tensor");
    }
};

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

u64 planes_of(u64 count) { return (count + 7) / 8; }

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // a key stream may live until the interpreter ends
    const auto unlocked = nb::call_guard<nb::gil_scoped_release>();
    m.def("isa", &isa_name);
    m.def("use_isa", &use_isa, "name"_a);

    m.def("matmul", [](Steps x, Steps y, Steps z, i64 batch, i64 rows, i64 inner, i64 columns, int threads) {
        matmul(strided<const u64>(x), strided<const u64>(y), strided<u64>(z), batch, rows, inner, columns, threads);
    }, unlocked);

    m.def("contract", [](Memory x, Tables x_at, Memory y, Tables y_at, Memory z, Tables z_at, int threads) {
        const Matrices a(x, x_at), b(y, y_at), c(z, z_at);
        if (a.first.size() != b.first.size() || a.first.size() != c.first.size() || a.columns.size() != b.rows.size() ||
            a.rows.size() != c.rows.size() || b.columns.size() != c.columns.size())
            refuse("matrices of sizes that do not fit");
        contract({a.data, b.data, c.data, a.rows, a.columns, b.rows, b.columns, c.rows, c.columns, a.first, b.first,
                  c.first}, threads);
    }, unlocked);

    nb::class_<KeyStream>(m, "KeyStream")
        .def("__init__", [](KeyStream* self, nb::bytes key) {
            if (key.size() != 16) throw std::invalid_argument("a key of AES-128 has 16 bytes");
            new (self) KeyStream(reinterpret_cast<const u8*>(key.c_str()));
        })
        .def_static("available", &KeyStream::available)
        .def("write", [](KeyStream& self, Memory out, int bytes, int how, int threads) {
            const u64 count = size(out) * static_cast<u64>(bytes);
            if (how < 0 || how >= WAYS || (bytes != word_of(static_cast<Into>(how)) && how != int(Into::store)))
                refuse("elements of another size than it adds");
            u8* data = elements<u8>(out, size(out));
            const u64 position = self.take(count);  // under the lock, so that no two threads get the same bytes
            nb::gil_scoped_release unlock;
            self.write(position, data, count, static_cast<Into>(how), threads);
        });

    m.def("multiply_add", [](Memory x, Memory b, Memory y, Memory a, bool leader, bool minus, Memory out, int threads) {
        const u64 n = size(out);
        multiply_add(elements<u64>(x, n), elements_or_none<u64>(b, n), elements<u64>(y, n), elements_or_none<u64>(a, n),
                     leader, minus, n, elements<u64>(out, n), threads);
    }, unlocked);
    m.def("scaled_parts", [](Memory a, u64 m, Memory bit, Memory high, Memory wrap, int bytes, int threads) {
        const u64 n = size(a);
        scaled_parts(elements<u64>(a, n), m, elements_or_none<u8>(bit, n), n, elements<u64>(high, n),
                     wrap_of(wrap, n, bytes), threads);
    }, unlocked);
    m.def("scaled_share", [](Memory opened, u64 m, Memory high, Memory wrap, int bytes, bool leader, Memory out,
                             int threads) {
        const u64 n = size(opened);
        scaled_share(elements<u64>(opened, n), m, elements<u64>(high, n), wrap_of(wrap, n, bytes), leader, n,
                     elements<u64>(out, n), threads);
    }, unlocked);
    m.def("selected", [](Memory opened, u64 m, Memory c, Memory x, Memory beta, Memory high, Memory wrap, int bytes,
                         Memory out, int threads) {
        const u64 n = size(opened);
        const Wrap words = bytes ? wrap_of(wrap, n, bytes) : Wrap{nullptr, 0};
        selected(elements<u64>(opened, n), bytes ? &m : nullptr, elements<u8>(c, n), elements<u64>(x, n),
                 elements<u64>(beta, n), elements<u64>(high, n), words, n, elements<u64>(out, n), threads);
    }, unlocked);

    m.def("encode", [](Memory x, bool wide, double scale, Memory out, int threads) {
        const u64 n = size(x);
        i64* to = elements<i64>(out, n);
        return wide ? encode(elements<const double>(x, n), scale, n, to, threads)
                    : encode(elements<const float>(x, n), scale, n, to, threads);
    }, unlocked);
    m.def("decode", [](Memory v, double scale, Memory out, bool wide, int threads) {
        const u64 n = size(v);
        const i64* from = elements<const i64>(v, n);
        if (wide)
            decode(from, scale, n, elements<double>(out, n), threads);
        else
            decode(from, scale, n, elements<float>(out, n), threads);
    }, unlocked);

    m.def("thermometer", [](Memory a, Memory out, int threads) {
        const u64 n = size(a);
        thermometer(elements<u64>(a, n), n, elements<u16>(out, CHUNKS * n), threads);
    }, unlocked);
    m.def("lookup", [](Memory tables, Memory numbers, bool leader, Memory less, Memory equal, int threads) {
        const u64 n = size(numbers), width = size(tables) / CHUNKS, rows = CHUNKS * planes_of(n);
        if (n && (!width || n % width)) refuse("tables for another number of elements");
        if (n) {
            lookup(elements<u16>(tables, CHUNKS * width), width, elements<u64>(numbers, n), n, leader,
                   elements<u8>(less, rows), elements<u8>(equal, rows), threads);
        }
    }, unlocked);
    m.def("node_expand", [](Memory masks, bool top, Memory out, int threads) {
        const u64 inputs = top ? 6 : 7, bytes = size(masks) / inputs;
        node_expand(elements<u8>(masks, inputs * bytes), bytes, top, elements<u8>(out, (top ? 15 : 22) * bytes), threads);
    }, unlocked);
    m.def("node_evaluate", [](Memory opened, Memory masks, Memory monomials, Memory less3, bool top, bool leader,
                              Memory less, Memory equal, int threads) {
        const u64 inputs = top ? 6 : 7, bytes = size(less3);
        node_evaluate(elements<u8>(opened, inputs * bytes), elements<u8>(masks, inputs * bytes),
                      elements<u8>(monomials, (top ? 15 : 22) * bytes), elements<u8>(less3, bytes), bytes, top, leader,
                      elements<u8>(less, bytes), top ? nullptr : elements<u8>(equal, bytes), threads);
    }, unlocked);
    m.def("widen", [](Memory words, int width, Memory out, int threads) {
        const u64 n = words_of(size(words), width);
        widen(elements<u8>(words, n * width), n, width, elements<u64>(out, n), threads);
    }, unlocked);
    m.def("narrow", [](Memory in, int width, Memory words, int threads) {
        const u64 n = words_of(size(words), width);
        narrow(elements<u64>(in, n), n, width, elements<u8>(words, n * width), threads);
    }, unlocked);
    m.def("subtract_words", [](Memory words, Memory others, int width, int threads) {
        const u64 n = words_of(size(words), width);
        subtract(elements<u8>(words, n * width), elements<u8>(others, n * width), n, width, threads);
    }, unlocked);
    m.def("wave_table", [](u64 turn, bool odd, const Terms& terms, Memory a, Memory words, int threads) {
        const Waves waves = waves_of(turn, odd, terms);
        const u64 n = size(a);
        wave_table(waves, elements<u64>(a, n), n, elements<u8>(words, bytes_of(waves, n)), threads);
    }, unlocked);
    m.def("wave_sum", [](u64 turn, bool odd, const Terms& terms, Memory e, Memory words, Memory out, int threads) {
        const Waves waves = waves_of(turn, odd, terms);
        const u64 n = size(e);
        wave_sum(waves, elements<u64>(e, n), n, elements<u8>(words, bytes_of(waves, n)), elements<u64>(out, n), threads);
    }, unlocked);

    m.def("pack_bits", [](Memory bits, Memory plane, int threads) {
        const u64 n = size(bits);
        pack_bits(elements<u8>(bits, n), n, elements<u8>(plane, planes_of(n)), threads);
    }, unlocked);
    m.def("unpack_bits", [](Memory plane, Memory bits, int threads) {
        const u64 n = size(bits);
        unpack_bits(elements<u8>(plane, planes_of(n)), n, elements<u8>(bits, n), threads);
    }, unlocked);
}

}  // namespace tacit
