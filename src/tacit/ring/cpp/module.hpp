// How kernels get into the Python module tacit.ring._native. A tensor comes as a pair, the address of its memory and how
// many elements it has: tacit.ring.kernels.native.memory checks what it is, and here every kernel checks that it is as
// long as what will be read or written, before it is.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>

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

// A kernel with all that it is called with, to be called again: what tacit.replay runs, many of them by one call.
class Step {
public:
    virtual ~Step() = default;
    virtual void run() = 0;

    // Have it called with another number from now on, in the place of one that it was made with.
    virtual void give(u64 /*argument*/, u64 /*value*/) { refuse("a number that it does not take"); }
};

using Maker = std::function<Step*(const nb::args&)>;
std::map<std::string, Maker>& makers();  // of steps, by the names of kernels

template <class... Given>
class Call final : public Step {
public:
    using Function = void (*)(Given...);

    Call(Function function, std::tuple<std::decay_t<Given>...> given) : function_(function), given_(std::move(given)) {}

    void run() override { std::apply(function_, given_); }

    void give(u64 argument, u64 value) override {
        bool taken = false;
        u64 at = 0;
        const auto put = [&](auto& x) {
            if constexpr (std::is_same_v<std::decay_t<decltype(x)>, u64>)
                if (at == argument) x = value, taken = true;
            ++at;
        };
        std::apply([&](auto&... x) { (put(x), ...); }, given_);
        if (!taken) refuse("a number in the place of something else");
    }

private:
    Function function_;
    std::tuple<std::decay_t<Given>...> given_;
};

// Add a kernel to the module, and to those that steps are made of.
template <class... Given>
void kernel(nb::module_& m, const char* name, void (*function)(Given...)) {
    m.def(name, function, Unlocked());
    makers()[name] = [function](const nb::args& given) -> Step* {
        if (given.size() != sizeof...(Given)) refuse("another number of arguments");
        return [&]<std::size_t... I>(std::index_sequence<I...>) -> Step* {
            return new Call<Given...>(function, {nb::cast<std::decay_t<Given>>(given[I])...});
        }(std::index_sequence_for<Given...>{});
    };
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
