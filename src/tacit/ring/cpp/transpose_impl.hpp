// For AVX-512: include it where code for that, or for more, is compiled.

// Word b of v[a] goes to word a of v[b].
inline void transpose(__m512i (&v)[8]) {
    __m512i t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int odd = 0; odd < 2; ++odd) {
            u[i + odd] = _mm512_shuffle_i64x2(t[i + odd], t[i + 2 + odd], 0x88);
            u[i + 2 + odd] = _mm512_shuffle_i64x2(t[i + odd], t[i + 2 + odd], 0xDD);
        }
    for (int i = 0; i < 4; ++i) {
        v[i] = _mm512_shuffle_i64x2(u[i], u[i + 4], 0x88);
        v[i + 4] = _mm512_shuffle_i64x2(u[i], u[i + 4], 0xDD);
    }
}
