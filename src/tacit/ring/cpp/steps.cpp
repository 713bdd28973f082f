// Steps of a recording: kernels with what they are called with, operators on small integer tensors wherever they lie, and
// many of them by one call. Where a tensor is part of a storage, and has elements outside of it, no step is made.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include <nanobind/stl/string.h>

#include "module.hpp"

namespace tacit {

std::map<std::string, Maker>& makers() {
    static std::map<std::string, Maker> all;
    return all;
}

namespace {

constexpr u64 BLOCK = 256;  // elements at a time: three blocks of words stay in the first-level cache

enum class Type { int64, int32, int16, int8, uint8, boolean };
constexpr int TYPES = 6;
constexpr i64 width_of(Type type) { return type == Type::int64 ? 8 : type == Type::int32 ? 4 : type == Type::int16 ? 2 : 1; }

// All of them modulo 2^64, of words that have been sign-extended: what PyTorch has in a narrower type is the low end of it.
enum class Kind { add, multiply, exclusive_or, both, either, shift_up, shift_down, less, greater, equal, unequal };
constexpr int KINDS = 11;

// A row of elements, or a number in their place.
struct Lane {
    const u8* from;
    i64 step;
    Type type;
    const u64* filled;
};

#define TACIT_SOURCE "steps_impl.hpp"
#include "each_isa.hpp"

using Sizes = std::vector<i64>;
// A storage's address and bytes, where in it a tensor begins, the steps of its elements, by elements, and their type.
using Layout = std::tuple<std::uintptr_t, u64, i64, Sizes, int>;

u64 count_of(const Sizes& sizes) {
    u64 count = 1;
    for (const i64 n : sizes)
        if (n < 0 || __builtin_mul_overflow(count, static_cast<u64>(n), &count)) refuse("no number of elements");
    return count;
}

// A tensor of such sizes, all elements of which lie in its storage.
struct Operand {
    u8* from = nullptr;
    Sizes steps;  // bytes
    Type type = Type::int64;
    std::vector<u64> filled;  // of a number

    explicit Operand(i64 number) : filled(BLOCK, static_cast<u64>(number)) {}

    Operand(const Layout& layout, const Sizes& sizes) {
        const auto& [address, bytes, first, strides, code] = layout;
        if (code < 0 || code >= TYPES) refuse("elements of a type that it does not know");
        if (strides.size() != sizes.size()) refuse("another number of dimensions");
        type = static_cast<Type>(code);
        const i64 width = width_of(type);
        i64 last = first;
        for (u64 d = 0; d < sizes.size(); ++d) {
            i64 more;
            if (strides[d] < 0 || __builtin_mul_overflow(strides[d], std::max<i64>(sizes[d] - 1, 0), &more) ||
                __builtin_add_overflow(last, more, &last))
                refuse("steps beyond all memory");
            steps.push_back(strides[d] * width);
        }
        if (first < 0 || (count_of(sizes) && static_cast<u64>(last) >= bytes / static_cast<u64>(width)))
            refuse("elements outside of their storage");
        from = reinterpret_cast<u8*>(address) + first * width;
    }

    Lane lane(i64 at) const { return {filled.empty() ? from + at : nullptr, steps.empty() ? 0 : steps.back(), type, filled.data()}; }
};

Operand operand(const nb::handle& x, const Sizes& sizes) {
    if (nb::isinstance<nb::int_>(x)) return Operand(nb::cast<i64>(x));
    return Operand(nb::cast<Layout>(x), sizes);
}

// Dimensions that all operands step through as through one are one; the last one stays.
void fold(Sizes& sizes, const std::vector<Operand*>& operands) {
    const auto erase = [&](u64 d) {
        sizes.erase(sizes.begin() + i64(d));
        for (Operand* x : operands)
            if (!x->steps.empty()) x->steps.erase(x->steps.begin() + i64(d));
    };
    for (u64 d = sizes.size(); d-- > 0 && sizes.size() > 1;)
        if (sizes[d] == 1) erase(d);
    for (u64 d = sizes.size(); d-- > 1;) {
        const bool one = std::ranges::all_of(operands, [&](const Operand* x) {
            return x->steps.empty() || x->steps[d - 1] == x->steps[d] * sizes[d];
        });
        if (!one) continue;
        sizes[d] *= sizes[d - 1];
        erase(d - 1);
    }
    if (sizes.empty()) {
        sizes.push_back(1);
        for (Operand* x : operands)
            if (x->filled.empty()) x->steps.push_back(0);
    }
}

// Call body(offsets) for each place of all dimensions but the last `inner` ones, with the bytes to it of each operand.
template <std::size_t N, class Body>
void over(const Sizes& sizes, const std::array<const Operand*, N>& operands, u64 inner, const Body& body) {
    const u64 outer = sizes.size() - inner;
    std::array<i64, N> offsets{};
    for (const i64 n : sizes)
        if (!n) return;
    std::vector<i64> places(outer, 0);
    while (true) {
        body(offsets);
        u64 d = outer;
        while (d-- > 0) {
            const auto move = [&](i64 by) {
                for (u64 k = 0; k < N; ++k)
                    if (!operands[k]->steps.empty()) offsets[k] += by * operands[k]->steps[d];
            };
            if (++places[d] < sizes[d]) {
                move(1);
                break;
            }
            move(1 - sizes[d]);
            places[d] = 0;
        }
        if (d == ~u64{0}) return;
    }
}

// out = a op b, element by element.
class Elementwise final : public Step {
public:
    Elementwise(Kind kind, u64 factor, Sizes sizes, Operand out, Operand a, Operand b)
        : kind_(kind), factor_(factor), sizes_(std::move(sizes)), out_(std::move(out)), a_(std::move(a)), b_(std::move(b)) {
        fold(sizes_, {&out_, &a_, &b_});
    }

    void run() override {
        over<3>(sizes_, {&out_, &a_, &b_}, 1, [&](const auto& at) {
            TACIT_CALL(row, kind_, factor_, a_.lane(at[1]), b_.lane(at[2]), out_.from + at[0], out_.steps.back(), out_.type,
                       u64(sizes_.back()))
        });
    }

private:
    Kind kind_;
    u64 factor_;
    Sizes sizes_;
    Operand out_, a_, b_;
};

// out = Σ x, over the dimensions in which `out` does not step, which is contiguous in the others and of 64-bit words.
class Sum final : public Step {
public:
    Sum(Sizes sizes, Operand out, Operand x, Sizes kept, Operand whole)
        : sizes_(std::move(sizes)), kept_(std::move(kept)), out_(std::move(out)), x_(std::move(x)), whole_(std::move(whole)) {
        if (out_.type != Type::int64) refuse("a sum of other words");
        fold(sizes_, {&out_, &x_});
        fold(kept_, {&whole_});
    }

    void run() override {
        static const std::vector<u64> zeros(BLOCK, 0);
        const Lane nothing{nullptr, 0, Type::int64, zeros.data()};
        over<1>(kept_, {&whole_}, 1, [&](const auto& at) {
            TACIT_CALL(row, Kind::add, 1, nothing, nothing, whole_.from + at[0], whole_.steps.back(), Type::int64,
                       u64(kept_.back()))
        });
        over<2>(sizes_, {&out_, &x_}, 1, [&](const auto& at) {
            const u64 n = u64(sizes_.back());
            u8* to = out_.from + at[0];
            if (out_.steps.back() || n == 1) {
                const Lane so_far{to, out_.steps.back(), Type::int64, nullptr};
                TACIT_CALL(row, Kind::add, 1, so_far, x_.lane(at[1]), to, out_.steps.back(), Type::int64, n)
            } else {
                u64 sum;
                std::memcpy(&sum, to, sizeof sum);
                TACIT_CALL(total, x_.lane(at[1]), n, sum)
                std::memcpy(to, &sum, sizeof sum);
            }
        });
    }

private:
    Sizes sizes_, kept_;
    Operand out_, x_, whole_;
};

// out[p] = x[p, place[p]], or with `scatter` out[p, place[p]] = x[p]: places are of a dimension of so many elements, in
// which that tensor steps by so many bytes.
class Placed final : public Step {
public:
    Placed(bool scatter, Sizes sizes, Operand out, Operand x, Operand places, i64 limit, i64 step)
        : scatter_(scatter), sizes_(std::move(sizes)), out_(std::move(out)), x_(std::move(x)), places_(std::move(places)),
          limit_(limit), step_(step) {
        if (out_.type != x_.type || places_.type != Type::int64) refuse("other elements than are moved, or other places");
    }

    void run() override {
        const u64 width = u64(width_of(x_.type));
        over<3>(sizes_, {&out_, &x_, &places_}, 0, [&](const auto& at) {
            i64 place;
            std::memcpy(&place, places_.from + at[2], sizeof place);
            if (place < 0) place += limit_;
            if (place < 0 || place >= limit_) refuse("a place outside of a tensor");
            const i64 there = place * step_;
            std::memcpy(out_.from + at[0] + (scatter_ ? there : 0), x_.from + at[1] + (scatter_ ? 0 : there), width);
        });
    }

private:
    bool scatter_;
    Sizes sizes_;
    Operand out_, x_, places_;
    i64 limit_, step_;
};

// Several steps, one after the other.
class Steps final : public Step {
public:
    explicit Steps(nb::tuple steps) : kept_(std::move(steps)) {
        for (const nb::handle step : kept_) steps_.push_back(nb::cast<Step*>(step));
    }

    void run() override {
        for (Step* step : steps_) step->run();
    }

private:
    nb::tuple kept_;
    std::vector<Step*> steps_;
};

// A tensor of which `places` say where along a dimension: all of that dimension lies in its storage.
Operand placed(const Layout& layout, Sizes sizes, i64 limit, i64 step) {
    Layout whole = layout;
    std::get<3>(whole).push_back(step);
    sizes.push_back(limit);
    Operand out(whole, sizes);
    out.steps.pop_back();
    return out;
}

const Adds names([](nb::module_& m) {
    nb::class_<Step>(m, "Step")
        .def("__call__", &Step::run, Unlocked())
        .def("give", &Step::give);
    nb::class_<Steps, Step>(m, "Steps").def(nb::init<nb::tuple>());
    m.def("has_step", [](const std::string& name) { return makers().contains(name); });
    m.def("step", [](const std::string& name, const nb::args& given) {
        const auto found = makers().find(name);
        if (found == makers().end()) refuse("a name that no kernel has");
        return found->second(given);
    }, nb::rv_policy::take_ownership);
    m.def("elementwise", [](int kind, i64 factor, Sizes sizes, Layout out, nb::object a, nb::object b) -> Step* {
        if (kind < 0 || kind >= KINDS) refuse("an operator that it does not know");
        return new Elementwise(static_cast<Kind>(kind), static_cast<u64>(factor), sizes, Operand(out, sizes),
                               operand(a, sizes), operand(b, sizes));
    }, nb::rv_policy::take_ownership);
    m.def("sum", [](Sizes sizes, Layout out, Layout x, Sizes kept, Layout whole) -> Step* {
        return new Sum(sizes, Operand(out, sizes), Operand(x, sizes), kept, Operand(whole, kept));
    }, nb::rv_policy::take_ownership);
    m.def("gather", [](Sizes sizes, Layout out, Layout x, Layout places, i64 limit, i64 step) -> Step* {
        Operand from = placed(x, sizes, limit, step);
        return new Placed(false, sizes, Operand(out, sizes), from, Operand(places, sizes), limit, step * width_of(from.type));
    }, nb::rv_policy::take_ownership);
    m.def("scatter", [](Sizes sizes, Layout out, Layout x, Layout places, i64 limit, i64 step) -> Step* {
        Operand to = placed(out, sizes, limit, step);
        return new Placed(true, sizes, to, Operand(x, sizes), Operand(places, sizes), limit, step * width_of(to.type));
    }, nb::rv_policy::take_ownership);
});

}  // namespace
}  // namespace tacit
