// The Python module tacit.ring._native. Tensors come as the addresses and steps of their memory: tacit.ring.native, the
// only caller, checks what they are. Every kernel runs without the interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

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

using Address = std::uintptr_t;
using Table = std::tuple<Address, std::size_t>;
using Tables = std::tuple<Table, Table, Table>;  // first, rows, columns
using Steps = std::tuple<i64, i64, i64>;
using Terms = std::vector<std::tuple<double, double, double, int>>;  // sine, cosine, scale, width

template <class T>
T* pointer(Address address) { return reinterpret_cast<T*>(address); }

template <class T>
Strided<T> strided(Address address, const Steps& steps) {
    const auto& [batch, row, column] = steps;
    return {pointer<T>(address), batch, row, column};
}

Axis axis(const Table& table) { return {pointer<const i64>(std::get<0>(table)), std::get<1>(table)}; }

Waves waves_of(u64 turn, bool odd, const Terms& terms) {
    Waves waves{turn, odd, {}};
    for (const auto& [sine, cosine, scale, width] : terms) waves.terms.push_back({sine, cosine, scale, width});
    return waves;
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // a key stream may live until the interpreter ends
    const auto unlocked = nb::call_guard<nb::gil_scoped_release>();
    m.def("isa", &isa_name);
    m.def("use_isa", &use_isa, "name"_a);

    m.def("matmul", [](Address x, Steps xs, Address y, Steps ys, Address z, Steps zs, i64 batch, i64 rows, i64 inner,
                       i64 columns, int threads) {
        matmul(strided<const u64>(x, xs), strided<const u64>(y, ys), strided<u64>(z, zs), batch, rows, inner, columns,
               threads);
    }, unlocked);

    m.def("contract", [](Address x, Tables x_at, Address y, Tables y_at, Address z, Tables z_at, int threads) {
        const auto [x_first, x_rows, x_inner] = x_at;
        const auto [y_first, y_inner, y_columns] = y_at;
        const auto [z_first, z_rows, z_columns] = z_at;
        contract({pointer<u64>(x), pointer<u64>(y), pointer<u64>(z), axis(x_rows), axis(x_inner), axis(y_inner),
                  axis(y_columns), axis(z_rows), axis(z_columns), axis(x_first), axis(y_first), axis(z_first)}, threads);
    }, unlocked);

    nb::class_<KeyStream>(m, "KeyStream")
        .def("__init__", [](KeyStream* self, nb::bytes key) {
            if (key.size() != 16) throw std::invalid_argument("a key of AES-128 has 16 bytes");
            new (self) KeyStream(reinterpret_cast<const u8*>(key.c_str()));
        })
        .def_static("available", &KeyStream::available)
        .def("write", [](KeyStream& self, Address out, u64 count, int how, int threads) {
            const u64 position = self.take(count);  // under the lock, so that no two threads get the same bytes
            nb::gil_scoped_release unlock;
            self.write(position, pointer<u8>(out), count, static_cast<Into>(how), threads);
        });

    m.def("multiply_add", [](Address x, Address b, Address y, Address a, bool leader, bool minus, u64 count, Address out,
                             int threads) {
        multiply_add(pointer<u64>(x), pointer<u64>(b), pointer<u64>(y), pointer<u64>(a), leader, minus, count,
                     pointer<u64>(out), threads);
    }, unlocked);
    m.def("scaled_parts", [](Address a, u64 m, Address bit, u64 count, Address high, Address wrap, int bytes,
                             int threads) {
        scaled_parts(pointer<u64>(a), m, pointer<u8>(bit), count, pointer<u64>(high), {pointer<u8>(wrap), bytes}, threads);
    }, unlocked);
    m.def("scaled_share", [](Address opened, u64 m, Address high, Address wrap, int bytes, bool leader, u64 count,
                             Address out, int threads) {
        scaled_share(pointer<u64>(opened), m, pointer<u64>(high), {pointer<u8>(wrap), bytes}, leader, count,
                     pointer<u64>(out), threads);
    }, unlocked);
    m.def("selected", [](Address opened, u64 m, Address c, Address x, Address beta, Address high, Address wrap,
                         int bytes, u64 count, Address out, int threads) {
        selected(pointer<u64>(opened), bytes ? &m : nullptr, pointer<u8>(c), pointer<u64>(x), pointer<u64>(beta),
                 pointer<u64>(high), {pointer<u8>(wrap), bytes}, count, pointer<u64>(out), threads);
    }, unlocked);

    m.def("encode", [](Address x, bool wide, double scale, u64 count, Address out, int threads) {
        return wide ? encode(pointer<const double>(x), scale, count, pointer<i64>(out), threads)
                    : encode(pointer<const float>(x), scale, count, pointer<i64>(out), threads);
    }, unlocked);
    m.def("decode", [](Address v, double scale, u64 count, Address out, bool wide, int threads) {
        if (wide)
            decode(pointer<const i64>(v), scale, count, pointer<double>(out), threads);
        else
            decode(pointer<const i64>(v), scale, count, pointer<float>(out), threads);
    }, unlocked);

    m.def("thermometer", [](Address a, u64 count, Address out, int threads) {
        thermometer(pointer<u64>(a), count, pointer<u16>(out), threads);
    }, unlocked);
    m.def("lookup", [](Address tables, u64 width, Address numbers, u64 count, bool leader, Address less, Address equal,
                       int threads) {
        lookup(pointer<u16>(tables), width, pointer<u64>(numbers), count, leader, pointer<u8>(less), pointer<u8>(equal),
               threads);
    }, unlocked);
    m.def("node_expand", [](Address masks, u64 bytes, bool top, Address out, int threads) {
        node_expand(pointer<u8>(masks), bytes, top, pointer<u8>(out), threads);
    }, unlocked);
    m.def("node_evaluate", [](Address opened, Address masks, Address monomials, Address less3, u64 bytes, bool top,
                              bool leader, Address less, Address equal, int threads) {
        node_evaluate(pointer<u8>(opened), pointer<u8>(masks), pointer<u8>(monomials), pointer<u8>(less3), bytes, top,
                      leader, pointer<u8>(less), pointer<u8>(equal), threads);
    }, unlocked);
    m.def("widen", [](Address words, u64 count, int width, Address out, int threads) {
        widen(pointer<u8>(words), count, width, pointer<u64>(out), threads);
    }, unlocked);
    m.def("narrow", [](Address in, u64 count, int width, Address words, int threads) {
        narrow(pointer<u64>(in), count, width, pointer<u8>(words), threads);
    }, unlocked);
    m.def("subtract_words", [](Address words, Address others, u64 count, int width, int threads) {
        subtract(pointer<u8>(words), pointer<u8>(others), count, width, threads);
    }, unlocked);
    m.def("wave_table", [](u64 turn, bool odd, const Terms& terms, Address a, u64 count, Address words, int threads) {
        wave_table(waves_of(turn, odd, terms), pointer<u64>(a), count, pointer<u8>(words), threads);
    }, unlocked);
    m.def("wave_sum", [](u64 turn, bool odd, const Terms& terms, Address e, u64 count, Address words, Address out,
                         int threads) {
        wave_sum(waves_of(turn, odd, terms), pointer<u64>(e), count, pointer<u8>(words), pointer<u64>(out), threads);
    }, unlocked);

    m.def("pack_bits", [](Address bits, u64 count, Address plane, int threads) {
        pack_bits(pointer<u8>(bits), count, pointer<u8>(plane), threads);
    }, unlocked);
    m.def("unpack_bits", [](Address plane, u64 count, Address bits, int threads) {
        unpack_bits(pointer<u8>(plane), count, pointer<u8>(bits), threads);
    }, unlocked);
}

}  // namespace tacit
