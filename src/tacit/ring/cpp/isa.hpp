// The instruction sets that kernels are compiled for, and the one that is in use.
//
// A kernel's source is included once for each instruction set, in a namespace of its own, between TACIT_BEGIN_TARGET and
// TACIT_END_TARGET. Which of the copies runs is decided when it is called, so one build serves every machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#if defined(__x86_64__) && defined(__GNUC__)
#define TACIT_X86 1
#include <immintrin.h>
#else
#define TACIT_X86 0
#endif

#define TACIT_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define TACIT_BEGIN_TARGET(list) \
    TACIT_PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define TACIT_END_TARGET TACIT_PRAGMA(clang attribute pop)
#else
#define TACIT_BEGIN_TARGET(list) TACIT_PRAGMA(GCC push_options) TACIT_PRAGMA(GCC target(list))
#define TACIT_END_TARGET TACIT_PRAGMA(GCC pop_options)
#endif
#define TACIT_AVX2 "avx2,bmi,bmi2"
#if TACIT_X86 && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define TACIT_AMX 1  // the compiler knows its instructions, and whom to ask for its registers
#else
#define TACIT_AMX 0
#endif
#define TACIT_AVX512 "avx2,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"
#define TACIT_AVX512_AMX TACIT_AVX512 ",avx512vbmi,amx-tile,amx-int8"

// Call the copy of a function for the instruction set in use: tiles are for matrix products only.
#if TACIT_X86
#define TACIT_CALL(function, ...)                                               \
    switch (isa()) {                                                            \
        case Isa::amx:                                                          \
        case Isa::avx512: avx512::function(__VA_ARGS__); break;                 \
        case Isa::avx2: avx2::function(__VA_ARGS__); break;                     \
        case Isa::portable: portable::function(__VA_ARGS__); break;             \
    }
#else
#define TACIT_CALL(function, ...) portable::function(__VA_ARGS__);
#endif

namespace tacit {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using i16 = std::int16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i64 = std::int64_t;

enum class Isa { portable, avx2, avx512, amx };  // each with those before it

Isa best_isa();   // of this machine
Isa isa();        // in use
std::string isa_name();
void use_isa(const std::string& name);  // "portable", "avx2", "avx512", "amx" or "best"; throws if the machine lacks it

}  // namespace tacit
