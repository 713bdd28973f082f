// Words of W bytes, for one instruction set: a word lies in one plane for each power of two in W, the low bytes first. Of
// five bytes, say, the low four of all words come first, and then the high ones, so that loops over words are plain.

template <class T>
inline T load(const u8* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class T>
inline void store(u8* to, u64 value) {
    const T low = static_cast<T>(value);
    std::memcpy(to, &low, sizeof low);
}

// Word i of `count`.
template <int W>
inline u64 word(const u8* words, u64 count, u64 i) {
    if constexpr (W == 8) return load<u64>(words + 8 * i);
    u64 value = 0;
    if constexpr (W & 4) value = load<u32>(words + 4 * i);
    if constexpr (W & 2) value |= u64{load<u16>(words + (W & 4) * count + 2 * i)} << 8 * (W & 4);
    if constexpr (W & 1) value |= u64{load<u8>(words + (W & 6) * count + i)} << 8 * (W & 6);
    return value;
}

// Its low W bytes become `value`.
template <int W>
inline void set_word(u8* words, u64 count, u64 i, u64 value) {
    if constexpr (W == 8) return store<u64>(words + 8 * i, value);
    if constexpr (W & 4) store<u32>(words + 4 * i, value);
    if constexpr (W & 2) store<u16>(words + (W & 4) * count + 2 * i, value >> 8 * (W & 4));
    if constexpr (W & 1) store<u8>(words + (W & 6) * count + i, value >> 8 * (W & 6));
}

template <int W>
inline void widen(const u8* words, u64 count, u64* out, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) out[i] = word<W>(words, count, i) << (64 - 8 * W);
}

template <int W>
inline void narrow(const u64* in, u64 count, u8* words, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i) set_word<W>(words, count, i, in[i] >> (64 - 8 * W));
}

template <int W>
inline void subtract(u8* words, const u8* others, u64 count, u64 begin, u64 end) {
    for (u64 i = begin; i < end; ++i)
        set_word<W>(words, count, i, word<W>(words, count, i) - word<W>(others, count, i));
}
