/* The products of an RV32IM core, which multiplies 32 bits and has 31 registers: two outputs in a word, w0 + w1 * 2^16, so that one
   multiplication makes two products. Where the sums of a whole row are within 16 bits, which is proven at export, they stay so to its
   end; else two columns are summed and both halves taken apart. A result is acc * m >> 33, m shifted up for it. */

#define UNROLLED 4 /* columns at a time */
#define PADDED(n) (((n) + UNROLLED - 1) / UNROLLED * UNROLLED)

#if defined(__riscv) && __riscv_xlen == 32
#define ASSEMBLY 1
#else
#define ASSEMBLY 0
#endif

/* block: high_of */
/* v * m >> 32 of an m that is not negative; is_short: |v| is at most 2^15 */
static INLINE int32_t high_of(int32_t v, int32_t m, int is_short) {
#if ASSEMBLY
    (void)is_short;
    return (int32_t)(((int64_t)v * m) >> 32);
#else /* a Cortex-M0+ has no product of 64 bits: by halves, of which every sum is within 32 */
    int32_t up = m >> 16, down = m & 0xFFFF, low = v & 0xFFFF, high = v >> 16;
    if (is_short) return (v * up + (v * down >> 16)) >> 16;
    int32_t middle = low * up + (int32_t)((uint32_t)low * (uint32_t)down >> 16);
    return high * up + (middle >> 16) + ((high * down + (middle & 0xFFFF)) >> 16);
#endif
}

/* block: narrowed */
static INLINE element narrowed(int32_t v, int32_t m, int is_short, range r) {
    return (element)clamped((high_of(v, m, is_short) + 1 + 2 * r.zero) >> 1, r.low, r.high);
}

/* block: tile */
/* `words` of two outputs each, for pairs of rows. Its first members lie as the assembly below loads them. */
typedef struct {
    const int32_t *w, *end; /* columns, padded, by words */
    const element *x;
    int x_row;
    const int32_t *start, *m; /* start: of each word; where they are apart, then of their high halves */
    int32_t rounding, width, low; /* what is added to twice a result, less r.low; r.high - r.low; r.low */
    element *y;
    int y_row, pairs; /* of rows */
    range r;
} tile;
typedef void tiles(tile *t); /* a function for each kind of tile, made at export */

/* A compiler loads more at a time than there are registers, hence by hand. a0, a1, a2: w, x, u, the row below; the sums of a word are a
   pair of registers, of x and of u. The address of the tile is on the stack. */
#if ASSEMBLY
#define OF_4(DO) DO(0, s2, s3) DO(1, s4, s5) DO(2, s6, s7) DO(3, s8, s9)
#define OF_8(DO) OF_4(DO) DO(4, s10, s11) DO(5, a6, a7) DO(6, t4, t5) DO(7, t6, ra)
#define APART_4(DO) DO(0, s2, s3, s10, s11) DO(1, s4, s5, a6, a7) DO(2, s6, s7, t4, t5) DO(3, s8, s9, t6, ra)
#define START(p, a, b) "lw " #a ", 4*" #p "(a4)\n mv " #b ", " #a "\n"
#define FIRST(SUMS)                                                                                                         \
    "addi sp, sp, -16\n sw a0, 0(sp)\n lw a4, 4(a0)\n sw a4, 4(sp)\n sw s0, 8(sp)\n sw s1, 12(sp)\n"                        \
    "0: lw a3, 0(sp)\n lw a0, 0(a3)\n lw a1, 8(a3)\n lw t0, 12(a3)\n add a2, a1, t0\n add t0, a2, t0\n sw t0, 8(a3)\n"      \
    "lw a4, 16(a3)\n" SUMS(START)
#define LAST(RESULTS)                                                                                                       \
    "lw a0, 0(sp)\n lw a1, 20(a0)\n lw a2, 24(a0)\n lw a3, 28(a0)\n lw a4, 32(a0)\n lw a5, 36(a0)\n lw t0, 40(a0)\n"        \
    "add t0, a5, t0\n" RESULTS "lw t1, 40(a0)\n add t0, t0, t1\n sw t0, 36(a0)\n lw t0, 44(a0)\n addi t0, t0, -1\n"          \
    "sw t0, 44(a0)\n bnez t0, 0b\n lw s0, 8(sp)\n lw s1, 12(sp)\n addi sp, sp, 16\n"
#define RUN(CODE)                                                                                                           \
    register tile *first __asm__("a0") = t;                                                                                 \
    __asm__ volatile(CODE : "+r"(first) : : "a1", "a2", "a3", "a4", "a5", "a6", "a7", "t0", "t1", "t2", "t3", "t4", "t5",   \
                     "t6", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "ra", "memory")
/* 6 instructions for a result within its range, which most are: compared without its sign, what is below is above as well */
#define RESULT(v, m, to)                                                                                                    \
    "mulh " #v ", " #v ", " #m "\n add " #v ", " #v ", a2\n srai " #v ", " #v ", 1\n bgeu a3, " #v ", 2f\n srai s0, " #v     \
    ", 31\n not s0, s0\n and " #v ", s0, a3\n 2: add " #v ", " #v ", a4\n sb " #v ", " to "\n"
#define MULTIPLIERS(p) "lw t1, 8*" #p "(a1)\n lw t2, 8*" #p "+4(a1)\n"

/* The sums of all columns stay in halves. count: 42 instructions for the 32 products of a column of eight words; one for each column's,
   3 for four columns' addresses. t0: a word, t1 and t2: a column of x and of u */
#define WORD(p, a, b) "lw t0, 4*" #p "(a0)\n mul t3, t0, t1\n add " #a ", " #a ", t3\n mul t0, t0, t2\n add " #b ", " #b ", t0\n"
#define COLUMN(load, k, words) load " t1, " #k "(a1)\n " load " t2, " #k "(a2)\n" OF_##words(WORD) "addi a0, a0, 4*" #words "\n"
#define SPLIT(v, p, y)                                                                                                      \
    "slli s1, " #v ", 16\n srai s1, s1, 16\n sub " #v ", " #v ", s1\n srai " #v ", " #v ", 16\n"                            \
    RESULT(s1, t1, "2*" #p "(" #y ")") RESULT(v, t2, "2*" #p "+1(" #y ")")
#define BOTH(p, a, b) MULTIPLIERS(p) SPLIT(a, p, a5) SPLIT(b, p, t0)
#define ALL_COLUMNS(load, words)                                                                                            \
    FIRST(OF_##words) "lw a3, 4(a3)\n 1:\n" COLUMN(load, 0, words) COLUMN(load, 1, words) COLUMN(load, 2, words)             \
    COLUMN(load, 3, words) "addi a1, a1, 4\n addi a2, a2, 4\n bne a0, a3, 1b\n" LAST(OF_##words(BOTH))

/* Two columns at a time are summed in halves, to which 2^15 is added so that the low one is never negative. The whole words are summed
   modulo 2^32, and the high halves apart. Values have a sign. count: 68 instructions for the 32 products of two columns of four words;
   5 for four columns' addresses. t0 to t3: columns of x and of u; a4 and a5: words; a3: 2^15 */
#define TAKEN_APART(v, w, sum, high)                                                                                        \
    "add " #v ", " #v ", a3\n add " #v ", " #v ", " #w "\n add " #sum ", " #sum ", " #v "\n srai " #v ", " #v ", 16\n"       \
    "add " #high ", " #high ", " #v "\n"
#define TWO_OF(p, a, b, e, f, k)                                                                                            \
    "lw a4, 16*" #k "+4*" #p "(a0)\n lw a5, 16*" #k "+16+4*" #p "(a0)\n mul s0, a4, t0\n mul s1, a5, t1\n"                   \
    TAKEN_APART(s0, s1, a, e) "mul a4, a4, t2\n mul a5, a5, t3\n" TAKEN_APART(a4, a5, b, f)
#define TWO_OF_0(p, a, b, e, f) TWO_OF(p, a, b, e, f, 0)
#define TWO_OF_2(p, a, b, e, f) TWO_OF(p, a, b, e, f, 2)
#define TWO_COLUMNS(k)                                                                                                      \
    "lb t0, " #k "(a1)\n lb t1, " #k "+1(a1)\n lb t2, " #k "(a2)\n lb t3, " #k "+1(a2)\n" APART_4(TWO_OF_##k)
#define LESS_HIGH(p, v, high, y)                                                                                            \
    "slli s1, " #high ", 16\n sub " #v ", " #v ", s1\n"                                                                     \
    RESULT(v, t1, "2*" #p "(" #y ")") RESULT(high, t2, "2*" #p "+1(" #y ")")
#define BOTH_APART(p, a, b, e, f) MULTIPLIERS(p) LESS_HIGH(p, a, e, a5) LESS_HIGH(p, b, f, t0)
#define COLUMNS_APART                                                                                                       \
    FIRST(OF_8) "lui a3, 8\n 1:\n" TWO_COLUMNS(0) TWO_COLUMNS(2) "addi a0, a0, 64\n addi a1, a1, 4\n"                        \
    "addi a2, a2, 4\n lw s0, 4(sp)\n bne a0, s0, 1b\n" LAST(APART_4(BOTH_APART))
#else
/* Of one word: the same, to be tried elsewhere, and for a Cortex-M0+ */
static INLINE void two_columns(const int32_t *w, int words, const element *x, int is_unsigned, int apart, uint32_t *sum, int32_t *high) {
    uint32_t two = (uint32_t)w[0] * (uint32_t)code(x, 0, is_unsigned) + (uint32_t)w[words] * (uint32_t)code(x, 1, is_unsigned);
    if (apart) two += 0x8000, *high += (int32_t)two >> 16;
    *sum += two;
}
#endif
static INLINE void run_tile(tile *t, int words, int is_unsigned, int apart) {
#if ASSEMBLY
    if (apart) {
        RUN(COLUMNS_APART);
    } else if (words == 8 && is_unsigned) {
        RUN(ALL_COLUMNS("lbu", 8));
    } else if (words == 8) {
        RUN(ALL_COLUMNS("lb", 8));
    } else if (is_unsigned) {
        RUN(ALL_COLUMNS("lbu", 4));
    } else {
        RUN(ALL_COLUMNS("lb", 4));
    }
#else /* the same word by word, for the few registers of a Cortex-M0+ */
    for (; t->pairs > 0; t->pairs--, t->x += 2 * t->x_row, t->y += 2 * t->y_row)
        for (int p = 0; p < words; p++) {
            const element *x = t->x, *u = x + t->x_row;
            const int32_t *w = t->w + p, *end = t->end + p;
            uint32_t a = (uint32_t)t->start[p], b = a;
            int32_t e = apart ? t->start[4 + p] : 0, f = e;
            for (; w != end; w += 4 * words, x += 4, u += 4) {
                two_columns(w, words, x, is_unsigned, apart, &a, &e);
                two_columns(w, words, u, is_unsigned, apart, &b, &f);
                two_columns(w + 2 * words, words, x + 2, is_unsigned, apart, &a, &e);
                two_columns(w + 2 * words, words, u + 2, is_unsigned, apart, &b, &f);
            }
            for (int i = 0; i < 2; i++, a = b, e = f) {
                int32_t low = apart ? (int32_t)(a - ((uint32_t)e << 16)) : (int16_t)a, high = apart ? e : ((int32_t)a - low) >> 16;
                element *y = t->y + i * t->y_row + 2 * p;
                y[0] = narrowed(low, t->m[2 * p], !apart, t->r), y[1] = narrowed(high, t->m[2 * p + 1], !apart, t->r);
            }
        }
#endif
}

/* block: tiles TILES */
#define TILES(words, is_unsigned, apart) \
    (tile *t) { run_tile(t, words, is_unsigned, apart); }

/* block: carry_out */
/* A tile of `wide` outputs for all rows of x, to y. Where it has fewer of them, and of an odd number of rows the last, which is its own
   neighbour, they get there by way of `some`. */
static APART void carry_out(tiles *run, tile *t, int wide, const element *x, int rows, int outputs, element *y) {
    element some[2][16];
    int x_row = t->x_row, y_row = t->y_row;
    t->rounding = 1 + 2 * (t->r.zero - t->r.low), t->width = t->r.high - t->r.low, t->low = t->r.low;
    t->x = x, t->y = y, t->pairs = outputs == wide ? rows >> 1 : 0;
    int done = 2 * t->pairs;
    if (done) run(t);
    for (y = t->y; done < rows; done += 2, y += 2 * y_row) {
        int both = rows - done > 1;
        t->x = x + done * x_row, t->y = some[0], t->x_row = both ? x_row : 0, t->y_row = 16, t->pairs = 1;
        run(t);
        for (int i = 0; i < outputs; i++) {
            y[i] = some[0][i];
            if (both) y[y_row + i] = some[1][i];
        }
    }
    t->x_row = x_row, t->y_row = y_row;
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
/* packed: of each tile its columns in fields of words; start: eight for each; scratch: a tile's columns, in words */
static void linear_by_tiles(tiles *run, int words, const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m,
                            const element *x, int rows, int outputs, int depth, int32_t *scratch, element *y, range r) {
    int wide = 2 * words;
    tile t = {scratch, scratch + words * PADDED(depth), 0, depth, start, m, 0, 0, 0, 0, outputs, 0, r};
    for (int o = 0; o < outputs; o += wide, t.start += 8, t.m += wide, packed += words * ((depth * bits + 15) / 16)) {
        spread(packed, words, bits, depth, up, scratch);
        carry_out(run, &t, wide, x, rows, outputs - o < wide ? outputs - o : wide, y + o);
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
            y[i] = narrowed((int32_t)word, m[i], 0, r);
        } else {
            y[2 * i] = narrowed((int16_t)word, m[2 * i], 1, r);
            y[2 * i + 1] = narrowed(((int32_t)word - (int16_t)word) >> 16, m[2 * i + 1], 1, r);
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
/* The same of 8 bits: weights as bytes with their sign, of eight outputs side by side at every column; columns are padded */
static APART void row_of_bytes(const int8_t *w, int up, const int32_t *start, const int32_t *m, const element *x, int is_unsigned,
                               int outputs, int depth, element *y, range r) {
#if ASSEMBLY /* or a compiler loads more at a time than there are registers */
#define SETTLE __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h) : : "memory")
#else
#define SETTLE (void)0
#endif
#define COLUMN_OF_8(k)                                                                                                    \
    s = code(at, k, is_unsigned), a += w[8 * k] * s, b += w[8 * k + 1] * s, c += w[8 * k + 2] * s, d += w[8 * k + 3] * s; \
    e += w[8 * k + 4] * s, f += w[8 * k + 5] * s, g += w[8 * k + 6] * s, h += w[8 * k + 7] * s;                           \
    SETTLE
    for (int o = 0; o < outputs; o += 8, start += 8, m += 8) {
        int32_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0, s;
        const element *at = x;
        for (const int8_t *end = w + 8 * PADDED(depth); w != end; w += 8 * UNROLLED, at += UNROLLED) {
            COLUMN_OF_8(0);
            COLUMN_OF_8(1);
            COLUMN_OF_8(2);
            COLUMN_OF_8(3);
        }
        int32_t sum[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8 && o + i < outputs; i++) y[o + i] = narrowed((int32_t)((uint32_t)sum[i] << up) + start[i], m[i], 0, r);
    }
#undef COLUMN_OF_8
#undef SETTLE
}

/* block: row_of_1 */
static APART void row_of_1(const uint32_t *packed, int bits, int up, const int32_t *start, const int32_t *m, const element *x,
                           int is_unsigned, int outputs, int depth, element *y, range r) {
    row_by_tiles(1, packed, bits, up, start, m, x, is_unsigned, outputs, depth, y, r);
}

/* block: quantise_near */
/* As quantise, of a scale without n */
static void quantise_near(const int16_t *counts, int32_t anchor, int samples, int32_t m, element *y, range r) {
    for (const element *end = y + samples; y != end;) *y++ = narrowed(*counts++ - anchor, m, 0, r);
}

/* block: requantise_near */
/* As requantise, of results that are within 16 bits before they are clamped */
static void requantise_near(const element *x, int is_unsigned, int zero, int count, int up, int32_t m, element *y, range r) {
    for (const element *end = y + count; y != end; x++) *y++ = narrowed((code(x, 0, is_unsigned) - zero) * (1 << up), m, 1, r);
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
    tiles *run;
    int words, apart, up, least; /* least: the code of a value of 0 */
    int32_t m[16]; /* all the same */
} product;

/* start: eight for each tile, or the same for all where `next` is 0 */
static void products_of(const product *by, const int32_t *w, const element *x, int x_row, int rows, int depth, const int32_t *start,
                        int next, int outputs, element *y, int y_row, range r) {
    int wide = 2 * by->words, words = by->words * PADDED(depth);
    tile t = {w, w + words, 0, x_row, start, by->m, 0, 0, 0, 0, y_row, 0, r};
    for (int o = 0; o < outputs; o += wide, t.w += words, t.end += words, t.start += next)
        carry_out(by->run, &t, wide, x, rows, outputs - o < wide ? outputs - o : wide, y + o);
}

/* What sums begin with: less the 2^15 that are added to every two columns, and the weights of all columns as often as values are more
   than their codes */
static void start_of(const product *by, const int32_t *w, int depth, int outputs, int32_t *start) {
    for (int o = 0; o < outputs; o += 2 * by->words, start += 8, w += by->words * PADDED(depth))
        for (int p = 0; p < by->words; p++) {
            uint32_t sum = 0, high = 0;
            for (int k = 0; k < depth && by->least; k++) {
                int32_t word = w[k * by->words + p];
                sum += (uint32_t)word, high += (uint32_t)((word + 0x8000) >> 16);
            }
            start[p] = (int32_t)(0u - (uint32_t)by->least * sum - (by->apart ? 0x4000u * PADDED(depth) : 0));
            if (by->apart) start[4 + p] = (int32_t)(0u - (uint32_t)by->least * high);
        }
}

static void attention(const element *query, const element *key, const element *values, int heads, int queries, int keys, int width,
                      const product *by_keys, range scores_in, const uint8_t *table, uint32_t numerator, int k, int high,
                      const product *by_values, int32_t *scratch, element *y, range r) {
    int row = heads * width, wide = 2 * by_keys->words, long_row = (keys + wide - 1) & -wide; /* so that no tile of scores has fewer */
    int32_t *v = scratch + (keys + 15) / 16 * 8 * PADDED(width), *start = v + (width + 15) / 16 * 8 * PADDED(keys), of_keys[8] = {0};
    element *p = (element *)(start + (width + 15) / 16 * 16);
    start_of(by_keys, scratch, width, 1, of_keys);
    for (int h = 0; h < heads; h++, query += width, key += width, values += width, y += width) {
        gather(key, row, 1, keys, width, by_keys->words, by_keys->up, scratch);
        gather(values, 1, row, width, keys, by_values->words, by_values->up, v);
        start_of(by_values, v, keys, width, start);
        for (int t = 0; t < queries; t += 4) {
            int rows = queries - t < 4 ? queries - t : 4;
            products_of(by_keys, scratch, query + t * row, row, rows, width, of_keys, 0, long_row, p, long_row, scores_in);
            for (element *q = p; q != p + rows * long_row; q += long_row)
                softmax_of_row(q, keys, table, numerator, k, q, high, by_values->least);
            products_of(by_values, v, p, long_row, rows, keys, start, 8, width, y + t * row, row, r);
        }
    }
}
