/* The operations for many windows on a computer: LANES at a time, one in each lane of a vector, so that nothing goes
   across lanes and no width is odd. A tensor is rows x pairs of columns: a vector has two 16-bit codes of every window,
   the even column's low; beside an odd last column lies a code that counts for nothing. Rounding is half up. */

#if defined(__SSE2__)
#include <immintrin.h>
#if defined(__AVX512BW__)
#define LANES 16
#define V(operation) _mm512_##operation
typedef __m512i vector;
#elif defined(__AVX2__)
#define LANES 8
#define V(operation) _mm256_##operation
typedef __m256i vector;
#else
#define LANES 4
#define V(operation) _mm_##operation
typedef __m128i vector;
#endif
#else
#define LANES 4
#endif
#define INLINE inline __attribute__((always_inline))
#define APART __attribute__((noinline)) /* not mixed with what comes before DOWN or after AS_BEFORE */
#define OUTPUTS 4 /* and ROWS, QUERIES: results at a time, as many as there are registers */
#define ROWS 2
#define QUERIES 4
#define TILE 16 /* samples whose windows are put side by side at a time */

typedef int32_t lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef int16_t halves __attribute__((vector_size(4 * LANES)));
typedef float floats __attribute__((vector_size(4 * LANES)));

typedef struct {
    int zero, low, high;
} range;

#if defined(V) /* the processor rounds down between these, see `code`, and as before afterwards */
#define DOWN unsigned before = _mm_getcsr(); _mm_setcsr((before & ~(unsigned)_MM_ROUND_MASK) | _MM_ROUND_DOWN)
#define AS_BEFORE _mm_setcsr(before)
#else
#define DOWN
#define AS_BEFORE
#endif
/* block: even odd joined */
static INLINE lanes even(lanes v) { return (lanes)((bits)v << 16) >> 16; }
static INLINE lanes odd(lanes v) { return v >> 16; }
static INLINE lanes joined(lanes low, lanes high) { return (lanes)(((bits)low & 0xFFFF) | (bits)high << 16); }

/* block: all same */
static INLINE lanes all(int32_t v) { return v - (lanes){0}; }
static INLINE floats same(float v) { return v - (floats){0}; }

/* block: smaller larger within */
#if defined(__SSE4_1__)
static INLINE lanes smaller(lanes a, lanes b) { return (lanes)V(min_epi32)((vector)a, (vector)b); }
static INLINE lanes larger(lanes a, lanes b) { return (lanes)V(max_epi32)((vector)a, (vector)b); }
#else
static INLINE lanes smaller(lanes a, lanes b) { return (a & (a < b)) | (b & ~(a < b)); }
static INLINE lanes larger(lanes a, lanes b) { return ~smaller(~a, ~b); }
#endif
static INLINE lanes within(lanes v, range r) { return smaller(larger(v, all(r.low)), all(r.high)); }

/* block: plus_products */
/* sum + even of x * even of y + the same of the odd columns */
static INLINE lanes plus_products(lanes sum, lanes x, lanes y) {
#if defined(V)
    return sum + (lanes)V(madd_epi16)((vector)x, (vector)y);
#else
    return sum + even(x) * even(y) + odd(x) * odd(y);
#endif
}

/* block: code codes */
/* clamp(zero + v * m rounded half up) - low. v has 24 bits beside its sign, m 16: a float cannot hold their product.
   But rounded down it stays on its side of the half that decides, and so does the sum; a double holds all of it. */
static INLINE lanes code(lanes v, floats m, range r) {
#if defined(V)
    floats half = (floats)V(set1_ps)((float)(r.zero - r.low) + 0.5F);
#if defined(__FMA__) || LANES == 16
    floats y = (floats)V(fmadd_ps)(V(cvtepi32_ps)((vector)v), m, half);
#else
    floats y = (floats)V(cvtepi32_ps)((vector)v) * m + half;
#endif
    return (lanes)V(cvttps_epi32)(V(min_ps)(V(max_ps)(y, V(setzero_ps)()), V(set1_ps)((float)(r.high - r.low))));
#else
    for (int i = 0; i < LANES; i++) {
        double y = v[i] * (double)m[i] + (r.zero - r.low + 0.5);
        v[i] = (int32_t)(y < 0 ? 0 : y > r.high - r.low ? r.high - r.low : y);
    }
    return v;
#endif
}

static INLINE lanes codes(lanes low, lanes high, floats m, floats n, range r) {
    halves both = (halves)(code(low, m, r) | code(high, n, r) << 16);
    return (lanes)(both + (int16_t)r.low);
}

/* block: quantise */
/* Of the channels from `first` on. anchors: what is subtracted, or INT32_MIN for the last count */
static APART void quantise(const int16_t *counts, int windows, int context, int channels, int first, int inputs,
                           const int32_t *anchors, const float *m, lanes *y, range r) {
    for (int c = first; c < first + inputs; c++, y += (c - first) % 2 ? 0 : 1)
        for (int t = 0; t < context; t += TILE) {
            int n = context - t < TILE ? context - t : TILE, wide = (inputs + 1) / 2;
            lanes tile[TILE];
            for (int w = 0; w < LANES; w++) { /* past the last window, that one again */
                const int16_t *from = counts + (w < windows ? w : windows - 1) * context * channels + c;
                int32_t anchor = anchors[c] == INT32_MIN ? from[(context - 1) * channels] : anchors[c];
                for (int i = 0; i < n; i++) tile[i][w] = from[(t + i) * channels] - anchor;
            }
            for (int i = 0; i < n; i++) {
                lanes *to = y + (t + i) * wide, one = codes(tile[i], tile[i], same(m[c]), same(m[c]), r);
                *to = (c - first) % 2 ? joined(*to, one) : one;
            }
        }
}

/* block: reshape */
/* Other pairs: where both numbers of columns are even, they are the same */
static APART void reshape(const lanes *x, int from, int rows, int columns, lanes *y) {
    int column = 0; /* of x */
    for (int t = 0; t < rows; t++)
        for (int c = 0; c < columns; c++) {
            lanes one = column % 2 ? odd(*x) : even(*x);
            y += c % 2 ? 0 : 1;
            y[-1] = c % 2 ? joined(y[-1], one) : one;
            column = column + 1 == from ? 0 : column + 1;
            x += column % 2 ? 0 : 1;
        }
}

/* block: requantise */
static APART void requantise(const lanes *x, int zero, int count, const float *m, lanes *y, range r) {
    for (int i = 0; i < count; i++) y[i] = codes(even(x[i]) - zero, odd(x[i]) - zero, same(*m), same(*m), r);
}

/* block: some_rows */
/* OUTPUTS columns of one or two rows, of which `pairs` are kept */
static INLINE void some_rows(const int32_t *w, const int32_t *bias, const float *m, const lanes *x, int rows, int deep,
                             int pairs, lanes *y, int wide, range r) {
    lanes sum[ROWS][OUTPUTS];
    for (int t = 0; t < rows; t++)
        for (int o = 0; o < OUTPUTS; o++) sum[t][o] = all(bias[o]);
    for (int k = 0; k < deep; k++, w += OUTPUTS)
        for (int o = 0; o < OUTPUTS; o++) {
            lanes weight = all(w[o]);
            for (int t = 0; t < rows; t++) sum[t][o] = plus_products(sum[t][o], x[t * deep + k], weight);
        }
    for (int p = 0; p < OUTPUTS / 2; p++)
        for (int t = 0; t < rows && p < pairs; t++)
            y[t * wide + p] = codes(sum[t][2 * p], sum[t][2 * p + 1], same(m[2 * p]), same(m[2 * p + 1]), r);
}

/* block: linear */
/* w: OUTPUTS side by side for every pair of columns, then the next OUTPUTS */
static APART void linear(const int32_t *w, const int32_t *bias, const float *m, const lanes *x, int rows, int deep,
                         int wide, lanes *y, range r) {
    for (int o = 0; o < wide; o += OUTPUTS / 2, w += OUTPUTS * deep, bias += OUTPUTS, m += OUTPUTS) {
        int t = 0;
        for (; t + ROWS <= rows; t += ROWS)
            some_rows(w, bias, m, x + t * deep, ROWS, deep, wide - o, y + t * wide + o, wide, r);
        if (t < rows) some_rows(w, bias, m, x + t * deep, 1, deep, wide - o, y + t * wide + o, wide, r);
    }
}

/* block: add */
static APART void add(const lanes *x, const lanes *y, const int32_t *m1, const int32_t *m2, const int32_t *c,
                      const uint8_t *n, int rows, int wide, lanes *z, range r) {
    for (int i = 0; i < wide; i++, m1 += 2, m2 += 2, c += 2, n += 2)
        for (int at = i; at < rows * wide; at += wide) {
            lanes low = ((even(x[at]) * m1[0] + even(y[at]) * m2[0] + c[0]) >> n[0]) + r.zero;
            lanes high = ((odd(x[at]) * m1[1] + odd(y[at]) * m2[1] + c[1]) >> n[1]) + r.zero;
            z[at] = joined(within(low, r), within(high, r));
        }
}

/* block: add_position */
/* position: pairs as those of a window */
static APART void add_position(const lanes *x, const int32_t *position, const int32_t *m1, const int32_t *m2,
                               const int32_t *c, const uint8_t *n, int rows, int wide, lanes *z, range r) {
    for (int i = 0; i < rows * wide; i++) z[i] = all(position[i]);
    add(x, z, m1, m2, c, n, rows, wide, z, r);
}

/* block: scores */
/* Of an odd number of keys the last comes twice. Where a head begins or ends within a pair, its neighbour becomes 0 */
static APART void scores(const lanes *query, const lanes *key, int heads, int queries, int keys, int width,
                         const float *m, lanes *y, range r) {
    int row = (heads * width + 1) / 2, wide = (keys + 1) / 2;
    for (int h = 0; h < heads; h++)
        for (int q = 0; q < queries; q++, y += wide)
            for (int k = 0; k < keys; k += OUTPUTS) {
                lanes sum[OUTPUTS] = {{0}};
                const lanes *other[OUTPUTS];
                for (int o = 0; o < OUTPUTS; o++) other[o] = key + (k + o < keys ? k + o : keys - 1) * row;
                for (int p = h * width / 2; 2 * p < (h + 1) * width; p++) {
                    lanes x = query[q * row + p];
                    if (2 * p < h * width) x = (lanes)((bits)x & 0xFFFF0000);
                    if (2 * p + 1 == (h + 1) * width) x = (lanes)((bits)x & 0xFFFF);
                    for (int o = 0; o < OUTPUTS; o++) sum[o] = plus_products(sum[o], x, other[o][p]);
                }
                for (int o = 0; o < OUTPUTS && k + o < keys; o += 2)
                    y[(k + o) / 2] = codes(sum[o], sum[o + 1], same(*m), same(*m), r);
            }
}

/* block: softmax */
static APART void softmax(const lanes *x, int rows, int keys, const uint8_t *table, uint32_t numerator, int k,
                          lanes *y, int high) {
    int wide = (keys + 1) / 2;
    float step = 1.0F / (float)((int32_t)1 << k);
    for (; rows > 0; rows--, x += wide, y += wide) {
        lanes largest = larger(even(x[0]), odd(x[0])), total = {0};
        for (int i = 1; i < wide; i++) largest = larger(largest, larger(even(x[i]), odd(x[i])));
        halves from = (halves)joined(largest, largest);
        for (int i = 0; i < wide; i++) {
            uint16_t at[2 * LANES];
            halves below = from - (halves)x[i];
            __builtin_memcpy(at, &below, sizeof at);
            for (int j = 0; j < 2 * LANES; j++) at[j] = table[at[j]];
            __builtin_memcpy(&y[i], at, sizeof at);
            if (2 * i + 1 == keys) y[i] = even(y[i]);
            total += even(y[i]) + odd(y[i]);
        }
        floats reciprocal;
        for (int i = 0; i < LANES; i++) reciprocal[i] = (float)(int32_t)(numerator / (double)total[i]) * step;
        for (int i = 0; i < wide; i++) y[i] = codes(even(y[i]), odd(y[i]), reciprocal, reciprocal, (range){0, 0, high});
    }
}

/* block: some_queries */
/* A pair of columns of up to QUERIES rows; p, s: probabilities of the even column's head and of the odd one's */
static INLINE void some_queries(const lanes *p, const lanes *s, const lanes *value, int rows, int keys, int row,
                                const float *m, lanes *y, range r) {
    lanes low[QUERIES] = {{0}}, high[QUERIES] = {{0}};
    int wide = (keys + 1) / 2;
    for (int k = 0; k < wide; k++) {
        lanes v = value[2 * k * row], u = 2 * k + 1 < keys ? value[(2 * k + 1) * row] : (lanes){0};
        lanes evens = joined(v, u), odds = joined(odd(v), odd(u));
        for (int q = 0; q < rows; q++) {
            low[q] = plus_products(low[q], p[q * wide + k], evens);
            high[q] = plus_products(high[q], s[q * wide + k], odds);
        }
    }
    for (int q = 0; q < rows; q++) y[q * row] = codes(low[q], high[q], same(*m), same(*m), r);
}

/* block: context */
static APART void context(const lanes *p, const lanes *value, int heads, int queries, int keys, int width,
                          const float *m, lanes *y, range r) {
    int row = (heads * width + 1) / 2, wide = (keys + 1) / 2, head = queries * wide;
    for (int c = 0; c < row; c++) {
        int other = 2 * c + 1 < heads * width ? (2 * c + 1) / width : heads - 1, q = 0;
        const lanes *low = p + 2 * c / width * head, *high = p + other * head;
        for (; q + QUERIES <= queries; q += QUERIES)
            some_queries(low + q * wide, high + q * wide, value + c, QUERIES, keys, row, m, y + q * row + c, r);
        for (; q < queries; q++)
            some_queries(low + q * wide, high + q * wide, value + c, 1, keys, row, m, y + q * row + c, r);
    }
}

/* block: pool */
static APART void pool(const lanes *x, int zero, int rows, int wide, const float *m, lanes *y, range r) {
    for (int i = 0; i < wide; i++) {
        lanes low = all(-rows * zero), high = low;
        for (int t = 0; t < rows; t++) low += even(x[t * wide + i]), high += odd(x[t * wide + i]);
        y[i] = codes(low, high, same(*m), same(*m), r);
    }
}

/* block: part */
/* `count` vectors, and `zeros` of real zeros after them */
static APART void part(const lanes *x, int count, int zeros, int zero, lanes *y) {
    while (count-- > 0) *y++ = *x++;
    while (zeros-- > 0) *y++ = joined(all(zero), all(zero));
}

/* block: output */
/* Codes of `targets` side by side; anchors, m, n: of each. stride, first: where the counts of a step go */
static APART void output(const lanes *x, int columns, int zero, int horizon, int targets, const int32_t *m,
                         const uint8_t *n, const int16_t *last, int window, const int32_t *channel,
                         const int32_t *anchors, int windows, int16_t *forecast, int stride) {
    for (int e = 0, column = 0; e < horizon * targets; e++) {
        int i = e % targets, half = column & 1;
        for (int w = 0; w < windows; w++) {
            int32_t two = (*x)[w], one = half ? two >> 16 : (int16_t)(two & 0xFFFF), from = anchors[i];
            if (from == INT32_MIN) from = last[w * window + channel[i]];
            int64_t count = (((int64_t)(one - zero) * m[i] + ((int64_t)1 << (n[i] - 1))) >> n[i]) + from;
            count = count < INT16_MIN ? INT16_MIN : count > INT16_MAX ? INT16_MAX : count;
            forecast[(w * horizon + e / targets) * stride + i] = (int16_t)count;
        }
        column = column + 1 == columns ? 0 : column + 1;
        x += column & 1 ? 0 : 1;
    }
}
