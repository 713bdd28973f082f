// AES-128 in counter mode, written, added, subtracted or XORed into memory in one pass.
#pragma once
#include <mutex>

#include "isa.hpp"

namespace tacit {

// The values that Python passes; shorter words are subtracted modulo 2^8, 2^16 and 2^32.
enum class Into { store, add, subtract, exclusive_or, subtract_1, subtract_2, subtract_4 };
constexpr int WAYS = 7;

// The bytes of the words that are combined.
constexpr int word_of(Into how) {
    switch (how) {
        case Into::add: case Into::subtract: return 8;
        case Into::subtract_4: return 4;
        case Into::subtract_2: return 2;
        default: return 1;
    }
}

// The key stream of one key: block i is AES(key, i), i as 128 bits, big end first, as in NIST SP 800-38A.
class KeyStream {
public:
    explicit KeyStream(const u8* key);
    ~KeyStream();
    KeyStream(const KeyStream&) = delete;
    KeyStream& operator=(const KeyStream&) = delete;

    static bool available();  // whether the instruction set in use has AES

    // Set `count` bytes apart, never to be given again, and return where in the stream they begin.
    u64 take(u64 count);

    // The same of few bytes: they come from a run of `run` bytes that is set apart when the one before is used up, each
    // request from a multiple of 8 in it on.
    u64 take_few(u64 count, u64 run);

    // Put the bytes from `position` on into `out`; to add and to subtract, `count` is a multiple of a word's.
    void write(u64 position, u8* out, u64 count, Into how, int threads) const;

private:
    alignas(16) u8 round_keys_[11][16];
    std::mutex one_at_a_time_;  // no two threads get the same bytes
    u64 position_ = 0;
    u64 few_ = 0, first_ = 0, end_ = 0;  // of the run: what comes next, where it begins and ends
};

}  // namespace tacit
