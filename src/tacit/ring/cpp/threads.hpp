// Work shared among threads that live for one call: starting one takes some 15 µs, so callers ask for more than one only
// where each has at least a few hundred microseconds to do. There is no pool to survive a fork or to shut down.
#pragma once
#include <algorithm>
#include <thread>
#include <vector>

#include "isa.hpp"

namespace tacit {

// How many threads `work` units are worth, at `grain` units or more each.
inline int worth(double work, double grain, int threads) {
    return static_cast<int>(std::max(1.0, std::min(static_cast<double>(threads), work / grain)));
}

// Call body(begin, end) on up to `threads` consecutive parts of [0, count), whose bounds are multiples of `step`.
template <class Body>
void parallel(i64 count, i64 step, int threads, const Body& body) {
    const i64 steps = (count + step - 1) / step;
    const i64 parts = std::max<i64>(1, std::min<i64>(threads, steps));
    const auto bound = [&](i64 part) { return std::min(count, steps * part / parts * step); };
    std::vector<std::jthread> others;
    for (i64 part = 1; part < parts; ++part)
        others.emplace_back([&, part] { body(bound(part), bound(part + 1)); });
    body(0, bound(1));
}

// The same for passes over memory that do little with each element: bounds of parts fall on cache lines, of bits too.
template <class Body>
void by_cache_lines(u64 count, int threads, const Body& body) {
    constexpr double GRAIN = 1 << 17;  // elements that a thread should have at least: some 50 µs
    parallel(i64(count), 64, worth(double(count), GRAIN, threads),
             [&](i64 begin, i64 end) { body(u64(begin), u64(end)); });
}

}  // namespace tacit
