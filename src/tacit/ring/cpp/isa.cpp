#include "isa.hpp"

#include <atomic>
#include <stdexcept>

#include <nanobind/stl/string.h>

#include "module.hpp"

#if TACIT_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tacit {
namespace {

#if TACIT_AMX
// Whether this processor has tiles of bytes, and Linux lets this process have their registers, for which it is asked once.
bool has_tiles() {
    constexpr unsigned TILES = 1u << 24, INT8 = 1u << 25, SAVED = 3u << 17;
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM
    unsigned a = 0, b = 0, c = 0, d = 0, low = 0, high = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // no xgetbv
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & TILES) == 0 || (d & INT8) == 0) return false;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & SAVED) == SAVED && syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}
#endif

constexpr const char* NAMES[] = {"portable", "avx2", "avx512", "amx"};

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
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
#if TACIT_AMX
        static const bool tiles = __builtin_cpu_supports("avx512vbmi") && has_tiles();
        if (tiles) return Isa::amx;
#endif
        return Isa::avx512;
    }
    if (avx2) return Isa::avx2;
#endif
    return Isa::portable;
}

Isa isa() { return chosen().load(std::memory_order_relaxed); }

std::string isa_name() { return NAMES[static_cast<int>(isa())]; }

void use_isa(const std::string& name) {
    if (name == "best") return chosen().store(best_isa());
    for (Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512, Isa::amx}) {
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
