// How kernels get into the Python module tacit.ring._native. A tensor comes as a pair, the address of its memory and how
// many elements it has: tacit.ring.kernels.native.memory checks what it is, and here every kernel checks that it is as
// long as what will be read or written, before it is.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "isa.hpp"

namespace tacit {

namespace nb = nanobind;
using Unlocked = nb::call_guard<nb::gil_scoped_release>;  // every kernel runs without the interpreter's lock

// What a file adds to the module: `const Adds names([](nb::module_& m) { m.def(...); });`. Nothing else lists it.
class Adds {
public:
    explicit Adds(void (*define)(nb::module_&));
};

using Memory = std::tuple<std::uintptr_t, u64>;  // address, elements

[[noreturn]] inline void refuse(const std::string& why) {
    throw std::invalid_argument("a kernel was called with " + why);
}

inline u64 size(const Memory& memory) { return std::get<1>(memory); }

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

}  // namespace tacit
