// Sums of products by the tile registers of AMX, for contract.cpp.
#pragma once
#include "contract.hpp"

namespace tacit {

// Whether tiles are in use, and faster than vectors for a product of these sizes.
bool tiled(i64 m, i64 k, i64 n);

// One product of the batch, the rows [top, bottom) and columns [left, right) of it.
void tiled_block(const Contraction& c, i64 batch, i64 top, i64 bottom, i64 left, i64 right);

}  // namespace tacit
