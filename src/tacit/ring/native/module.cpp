// The Python module tacit.ring._native. Tensors come as the addresses and steps of their memory: tacit.ring.native, the
// only caller, checks what they are. Every kernel runs without the interpreter's lock.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "contract.hpp"
#include "isa.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace tacit {
namespace {

using Address = std::uintptr_t;
using Steps = std::tuple<i64, i64, i64>;

template <class T>
T* pointer(Address address) { return reinterpret_cast<T*>(address); }

template <class T>
Strided<T> strided(Address address, const Steps& steps) {
    const auto& [batch, row, column] = steps;
    return {pointer<T>(address), batch, row, column};
}

}  // namespace

NB_MODULE(_native, m) {
    const auto unlocked = nb::call_guard<nb::gil_scoped_release>();
    m.def("isa", &isa_name);
    m.def("use_isa", &use_isa, "name"_a);

    m.def("matmul", [](Address x, Steps xs, Address y, Steps ys, Address z, Steps zs, i64 batch, i64 rows, i64 inner,
                       i64 columns, int threads) {
        matmul(strided<const u64>(x, xs), strided<const u64>(y, ys), strided<u64>(z, zs), batch, rows, inner, columns,
               threads);
    }, unlocked);
}

}  // namespace tacit
