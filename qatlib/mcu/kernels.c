/* The operations of an integer forecaster: no floats, no allocation, no library. Values are tokens x channels, of an ELEMENT
   each: a byte, or more where that is faster. Rounding is half up, (x + 2^(n-1)) >> n with an arithmetic shift; results are clamped. */

typedef ELEMENT element;

typedef struct {
    int zero, low, high;
} range;

/* x * m * 2^-32, x shifted up by n bits before, where n is not null; a negative n is a shift down by -n in place of 32. */
typedef struct {
    const int32_t *m;
    const int8_t *n;
    int channels; /* 1, or one for every output */
} scale;

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline, unused)) /* for arguments that are constants in a call */
#define APART __attribute__((noinline))              /* for loops that need all registers for themselves, and are there once */
#else
#define INLINE inline
#define APART
#endif

/* block: clamped */
static inline int32_t clamped(int32_t v, int32_t low, int32_t high) {
#if defined(__riscv) /* without conditional moves: one branch for what is within the range, as most values are */
    if (__builtin_expect((uint32_t)v - (uint32_t)low > (uint32_t)(high - low), 0)) return v < low ? low : high;
    return v;
#else
    return v < low ? low : v > high ? high : v;
#endif
}

/* block: requantised */
/* clamp(zero + v scaled, rounded half up). SHIFTS: 0 where no scale has an n, 1 where none is negative, else 2. */
static INLINE int32_t requantised(int32_t v, int32_t m, int n, range r) {
#if SHIFTS > 1
    if (n < 0) {
        int64_t scaled = ((int64_t)v * m + ((int64_t)1 << (-n - 1))) >> -n;
        return scaled < -1024 ? r.low : scaled > 1024 ? r.high : clamped(r.zero + (int32_t)scaled, r.low, r.high);
    }
#endif
#if SHIFTS > 0
    v *= (int32_t)1 << n;
#endif
    (void)n;
    return clamped(r.zero + (int32_t)(((int64_t)v * m + 0x80000000LL) >> 32), r.low, r.high);
}

/* block: code */
/* A value of a tensor: signed, or unsigned where its lowest code is 0 or more. */
static inline int32_t code(const element *x, int i, int is_unsigned) { return is_unsigned ? (uint8_t)x[i] : x[i]; }

/* block: quantise */
static void quantise(const int16_t *counts, int32_t anchor, int samples, const scale *s, element *y, range r) {
    int32_t m = s->m[0], n = s->n ? s->n[0] : 0;
    for (int i = 0; i < samples; i++) y[i] = (element)requantised(counts[i] - anchor, m, n, r);
}

/* block: quantise_channel */
/* One of several channels: every stride-th count, to every y_stride-th value */
static void quantise_channel(const int16_t *counts, int stride, int32_t anchor, int samples, const scale *s, int channel, element *y,
                             int y_stride, range r) {
    int32_t m = s->m[channel], n = s->n ? s->n[channel] : 0;
    for (int i = 0; i < samples; i++) y[i * y_stride] = (element)requantised(counts[i * stride] - anchor, m, n, r);
}

/* block: requantise */
static void requantise(const element *x, int is_unsigned, int zero, int count, const scale *s, element *y, range r) {
    int32_t m = s->m[0], n = s->n ? s->n[0] : 0;
    for (int i = 0; i < count; i++) y[i] = (element)requantised(code(x, i, is_unsigned) - zero, m, n, r);
}

/* block: products */
/* sum[0..3] += w x, v x, w u, v u: the products of two rows of weights with two rows of values */
static INLINE void products(const element *w, const element *v, const element *x, const element *u, int depth, int is_unsigned,
                            int32_t *sum) {
    int32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
#define ONE(i)                                                            \
    do {                                                                  \
        int32_t s = code(x, i, is_unsigned), t = code(u, i, is_unsigned); \
        a += w[i] * s, b += v[i] * s, c += w[i] * t, d += v[i] * t;       \
    } while (0)
    for (const element *end = w + (depth & ~3); w != end; w += 4, v += 4, x += 4, u += 4) {
        ONE(0);
        ONE(1);
        ONE(2);
        ONE(3);
    }
    for (int i = 0; i < (depth & 3); i++) ONE(i);
#undef ONE
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

/* block: multiply_typed */
/* y[row][output] = requantised(sum over depth of w[output] x[row], + bias), two rows and two outputs at a time. Of an odd number of
   either, the last is its own neighbour. first: channel of the first output. */
static INLINE void multiply_typed(const element *w, int w_row, const element *x, int x_row, int is_unsigned, int rows, int outputs,
                                  int depth, const int32_t *bias, const scale *s, int first, element *y, int y_row, range r) {
    for (int o = 0; o < outputs; o += 2, w += 2 * w_row) {
        int next = o + 1 < outputs, channel = s->channels == 1 ? 0 : first + o, other = s->channels == 1 ? 0 : channel + next;
        int32_t b0 = bias ? bias[o] : 0, b1 = bias ? bias[o + next] : 0, m0 = s->m[channel], m1 = s->m[other];
        int n0 = s->n ? s->n[channel] : 0, n1 = s->n ? s->n[other] : 0;
        const element *at = x, *v = next ? w + w_row : w;
        element *to = y + o;
        for (int t = 0; t < rows; t += 2, at += 2 * x_row, to += 2 * y_row) {
            int below = t + 1 < rows, down = below ? y_row : 0;
            int32_t sum[4] = {b0, b1, b0, b1};
            const element *under = below ? at + x_row : at;
            products(w, v, at, under, depth, is_unsigned, sum);
            to[0] = (element)requantised(sum[0], m0, n0, r);
            to[next] = (element)requantised(sum[1], m1, n1, r);
            to[down] = (element)requantised(sum[2], m0, n0, r);
            to[down + next] = (element)requantised(sum[3], m1, n1, r);
        }
    }
}

/* block: multiply */
static void multiply(const element *w, int w_row, const element *x, int x_row, int is_unsigned, int rows, int outputs, int depth,
                     const int32_t *bias, const scale *s, int first, element *y, int y_row, range r) {
    if (is_unsigned)
        multiply_typed(w, w_row, x, x_row, 1, rows, outputs, depth, bias, s, first, y, y_row, r);
    else
        multiply_typed(w, w_row, x, x_row, 0, rows, outputs, depth, bias, s, first, y, y_row, r);
}

/* block: unpack */
/* `count` signed codes of `bits` bits each, lowest bits first, from the code number `first` on */
static void unpack(const uint8_t *packed, int bits, int first, int count, element *to) {
    int at = first * bits, up = 32 - bits;
    if (bits == 4 && !(first & 1)) {
        packed += first / 2;
        for (; count > 1; count -= 2, to += 2, packed++) {
            to[0] = (element)((int32_t)((uint32_t)*packed << 28) >> 28);
            to[1] = (element)((int8_t)*packed >> 4);
        }
        at = 0;
    } else if (bits == 2 && !(first & 3)) {
        packed += first / 4;
        for (; count > 3; count -= 4, to += 4, packed++)
            for (int i = 0; i < 4; i++) to[i] = (element)((int32_t)((uint32_t)*packed << (30 - 2 * i)) >> 30);
        at = 0;
    }
    for (; count > 0; count--, at += bits) {
        uint32_t v = (uint32_t)packed[at >> 3] >> (at & 7);
        if ((at & 7) + bits > 8) v |= (uint32_t)packed[(at >> 3) + 1] << (8 - (at & 7));
        *to++ = (element)((int32_t)(v << up) >> up);
    }
}

/* block: linear */
/* scratch: two rows of weights, where they are not as they are packed */
static void linear(const uint8_t *packed, int bits, const int32_t *bias, const scale *s, const element *x, int is_unsigned, int rows,
                   int outputs, int depth, element *scratch, element *y, range r) {
    if (bits == 8 && sizeof(element) == 1) {
        multiply((const element *)packed, depth, x, depth, is_unsigned, rows, outputs, depth, bias, s, 0, y, outputs, r);
        return;
    }
    for (int o = 0; o < outputs; o += 2) {
        int n = o + 1 < outputs ? 2 : 1;
        unpack(packed, bits, o * depth, n * depth, scratch);
        multiply(scratch, depth, x, depth, is_unsigned, rows, n, depth, bias + o, s, o, y + o, outputs, r);
    }
}

/* block: add */
static void add(const element *x, int x_unsigned, const element *y, int y_unsigned, const int32_t *m1, const int32_t *m2, const int32_t *c,
                const uint8_t *n, int rows, int channels, element *z, range r) {
    for (int i = 0; i < channels; i++) {
        int32_t a = m1[i], b = m2[i], shift = c[i], down = n[i];
        const element *p = x + i, *q = y + i;
        element *to = z + i;
        for (int t = rows; t > 0; t--, p += channels, q += channels, to += channels)
            *to = (element)clamped(r.zero + ((a * code(p, 0, x_unsigned) + b * code(q, 0, y_unsigned) + shift) >> down), r.low, r.high);
    }
}

/* block: scores */
static void scores(const element *query, const element *key, int heads, int queries, int keys, int width, const scale *s,
                   element *scratch, element *y, range r) {
    (void)scratch;
    for (int h = 0; h < heads; h++)
        multiply(key + h * width, heads * width, query + h * width, heads * width, 0, queries, keys, width, 0, s, 0,
                 y + h * queries * keys, keys, r);
}

/* block: softmax_of_row */
/* least: the code of a probability of 0 */
static INLINE void softmax_of_row(const element *x, int keys, const uint8_t *table, uint32_t numerator, int k, element *y, int high,
                                  int least) {
    int32_t largest = x[0];
    for (int i = 1; i < keys; i++) largest = x[i] > largest ? x[i] : largest;
    uint32_t total = 0;
    for (int i = 0; i < keys; i++) total += table[largest - x[i]];
    uint32_t reciprocal = numerator / total, half = (uint32_t)1 << (k - 1), top = (uint32_t)high;
    for (int i = 0; i < keys; i++) {
        uint32_t p = (table[largest - x[i]] * reciprocal + half) >> k;
        y[i] = (element)((int32_t)(p > top ? top : p) + least);
    }
}

/* block: softmax */
static void softmax(const element *x, int rows, int keys, const uint8_t *table, uint32_t numerator, int k, element *y, int high) {
    for (; rows > 0; rows--, x += keys, y += keys) softmax_of_row(x, keys, table, numerator, k, y, high, 0);
}

/* block: context */
/* scratch: the values of a head, transposed, width x keys */
static void context(const element *p, const element *values, int heads, int queries, int keys, int width, const scale *s,
                    element *scratch, element *y, range r) {
    for (int h = 0; h < heads; h++) {
        for (int d = 0; d < width; d++)
            for (int k = 0; k < keys; k++) scratch[d * keys + k] = values[(k * heads + h) * width + d];
        multiply(scratch, keys, p + h * queries * keys, keys, 1, queries, width, keys, 0, s, 0, y + h * width, heads * width, r);
    }
}

/* block: pool */
static void pool(const element *x, int is_unsigned, int zero, int tokens, int channels, const scale *s, element *y, range r) {
    int32_t m = s->m[0], n = s->n ? s->n[0] : 0;
    for (int c = 0; c < channels; c++) {
        int32_t sum = -tokens * zero;
        for (int t = 0; t < tokens; t++) sum += code(x, t * channels + c, is_unsigned);
        y[c] = (element)requantised(sum, m, n, r);
    }
}

/* block: part */
/* `count` values, and `zeros` real zeros after them */
static void part(const element *x, int count, int zeros, int zero, element *y) {
    while (count-- > 0) *y++ = *x++;
    while (zeros-- > 0) *y++ = (element)zero;
}

/* block: to_counts_of_channel */
/* One of several channels: every x_stride-th value, to every stride-th count */
static void to_counts_of_channel(const element *x, int x_stride, int is_unsigned, int zero, int32_t m, int n, int32_t anchor, int horizon,
                           int16_t *forecast, int stride) {
    for (int i = 0; i < horizon; i++) {
        int64_t change = ((int64_t)(code(x, i * x_stride, is_unsigned) - zero) * m + ((int64_t)1 << (n - 1))) >> n;
        int64_t count = change + anchor;
        forecast[i * stride] = (int16_t)(count < INT16_MIN ? INT16_MIN : count > INT16_MAX ? INT16_MAX : count);
    }
}

/* block: to_counts */
static void to_counts(const element *x, int is_unsigned, int zero, int32_t m, int n, int32_t anchor, int horizon, int16_t *forecast) {
    for (int i = 0; i < horizon; i++) {
        int64_t change = ((int64_t)(code(x, i, is_unsigned) - zero) * m + ((int64_t)1 << (n - 1))) >> n;
        int64_t count = change + anchor;
        forecast[i] = (int16_t)(count < INT16_MIN ? INT16_MIN : count > INT16_MAX ? INT16_MAX : count);
    }
}
