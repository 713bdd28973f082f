// Kernels for each instruction set: the file TACIT_SOURCE, which is defined where this is included, in three namespaces.
namespace portable {
#include TACIT_SOURCE
}  // namespace portable

#if TACIT_X86
TACIT_BEGIN_TARGET(TACIT_AVX2)
namespace avx2 {
#include TACIT_SOURCE
}  // namespace avx2
TACIT_END_TARGET

TACIT_BEGIN_TARGET(TACIT_AVX512)
namespace avx512 {
#include TACIT_SOURCE
}  // namespace avx512
TACIT_END_TARGET
#endif

#undef TACIT_SOURCE
