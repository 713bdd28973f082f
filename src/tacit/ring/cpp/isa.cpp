#include "isa.hpp"

#include <atomic>
#include <stdexcept>

#include <nanobind/stl/string.h>

#include "module.hpp"

namespace tacit {
namespace {

constexpr const char* NAMES[] = {"portable", "avx2", "avx512"};

std::atomic<Isa>& chosen() {
    static std::atomic<Isa> value{best_isa()};
    return value;
}

}  // namespace

Isa best_isa() {
#if TACIT_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return Isa::avx512;
    if (avx2) return Isa::avx2;
#endif
    return Isa::portable;
}

Isa isa() { return chosen().load(std::memory_order_relaxed); }

std::string isa_name() { return NAMES[static_cast<int>(isa())]; }

void use_isa(const std::string& name) {
    if (name == "best") return chosen().store(best_isa());
    for (Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512}) {
        if (name != NAMES[static_cast<int>(candidate)]) continue;
        if (candidate > best_isa()) throw std::invalid_argument("this machine has no " + name);
        return chosen().store(candidate);
    }
    throw std::invalid_argument("no such instruction set: " + name);
}

namespace {

const Adds names([](nb::module_& m) {
    m.def("isa", &isa_name);
    m.def("use_isa", &use_isa, nb::arg("name"));
});

}  // namespace
}  // namespace tacit
