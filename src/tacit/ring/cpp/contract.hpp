// Sums of products modulo 2^64 over tensors of any layout: matrix products and convolutions with one kernel.
#pragma once
#include <span>

#include "isa.hpp"

namespace tacit {

// Where the rows, or the columns, of a matrix lie in memory: an offset in elements for each.
using Axis = std::span<const i64>;

// z[i, j] = sum over k of x[i, k] y[k, j], where x[i, k] = *(x + x_rows[i] + x_inner[k]) and so on. A window of a
// convolution, and a tap of its kernel, are such offsets too, so no matrix of patches is ever written to memory: tensors
// are gathered while they are packed for the cache, as in [Mat18]. `first`... are added to the pointers for each product.
struct Contraction {
    const u64 *x, *y;
    u64* z;
    Axis x_rows, x_inner, y_inner, y_columns, z_rows, z_columns;
    Axis x_first, y_first, z_first;  // a batch of products of one shape, or the groups of a convolution
    // If not 0, sums are added to what is in z, where elements may share a place: those of one product whose columns are
    // in the same run of so many. Such are the windows of one image, from which a gradient returns to its input.
    i64 shared = 0;
    const std::int32_t* short_y = nullptr;  // if not null, the elements of y, in signed integers of 32 bits
};

void contract(const Contraction& c, int threads);

// A matrix with constant steps, [batch, rows, columns].
template <class T>
struct Strided {
    T* data;
    i64 batch, row, column;
};

// z = x y for `batch` products of [m, k] and [k, n]. z may not overlap its operands.
void matmul(Strided<const u64> x, Strided<const u64> y, Strided<u64> z, i64 batch, i64 m, i64 k, i64 n, int threads);

// The same of one product, whose y is in signed integers of 32 bits, with steps of 1 along its rows or its columns.
void matmul_short(Strided<const u64> x, Strided<const std::int32_t> y, Strided<u64> z, i64 m, i64 k, i64 n, int threads);

}  // namespace tacit
