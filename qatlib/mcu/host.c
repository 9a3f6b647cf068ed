/* The operations that a computer with vector units does differently: the same results from weights that lie as 16-bit pairs of columns,
   pairs x outputs. Outputs are padded to 16, biases and multipliers too. All sizes are constants in a call. */

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define LANES 16
#define ROWS 4 /* of values at a time */
#define PADDED(n) (((n) + LANES - 1) / LANES * LANES)

typedef int32_t lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* sum + low half of x * low halves of pairs + the same of the high halves */
static INLINE lanes plus_pair(lanes sum, lanes pairs, int32_t x) {
#if defined(__AVX512BW__)
    return sum + (lanes)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi32(x));
#elif defined(__AVX2__)
    union {
        lanes all;
        __m256i half[2];
    } product = {pairs};
    for (int i = 0; i < 2; i++) product.half[i] = _mm256_madd_epi16(product.half[i], _mm256_set1_epi32(x));
    return sum + product.all;
#else
    return sum + ((pairs << 16) >> 16) * (int16_t)x + (pairs >> 16) * (x >> 16);
#endif
}

/* y[i] = requantised(sum[i] + bias[first + i]) for n of the lanes */
static INLINE void put(lanes sum, const int32_t *bias, const scale *s, int first, int n, int8_t *y, range r) {
#if defined(__AVX512BW__) && SHIFTS < 2
    __m512i v = (__m512i)sum, half = _mm512_set1_epi64(0x80000000LL);
    __m512i m = s->channels == 1 ? _mm512_set1_epi32(s->m[0]) : _mm512_loadu_si512(s->m + first);
    if (bias) v = _mm512_add_epi32(v, _mm512_loadu_si512(bias + first));
    if (s->n && s->channels == 1) v = _mm512_slli_epi32(v, (unsigned)s->n[0]);
    else if (s->n) v = _mm512_sllv_epi32(v, _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(s->n + first))));
    __m512i even = _mm512_add_epi64(_mm512_mul_epi32(v, m), half);
    __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(v, 32), _mm512_srli_epi64(m, 32)), half);
    v = _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
    v = _mm512_add_epi32(v, _mm512_set1_epi32(r.zero));
    v = _mm512_min_epi32(_mm512_max_epi32(v, _mm512_set1_epi32(r.low)), _mm512_set1_epi32(r.high));
    if (n == LANES)
        _mm_storeu_si128((__m128i *)y, _mm512_cvtepi32_epi8(v));
    else
        _mm512_mask_cvtepi32_storeu_epi8(y, (__mmask16)((1 << n) - 1), v);
#else
    int32_t total[LANES];
    __builtin_memcpy(total, &sum, sizeof total);
    for (int i = 0; i < n; i++) {
        int channel = s->channels == 1 ? 0 : first + i;
        y[i] = (int8_t)requantised(total[i] + (bias ? bias[first + i] : 0), s->m[channel], s->n ? s->n[channel] : 0, r);
    }
#endif
}

static INLINE void quantise(const int16_t *counts, int32_t anchor, int samples, const scale *s, int8_t *y, range r) {
    for (int i = 0; i < samples; i += LANES) {
        int n = samples - i < LANES ? samples - i : LANES;
        int32_t difference[LANES] = {0};
        for (int j = 0; j < n; j++) difference[j] = counts[i + j] - anchor;
        put(*(const lanes *)difference, 0, s, 0, n, y + i, r);
    }
}

static INLINE void requantise(const int8_t *x, int is_unsigned, int zero, int count, const scale *s, int8_t *y, range r) {
    for (int i = 0; i < count; i += LANES) {
        int n = count - i < LANES ? count - i : LANES;
        int32_t value[LANES] = {0};
        for (int j = 0; j < n; j++) value[j] = code(x, i + j, is_unsigned) - zero;
        put(*(const lanes *)value, 0, s, 0, n, y + i, r);
    }
}

static INLINE int32_t pair(int32_t low, int32_t high) { return (int32_t)((uint32_t)(uint16_t)low | (uint32_t)high << 16); }

/* Rows of `depth` codes as pairs of columns, an odd one beside a zero */
static INLINE void paired(const int8_t *x, int x_row, int is_unsigned, int rows, int depth, int32_t *to) {
    for (int r = 0; r < rows; r++, x += x_row, to += (depth + 1) / 2) {
        for (int k = 0; k < depth / 2; k++) to[k] = pair(code(x, 2 * k, is_unsigned), code(x, 2 * k + 1, is_unsigned));
        if (depth & 1) to[depth / 2] = pair(code(x, depth - 1, is_unsigned), 0);
    }
}

static INLINE void some_rows(const int32_t *pairs, const int32_t *x, int rows, int outputs, int depth, const int32_t *bias, const scale *s,
                             int8_t *y, int y_row, range r) {
    int deep = (depth + 1) / 2, wide = PADDED(outputs);
    for (int o = 0; o < outputs; o += LANES) {
        int n = outputs - o < LANES ? outputs - o : LANES;
        lanes sum[ROWS] = {{0}};
        for (int k = 0; k < deep; k++) {
            lanes two = *(const lanes *)(pairs + k * wide + o);
            for (int t = 0; t < rows; t++) sum[t] = plus_pair(sum[t], two, x[t * deep + k]);
        }
        for (int t = 0; t < rows; t++) put(sum[t], bias, s, o, n, y + t * y_row + o, r);
    }
}

/* x: pairs of `rows` rows */
static INLINE void multiply(const int32_t *pairs, const int32_t *x, int rows, int outputs, int depth, const int32_t *bias, const scale *s,
                            int8_t *y, int y_row, range r) {
    int t = 0;
    for (; t + ROWS <= rows; t += ROWS) some_rows(pairs, x + t * ((depth + 1) / 2), ROWS, outputs, depth, bias, s, y + t * y_row, y_row, r);
    for (; t < rows; t++) some_rows(pairs, x + t * ((depth + 1) / 2), 1, outputs, depth, bias, s, y + t * y_row, y_row, r);
}

static INLINE void linear(const int32_t *pairs, const int32_t *bias, const scale *s, const int8_t *x, int is_unsigned, int rows,
                          int outputs, int depth, int32_t *scratch, int8_t *y, range r) {
    paired(x, depth, is_unsigned, rows, depth, scratch);
    multiply(pairs, scratch, rows, outputs, depth, bias, s, y, outputs, r);
}

static INLINE void add(const int8_t *x, int x_unsigned, const int8_t *y, int y_unsigned, const int32_t *m1, const int32_t *m2,
                       const int32_t *c, const uint8_t *n, int rows, int channels, int8_t *z, range r) {
    for (int t = 0; t < rows; t++)
        for (int i = 0; i < channels; i++) {
            int at = t * channels + i;
            int32_t sum = m1[i] * code(x, at, x_unsigned) + m2[i] * code(y, at, y_unsigned) + c[i];
            z[at] = (int8_t)clamped(r.zero + (sum >> n[i]), r.low, r.high);
        }
}

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
