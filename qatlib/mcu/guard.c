/* What looks at a window before it is forecast: mends short gaps and single outliers in place, and flags what no forecast should trust.
   A channel's samples lie `stride` counts apart. */

#define MISSING INT16_MIN
#define SAMPLE(i) x[(i) * stride]
enum { REPAIRED = 1, GAP = 2, OUT_OF_RANGE = 4, JUMP = 8, STUCK = 16, DRIFT = 32, NOISY = 64 };

typedef struct {
    int day, longest_gap;
    int32_t low, high, jump, spike, stuck, drift;
    int64_t noise;
} limits;

static int32_t floored(int32_t a, int32_t b) { return a / b - (a % b < 0); }

static uint8_t fill(int16_t *x, int stride, int samples, int longest_gap) {
    int missing = 0, longest = 0, total = 0;
    for (int i = 0; i < samples; i++) {
        missing = SAMPLE(i) == MISSING ? missing + 1 : 0;
        longest = missing > longest ? missing : longest;
        total += missing > 0;
    }
    if (longest > longest_gap || total == samples) return GAP;
    for (int i = 0; i < samples; i++) {
        if (SAMPLE(i) != MISSING) continue;
        int end = i;
        while (end < samples && SAMPLE(end) == MISSING) end++;
        int32_t left = SAMPLE(i ? i - 1 : end), right = end < samples ? SAMPLE(end) : left, width = end - i + 1;
        for (int32_t k = 1; k < width; k++)
            SAMPLE(i + k - 1) = (int16_t)(left + floored(2 * (right - left) * k + width, 2 * width));
    }
    return total ? REPAIRED : 0;
}

static uint8_t look(int16_t *x, int stride, int samples, limits g) {
    uint8_t flags = fill(x, stride, samples, g.longest_gap);
    if (flags & GAP) return flags;
    int32_t before = SAMPLE(0);
    for (int i = 1; i + 1 < samples; i++) {
        int32_t value = SAMPLE(i), after = SAMPLE(i + 1);
        int32_t most = before > after ? before : after, least = before < after ? before : after;
        if (value - most > g.spike || least - value > g.spike) SAMPLE(i) = (int16_t)floored(before + after + 1, 2), flags |= REPAIRED;
        before = value;
    }
    int32_t run = 1, first = 0, last = 0, previous = 0;
    int64_t bends = 0;
    for (int i = 0; i < samples; i++) {
        int32_t change = i ? SAMPLE(i) - SAMPLE(i - 1) : 1, bend = change - previous;
        if (i > 1) bends += bend < 0 ? -bend : bend;
        previous = change;
        if (SAMPLE(i) < g.low || SAMPLE(i) > g.high) flags |= OUT_OF_RANGE;
        if (i && (change > g.jump || -change > g.jump)) flags |= JUMP;
        run = change ? 1 : run + 1;
        if (run >= g.stuck) flags |= STUCK;
        if (i < g.day) first += SAMPLE(i);
        if (i >= samples - g.day) last += SAMPLE(i);
    }
    if (last - first > g.drift || first - last > g.drift) flags |= DRIFT;
    if (bends > g.noise) flags |= NOISY;
    return flags;
}
