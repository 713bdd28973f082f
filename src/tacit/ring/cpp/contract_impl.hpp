// The body of contract.cpp for one instruction set; `lanes` come from the including namespace:
//   WIDTH elements in a Vec;  a tile of ROWS x VECTORS Vecs of sums stays in registers;  Sum collects x y;
//   load takes ring elements or shorter ones;  transpose turns a square of WIDTH Vecs.

// A tile: out[r, :] = sum over k of a[k, r] b[k, :], with a packed [depth, R] and row k of b at b + steps[k].
template <int R, int V>
void tile(i64 depth, const u64* a, const u64* b, const i64* steps, u64* out) {
    Sum sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v].clear();
    for (i64 k = 0; k < depth; ++k, a += R) {
        const u64* row = b + steps[k];
        Vec y[V];
        for (int v = 0; v < V; ++v) y[v] = load(row + v * WIDTH);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Vec x = broadcast(a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v].add_product(x, y[v]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(out + (r * V + v) * WIDTH, sum[r][v].value());
}

using Tile = void (*)(i64, const u64*, const u64*, const i64*, u64*);

template <int V, int... R>
constexpr std::array<Tile, sizeof...(R)> tiles_of(std::integer_sequence<int, R...>) {
    return {tile<R + 1, V>...};
}

template <int... V>
constexpr std::array<std::array<Tile, ROWS>, VECTORS> all_tiles(std::integer_sequence<int, V...>) {
    return {tiles_of<V + 1>(std::make_integer_sequence<int, ROWS>{})...};
}

constexpr auto TILES = all_tiles(std::make_integer_sequence<int, VECTORS>{});  // [vectors - 1][rows - 1]

// A panel of `count` rows (or columns) of a matrix: to[k, i] = from[inner[k] + outer[i]], zeros up to `padded`.
template <class T>
void pack(const T* from, const i64* inner, i64 depth, const i64* outer, i64 count, i64 padded, u64* to) {
    if (count < padded) std::memset(to, 0, 8 * padded * depth);
    i64 runs = 1, starts[std::max(ROWS, VECTORS * WIDTH) + 1] = {0};  // runs of neighbours, in a panel of rows or of columns
    for (i64 i = 1; i < count; ++i)
        if (outer[i] != outer[i - 1] + 1) starts[runs++] = i;
    starts[runs] = count;
    if (runs == 1 && count % WIDTH == 0) {
        for (i64 k = 0; k < depth; ++k, to += padded) {
            const T* line = from + inner[k] + outer[0];
            for (i64 i = 0; i < count; i += WIDTH) store(to + i, load(line + i));
        }
    } else if (4 * runs <= count) {
        for (i64 k = 0; k < depth; ++k)
            for (i64 run = 0; run < runs; ++run) {
                const T* line = from + inner[k] + outer[starts[run]];
                for (i64 i = starts[run]; i < starts[run + 1]; ++i) to[k * padded + i] = ring(*line++);
            }
    } else if (contiguous(inner, depth)) {  // read along the memory, by squares that are turned, and what is left over
        const i64 whole = count / WIDTH * WIDTH, end = depth / WIDTH * WIDTH;
        for (i64 i = 0; i < whole; i += WIDTH)
            for (i64 k = 0; k < end; k += WIDTH) {
                Vec square[WIDTH];
                for (int r = 0; r < WIDTH; ++r) square[r] = load(from + outer[i + r] + inner[0] + k);
                transpose(square);
                for (int r = 0; r < WIDTH; ++r) store(to + (k + r) * padded + i, square[r]);
            }
        for (i64 i = 0; i < count; ++i) {
            const T* line = from + outer[i] + inner[0];
            for (i64 k = i < whole ? end : 0; k < depth; ++k) to[k * padded + i] = ring(line[k]);
        }
    } else {
        for (i64 k = 0; k < depth; ++k)
            for (i64 i = 0; i < count; ++i) to[k * padded + i] = ring(from[inner[k] + outer[i]]);
    }
}

// Add the elements [from, to) of a row of a tile to a line, or write them.
inline void settle_run(const u64* tile, u64* line, i64 from, i64 to, bool first) {
    i64 j = from;
    for (; j + WIDTH <= to; j += WIDTH) store(line + j, first ? load(tile + j) : plus(load(line + j), load(tile + j)));
    for (; j < to; ++j) line[j] = first ? tile[j] : line[j] + tile[j];
}

// Add a tile [rows, padded] to the result, or write it if it is the first for its place.
inline void settle(const u64* tile, i64 padded, u64* z, const i64* rows, i64 m, const i64* columns, i64 n, bool first) {
    i64 runs = 1, starts[VECTORS * WIDTH + 1] = {0};  // of neighbours
    for (i64 j = 1; j < n; ++j)
        if (columns[j] != columns[j - 1] + 1) starts[runs++] = j;
    starts[runs] = n;
    if (runs == 1 && n == padded) {
        for (i64 r = 0; r < m; ++r, tile += padded) {
            u64* line = z + rows[r] + columns[0];
            for (i64 j = 0; j < n; j += WIDTH) {
                const Vec sum = load(tile + j);
                store(line + j, first ? sum : plus(load(line + j), sum));
            }
        }
        return;
    }
    for (i64 r = 0; r < m; ++r, tile += padded) {
        u64* line = z + rows[r];
        if (2 * runs <= n) {
            for (i64 run = 0; run < runs; ++run) {
                const i64 from = starts[run];
                settle_run(tile, line + columns[from] - from, from, starts[run + 1], first);
            }
        } else {
            for (i64 j = 0; j < n; ++j) line[columns[j]] = first ? tile[j] : line[columns[j]] + tile[j];
        }
    }
}

// One product of the batch, the rows [top, bottom) and columns [left, right) of it, for a y of ring elements or shorter
// ones.
template <class Y>
void block(const Contraction& c, const Y* all, i64 batch, i64 top, i64 bottom, i64 left, i64 right, Workspace& space) {
    const u64* x = c.x + c.x_first[batch];
    const Y* y = all + c.y_first[batch];
    u64* z = c.z + c.z_first[batch];
    const i64 depth_all = static_cast<i64>(c.x_inner.size());
    constexpr i64 PANEL = i64{VECTORS} * WIDTH;
    const bool once = bottom - top <= ROW_BLOCK;  // a panel of y is used up before the next one is packed
    alignas(64) u64 out[ROWS * PANEL];
    for (i64 jc = left; jc < right; jc += COLUMN_BLOCK) {
        const i64 n = std::min(COLUMN_BLOCK, right - jc);
        for (i64 kc = 0; kc < depth_all; kc += DEPTH_BLOCK) {
            const i64 depth = std::min(DEPTH_BLOCK, depth_all - kc);
            const i64 *x_inner = c.x_inner.data() + kc, *y_inner = c.y_inner.data() + kc;
            for (i64 ic = top; ic < bottom; ic += ROW_BLOCK) {
                const i64 m = std::min(ROW_BLOCK, bottom - ic);
                u64* a = space.x(m * depth);
                for (i64 i = 0; i < m; i += ROWS) {
                    const i64 rows = std::min<i64>(ROWS, m - i);
                    pack(x, x_inner, depth, c.x_rows.data() + ic + i, rows, rows, a + i * depth);
                }
                for (i64 j = 0; j < n; j += PANEL) {
                    const i64 columns = std::min(PANEL, n - j), vectors = (columns + WIDTH - 1) / WIDTH;
                    const i64 padded = vectors * WIDTH;
                    const i64* at = c.y_columns.data() + jc + j;
                    const u64* b = nullptr;
                    const i64* steps = y_inner;
                    if constexpr (std::is_same_v<Y, u64>)
                        if (bottom - top <= DIRECT_ROWS && columns == padded && contiguous(at, columns)) b = y + at[0];
                    if (!b) {
                        u64* packed = space.y((once ? PANEL : n + PANEL) * depth);
                        if (!once) packed += j * depth;  // all panels before it are full
                        if (ic == top) pack(y, y_inner, depth, at, columns, padded, packed);
                        b = packed;
                        steps = space.steps(padded);
                    }
                    for (i64 i = 0; i < m; i += ROWS) {
                        const i64 rows = std::min<i64>(ROWS, m - i);
                        TILES[vectors - 1][rows - 1](depth, a + i * depth, b, steps, out);
                        settle(out, padded, z, c.z_rows.data() + ic + i, rows, c.z_columns.data() + jc + j, columns,
                               kc == 0 && !c.shared);
                    }
                }
            }
        }
    }
}

// z = x y for at most THIN_ROWS rows of x: y, of ring elements or shorter ones, is read once, along its memory.
template <class Y>
void thin(Strided<const u64> x, Strided<const Y> y, Strided<u64> z, i64 m, i64 k, i64 n) {
    std::vector<u64> lines(m * k);
    for (i64 r = 0; r < m; ++r)
        for (i64 i = 0; i < k; ++i) lines[r * k + i] = x.data[r * x.row + i * x.column];
    if (y.column != 1 || n == 1) {  // a sum for each column
        for (i64 j = 0; j < n; ++j)
            for (i64 r = 0; r < m; ++r) {
                const u64* line = lines.data() + r * k;
                const Y* column = y.data + j * y.column;
                u64 sum = 0;
                if (y.row == 1)
                    for (i64 i = 0; i < k; ++i) sum += line[i] * ring(column[i]);
                else
                    for (i64 i = 0; i < k; ++i) sum += line[i] * ring(column[i * y.row]);
                z.data[r * z.row + j * z.column] = sum;
            }
        return;
    }
    for (i64 at = 0; at < n; at += THIN_COLUMNS) {  // sums of whole rows, four at a time
        const i64 count = std::min(THIN_COLUMNS, n - at);
        u64 sums[THIN_ROWS][THIN_COLUMNS];
        for (i64 r = 0; r < m; ++r) std::fill_n(sums[r], count, 0);
        i64 i = 0;
        for (; i + 4 <= k; i += 4) {
            const Y* y0 = y.data + i * y.row + at;
            const Y *y1 = y0 + y.row, *y2 = y1 + y.row, *y3 = y2 + y.row;
            for (i64 r = 0; r < m; ++r) {
                const u64* line = lines.data() + r * k + i;
                const u64 x0 = line[0], x1 = line[1], x2 = line[2], x3 = line[3];
                u64* sum = sums[r];
                for (i64 j = 0; j < count; ++j) {
                    sum[j] += x0 * ring(y0[j]) + x1 * ring(y1[j]) + x2 * ring(y2[j]) + x3 * ring(y3[j]);
                }
            }
        }
        for (; i < k; ++i)
            for (i64 r = 0; r < m; ++r)
                for (i64 j = 0; j < count; ++j) sums[r][j] += lines[r * k + i] * ring(y.data[i * y.row + at + j]);
        for (i64 r = 0; r < m; ++r)
            for (i64 j = 0; j < count; ++j) z.data[r * z.row + (at + j) * z.column] = sums[r][j];
    }
}
