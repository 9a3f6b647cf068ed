/* The products of a core with Arm's DSP extension (Cortex-M4, M7, M33): values and weights as pairs of 16 bits, two products an
   instruction. Where it is proven at export that the sums of a row stay within APART bits, a weight's 16 bits hold those of two outputs,
   a + b * 2^APART, and an instruction makes four. A result is acc * m >> 32, m shifted up for it, and fits 16 bits before it is clamped.
   To be compiled with optimisation, for the assembly takes every register. */

#define APART_BY 11
#define UNROLLED 8 /* columns at a time */
#define PADDED(n) (((n) + UNROLLED - 1) / UNROLLED * UNROLLED)

/* block: tile */
/* Two words of weights for each pair of columns, by pairs of rows. Its members lie as the assembly below loads them. */
typedef struct {
    const int32_t *w;
    const element *x;
    int x_row;  /* bytes */
    int groups; /* of UNROLLED columns */
    int32_t start[2], m[4], zero;
    element *y;
    int y_row;      /* bytes */
    int pairs;      /* of rows */
    int32_t lowest; /* twice, in 16 bits */
} tile;
typedef void tiles(tile *t); /* one for each kind of results, made at export */

/* count: 11 instructions for four columns, which are 16 products, or 32 where a word holds two outputs; 2 for eight columns.
   r0, r1, r2: w, x, u, the row below; r4 to r7: weights; r8 to r11: sums of both words for x, then for u; lr: groups */
#define FOUR_COLUMNS                                                                                       \
    "ldm r0!, {r4, r5, r6, r7}\n ldm r1!, {r3, r12}\n"                                                     \
    "smlad r8, r4, r3, r8\n smlad r9, r5, r3, r9\n smlad r8, r6, r12, r8\n smlad r9, r7, r12, r9\n"        \
    "ldm r2!, {r3, r12}\n"                                                                                 \
    "smlad r10, r4, r3, r10\n smlad r11, r5, r3, r11\n smlad r10, r6, r12, r10\n smlad r11, r7, r12, r11\n"
#define SUMS                                                                                                                    \
    "push {r0}\n 0: ldr r3, [sp]\n ldrd r8, r9, [r3, #16]\n ldm r3, {r0, r1, r2, lr}\n mov r10, r8\n mov r11, r9\n"             \
    "add r12, r1, r2, lsl #1\n str r12, [r3, #4]\n add r2, r1\n 1: " FOUR_COLUMNS FOUR_COLUMNS "subs lr, #1\n bne 1b\n"         \
    "ldr r0, [sp]\n add r1, r0, #24\n ldm r1, {r2, r3, r4, r5, r6, r7, r12}\n" /* m, zero, y, y_row */
#define NEXT "add r7, r7, r12, lsl #1\n str r7, [r0, #44]\n ldr r1, [r0, #52]\n subs r1, #1\n str r1, [r0, #52]\n bne 0b\n add sp, #4\n"
/* Both words of a pair of columns are outputs next to each other. */
#define ONE_EACH(CLAMP)                                                                                                          \
    SUMS "smmlar r8, r8, r2, r6\n smmlar r9, r9, r3, r6\n smmlar r10, r10, r2, r6\n smmlar r11, r11, r3, r6\n"                   \
         "pkhbt r8, r8, r9, lsl #16\n pkhbt r10, r10, r11, lsl #16\n" CLAMP(r8) CLAMP(r10) "str r8, [r7]\n str r10, [r7, r12]\n" NEXT
/* A word is two outputs: the low one is taken out with its sign. */
#define SPLIT(CLAMP, word, m0, m1)                                                                                               \
    "sbfx lr, " #word ", #0, #11\n sub " #word ", " #word ", lr\n asr " #word ", " #word ", #11\n smmlar lr, lr, " #m0 ", r6\n"  \
    "smmlar " #word ", " #word ", " #m1 ", r6\n pkhbt " #word ", lr, " #word ", lsl #16\n" CLAMP(word)
#define TWO_EACH(CLAMP)                                                                                                          \
    SUMS SPLIT(CLAMP, r8, r2, r3) SPLIT(CLAMP, r9, r4, r5) SPLIT(CLAMP, r10, r2, r3) SPLIT(CLAMP, r11, r4, r5)                   \
        "str r8, [r7]\n str r9, [r7, #4]\n add r1, r7, r12\n str r10, [r1]\n str r11, [r1, #4]\n" NEXT
#define RUN(CODE)                                                                                                                \
    register tile *first __asm__("r0") = t;                                                                                      \
    __asm__ volatile(CODE : "+r"(first) : : "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr",     \
                     "cc", "memory")
#define SIGNED(bits, word) "ssat16 " #word ", #" #bits ", " #word "\n"
#define UNSIGNED(bits, word) "usat16 " #word ", #" #bits ", " #word "\n"
/* within +-127: -128 is not among the codes */
#define NARROW(word) SIGNED(8, word) "ldr r1, [r0, #56]\n ssub16 lr, " #word ", r1\n sel " #word ", " #word ", r1\n"
#define SIGNED_2(word) SIGNED(2, word)
#define UNSIGNED_2(word) UNSIGNED(2, word)
#define SIGNED_3(word) SIGNED(3, word)
#define UNSIGNED_3(word) UNSIGNED(3, word)
#define SIGNED_4(word) SIGNED(4, word)
#define UNSIGNED_4(word) UNSIGNED(4, word)
#define SIGNED_5(word) SIGNED(5, word)
#define UNSIGNED_5(word) UNSIGNED(5, word)
#define SIGNED_6(word) SIGNED(6, word)
#define UNSIGNED_6(word) UNSIGNED(6, word)
#define SIGNED_7(word) SIGNED(7, word)
#define UNSIGNED_7(word) UNSIGNED(7, word)
#define SIGNED_8(word) SIGNED(8, word)
#define UNSIGNED_8(word) UNSIGNED(8, word)

/* block: spread_fields */
static INLINE void spread_fields(const uint32_t *packed, int each, int bits, int depth, int up, int32_t *to) {
    uint32_t mask = ((1u << bits) - 1) * 0x10001u, offset = (1u << (bits - 1)) * 0x10001u, both = offset + (offset << APART_BY);
    for (int k = 0; k < depth; k += 32 / bits, packed += 2 * each)
        for (int f = 0; f < 16 / bits; f++)
            for (int p = 0; p < 2; p++) {
                uint32_t v = packed[p * each] >> (f * bits) & mask;
                if (each == 2) v += (packed[p * each + 1] >> (f * bits) & mask) << APART_BY;
                *to++ = __ssub16((int32_t)(v << up), (int32_t)((each == 2 ? both : offset) << up));
            }
}

/* block: spread_bytes */
static INLINE void spread_bytes(const uint32_t *packed, int depth, int32_t *to) {
    for (int k = 0; k < depth; k += 4, packed += 2, to += 4) {
        uint32_t v = packed[0] ^ 0x80808080u, w = packed[1] ^ 0x80808080u; /* bytes with their sign */
        to[0] = __sxtb16(v), to[1] = __sxtb16(w), to[2] = __sxtb16(__ror(v, 8)), to[3] = __sxtb16(__ror(w, 8));
    }
}

/* block: spread */
/* Weights of a tile as words of two columns: for each of its words `each` outputs, their columns in fields of `bits` bits, even ones in
   the low half, odd ones in the high half; shifted up */
static APART void spread(const uint32_t *packed, int each, int bits, int depth, int up, int32_t *to) {
    int done = (depth + 32 / bits - 1) / (32 / bits) * (32 / bits);
    if (bits == 8 && up == 0)
        spread_bytes(packed, depth, to);
    else if (bits == 8)
        spread_fields(packed, 1, 8, depth, up, to);
    else if (bits == 4 && each == 1)
        spread_fields(packed, 1, 4, depth, up, to);
    else if (bits == 4)
        spread_fields(packed, 2, 4, depth, up, to);
    else if (each == 1)
        spread_fields(packed, 1, 2, depth, up, to);
    else
        spread_fields(packed, 2, 2, depth, up, to);
    for (int k = done; k < PADDED(depth); k++) to[k] = 0;
}

/* block: carry_out_apart */
/* Of two rows at a time, with results that do not all belong to y */
static APART void carry_out_apart(tiles *run, tile *t, const element *x, int rows, int outputs, element *y) {
    element some[2][4];
    int x_row = t->x_row, y_row = t->y_row;
    for (; rows > 0; rows -= 2, x += x_row, y += y_row) { /* 2 * x_row bytes */
        t->x_row = rows > 1 ? x_row : 0, t->y_row = sizeof some[0], t->x = x, t->y = some[0], t->pairs = 1;
        run(t);
        for (int i = 0; i < outputs; i++) {
            y[i] = some[0][i];
            if (rows > 1) y[y_row / (int)sizeof(element) + i] = some[1][i];
        }
        t->x_row = x_row, t->y_row = y_row;
    }
}

/* block: carry_out */
/* A tile, for all rows of x, to y; of an odd number of them the last is its own neighbour. outputs: as many as it has, or fewer. */
static INLINE void carry_out(tiles *run, tile *t, int each, const element *x, int rows, int outputs, element *y) {
    t->x = x, t->y = y, t->pairs = outputs == 2 * each ? rows >> 1 : 0;
    int done = 2 * t->pairs;
    if (done) run(t);
    if (done != rows) carry_out_apart(run, t, t->x, rows - done, outputs, t->y);
}

/* block: lowest_of */
static INLINE int32_t lowest_of(range r) { return (int32_t)((uint32_t)(uint16_t)r.low * 0x10001u); }

/* block: linear_by_tiles */
/* packed: of each tile its columns in fields; start: of each word; scratch: words of a tile, and behind them the rows where an odd number
   of columns lets every other one begin within a word */
static APART void linear_by_tiles(tiles *run, int each, const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m,
                            const element *x, int rows, int outputs, int depth, int32_t *scratch, element *y, range r) {
    int x_row = depth, wide = 2 * each, words = wide * ((depth * bits + 31) / 32);
    if (depth & 1) {
        element *even = (element *)(scratch + PADDED(depth) + 32);
        for (int t = 0; t < rows; t++)
            for (int k = 0; k < depth; k++) even[t * (depth + 1) + k] = x[t * depth + k];
        x = even, x_row++;
    }
    tile t = {scratch, 0, 2 * x_row, PADDED(depth) / UNROLLED, {0}, {0}, r.zero, 0, 2 * outputs, 0, lowest_of(r)};
    for (int o = 0; o < outputs; o += wide, packed += words, start += 2, m += wide) {
        t.start[0] = start[0], t.start[1] = start[1];
        t.m[0] = m[0], t.m[1] = m[1], t.m[2] = m[wide - 2], t.m[3] = m[wide - 1];
        spread(packed, each, bits, depth, up, scratch);
        carry_out(run, &t, each, x, rows, outputs - o < wide ? outputs - o : wide, y + o);
    }
}

/* block: narrowed */
static INLINE element narrowed(int32_t v, int32_t m, range r) {
    int32_t y;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(y) : "r"(v), "r"(m), "r"(r.zero));
    return (element)clamped(y, r.low, r.high);
}

/* block: row_fields */
/* Four outputs of one row, straight from fields. They are stored with `offset` added, which the sum of the row takes back. */
static INLINE void row_fields(const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m, const element *x, int depth,
                              element *y, range r) {
    uint32_t mask = ((1u << bits) - 1) * 0x10001u, offset = 1u << (bits - 1);
    int32_t sum[4] = {0}, total = 0;
    for (int k = 0; k < depth; k += 32 / bits, packed += 4)
        for (int f = 0; f < 16 / bits; f++, x += 2) {
            int32_t pair;
            __builtin_memcpy(&pair, x, 4);
            total = __smlad(pair, 0x10001, total);
            for (int i = 0; i < 4; i++) sum[i] = __smlad((int32_t)(packed[i] >> (f * bits) & mask), pair, sum[i]);
        }
    for (int i = 0; i < 4; i++)
        y[i] = narrowed((int32_t)(((uint32_t)sum[i] - offset * (uint32_t)total) << up) + start[i], m[i], r);
}

/* block: row_by_tiles */
/* As linear_by_tiles, of one row, for which nothing is spread; packed: four outputs at a time */
static APART void row_by_tiles(const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m, const element *x,
                               int outputs, int depth, element *y, range r) {
    for (int o = 0; o < outputs; o += 4, start += 4, m += 4, packed += 4 * ((depth * bits + 31) / 32)) {
        element some[4], *to = outputs - o < 4 ? some : y + o;
        if (bits == 4)
            row_fields(packed, 4, up, start, m, x, depth, to, r);
        else
            row_fields(packed, 2, up, start, m, x, depth, to, r);
        for (int i = o; i < outputs && to == some; i++) y[i] = some[i - o];
    }
}

/* block: row_of_bytes */
/* The same of 8 bits. A half of a word is a column of two outputs, a + b * 2^8: its product is that of both together, which that of
   the low byte leaves b's from. */
static APART void row_of_bytes(const uint32_t *packed, int up, const int32_t *start, const int32_t *m, const element *x, int outputs,
                               int depth, element *y, range r) {
    for (int o = 0; o < outputs; o += 4, start += 4, m += 4) {
        int32_t both[2] = {0}, low[2] = {0};
        const element *at = x;
        for (int k = 0; k < depth; k += 4, at += 4, packed += 4) {
            int32_t pair[2];
            __builtin_memcpy(pair, at, 8);
            for (int i = 0; i < 4; i++) {
                both[i & 1] = __smlad((int32_t)packed[i], pair[i >> 1], both[i & 1]);
                low[i & 1] = __smlad(__sxtb16(packed[i]), pair[i >> 1], low[i & 1]);
            }
        }
        for (int i = 0; i < 4 && o + i < outputs; i++) {
            int32_t a = low[i >> 1], b = (int32_t)((uint32_t)both[i >> 1] - (uint32_t)a) >> 8;
            y[o + i] = narrowed((int32_t)((uint32_t)(i & 1 ? b : a) << up) + start[i], m[i], r);
        }
    }
}

/* block: gather_each */
static INLINE void gather_each(const element *x, int apart, int next, int outputs, int depth, int each, int up, int32_t *to) {
    for (int o = 0; o < outputs; o += 2 * each, x += 2 * each * apart, to += PADDED(depth))
        for (int p = 0; p < 2; p++) {
            const element *at = x + p * each * apart;
            int there = outputs - o - p * each; /* outputs of the word */
            for (int k = 0; k < PADDED(depth); k += 2, at += 2 * next) {
                uint32_t low = 0, high = 0;
                if (k < depth && there > 0) low = (uint32_t)at[0];
                if (k + 1 < depth && there > 0) high = (uint32_t)at[next];
                if (each == 2 && k < depth && there > 1) low += (uint32_t)at[apart] << APART_BY;
                if (each == 2 && k + 1 < depth && there > 1) high += (uint32_t)at[apart + next] << APART_BY;
                to[k + p] = (int32_t)((low << up & 0xFFFF) | high << up << 16);
            }
        }
}

/* block: gather */
/* x[output * apart + column * next] as words of tiles */
static APART void gather(const element *x, int apart, int next, int outputs, int depth, int each, int up, int32_t *to) {
    if (each == 1)
        gather_each(x, apart, next, outputs, depth, 1, up, to);
    else
        gather_each(x, apart, next, outputs, depth, 2, up, to);
}

/* block: attention */
/* Head by head and two queries at a time. scratch: keys and values as words of tiles, then two rows of scores. */
typedef struct {
    tiles *run;
    int each, up;
    int32_t m;
} product;

static void products_of(const product *by, const int32_t *w, const element *x, int x_row, int rows, int depth, int outputs, element *y,
                        int y_row, int padded, range r) {
    int wide = 2 * by->each;
    tile t = {w, 0, 2 * x_row, PADDED(depth) / UNROLLED, {0}, {by->m, by->m, by->m, by->m}, r.zero, 0, 2 * y_row, 0, lowest_of(r)};
    for (int o = 0; o < outputs; o += wide, t.w += PADDED(depth))
        carry_out(by->run, &t, by->each, x, rows, padded || outputs - o > wide ? wide : outputs - o, y + o);
}

static APART void attention(const element *query, const element *key, const element *values, int heads, int queries, int keys, int width,
                      const product *by_keys, range scores_in, const uint8_t *table, uint32_t numerator, int k, int high,
                      const product *by_values, int32_t *scratch, element *y, range r) {
    int row = heads * width, long_row = PADDED(keys);
    int32_t *v = scratch + (keys + 3) / 2 * PADDED(width);
    element *p = (element *)(v + (width + 3) / 2 * long_row);
    for (int h = 0; h < heads; h++, query += width, key += width, values += width, y += width) {
        gather(key, row, 1, keys, width, by_keys->each, by_keys->up, scratch);
        gather(values, 1, row, width, keys, by_values->each, by_values->up, v);
        for (int t = 0; t < queries; t += 2) {
            int rows = queries - t < 2 ? 1 : 2;
            products_of(by_keys, scratch, query + t * row, row, rows, width, keys, p, long_row, 1, scores_in);
            for (int i = 0; i < rows; i++) softmax(p + i * long_row, 1, keys, table, numerator, k, p + i * long_row, high);
            products_of(by_values, v, p, long_row, rows, keys, width, y + t * row, row, 0, r);
        }
    }
}

/* block: clamped_two */
/* Two results of 16 bits within a range: what saturates at the end of 16 bits comes back as the end of the range. */
static INLINE int32_t clamped_two(int32_t v, range r) {
    int32_t ceiling = (INT16_MAX - r.high) * 0x10001, floor = (int32_t)((uint32_t)(uint16_t)(INT16_MIN - r.low) * 0x10001u);
    return __qsub16(__qadd16(__qsub16(__qadd16(v, ceiling), ceiling), floor), floor);
}

/* block: put_two */
/* Two results, each in the high half of a word */
static INLINE void put_two(int32_t low, int32_t high, element *y, range r) {
    int32_t two = clamped_two((int32_t)((uint32_t)low >> 16 | ((uint32_t)high & 0xFFFF0000u)), r);
    __builtin_memcpy(y, &two, 4);
}

/* block: quantise_by_two */
static void quantise_by_two(const int16_t *counts, int32_t anchor, int samples, int32_t m, element *y, range r) {
    for (int i = 0; i < samples; i++) {
        int32_t a, b;
        __asm__("smmlar %0, %1, %2, %3" : "=r"(a) : "r"(counts[i] - anchor), "r"(m), "r"(r.zero));
        if (i + 1 == samples) {
            y[i] = (element)clamped(a, r.low, r.high);
            return;
        }
        __asm__("smmlar %0, %1, %2, %3" : "=r"(b) : "r"(counts[++i] - anchor), "r"(m), "r"(r.zero));
        put_two((int32_t)((uint32_t)a << 16), (int32_t)((uint32_t)b << 16), y + i - 1, r);
    }
}

/* block: requantise_by_two */
/* (v * m >> 16) + 2^15 in the high half of a word is v * m >> 32, rounded. An odd last value has a neighbour behind it that is read. */
static void requantise_by_two(const element *x, int zero, int count, int32_t m, element *y, range r) {
    int32_t zeros = (int32_t)((uint32_t)(uint16_t)zero * 0x10001u), half = (int32_t)((uint32_t)r.zero << 16) + 0x8000;
    for (int i = 0; i < count; i += 2) {
        int32_t two;
        __builtin_memcpy(&two, x + i, 4);
        two = __ssub16(two, zeros);
        int32_t low = __smlawb(m, two, half), high = __smlawt(m, two, half);
        if (i + 1 == count)
            y[i] = (element)clamped(low >> 16, r.low, r.high);
        else
            put_two(low, high, y + i, r);
    }
}
