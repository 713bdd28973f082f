// Tables of words in which every key finds its value as a sum of cells, and which show nothing about the keys [RR22].
//
// A key is four uniform words: a value, 64 bits, and where it is: cells in three neighbouring segments of `length` cells
// [GL22], and any of 64 cells at the end, which its bits choose. Peeling finds cells that only one key has, again and
// again; what is left of the keys, nothing or a few, is solved by elimination with the 64 cells.
#include <cstring>

#include "module.hpp"
#include "threads.hpp"

namespace tacit {
namespace {

constexpr u64 DENSE = 64;        // cells at the end
constexpr u64 CORE = 4096;       // keys that elimination solves at most, in some 0.4 s
constexpr u64 LONGEST = 1 << 21; // cells of a segment: 21 bits choose one
constexpr u64 PROBES = 4096;     // places of a hash table that are looked at for one word
constexpr u64 GROUP = 16;        // keys whose cells are fetched at once
constexpr double GRAIN = 1 << 14;

struct Key {
    u64 value, dense, segment, offsets;
};

struct Shape {
    u64 length, starts, sparse;

    Shape(u64 length, u64 starts) : length(length), starts(starts), sparse((starts + 2) * length) {
        if (!length || length & (length - 1) || length > LONGEST) refuse("segments whose length is no power of two");
        if (!starts || starts > (u64(1) << 32) / length - 3) refuse("more cells than 32 bits number");
    }
    u64 cells() const { return sparse + DENSE; }
    u64 start(const Key& key) const {
        return static_cast<u64>(static_cast<unsigned __int128>(key.segment) * starts >> 64);
    }
    void place(const Key& key, u32* cell) const {
        const u64 begin = start(key) * length;
        for (u64 k = 0; k < 3; ++k)
            cell[k] = static_cast<u32>(begin + k * length + (key.offsets >> 21 * k & (length - 1)));
    }
};

// Sums of the 64 cells at the end, by eight bits of their choice at a time.
class Dense {
public:
    Dense(const u64* cells, u64 width) : width_(width), sums_(8 * 256 * width) {
        for (u64 byte = 0; byte < 8; ++byte)
            for (u64 bits = 1; bits < 256; ++bits) {
                const u64 low = u64(__builtin_ctzll(bits));
                u64* sum = &sums_[(256 * byte + bits) * width];
                const u64* rest = &sums_[(256 * byte + (bits & (bits - 1))) * width];
                const u64* cell = cells + (8 * byte + low) * width;
                for (u64 w = 0; w < width; ++w) sum[w] = rest[w] ^ cell[w];
            }
    }
    void add(u64 choice, u64* out) const {
        for (u64 byte = 0; byte < 8; ++byte) {
            const u64* sum = &sums_[(256 * byte + (choice >> 8 * byte & 255)) * width_];
            for (u64 w = 0; w < width_; ++w) out[w] ^= sum[w];
        }
    }
    template <u64 WIDTH>
    void add_words(u64 choice, u64* out) const {
        for (u64 byte = 0; byte < 8; ++byte)
            for (u64 w = 0; w < WIDTH; ++w) out[w] ^= sums_[(256 * byte + (choice >> 8 * byte & 255)) * WIDTH + w];
    }

private:
    u64 width_;
    std::vector<u64> sums_;
};

struct Placed {
    u32 cell[3], row;
    u64 dense;
};

struct Cell {
    u32 degree, keys;  // how many keys have it, and the sum of their numbers
};

struct Peeled {
    u32 key, cell;
};

// Keys in the order of their segments, so that what follows stays near in memory.
std::vector<Placed> placed(const Key* keys, u64 n, const Shape& shape) {
    std::vector<u64> at(shape.starts + 1);
    for (u64 i = 0; i < n; ++i) ++at[shape.start(keys[i]) + 1];
    for (u64 s = 0; s < shape.starts; ++s) at[s + 1] += at[s];
    std::vector<Placed> out(n);
    for (u64 i = 0; i < n; ++i) {
        Placed& p = out[at[shape.start(keys[i])]++];
        shape.place(keys[i], p.cell);
        p.row = static_cast<u32>(i), p.dense = keys[i].dense;
    }
    return out;
}

std::vector<Peeled> peel(const std::vector<Placed>& keys, u64 sparse) {
    std::vector<Cell> cells(sparse);
    for (u64 i = 0; i < keys.size(); ++i)
        for (u32 c : keys[i].cell) ++cells[c].degree, cells[c].keys ^= static_cast<u32>(i);
    std::vector<Peeled> order;
    order.reserve(keys.size());
    std::vector<u32> waiting;
    for (u64 c = 0; c < sparse; ++c) {
        if (cells[c].degree != 1) continue;
        waiting.push_back(static_cast<u32>(c));
        while (!waiting.empty()) {
            const u32 at = waiting.back();
            waiting.pop_back();
            if (cells[at].degree != 1) continue;
            const u32 key = cells[at].keys;
            order.push_back({key, at});
            for (u32 o : keys[key].cell) {
                cells[o].keys ^= key;
                if (--cells[o].degree == 1) waiting.push_back(o);
            }
        }
    }
    return order;
}

// Change cells so that the keys that are left find their values: Gauss and Jordan. False if they cannot.
bool solve(const std::vector<const Placed*>& keys, const u64* values, u64 width, const Shape& shape, u64* out) {
    if (keys.empty()) return true;
    if (keys.size() > CORE) return false;
    std::vector<u32> columns;
    for (const Placed* key : keys) columns.insert(columns.end(), key->cell, key->cell + 3);
    std::sort(columns.begin(), columns.end());
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    const u64 own = columns.size();
    for (u64 j = 0; j < DENSE; ++j) columns.push_back(static_cast<u32>(shape.sparse + j));
    const u64 words = (columns.size() + 63) / 64, whole = words + width;
    std::vector<u64> matrix(keys.size() * whole);
    for (u64 i = 0; i < keys.size(); ++i) {
        u64* row = &matrix[i * whole];
        const auto choose = [&](u64 column) {
            row[column / 64] |= u64(1) << column % 64;
            const u64* cell = out + u64(columns[column]) * width;
            for (u64 w = 0; w < width; ++w) row[words + w] ^= cell[w];
        };
        std::memcpy(row + words, values + u64(keys[i]->row) * width, 8 * width);
        for (u32 c : keys[i]->cell)
            choose(u64(std::lower_bound(columns.begin(), columns.begin() + i64(own), c) - columns.begin()));
        for (u64 j = 0; j < DENSE; ++j)
            if (keys[i]->dense >> j & 1) choose(own + j);
    }
    u64 rank = 0;
    std::vector<u64> pivots;
    for (u64 column = 0; column < columns.size() && rank < keys.size(); ++column) {
        const auto has = [&](u64 i) { return matrix[i * whole + column / 64] >> column % 64 & 1; };
        u64 pivot = rank;
        while (pivot < keys.size() && !has(pivot)) ++pivot;
        if (pivot == keys.size()) continue;
        u64* row = &matrix[rank * whole];
        if (pivot != rank) std::swap_ranges(row, row + whole, &matrix[pivot * whole]);
        for (u64 i = 0; i < keys.size(); ++i)
            if (i != rank && has(i))
                for (u64 w = column / 64; w < whole; ++w) matrix[i * whole + w] ^= row[w];
        pivots.push_back(column), ++rank;
    }
    for (u64 i = rank; i < keys.size(); ++i)
        for (u64 w = words; w < whole; ++w)
            if (matrix[i * whole + w]) return false;
    for (u64 i = 0; i < rank; ++i) {
        u64* cell = out + u64(columns[pivots[i]]) * width;
        for (u64 w = 0; w < width; ++w) cell[w] ^= matrix[i * whole + words + w];
    }
    return true;
}

// Fill the cells of `out` so that each key finds its value; what no key decides stays as it is. False if that cannot be.
bool encode(Memory keys_at, Memory values_at, u64 length, u64 starts, u64 width, Memory out_at) {
    const Shape shape(length, starts);
    const u64 n = size(keys_at) / 4;
    if (!width || width > 1 << 16 || n >> 32) refuse("another number of words than its cells have");
    const Key* keys = reinterpret_cast<const Key*>(elements<u64>(keys_at, 4 * n));
    const u64* values = elements<u64>(values_at, n * width);
    u64* out = elements<u64>(out_at, shape.cells() * width);
    const std::vector<Placed> all = placed(keys, n, shape);
    const std::vector<Peeled> order = peel(all, shape.sparse);
    std::vector<const Placed*> left;
    if (order.size() < n) {
        std::vector<u8> gone(n);
        for (const Peeled& p : order) gone[p.key] = 1;
        for (u64 i = 0; i < n; ++i)
            if (!gone[i]) left.push_back(&all[i]);
    }
    if (!solve(left, values, width, shape, out)) return false;
    const Dense dense(out + shape.sparse * width, width);
    for (u64 i = order.size(); i-- > 0;) {
        if (i >= GROUP) __builtin_prefetch(values + u64(all[order[i - GROUP].key].row) * width);
        const Placed& key = all[order[i].key];
        u64* cell = out + u64(order[i].cell) * width;
        const u64* value = values + u64(key.row) * width;
        for (u64 w = 0; w < width; ++w) cell[w] = value[w];
        for (u32 c : key.cell)
            if (c != order[i].cell)
                for (u64 w = 0; w < width; ++w) cell[w] ^= out[u64(c) * width + w];
        dense.add(key.dense, cell);
    }
    return true;
}

template <u64 WIDTH>
void found(const Key* keys, u64 begin, u64 end, const Shape& shape, const u64* cells, const Dense& dense, u64 width,
           u64* out) {
    if constexpr (WIDTH) width = WIDTH;
    u32 at[GROUP][3];
    for (u64 i = begin; i < end; i += GROUP) {
        const u64 here = std::min(GROUP, end - i);
        for (u64 j = 0; j < here; ++j) {
            shape.place(keys[i + j], at[j]);
            for (u32 c : at[j]) __builtin_prefetch(cells + u64(c) * width);
        }
        for (u64 j = 0; j < here; ++j) {
            u64* to = out + (i + j) * width;
            const u64 *x = cells + u64(at[j][0]) * width, *y = cells + u64(at[j][1]) * width,
                      *z = cells + u64(at[j][2]) * width;
            for (u64 w = 0; w < width; ++w) to[w] = x[w] ^ y[w] ^ z[w];
            if constexpr (WIDTH) dense.add_words<WIDTH>(keys[i + j].dense, to);
            else dense.add(keys[i + j].dense, to);
        }
    }
}

// The value of each key.
void decode(Memory keys_at, u64 length, u64 starts, u64 width, Memory cells_at, Memory out_at, int threads) {
    const Shape shape(length, starts);
    const u64 n = size(keys_at) / 4;
    if (!width || width > 1 << 16) refuse("another number of words than its cells have");
    const Key* keys = reinterpret_cast<const Key*>(elements<u64>(keys_at, 4 * n));
    const u64* cells = elements<u64>(cells_at, shape.cells() * width);
    u64* out = elements<u64>(out_at, n * width);
    const Dense dense(cells + shape.sparse * width, width);
    parallel(i64(n), i64(GROUP), worth(double(n), GRAIN, threads), [&](i64 begin, i64 end) {
        const auto all = width == 1 ? found<1> : width == 2 ? found<2> : found<0>;
        all(keys, u64(begin), u64(end), shape, cells, dense, width, out);
    });
}

// Where each pair of a word and 16 bits stands among others, -1 if it does not. The words are uniform; false if they are
// not: then the search would take too long.
bool matches(Memory low_at, Memory high_at, Memory their_low_at, Memory their_high_at, Memory out_at) {
    const u64 n = size(low_at), m = size(their_low_at);
    const u64 *low = elements<u64>(low_at, n), *their_low = elements<u64>(their_low_at, m);
    const u16 *high = elements<u16>(high_at, n), *their_high = elements<u16>(their_high_at, m);
    i64* out = elements<i64>(out_at, n);
    if (m >= 0xFFFFFFFF) refuse("more words than 32 bits number");
    u64 slots = 64;
    while (slots < 2 * m) slots *= 2;
    std::vector<u32> table(slots);  // numbers from 1 on
    u64 longest = 0;                // steps from where a word belongs to where one stands
    for (u64 i = 0; i < m; ++i) {
        if (i + GROUP < m) __builtin_prefetch(&table[their_low[i + GROUP] & (slots - 1)], 1);
        u64 at = their_low[i] & (slots - 1), probes = 0;
        while (table[at]) {
            if (++probes > PROBES) return false;
            at = (at + 1) & (slots - 1);
        }
        table[at] = static_cast<u32>(i + 1);
        longest = std::max(longest, probes);
    }
    for (u64 i = 0; i < n; ++i) {
        if (i + GROUP < n) __builtin_prefetch(&table[low[i + GROUP] & (slots - 1)]);
        out[i] = -1;
        u64 at = low[i] & (slots - 1);
        for (u64 steps = 0; table[at] && steps <= longest; ++steps, at = (at + 1) & (slots - 1)) {
            const u64 j = table[at] - 1;
            if (their_low[j] == low[i] && their_high[j] == high[i]) {
                out[i] = i64(j);
                break;
            }
        }
    }
    return true;
}

const Adds names([](nb::module_& m) {
    m.def("oblivious_encode", &encode, Unlocked());
    m.def("oblivious_decode", &decode, Unlocked());
    m.def("oblivious_matches", &matches, Unlocked());
});

}  // namespace
}  // namespace tacit
