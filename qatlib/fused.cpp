// The elementwise parts of the quantised layers, forward and backward, each in one pass over the values: float32, for training.
// The arithmetic is that of quant_layers, which evaluates in float64 without this file. Values are rows x channels, channels last.
// Sums go over rows first, channel by channel, in the order of the rows: the same on every machine.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Range {
    float low, high;
    // `zero`: where given, the learned unsigned code of zero, and the range is -zero .. -zero + (high - low)
    Range(const float* __restrict zero, float low, float high) : low(low), high(high) {
        if (!zero) return;
        float code = std::min(std::max(std::floor(*zero + 0.5f), 0.0f), high - low);
        this->high = high - low - code;
        this->low = -code;
    }
};

// floor(v + 0.5), clamped
inline float rounded(float v, Range range) { return std::min(std::max(std::floor(v + 0.5f), range.low), range.high); }

inline bool inside(float v, Range range) { return v > range.low - 0.5f && v < range.high + 0.5f; }

// the nearest m * 2^-n, m of 16 bits, 1 <= n <= 40
float multiplier(float exact) {
    int exponent;
    float mantissa = std::frexp(std::min(std::max(exact, std::ldexp(1.0f, -25)), 65535.0f / 2), &exponent);
    return std::ldexp(std::floor(mantissa * 65536 + 0.5f), exponent - 16);
}

// m1 * 2^-n, m2 * 2^-n, c * 2^-n of quantize.split_addition
void addition(float& a1, float& a2, float& shift) {
    int larger, offset;
    std::frexp(std::max(std::fabs(a1), std::fabs(a2)), &larger);
    std::frexp(std::fabs(shift), &offset);
    int n = std::min(std::max(std::min(16 - larger, 29 - offset), 1), 30);
    auto kept = [n](float a, float limit) {
        return std::ldexp(std::min(std::max(std::floor(std::ldexp(a, n) + 0.5f), -limit), limit), -n);
    };
    a1 = kept(a1, 65535), a2 = kept(a2, 65535), shift = kept(shift, 1073741823);
}

}  // namespace

extern "C" {

// codes = clamp(round(acc * m)), m: rounded acc_step / step, of which `steps` = 1 or `channels`; m is kept for the way back
void requantise(const float* __restrict acc, const float* __restrict acc_step, long steps, const float* __restrict step,
                const float* __restrict zero, float low, float high, float* __restrict codes, float* __restrict m, long rows,
                long channels) {
    Range range(zero, low, high);
    for (long c = 0; c < channels; c++) m[c] = steps == 1 && c ? m[0] : multiplier(acc_step[c] / *step);
    for (long r = 0; r < rows; r++, acc += channels, codes += channels)
        for (long c = 0; c < channels; c++) codes[c] = rounded(acc[c] * m[c], range);
}

// gradients of acc, acc_step (`steps`), step, zero (where given), and per channel the sum of acc's: that of a bias
void requantise_back(const float* __restrict g, const float* __restrict acc, const float* __restrict m, const float* __restrict acc_step,
                     long steps, const float* __restrict step, const float* __restrict zero, float low, float high, float* __restrict g_acc,
                     float* __restrict g_acc_step, float* __restrict g_step, float* __restrict g_zero, float* __restrict g_bias, long rows,
                     long channels) {
    Range range(zero, low, high);
    std::vector<float> of_m(channels), edge(channels);
    std::fill(g_bias, g_bias + channels, 0.0f);
    for (long r = 0; r < rows; r++, g += channels, acc += channels, g_acc += channels)
        for (long c = 0; c < channels; c++) {
            float passed = inside(acc[c] * m[c], range) ? g[c] : 0.0f;
            edge[c] += g[c] - passed;
            of_m[c] += passed * acc[c];
            g_bias[c] += g_acc[c] = passed * m[c];
        }
    double of_step = 0, of_zero = 0;
    std::fill(g_acc_step, g_acc_step + steps, 0.0f);
    for (long c = 0; c < channels; c++) {
        float exact = acc_step[steps == 1 ? 0 : c];
        g_acc_step[steps == 1 ? 0 : c] += of_m[c] / *step;
        of_step -= (double)of_m[c] * exact / *step / *step;
        of_zero -= edge[c];
    }
    *g_step = of_step;
    if (zero) *g_zero = of_zero;
}

// A linear layer's whole weights and biases and its accumulator's step, per output; log_step: `steps` = 1 or `outputs`.
// The weight's step stays above |bias| / (x_step * room), at which bias and accumulator fit.
void weights(const float* __restrict weight, const float* __restrict bias, const float* __restrict log_step, long steps,
             const float* __restrict x_step, float room, float low, float high, float* __restrict codes, float* __restrict bias_codes,
             float* __restrict acc_step, float* __restrict step, long outputs, long inputs) {
    Range range(nullptr, low, high);
    for (long o = 0; o < outputs; o++, weight += inputs, codes += inputs) {
        step[o] = std::max(std::exp(log_step[steps == 1 ? 0 : o]), std::fabs(bias[o]) / (*x_step * room));
        acc_step[o] = *x_step * step[o];
        bias_codes[o] = std::floor(bias[o] / acc_step[o] + 0.5f);
        for (long i = 0; i < inputs; i++) codes[i] = rounded(weight[i] / step[o], range);
    }
}

void weights_back(const float* __restrict g_codes, const float* __restrict g_bias_codes, const float* __restrict g_acc_step,
                  const float* __restrict weight, const float* __restrict bias, const float* __restrict log_step, long steps,
                  const float* __restrict x_step, const float* __restrict step, float low, float high, float* __restrict g_weight,
                  float* __restrict g_bias, float* __restrict g_log_step, float* __restrict g_x_step, long outputs, long inputs) {
    Range range(nullptr, low, high);
    double of_x_step = 0;
    std::fill(g_log_step, g_log_step + steps, 0.0f);
    for (long o = 0; o < outputs; o++, weight += inputs, g_codes += inputs, g_weight += inputs) {
        float acc_step = *x_step * step[o], of_step = 0, of_acc_step = g_acc_step[o] - g_bias_codes[o] * bias[o] / acc_step / acc_step;
        for (long i = 0; i < inputs; i++) {
            float v = weight[i] / step[o], passed = inside(v, range) ? g_codes[i] : 0.0f;
            g_weight[i] = passed / step[o];
            of_step -= g_weight[i] * v;
        }
        g_bias[o] = g_bias_codes[o] / acc_step;
        of_x_step += (double)of_acc_step * step[o];
        bool learned = step[o] == std::exp(log_step[steps == 1 ? 0 : o]);
        if (learned) g_log_step[steps == 1 ? 0 : o] += (of_step + of_acc_step * *x_step) * step[o];
    }
    *g_x_step = of_x_step;
}

// codes = clamp(round(a1 * x + shift + a2 * y)); exact: gain * x_step / step, gain * y_step / step, offset / step, per channel.
// y has `y_rows` rows, which repeat; factors: 3 x channels, kept for the way back.
void add(const float* __restrict x, const float* __restrict y, const float* __restrict exact, const float* __restrict zero, float low,
         float high, float* __restrict codes, float* __restrict factors, long rows, long y_rows, long channels) {
    Range range(zero, low, high);
    float *a1 = factors, *a2 = factors + channels, *shift = a2 + channels;
    std::copy(exact, exact + 3 * channels, factors);
    for (long c = 0; c < channels; c++) addition(a1[c], a2[c], shift[c]);
    for (long r = 0; r < rows; r++, x += channels, codes += channels) {
        const float* __restrict other = y + r % y_rows * channels;
        for (long c = 0; c < channels; c++) codes[c] = rounded(x[c] * a1[c] + shift[c] + other[c] * a2[c], range);
    }
}

// gradients of x, y, exact (3 x channels), zero (where given)
void add_back(const float* __restrict g, const float* __restrict x, const float* __restrict y, const float* __restrict factors,
              const float* __restrict zero, float low, float high, float* __restrict g_x, float* __restrict g_y, float* __restrict g_exact,
              float* __restrict g_zero, long rows, long y_rows, long channels) {
    Range range(zero, low, high);
    const float *a1 = factors, *a2 = factors + channels, *shift = a2 + channels;
    float *of_a1 = g_exact, *of_a2 = g_exact + channels, *of_shift = of_a2 + channels;
    std::vector<float> edge(channels);
    std::fill(g_exact, g_exact + 3 * channels, 0.0f);
    std::fill(g_y, g_y + y_rows * channels, 0.0f);
    for (long r = 0; r < rows; r++, g += channels, x += channels, g_x += channels) {
        const float* __restrict other = y + r % y_rows * channels;
        float* g_other = g_y + r % y_rows * channels;
        for (long c = 0; c < channels; c++) {
            float passed = inside(x[c] * a1[c] + shift[c] + other[c] * a2[c], range) ? g[c] : 0.0f;
            edge[c] += g[c] - passed;
            of_a1[c] += passed * x[c];
            of_a2[c] += passed * other[c];
            of_shift[c] += passed;
            g_x[c] = passed * a1[c];
            g_other[c] += passed * a2[c];
        }
    }
    if (!zero) return;
    double of_zero = 0;
    for (long c = 0; c < channels; c++) of_zero -= edge[c];
    *g_zero = of_zero;
}

// kernels.softmax of each row; `p` keeps T / sum T for the way back, negative where the code was clipped
void softmax(const float* __restrict scores, const uint8_t* table, float numerator, float scale, float high, float* __restrict codes,
             float* __restrict p, long rows, long keys) {
    for (long r = 0; r < rows; r++, scores += keys, codes += keys, p += keys) {
        float largest = *std::max_element(scores, scores + keys), total = 0;
        for (long k = 0; k < keys; k++) {
            float below = largest - scores[k];
            bool real = below >= 0 && below <= 255;  // else a training that diverged: it shall show in the loss
            total += p[k] = real ? table[(int)below] : NAN;
        }
        float reciprocal = std::floor(numerator / total) * scale;  // scale: 2^-k
        for (long k = 0; k < keys; k++) {
            float code = std::floor(p[k] * reciprocal + 0.5f);
            codes[k] = std::min(code, high);
            p[k] = (code > high ? -p[k] : p[k]) / total;
        }
    }
}

// Of the real softmax: d code / d p = 1 / step where the code was not clipped
void softmax_back(const float* __restrict g, const float* __restrict p, const float* __restrict score_step, const float* __restrict step,
                  float* __restrict g_scores, float* __restrict g_step, long rows, long keys) {
    double of_step = 0;
    float ratio = *score_step / *step;
    for (long r = 0; r < rows; r++, g += keys, p += keys, g_scores += keys) {
        float total = 0;
        for (long k = 0; k < keys; k++) total += g_scores[k] = p[k] > 0 ? g[k] * p[k] : 0.0f;
        for (long k = 0; k < keys; k++) g_scores[k] = (g_scores[k] - std::fabs(p[k]) * total) * ratio;
        of_step -= total;
    }
    *g_step = of_step / *step / *step;
}
}
