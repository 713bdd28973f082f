// Rows that are put where nobody sees that they are put: bins of keys, one to a bin [PSTY19], and networks of switches
// that permute [BD02].
#include "module.hpp"

namespace tacit {
namespace {

constexpr u64 CHOICES = 3;       // bins that a key may be in
constexpr u32 NONE = 0xFFFFFFFF;
constexpr u8 OPEN = 2;           // a switch of which nothing is known yet

// --- bins --------------------------------------------------------------------------------------------------------------

struct Bin {
    u32 degree, keys;  // how many keys may be in it, and the sum of their numbers
};

// A bin for a key that peeling leaves: moves other keys along a shortest way to a bin that is free. False if there is none.
bool moved_in(u32 key, const i64* places, std::vector<u32>& owner, std::vector<u32>& seen, u8* choice) {
    struct Step {
        u32 bin, from, key;
        u8 choice;
    };
    std::vector<Step> steps;
    const auto look = [&](u32 k, u32 from) {
        for (u64 j = 0; j < CHOICES; ++j) {
            const u32 bin = static_cast<u32>(places[CHOICES * k + j]);
            if (seen[bin] == key + 1) continue;
            seen[bin] = key + 1;
            steps.push_back({bin, from, k, static_cast<u8>(j)});
        }
    };
    look(key, NONE);
    for (u32 at = 0; at < steps.size(); ++at) {
        const u32 there = owner[steps[at].bin];
        if (there != NONE) {
            look(there, at);
            continue;
        }
        for (u32 s = at; s != NONE; s = steps[s].from) {
            owner[steps[s].bin] = steps[s].key;
            choice[steps[s].key] = steps[s].choice;
        }
        return true;
    }
    return false;
}

// Which of its bins each key is in, no two in one. False if that cannot be.
bool placed(Memory places_at, u64 bins, Memory choice_at) {
    const u64 n = size(choice_at);
    const i64* places = elements<i64>(places_at, CHOICES * n);
    u8* choice = elements<u8>(choice_at, n);
    if (n >= NONE || bins >= NONE) refuse("more keys than 32 bits number");
    std::vector<Bin> all(bins);
    for (u64 i = 0; i < n; ++i)
        for (u64 j = 0; j < CHOICES; ++j) {
            const i64 bin = places[CHOICES * i + j];
            if (bin < 0 || u64(bin) >= bins) refuse("a bin that is none");
            ++all[u64(bin)].degree, all[u64(bin)].keys ^= static_cast<u32>(i);
        }
    std::vector<u32> waiting;
    std::vector<u8> gone(n);
    u64 left = n;
    for (u64 b = 0; b < bins; ++b) {
        if (all[b].degree == 1) waiting.push_back(static_cast<u32>(b));
        while (!waiting.empty()) {
            const u32 bin = waiting.back();
            waiting.pop_back();
            if (all[bin].degree != 1) continue;
            const u32 key = all[bin].keys;
            gone[key] = 1, --left;
            for (u64 j = CHOICES; j-- > 0;) {
                Bin& other = all[u64(places[CHOICES * key + j])];
                if (u64(places[CHOICES * key + j]) == bin) choice[key] = static_cast<u8>(j);
                other.keys ^= key;
                if (--other.degree == 1) waiting.push_back(static_cast<u32>(places[CHOICES * key + j]));
            }
        }
    }
    if (!left) return true;
    std::vector<u32> owner(bins, NONE), seen(bins);
    for (u64 i = 0; i < n; ++i)
        if (!gone[i] && !moved_in(static_cast<u32>(i), places, owner, seen, choice)) return false;
    return true;
}

// --- networks of switches ----------------------------------------------------------------------------------------------
//
// A network of n wires is a row of n / 2 switches, a network of n / 2 wires for what leaves them above and one of the
// rest for what leaves them below, and another row of n / 2 switches; of an odd n the last wire goes past the switches,
// below. Two wires are one switch. At each depth the blocks of wires stand side by side, and a stage is all switches
// before or behind them: those before from the outside to the inside, then those behind the other way.

using Blocks = std::vector<u32>;  // lengths

Blocks blocks_at(u64 n, u64 depth) {
    Blocks out{static_cast<u32>(n)};
    for (u64 d = 0; d < depth; ++d) {
        Blocks next;
        next.reserve(2 * out.size());
        for (const u32 length : out) next.push_back(length / 2), next.push_back(length - length / 2);
        out.swap(next);
    }
    return out;
}

// The switches of a block before what is inside of it, or behind.
u64 switches(u64 length, bool behind) { return length > (behind ? 2 : 1) ? length / 2 : 0; }

u64 depths(u64 n) {
    u64 depth = 0;
    while (u64(1) << depth < n) ++depth;
    return depth;
}

// The switches of a block, from what each output gets, so that the blocks inside of it can do the rest.
void route(const u32* from, u32 n, u32* inside, u32* inverse, u8* before, u8* behind) {
    if (n < 3) {
        if (n == 2) before[0] = static_cast<u8>(from[0]);
        for (u32 i = 0; i < n; ++i) inside[i] = 0;
        return;
    }
    const u32 half = n / 2, last = n & 1 ? n - 1 : NONE;
    u32 *above = inside, *below = inside + half;
    for (u32 i = 0; i < n; ++i) inverse[from[i]] = i;
    for (u32 i = 0; i < half; ++i) behind[i] = OPEN;
    const auto follow = [&](u32 output) {  // comes from below; so what its input shares a switch with goes above
        for (;;) {
            const u32 input = from[output];
            below[output / 2] = input / 2;
            if (input == last) return;
            before[input / 2] = !(input & 1);
            const u32 other = inverse[input ^ 1];
            above[other / 2] = (input ^ 1) / 2;
            if (behind[other / 2] != OPEN) return;
            behind[other / 2] = other & 1;
            output = other ^ 1;
        }
    };
    if (last != NONE) follow(last);
    for (u32 i = 0; i < half; ++i)
        if (behind[i] == OPEN) behind[i] = 0, follow(2 * i + 1);
}

// All switches of the network by which output i gets input order[i], stage after stage.
void routed(Memory order_at, Memory bits_at) {
    const u64 n = size(order_at);
    const i64* order = elements<i64>(order_at, n);
    if (n >= NONE / 2) refuse("more wires than 31 bits number");
    const u64 depth = depths(n);
    std::vector<u64> before(depth), behind(depth);
    u64 total = 0;
    for (u64 d = 0; d < depth; ++d) {
        before[d] = total;
        for (const u32 length : blocks_at(n, d)) total += switches(length, false);
    }
    for (u64 d = depth; d-- > 0;) {
        behind[d] = total;
        for (const u32 length : blocks_at(n, d)) total += switches(length, true);
    }
    u8* bits = elements<u8>(bits_at, total);
    std::vector<u32> from(n), inside(n), inverse(n, NONE);
    for (u64 i = 0; i < n; ++i) {
        if (order[i] < 0 || u64(order[i]) >= n || inverse[u64(order[i])] != NONE) refuse("an order that is none");
        from[i] = static_cast<u32>(order[i]), inverse[from[i]] = static_cast<u32>(i);
    }
    for (u64 d = 0; d < depth; ++d) {
        u64 at = 0;
        u8 *first = bits + before[d], *second = bits + behind[d];
        for (const u32 length : blocks_at(n, d)) {
            route(&from[at], length, &inside[at], inverse.data(), first, second);
            at += length, first += switches(length, false), second += switches(length, true);
        }
        from.swap(inside);
    }
}

// Call body(first wire, second wire, first output, second output, switch) for a stage, and rest(wire) for others.
template <class Body, class Rest>
u64 each_switch(u64 n, u64 depth, bool behind, const Body& body, const Rest& rest) {
    if (!n || depth >= depths(n)) refuse("a stage that is none");
    u64 at = 0, number = 0;
    for (const u32 length : blocks_at(n, depth)) {
        const u64 count = switches(length, behind), half = length / 2;
        for (u64 i = 0; i < count; ++i, ++number) {
            if (behind) body(at + i, at + half + i, at + 2 * i, at + 2 * i + 1, number);
            else body(at + 2 * i, at + 2 * i + 1, at + i, at + half + i, number);
        }
        for (u64 i = 2 * count; i < length; ++i) rest(at + i);
        at += length;
    }
    return number;
}

u64 counted(u64 n, u64 depth, bool behind) {
    if (!n || depth >= depths(n)) refuse("a stage that is none");
    u64 count = 0;
    for (const u32 length : blocks_at(n, depth)) count += switches(length, behind);
    return count;
}

// The first wire less the second one, of each switch of a stage.
void gaps(Memory x_at, u64 n, u64 depth, bool behind, Memory out_at) {
    const u64 width = n ? size(x_at) / n : 0;
    const u64* x = elements<u64>(x_at, n * width);
    u64* out = elements<u64>(out_at, counted(n, depth, behind) * width);
    each_switch(
        n, depth, behind,
        [&](u64 a, u64 b, u64, u64, u64 s) {
            for (u64 w = 0; w < width; ++w) out[s * width + w] = x[a * width + w] - x[b * width + w];
        },
        [](u64) {});
}

// A stage: the wires of a switch, exchanged if it says so, less t above, plus t below.
void switched(Memory x_at, u64 n, u64 depth, bool behind, Memory swaps_at, Memory t_at, Memory out_at) {
    const u64 width = n ? size(x_at) / n : 0, count = counted(n, depth, behind);
    const u64 *x = elements<u64>(x_at, n * width), *t = elements<u64>(t_at, count * width);
    const u8* swaps = elements_or_none<u8>(swaps_at, count);
    u64* out = elements<u64>(out_at, n * width);
    each_switch(
        n, depth, behind,
        [&](u64 a, u64 b, u64 first, u64 second, u64 s) {
            if (swaps && swaps[s]) std::swap(a, b);
            for (u64 w = 0; w < width; ++w) {
                out[first * width + w] = x[a * width + w] - t[s * width + w];
                out[second * width + w] = x[b * width + w] + t[s * width + w];
            }
        },
        [&](u64 at) {
            for (u64 w = 0; w < width; ++w) out[at * width + w] = x[at * width + w];
        });
}

const Adds names([](nb::module_& m) {
    m.def("oblivious_placed", &placed, Unlocked());
    m.def("oblivious_routed", &routed, Unlocked());
    m.def("oblivious_gaps", &gaps, Unlocked());
    m.def("oblivious_switched", &switched, Unlocked());
});

}  // namespace
}  // namespace tacit
