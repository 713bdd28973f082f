// Elementwise products in slots, from rows of numbers to shares modulo a slot prime t: a block of N of them at a time goes
// through all steps in a core's second-level cache, and what is made on the way is never written to memory.
#include <atomic>

#include "lattice_parts.hpp"

namespace tacit::lattice {
namespace {

constexpr u64 SIDE_BY_SIDE = 4;  // terms summed before their sums are reduced. More: fewer reductions; fewer: less cache

const Prime& slot_prime(const Basis& slots) {
    if (slots.size() != 1) refuse("another number of primes");
    return slots.primes[0];
}

// Signed integers of a block, from all of which a polynomial modulo t has them in its slots: coefficients between -t / 2
// and t / 2.
void slotted(const Loops& f, const Prime& t, const i64* values, i64* out) {
    u64* to = reinterpret_cast<u64*>(out);
    f.residues(values, to, t, t.one, t.half, t.offset);
    f.sum(nullptr, to, t);
    f.inverse(to, t, t.one);
    f.centre(to, t.p);
}

// Rows of numbers, a term each, in blocks: zeros stand behind the last number.
class Rows {
public:
    Rows(const std::vector<Memory>& rows, u64 first) : first_(first), length_(rows.empty() ? 0 : size(rows[0])) {
        for (const Memory& row : rows) rows_.push_back(elements<i64>(row, length_));
        if (rows_.empty() || first > length_ / N) refuse("no terms, or a block that is not there");
    }
    u64 terms() const { return rows_.size(); }
    const i64* block(u64 term, u64 number, i64* space) const {
        const u64 from = std::min((first_ + number) * N, length_), count = std::min(N, length_ - from);
        if (count == N) return rows_[term] + from;
        std::copy_n(rows_[term] + from, count, space);
        std::fill(space + count, space + N, 0);
        return space;
    }

private:
    u64 first_, length_;
    std::vector<const i64*> rows_;
};

// Ciphertexts [blocks, terms] of rows from a block on.
bool encrypt(const Basis& basis, const Basis& slots, Memory secret_at, Memory uniform_at, Memory noise_at,
             const std::vector<Memory>& rows_at, u64 first, Memory out_at, int threads) {
    const u64 L = basis.size(), count = count_of(noise_at, N), each = PACKED * L * N;
    const Prime& t = slot_prime(slots);
    const Rows rows(rows_at, first);
    const Uniform uniform(basis, uniform_at, count);
    const u64* secret = elements<u64>(secret_at, L * N);
    const u64* noise = elements<u64>(noise_at, count * N);
    u8* out = elements<u8>(out_at, count * each);
    std::vector<u8> failed(count);
    all_polynomials(count, 4, threads, [&](u64 k) {
        const auto space = scratch(N);
        i64* message = reinterpret_cast<i64*>(space.get());
        slotted(loops(), t, rows.block(k % rows.terms(), k / rows.terms(), message), message);
        failed[k] = !Encrypting(basis, secret, t.p).one(message, noise + k * N, Draws(uniform, k, basis), out + k * each);
    });
    return std::find(failed.begin(), failed.end(), 1) == failed.end();
}

// Answers for blocks from `at` on of those that have arrived, the first of which is block `first` of the rows: V1 of each,
// and shares modulo t. Returns whether all that has arrived are ciphertexts; a result that might be rounded in two ways is
// marked.
bool answer(const Basis& basis, const Basis& slots, Memory zero_at, Memory packed_at, Memory uniform_at,
            const std::vector<Memory>& rows_at, u64 first, u64 at, Memory words_at, Memory mask_at, int bits, u64 margin,
            Memory out_at, Memory share_at, Memory doubtful_at, int threads) {
    check_bits(bits);
    const u64 L = basis.size(), each = PACKED * L * N, count = size(doubtful_at), all = count_of(packed_at, each);
    const Prime& t = slot_prime(slots);
    const Rows rows(rows_at, first + at);
    const u64 terms = rows.terms();
    if (at > all || count > all || (at + count) * terms > all) refuse("a block that has not arrived");
    const Uniform uniform(basis, uniform_at, all);
    const u64* zero = elements<u64>(zero_at, 2 * L * N);
    const u8* packed = elements<u8>(packed_at, all * each);
    const u64* words = elements<u64>(words_at, count * N);
    const u64* mask = elements<u64>(mask_at, count * N * 2);
    u8* out = elements<u8>(out_at, count * answer_bytes(bits));
    u64* share = elements<u64>(share_at, count * N);
    u8* doubtful = elements<u8>(doubtful_at, count);
    const Loops& f = loops();
    std::vector<u8> failed(count);
    all_polynomials(count, 2, threads, [&](u64 b) {
        const u64 place = (at + b) * terms, group = std::min(terms, SIDE_BY_SIDE);
        const auto factors = scratch(terms * N), ct = scratch(2 * group * N), w = scratch(group * N), sum = scratch(2 * N);
        std::vector<Draws> draws;
        for (u64 k = 0; k < terms; ++k) {
            i64* to = reinterpret_cast<i64*>(factors.get()) + k * N;
            slotted(f, t, rows.block(k, b, to), to);
            draws.emplace_back(uniform, place + k, basis);
        }
        Answering answering(basis, zero, bits);
        for (u64 l = 0; l < L; ++l) {
            const Prime& prime = basis.primes[l];
            std::fill_n(sum.get(), 2 * N, 0);
            for (u64 from = 0; from < terms; from += group) {
                const u64 some = std::min(group, terms - from);
                for (u64 j = 0; j < some; ++j) {
                    u64 *c = ct.get() + 2 * j * N, *y = w.get() + j * N;
                    failed[b] |= !f.unpack(packed + (place + from + j) * each + PACKED * l * N, c, prime.p);
                    failed[b] |= !draws[from + j].row(f, c + N);
                    const i64* coefficients = reinterpret_cast<const i64*>(factors.get()) + (from + j) * N;
                    f.residues(coefficients, y, prime, prime.one, prime.half, prime.offset);
                    f.forward(y, prime);
                }
                f.dot(ct.get(), 2 * N, w.get(), N, some, sum.get(), N, prime);
            }
            answering.row(l, sum.get(), sum.get() + N, words + b * N);
        }
        u64* to = share + b * N;
        doubtful[b] = answering.end(out + b * answer_bytes(bits), mask + 2 * b * N, {nullptr, N}, t.p, margin, to);
        f.forward(to, t);
    });
    return std::find(failed.begin(), failed.end(), 1) == failed.end();
}

// The owner's shares modulo t, from answers.
void finish(const Basis& basis, const Basis& slots, Memory secret_at, Memory answers_at, Memory mask_at, int bits,
            Memory share_at, int threads) {
    check_bits(bits);
    const Prime& t = slot_prime(slots);
    const u64 bytes = answer_bytes(bits), count = count_of(answers_at, bytes);
    const u64* secret = elements<u64>(secret_at, basis.size() * N);
    const u8* answers = elements<u8>(answers_at, count * bytes);
    const u64* mask = elements<u64>(mask_at, count * N * 2);
    u64* share = elements<u64>(share_at, count * N);
    all_polynomials(count, 2, threads, [&](u64 k) {
        Finishing(basis, secret, bits).one(answers + k * bytes, mask + 2 * k * N, {nullptr, N}, t.p, share + k * N);
        loops().forward(share + k * N, t);
    });
}

// Signed integers [count, N] in slots.
void into_slots(const Basis& slots, Memory values_at, Memory out_at, int threads) {
    const Prime& t = slot_prime(slots);
    const u64 count = size(values_at) / N;
    const i64* values = elements<i64>(values_at, count * N);
    i64* out = elements<i64>(out_at, count * N);
    all_polynomials(count, 4, threads, [&](u64 k) { slotted(loops(), t, values + k * N, out + k * N); });
}

// Numbers s below T = Π t_l from their residues [primes, step], step >= count: (s + shift T / 4 mod T) mod 2^64, and
// whether that is over T / 2. T is below 2^141.
void combine(const Basis& basis, Memory residues_at, bool shift, Memory out_at, Memory upper_at, int threads) {
    const u64 L = basis.size(), count = size(out_at), step = size(residues_at) / L;
    if (step < count) refuse("fewer residues than numbers");
    const u64* residues = elements<u64>(residues_at, L * step);
    u64* out = elements<u64>(out_at, count);
    u8* upper = elements<u8>(upper_at, count);
    const Radix radix(basis);
    const Loops& f = loops();
    std::atomic<bool> good = true;
    by_cache_lines(count, threads, [&](u64 begin, u64 end) {
        const u64 whole = begin + (end - begin) / 8 * 8;
        if (!f.combined(radix, residues + begin, step, whole - begin, shift, out + begin, upper + begin)) good = false;
        if (whole == end) return;
        u64 some[MOST * 8] = {}, numbers[8];
        u8 bits[8];
        for (u64 l = 0; l < L; ++l) std::copy(residues + l * step + whole, residues + l * step + end, some + 8 * l);
        if (!f.combined(radix, some, 8, 8, shift, numbers, bits)) good = false;
        std::copy_n(numbers, end - whole, out + whole);
        std::copy_n(bits, end - whole, upper + whole);
    });
    if (!good) refuse("residues that are not below their prime");
}

const Adds names([](nb::module_& m) {
    m.def("lattice_slots_encrypt", &encrypt, Unlocked());
    m.def("lattice_slots_answer", &answer, Unlocked());
    m.def("lattice_slots_finish", &finish, Unlocked());
    m.def("lattice_into_slots", &into_slots, Unlocked());
    m.def("lattice_combine", &combine, Unlocked());
});

}  // namespace

Radix::Radix(const Basis& basis) : size(basis.size()) {
    if (size > 3) refuse("another number of primes");
    for (u64 l = 0; l < size; ++l) t[l] = basis.primes[l].p;
    if (*std::max_element(t, t + size) >= 2 * *std::min_element(t, t + size)) refuse("primes of different lengths");
    const auto inverse = [&](int of, int modulo) { return factor(inverse_mod(t[of], t[modulo]), t[modulo]); };
    if (size > 1) first[1] = inverse(0, 1);
    if (size > 2) first[2] = inverse(0, 2), second = inverse(1, 2);
    const auto share_of = [&](u64 divisor, u64 (&digit)[3]) {  // floor(T / divisor)
        u64 carry = 1;                                          // of T = 1 · t0 t1 t2
        for (i64 l = i64(size) - 1; l >= 0; --l) {
            const u128 v = u128(carry) * t[l];
            digit[l] = static_cast<u64>(v / divisor), carry = static_cast<u64>(v % divisor);
        }
    };
    share_of(4, quarter), share_of(2, half);
}

}  // namespace tacit::lattice
