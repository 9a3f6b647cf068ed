/* The products of an RV32IM core, which multiplies 32 bits and has 31 registers: two outputs in a word, w0 + w1 * 2^16, so that one
   multiplication makes two products. Where the sums of a whole row are within 16 bits, which is proven at export, they stay so to its
   end; else two columns are summed, or one, and both parts taken out. A result is acc * m >> 33, m shifted up for it. */

#define UNROLLED 4 /* columns at a time */
#define PADDED(n) (((n) + UNROLLED - 1) / UNROLLED * UNROLLED)

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* block: narrowed */
static INLINE element narrowed(int32_t v, int32_t m, range r) {
    return (element)clamped(((int32_t)(((int64_t)v * m) >> 32) + 1 + 2 * r.zero) >> 1, r.low, r.high);
}

/* block: sums */
/* Of a tile: for two rows words of two outputs */
typedef struct {
    int32_t both[2][8];
} sums;

/* block: all_columns */
/* The sums of all columns of `words` words. A compiler loads more at a time than there are registers, hence by hand: t0 is a word,
   t1 and t2 a column of x and of u, the sums are pairs of registers, for each word one of x and one of u.
   count: 42 instructions for the 32 products of a column of eight words; one for each column's, 3 for four columns' addresses */
#if defined(__riscv)
#define START(p, a, b) "lw " #a ", 4*" #p "(%[start])\n mv " #b ", " #a "\n"
#define STORE(p, a, b) "sw " #a ", 4*" #p "(%[to])\n sw " #b ", 32+4*" #p "(%[to])\n"
#define WORD(p, a, b) "lw t0, 4*" #p "(%[w])\n mul t3, t0, t1\n add " #a ", " #a ", t3\n mul t0, t0, t2\n add " #b ", " #b ", t0\n"
#define OF_4(DO) DO(0, s2, s3) DO(1, s4, s5) DO(2, s6, s7) DO(3, s8, s9)
#define OF_8(DO) OF_4(DO) DO(4, s10, s11) DO(5, a6, a7) DO(6, t4, t5) DO(7, t6, ra)
#define COLUMN(load, k, words) \
    load " t1, " #k "(%[x])\n " load " t2, " #k "(%[u])\n" OF_##words(WORD) "addi %[w], %[w], 4*" #words "\n"
#define COLUMNS(load, words)                                                                                                      \
    __asm__ volatile(OF_##words(START) "1:\n" COLUMN(load, 0, words) COLUMN(load, 1, words) COLUMN(load, 2, words)                \
                         COLUMN(load, 3, words) "addi %[x], %[x], 4\n addi %[u], %[u], 4\n bne %[w], %[end], 1b\n" OF_##words(STORE) \
                     : [w] "+r"(w), [x] "+r"(x), [u] "+r"(u)                                                                      \
                     : [end] "r"(w + words * PADDED(depth)), [start] "r"(start), [to] "r"(to->both)                               \
                     : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",    \
                       "a6", "a7", "ra", "memory")
#endif
static INLINE void all_columns(const int32_t *w, int words, const element *x, const element *u, int is_unsigned, int depth,
                               const int32_t *start, sums *to) {
#if defined(__riscv)
    if (words == 8 && is_unsigned) COLUMNS("lbu", 8);
    if (words == 8 && !is_unsigned) COLUMNS("lb", 8);
    if (words == 4 && is_unsigned) COLUMNS("lbu", 4);
    if (words == 4 && !is_unsigned) COLUMNS("lb", 4);
#else /* the same, to be tried elsewhere */
    for (int p = 0; p < words; p++)
        for (int t = 0; t < 2; t++) {
            uint32_t sum = (uint32_t)start[p];
            for (int k = 0; k < PADDED(depth); k++) sum += (uint32_t)w[k * words + p] * (uint32_t)code(t ? u : x, k, is_unsigned);
            to->both[t][p] = (int32_t)sum;
        }
#endif
}

/* block: some_columns */
/* The same of two words, by two columns or by one, to which 2^15 is added so that the low half is never negative. start: then of the
   high halves. count: 36 instructions for the 16 products of two columns; 4 for four columns */
#if defined(__riscv)
#define OF_TWO(a, b, s, s1, sum, high)                                                                                     \
    "mul t6, " #a ", " #s "\n mul a7, " #b ", " #s1 "\n add t6, t6, %[half]\n add t6, t6, a7\n add %[" #sum "], %[" #sum   \
    "], t6\n srai t6, t6, 16\n add %[" #high "], %[" #high "], t6\n"
#define TWO_COLUMNS(k)                                                                                                      \
    "lw t0, 8*" #k "(%[w])\n lw t1, 8*" #k "+4(%[w])\n lw t2, 8*" #k "+8(%[w])\n lw t3, 8*" #k "+12(%[w])\n"                 \
    "lb t4, " #k "(%[x])\n lb t5, " #k "+1(%[x])\n" OF_TWO(t0, t2, t4, t5, a, e) OF_TWO(t1, t3, t4, t5, b, f)                \
    "lb t4, " #k "(%[u])\n lb t5, " #k "+1(%[u])\n" OF_TWO(t0, t2, t4, t5, c, g) OF_TWO(t1, t3, t4, t5, d, h)
#endif
static INLINE void some_columns(const int32_t *w, const element *x, const element *u, int is_unsigned, int depth, int columns,
                                const int32_t *start, const int32_t *m, element *y, element *z, range r) {
    uint32_t a = (uint32_t)start[0], b = (uint32_t)start[1], c = a, d = b; /* modulo 2^32: the high halves are known apart */
    int32_t e = start[2], f = start[3], g = e, h = f;
    const int32_t *end = w + 2 * PADDED(depth);
#if defined(__riscv)
    if (columns == 2 && !is_unsigned) {
        __asm__ volatile("1:\n" TWO_COLUMNS(0) TWO_COLUMNS(2) "addi %[w], %[w], 32\n addi %[x], %[x], 4\n addi %[u], %[u], 4\n"
                         "bne %[w], %[end], 1b\n"
                         : [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [d] "+r"(d), [e] "+r"(e), [f] "+r"(f), [g] "+r"(g), [h] "+r"(h),
                           [w] "+r"(w), [x] "+r"(x), [u] "+r"(u)
                         : [end] "r"(end), [half] "r"(0x8000)
                         : "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a7", "memory");
    }
#endif
#define ADDED(v, sum, high) (one = (v) + 0x8000, sum += (uint32_t)one, high += one >> 16)
    for (int32_t one; w != end; w += 4, x += 2, u += 2) {
        int32_t s = code(x, 0, is_unsigned), t = code(u, 0, is_unsigned), s1 = code(x, 1, is_unsigned), t1 = code(u, 1, is_unsigned);
        if (columns == 2) {
            ADDED(w[0] * s + w[2] * s1, a, e), ADDED(w[1] * s + w[3] * s1, b, f);
            ADDED(w[0] * t + w[2] * t1, c, g), ADDED(w[1] * t + w[3] * t1, d, h);
        } else {
            ADDED(w[0] * s, a, e), ADDED(w[1] * s, b, f), ADDED(w[0] * t, c, g), ADDED(w[1] * t, d, h);
            ADDED(w[2] * s1, a, e), ADDED(w[3] * s1, b, f), ADDED(w[2] * t1, c, g), ADDED(w[3] * t1, d, h);
        }
    }
#undef ADDED
    uint32_t low[4] = {a, b, c, d};
    int32_t up[4] = {e, f, g, h};
    UNROLL for (int i = 0; i < 4; i++) {
        element *to = (i < 2 ? y : z) + 2 * (i & 1);
        to[0] = narrowed((int32_t)(low[i] - ((uint32_t)up[i] << 16)), m[2 * (i & 1)], r), to[1] = narrowed(up[i], m[2 * (i & 1) + 1], r);
    }
}

/* block: rows_of_tiles */
/* `words` of two outputs each for all rows; of an odd number of them the last is its own neighbour. w: columns, padded, by words.
   columns: summed in a word, 0 for all. */
static INLINE void rows_of_tiles(const int32_t *w, int words, int is_unsigned, int columns, const element *x, int x_row, int rows,
                                 int depth, const int32_t *start, const int32_t *m, int outputs, element *y, int y_row, range r) {
    element some[2][16];
    for (; rows > 0; rows -= 2, x += 2 * x_row, y += 2 * y_row) {
        int below = rows > 1, whole = outputs == 2 * words;
        const element *u = below ? x + x_row : x;
        element *v = whole ? y : some[0], *z = whole && below ? y + y_row : some[1];
        __asm__("" : "+r"(v), "+r"(z)); /* addresses, chosen once */
        if (columns) {
            some_columns(w, x, u, is_unsigned, depth, columns, start, m, v, z, r);
        } else {
            sums of;
            all_columns(w, words, x, u, is_unsigned, depth, start, &of);
            for (int t = 0; t < 2; t++) {
                element *to = t ? z : v;
                UNROLL for (int p = 0; p < words; p++) {
                    int32_t both = of.both[t][p], low = (int16_t)both;
                    to[2 * p] = narrowed(low, m[2 * p], r), to[2 * p + 1] = narrowed((both - low) >> 16, m[2 * p + 1], r);
                }
            }
        }
        for (int i = 0; !whole && i < outputs; i++) {
            y[i] = some[0][i];
            if (below) y[y_row + i] = some[1][i];
        }
    }
}

/* block: tiles TILES */
/* y[row][output] of the outputs of one tile, for all rows: a function for each kind of tile, made at export */
typedef void tiles(const int32_t *w, const element *x, int x_row, int rows, int depth, const int32_t *start, const int32_t *m, int outputs,
                   element *y, int y_row, range r);
#define TILES(words, is_unsigned, columns)                                                                                    \
    (const int32_t *w, const element *x, int x_row, int rows, int depth, const int32_t *start, const int32_t *m, int outputs, \
     element *y, int y_row, range r) {                                                                                        \
        rows_of_tiles(w, words, is_unsigned, columns, x, x_row, rows, depth, start, m, outputs, y, y_row, r);                 \
    }

/* block: spread_fields */
static INLINE void spread_fields(const uint32_t *packed, int words, int bits, int depth, int up, int32_t *to) {
    uint32_t mask = ((1u << bits) - 1) * 0x10001u, offset = (1u << (bits - 1)) * 0x10001u;
    for (int k = 0; k < depth; k += 16 / bits, to += words * (16 / bits - 1))
        for (int p = 0; p < words; p++, to++) {
            uint32_t v = *packed++;
            for (int f = 0; f < 16 / bits; f++, v >>= bits) to[f * words] = (int32_t)(((v & mask) - offset) << up);
        }
}

/* block: spread */
/* Weights of a tile, fields of `bits` bits in both halves of a word, as words of two outputs, shifted up */
static APART void spread(const uint32_t *packed, int words, int bits, int depth, int up, int32_t *to) {
    if (bits == 8)
        spread_fields(packed, words, 8, depth, up, to);
    else if (bits == 4)
        spread_fields(packed, words, 4, depth, up, to);
    else
        spread_fields(packed, words, 2, depth, up, to);
    for (int k = (depth * bits + 15) / 16 * 16 / bits; k < PADDED(depth); k++)
        for (int p = 0; p < words; p++) to[k * words + p] = 0;
}

/* block: linear_by_tiles */
/* packed: of each tile its columns in fields of words; scratch: a tile's columns, in words */
static void linear_by_tiles(tiles *multiply_by, int words, const uint32_t *packed, int bits, int up, const int32_t *start,
                            const int32_t *m, const element *x, int rows, int outputs, int depth, int32_t *scratch, element *y, range r) {
    for (int o = 0; o < outputs; o += 2 * words, start += words < 4 ? 4 : words, m += 2 * words) {
        int n = outputs - o < 2 * words ? outputs - o : 2 * words;
        spread(packed, words, bits, depth, up, scratch);
        multiply_by(scratch, x, depth, rows, depth, start, m, n, y + o, outputs, r);
        packed += words * ((depth * bits + 15) / 16);
    }
}

/* block: row_fields */
/* A tile of one row, straight from fields. They are stored with `offset` added, which the sum of the row takes back. An output has its
   own sum where not all columns can be summed in a word: start is then one for each. */
static INLINE void row_fields(const uint32_t *packed, int words, int bits, int up, int columns, const int32_t *start, const int32_t *m,
                              const element *x, int is_unsigned, int depth, element *y, range r) {
    uint32_t half = (1u << bits) - 1, offset = 1u << (bits - 1), mask = half * 0x10001u, sum[4] = {0}, total = 0;
    for (int k = 0; k < depth; k += 16 / bits) {
        uint32_t v[4];
        for (int p = 0; p < words; p++) v[p] = *packed++;
        for (int f = 0; f < 16 / bits; f++) {
            uint32_t s = (uint32_t)code(x++, 0, is_unsigned);
            total += s;
            for (int p = 0; p < words; p++, v[p - 1] >>= bits) {
                if (columns == 0)
                    sum[p] += (v[p] & mask) * s;
                else
                    sum[2 * p] += (v[p] & half) * s, sum[2 * p + 1] += (v[p] >> 16 & half) * s;
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        uint32_t word = ((sum[i] - (columns ? offset : offset * 0x10001u) * total) << up) + (uint32_t)start[i];
        if (columns) {
            y[i] = narrowed((int32_t)word, m[i], r);
        } else {
            y[2 * i] = narrowed((int16_t)word, m[2 * i], r);
            y[2 * i + 1] = narrowed(((int32_t)word - (int16_t)word) >> 16, m[2 * i + 1], r);
        }
    }
}

/* block: row_by_tiles */
/* As linear_by_tiles, of one row, for which nothing is spread: a tile has eight outputs, or four with a sum for each */
static INLINE void row_by_tiles(int columns, const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m,
                                const element *x, int is_unsigned, int outputs, int depth, element *y, range r) {
    int words = columns ? 2 : 4;
    for (int o = 0; o < outputs; o += 2 * words, start += 4, m += 2 * words, packed += words * ((depth * bits + 15) / 16)) {
        element some[8], *to = outputs - o < 2 * words ? some : y + o;
        if (bits == 8)
            row_fields(packed, words, 8, up, columns, start, m, x, is_unsigned, depth, to, r);
        else if (bits == 4)
            row_fields(packed, words, 4, up, columns, start, m, x, is_unsigned, depth, to, r);
        else
            row_fields(packed, words, 2, up, columns, start, m, x, is_unsigned, depth, to, r);
        for (int i = o; i < outputs && to == some; i++) y[i] = some[i - o];
    }
}

/* block: row_of_all */
static APART void row_of_all(const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m, const element *x,
                             int is_unsigned, int outputs, int depth, element *y, range r) {
    row_by_tiles(0, packed, bits, up, start, m, x, is_unsigned, outputs, depth, y, r);
}

/* block: row_of_bytes */
/* The same of 8 bits: weights as bytes with their sign, of eight outputs side by side at every column */
static APART void row_of_bytes(const int8_t *w, int up, const int32_t *start, const int32_t *m, const element *x, int is_unsigned,
                               int outputs, int depth, element *y, range r) {
    for (int o = 0; o < outputs; o += 8, start += 8, m += 8) {
        int32_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
        for (const int8_t *end = w + 8 * depth, *at = (const int8_t *)x; w != end; w += 8) {
            int32_t s = code((const element *)at++, 0, is_unsigned);
            a += w[0] * s, b += w[1] * s, c += w[2] * s, d += w[3] * s, e += w[4] * s, f += w[5] * s, g += w[6] * s, h += w[7] * s;
        }
        int32_t sum[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8 && o + i < outputs; i++) y[o + i] = narrowed((int32_t)((uint32_t)sum[i] << up) + start[i], m[i], r);
    }
}

/* block: row_of_1 */
static APART void row_of_1(const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m, const element *x,
                           int is_unsigned, int outputs, int depth, element *y, range r) {
    row_by_tiles(1, packed, bits, up, start, m, x, is_unsigned, outputs, depth, y, r);
}

/* block: requantise_near */
/* As requantise, of results that are within 16 bits before they are clamped */
static void requantise_near(const element *x, int is_unsigned, int zero, int count, int up, int32_t m, element *y, range r) {
    for (const element *end = y + count; y != end; x++) *y++ = narrowed((code(x, 0, is_unsigned) - zero) * (1 << up), m, r);
}

/* block: gather */
/* x[output * apart + column * next] as words of tiles */
static void gather(const element *x, int apart, int next, int outputs, int depth, int words, int up, int32_t *to) {
    for (; outputs > 0; outputs -= 2 * words, x += 2 * words * apart)
        for (int k = 0; k < PADDED(depth); k++)
            for (int p = 0; p < words; p++) {
                uint32_t low = k < depth && 2 * p < outputs ? (uint32_t)x[2 * p * apart + k * next] : 0;
                uint32_t high = k < depth && 2 * p + 1 < outputs ? (uint32_t)x[(2 * p + 1) * apart + k * next] : 0;
                *to++ = (int32_t)((low + (high << 16)) << up);
            }
}

/* block: attention */
/* Head by head and four queries at a time. scratch: keys and values as words of tiles, then four rows of scores. */
typedef struct {
    tiles *multiply_by;
    int words, columns, up;
    int32_t m[16]; /* all the same */
} product;

static void products_of(const product *by, const int32_t *w, const element *x, int x_row, int rows, int depth, int outputs, element *y,
                        int y_row, range r) {
    int wide = 2 * by->words, added = by->columns ? -0x8000 * (PADDED(depth) / by->columns) : 0;
    int32_t start[8] = {added, added};
    for (int o = 0; o < outputs; o += wide, w += by->words * PADDED(depth))
        by->multiply_by(w, x, x_row, rows, depth, start, by->m, outputs - o < wide ? outputs - o : wide, y + o, y_row, r);
}

static void attention(const element *query, const element *key, const element *values, int heads, int queries, int keys, int width,
                      const product *by_keys, range scores_in, const uint8_t *table, uint32_t numerator, int k, int high,
                      const product *by_values, int32_t *scratch, element *y, range r) {
    int row = heads * width;
    int32_t *v = scratch + (keys + 15) / 16 * 8 * PADDED(width);
    element *p = (element *)(v + (width + 15) / 16 * 8 * PADDED(keys));
    for (int h = 0; h < heads; h++, query += width, key += width, values += width, y += width) {
        gather(key, row, 1, keys, width, by_keys->words, by_keys->up, scratch);
        gather(values, 1, row, width, keys, by_values->words, by_values->up, v);
        for (int t = 0; t < queries; t += 4) {
            int rows = queries - t < 4 ? queries - t : 4;
            products_of(by_keys, scratch, query + t * row, row, rows, width, keys, p, keys, scores_in);
            softmax(p, rows, keys, table, numerator, k, p, high);
            products_of(by_values, v, p, keys, rows, keys, width, y + t * row, row, r);
        }
    }
}
