/* The operations that a computer with vector units does differently: the same results from weights that lie as 16-bit pairs of columns,
   pairs x outputs. Outputs are padded to 16, biases and multipliers too. All sizes are constants in a call. */

#if defined(__AVX512BW__)
#include <immintrin.h>
#define LANES 16
#define V(operation) _mm512_##operation
typedef __m512i vector;
static INLINE __m128i narrow(vector v) { return _mm512_cvtepi32_epi8(v); }
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define V(operation) _mm256_##operation
typedef __m256i vector;
/* the low bytes of the lanes */
static INLINE __m128i narrow(vector v) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(0xFF));
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_packus_epi16(words, words);
}
#else
#define LANES 4
#endif

#define VECTORS (LANES < 16 ? 2 : 1) /* of outputs, by */
#define ROWS 4                       /* of values at a time */
#define PADDED(n) (((n) + 15) / 16 * 16)

typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
typedef uint64_t doubled __attribute__((vector_size(4 * LANES)));

/* block: load */
/* A number's address is not a vector's: copied, never cast. */
static INLINE lanes load(const int32_t *p) {
    lanes v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

/* block: plus_pair */
/* sum + low half of x * low halves of pairs + the same of the high halves */
static INLINE lanes plus_pair(lanes sum, lanes pairs, int32_t x) {
#if defined(V)
    return sum + (lanes)V(madd_epi16)((vector)pairs, V(set1_epi32)(x));
#else
    return sum + (pairs << 16 >> 16) * (int16_t)x + (pairs >> 16) * (x >> 16);
#endif
}

/* block: put */
/* y[i] = requantised(sum[i] + bias[first + i]) for n of the lanes */
static INLINE void put(lanes sum, const int32_t *bias, const scale *s, int first, int n, int8_t *y, range r) {
#if defined(V) && SHIFTS < 2
    doubled v = (doubled)(bias ? sum + load(bias + first) : sum);
    doubled m = (doubled)(s->channels == 1 ? (lanes)V(set1_epi32)(s->m[0]) : load(s->m + first));
    if (s->n && s->channels == 1) {
        v = (doubled)V(slli_epi32)((vector)v, (unsigned)s->n[0]);
    } else if (s->n) {
        __m128i up = _mm_setzero_si128();
        __builtin_memcpy(&up, s->n + first, LANES);
        v = (doubled)V(sllv_epi32)((vector)v, V(cvtepi8_epi32)(up));
    }
    doubled even = (doubled)V(mul_epi32)((vector)v, (vector)m) + 0x80000000;
    doubled odd = (doubled)V(mul_epi32)((vector)(v >> 32), (vector)(m >> 32)) + 0x80000000;
    vector scaled = (vector)((lanes)(even >> 32 | (odd & 0xFFFFFFFF00000000)) + r.zero);
    __m128i codes = narrow(V(min_epi32)(V(max_epi32)(scaled, V(set1_epi32)(r.low)), V(set1_epi32)(r.high)));
    __builtin_memcpy(y, &codes, (unsigned)n);
#else
    for (int i = 0; i < n; i++) {
        int channel = s->channels == 1 ? 0 : first + i;
        y[i] = (int8_t)requantised(sum[i] + (bias ? bias[first + i] : 0), s->m[channel], s->n ? s->n[channel] : 0, r);
    }
#endif
}

/* block: quantise */
static INLINE void quantise(const int16_t *counts, int32_t anchor, int samples, const scale *s, int8_t *y, range r) {
    for (int i = 0; i < samples; i += LANES) {
        int n = samples - i < LANES ? samples - i : LANES;
        int32_t difference[LANES] = {0};
        for (int j = 0; j < n; j++) difference[j] = counts[i + j] - anchor;
        put(load(difference), 0, s, 0, n, y + i, r);
    }
}

/* block: requantise */
static INLINE void requantise(const int8_t *x, int is_unsigned, int zero, int count, const scale *s, int8_t *y, range r) {
    for (int i = 0; i < count; i += LANES) {
        int n = count - i < LANES ? count - i : LANES;
        int32_t value[LANES] = {0};
        for (int j = 0; j < n; j++) value[j] = code(x, i + j, is_unsigned) - zero;
        put(load(value), 0, s, 0, n, y + i, r);
    }
}

/* block: pair */
static INLINE int32_t pair(int32_t low, int32_t high) { return (int32_t)((uint32_t)(uint16_t)low | (uint32_t)high << 16); }

/* block: paired */
/* Rows of `depth` codes as pairs of columns, an odd one beside a zero */
static INLINE void paired(const int8_t *x, int x_row, int is_unsigned, int rows, int depth, int32_t *to) {
    for (int r = 0; r < rows; r++, x += x_row, to += (depth + 1) / 2) {
        for (int k = 0; k < depth / 2; k++) to[k] = pair(code(x, 2 * k, is_unsigned), code(x, 2 * k + 1, is_unsigned));
        if (depth & 1) to[depth / 2] = pair(code(x, depth - 1, is_unsigned), 0);
    }
}

/* block: some_rows */
/* y[row][output] of one to ROWS rows */
static INLINE void some_rows(const int32_t *pairs, const int32_t *x, int rows, int outputs, int depth, const int32_t *bias, const scale *s,
                             int8_t *y, int y_row, range r) {
    int deep = (depth + 1) / 2, wide = PADDED(outputs);
    for (int o = 0; o < outputs; o += VECTORS * LANES) {
        lanes sum[ROWS][VECTORS] = {{{0}}};
        for (int k = 0; k < deep; k++)
            for (int v = 0; v < VECTORS; v++) {
                lanes two = load(pairs + k * wide + o + v * LANES);
                for (int t = 0; t < rows; t++) sum[t][v] = plus_pair(sum[t][v], two, x[t * deep + k]);
            }
        for (int v = 0; v < VECTORS; v++) {
            int first = o + v * LANES, n = outputs - first < LANES ? outputs - first : LANES;
            for (int t = 0; t < rows && n > 0; t++) put(sum[t][v], bias, s, first, n, y + t * y_row + first, r);
        }
    }
}

/* block: multiply */
/* x: pairs of `rows` rows */
static INLINE void multiply(const int32_t *pairs, const int32_t *x, int rows, int outputs, int depth, const int32_t *bias, const scale *s,
                            int8_t *y, int y_row, range r) {
    int t = 0;
    for (; t + ROWS <= rows; t += ROWS) some_rows(pairs, x + t * ((depth + 1) / 2), ROWS, outputs, depth, bias, s, y + t * y_row, y_row, r);
    for (; t < rows; t++) some_rows(pairs, x + t * ((depth + 1) / 2), 1, outputs, depth, bias, s, y + t * y_row, y_row, r);
}

/* block: linear */
static INLINE void linear(const int32_t *pairs, const int32_t *bias, const scale *s, const int8_t *x, int is_unsigned, int rows,
                          int outputs, int depth, int32_t *scratch, int8_t *y, range r) {
    paired(x, depth, is_unsigned, rows, depth, scratch);
    multiply(pairs, scratch, rows, outputs, depth, bias, s, y, outputs, r);
}

/* block: add */
static INLINE void add(const int8_t *x, int x_unsigned, const int8_t *y, int y_unsigned, const int32_t *m1, const int32_t *m2,
                       const int32_t *c, const uint8_t *n, int rows, int channels, int8_t *z, range r) {
    for (int t = 0; t < rows; t++)
        for (int i = 0; i < channels; i++) {
            int at = t * channels + i;
            int32_t sum = m1[i] * code(x, at, x_unsigned) + m2[i] * code(y, at, y_unsigned) + c[i];
            z[at] = (int8_t)clamped(r.zero + (sum >> n[i]), r.low, r.high);
        }
}

/* block: scores */
/* scratch: the queries' pairs, then the keys', for every key a column */
static INLINE void scores(const int8_t *query, const int8_t *key, int heads, int queries, int keys, int width, const scale *s,
                          int32_t *scratch, int8_t *y, range r) {
    int deep = (width + 1) / 2, row = heads * width, wide = PADDED(keys);
    int32_t *pairs = scratch + queries * deep;
    for (int h = 0; h < heads; h++, query += width, key += width, y += queries * keys) {
        paired(query, row, 0, queries, width, scratch);
        for (int k = 0; k < deep; k++) {
            for (int i = 0; i < keys; i++)
                pairs[k * wide + i] = pair(key[i * row + 2 * k], 2 * k + 1 < width ? key[i * row + 2 * k + 1] : 0);
            for (int i = keys; i < wide; i++) pairs[k * wide + i] = 0;
        }
        multiply(pairs, scratch, queries, keys, width, 0, s, y, keys, r);
    }
}

/* block: softmax */
static INLINE void softmax(const int8_t *x, int rows, int keys, const uint8_t *table, uint32_t numerator, int k, int8_t *y, int high) {
    for (; rows > 0; rows--, x += keys, y += keys) {
        int8_t largest = x[0];
        for (int i = 1; i < keys; i++) largest = x[i] > largest ? x[i] : largest;
        uint32_t entries[keys], total = 0;
        for (int i = 0; i < keys; i++) entries[i] = table[largest - x[i]];
        for (int i = 0; i < keys; i++) total += entries[i];
        uint32_t reciprocal = numerator / total, half = (uint32_t)1 << (k - 1), top = (uint32_t)high;
        for (int i = 0; i < keys; i++) {
            uint32_t p = (entries[i] * reciprocal + half) >> k;
            y[i] = (int8_t)(uint8_t)(p > top ? top : p);
        }
    }
}

/* block: context */
/* scratch: the probabilities' pairs, then the values' */
static INLINE void context(const int8_t *p, const int8_t *value, int heads, int queries, int keys, int width, const scale *s,
                           int32_t *scratch, int8_t *y, range r) {
    int deep = (keys + 1) / 2, row = heads * width, wide = PADDED(width);
    int32_t *pairs = scratch + queries * deep;
    for (int h = 0; h < heads; h++, p += queries * keys, value += width, y += width) {
        paired(p, keys, 1, queries, keys, scratch);
        for (int k = 0; k < deep; k++) {
            const int8_t *even = value + 2 * k * row;
            for (int i = 0; i < width; i++) pairs[k * wide + i] = pair(even[i], 2 * k + 1 < keys ? even[row + i] : 0);
            for (int i = width; i < wide; i++) pairs[k * wide + i] = 0;
        }
        multiply(pairs, scratch, queries, width, keys, 0, s, y, row, r);
    }
}
