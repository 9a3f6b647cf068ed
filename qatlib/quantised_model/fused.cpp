// A quantised model's training step: its integer program, forward and backward, each operation in one pass over the values, float32.
// The arithmetic is that of quant_layers, which evaluates in float64 without this file. Values are windows x tokens x channels.
// What is made of parameters alone (steps, multipliers, whole weights and biases) is made in double: the numbers of the export. Values
// are whole numbers below 2^24, exact in float32; a product with a multiplier is rounded, and so is what is added to it.
// Every sum has one order, that of the rows.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using Floats = std::vector<float>;

struct Range {
    float low, high;
    // `zero`: where given, the learned unsigned code of zero, and the range is -zero .. -zero + (high - low)
    Range(const float* zero, float low, float high) : low(low), high(high) {
        if (!zero) return;
        float code = std::min(std::max((float)std::floor(*zero + 0.5), 0.0f), high - low);
        this->high = high - low - code;
        this->low = -code;
    }
};

// floor(v + 0.5), clamped
inline float rounded(float v, Range range) { return std::min(std::max(std::floor(v + 0.5f), range.low), range.high); }

// the same of a parameter, in double
inline float whole_of(double v, double step, Range range) {
    return std::min(std::max(std::floor(v / step + 0.5), (double)range.low), (double)range.high);
}

template <class T>
bool inside(T v, Range range) {
    return v > range.low - 0.5f && v < range.high + 0.5f;
}

// the nearest m * 2^-n, m of 16 bits, 1 <= n <= 40
float multiplier(double exact) {
    int exponent;
    double mantissa = std::frexp(std::min(std::max(exact, std::ldexp(1.0, -25)), 65535.0 / 2), &exponent);
    return std::ldexp(std::floor(mantissa * 65536 + 0.5), exponent - 16);
}

// m1 * 2^-n, m2 * 2^-n, c * 2^-n of quantize.split_addition
void addition(double& a1, double& a2, double& shift) {
    int larger, offset;
    std::frexp(std::max(std::fabs(a1), std::fabs(a2)), &larger);
    std::frexp(std::fabs(shift), &offset);
    int n = std::min(std::max(std::min(16 - larger, 29 - offset), 1), 30);
    auto kept = [n](double a, double limit) {
        return std::ldexp(std::min(std::max(std::floor(std::ldexp(a, n) + 0.5), -limit), limit), -n);
    };
    a1 = kept(a1, 65535), a2 = kept(a2, 65535), shift = kept(shift, 1073741823);
}

// -- Matrix products, of ROWS rows by WIDE vectors of LANES columns at a time, as the registers hold. Columns are read up to the next
// multiple of LANES: buffers end in PAD spare values.

#if defined(__AVX512F__)
constexpr long LANES = 16, ROWS = 8;
#elif defined(__AVX__)
constexpr long LANES = 8, ROWS = 6;
#else
constexpr long LANES = 4, ROWS = 6;
#endif
constexpr long WIDE = 2, PAD = LANES, PANEL = 4 * ROWS, BLOCK = 512;  // sums of more are taken in double
typedef float Lanes __attribute__((vector_size(4 * LANES)));

inline long padded(long n) { return (n + LANES - 1) / LANES * LANES; }

#if defined(__clang__)
#define FUSED_MULTIPLY_ADD _Pragma("clang fp contract(fast)")
#define FUSABLE
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED _Pragma("unroll")
#else
#define FUSED_MULTIPLY_ADD
#define INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 16")
#define FUSABLE __attribute__((optimize("fp-contract=fast")))
#endif

// A float's address is not a vector's: copied, never cast.
inline __attribute__((always_inline)) Lanes load(const float* p) {
    Lanes v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline __attribute__((always_inline)) void store(float* p, Lanes v) { std::memcpy(p, &v, sizeof v); }

// c[r][n] = sum over k of a[r][k] * b[k][n], of R rows and V vectors
template <int R, int V>
FUSABLE void product_of(const float* a, long a_row, const float* b, long b_row, float* c, long c_row, long depth) {
    FUSED_MULTIPLY_ADD
    Lanes sum[R][V] = {};
    for (long k = 0; k < depth; k++) {
        Lanes other[V];
        UNROLLED for (int v = 0; v < V; v++) other[v] = load(b + k * b_row + v * LANES);
        UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) sum[r][v] += a[r * a_row + k] * other[v];
    }
    UNROLLED for (int r = 0; r < R; r++) UNROLLED for (int v = 0; v < V; v++) store(c + r * c_row + v * LANES, sum[r][v]);
}

// c[o][n] += sum over r of a[r][o] * b[r][n]
template <int R, int V>
FUSABLE void outer_of(const float* a, long a_row, const float* b, long b_row, float* c, long c_row, long rows) {
    FUSED_MULTIPLY_ADD
    Lanes sum[R][V];
    UNROLLED for (int o = 0; o < R; o++) UNROLLED for (int v = 0; v < V; v++) sum[o][v] = load(c + o * c_row + v * LANES);
    for (long r = 0; r < rows; r++) {
        Lanes other[V];
        UNROLLED for (int v = 0; v < V; v++) other[v] = load(b + r * b_row + v * LANES);
        UNROLLED for (int o = 0; o < R; o++) UNROLLED for (int v = 0; v < V; v++) sum[o][v] += a[r * a_row + o] * other[v];
    }
    UNROLLED for (int o = 0; o < R; o++) UNROLLED for (int v = 0; v < V; v++) store(c + o * c_row + v * LANES, sum[o][v]);
}

template <int R = ROWS>
void product(const float* a, long a_row, const float* b, long b_row, float* c, long c_row, long rows, long depth, long columns) {
    for (; rows >= R; rows -= R, a += R * a_row, c += R * c_row) {
        long n = 0;
        for (; n + (WIDE - 1) * LANES < columns; n += WIDE * LANES) product_of<R, WIDE>(a, a_row, b + n, b_row, c + n, c_row, depth);
        for (; n < columns; n += LANES) product_of<R, 1>(a, a_row, b + n, b_row, c + n, c_row, depth);
    }
    if constexpr (R > 1) product<R / 2>(a, a_row, b, b_row, c, c_row, rows, depth, columns);
}

template <int R = ROWS>
void outer(const float* a, long a_row, const float* b, long b_row, float* c, long c_row, long rows, long outputs, long columns) {
    for (; outputs >= R; outputs -= R, a += R, c += R * c_row) {
        long n = 0;
        for (; n + (WIDE - 1) * LANES < columns; n += WIDE * LANES) outer_of<R, WIDE>(a, a_row, b + n, b_row, c + n, c_row, rows);
        for (; n < columns; n += LANES) outer_of<R, 1>(a, a_row, b + n, b_row, c + n, c_row, rows);
    }
    if constexpr (R > 1) outer<R / 2>(a, a_row, b, b_row, c, c_row, rows, outputs, columns);
}

// to[c][r] = from[r][c], rows of `to` padded
void transpose(const float* from, long from_row, float* to, long rows, long columns) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c++) to[c * padded(rows) + r] = from[r * from_row + c];
}

// -- The program

// Whole numbers in a step: per window `size` of them. `met`: whether the way back has put a gradient here already.
struct Tensor {
    long size;
    Floats values, grad;
    double step = 0, of_step = 0;
    bool met = false;

    // where to add a gradient
    float* summed(long windows) {
        if (!met) std::fill(grad.begin(), grad.begin() + windows * size, 0.0f);
        met = true;
        return grad.data();
    }
    // adds where there is a gradient already, sets where there is none; the caller writes all of it and says so by `met`
    void put(long at, const float* from, long n) {
        float* to = grad.data() + at;
        if (met)
            for (long i = 0; i < n; i++) to[i] += from[i];
        else
            std::copy(from, from + n, to);
    }
};

struct Parameter {
    const float* values;
    float* grad;
};

// A quantised result: its tensor, the parameters that hold its log step and its zero (or none), its range
struct Result {
    Tensor& tensor;
    const Parameter *log_step, *zero;
    float low, high;

    Range begin() {
        tensor.step = std::exp((double)*log_step->values);
        return range();
    }
    Range range() const { return Range(zero ? zero->values : nullptr, low, high); }
    void end(double of_step, double edge) {
        *log_step->grad += (tensor.of_step + of_step) * tensor.step;
        if (zero) *zero->grad -= edge;
    }
};

// codes = clamp(round(acc * m)) with one m for all values
void requantise(const float* __restrict acc, float* __restrict codes, float m, Range range, long n) {
    for (long i = 0; i < n; i++) codes[i] = rounded(acc[i] * m, range);
}

// Turns gradients of codes into those of acc; adds that of m, and what lies beyond the range.
struct Scalar {
    double of_m = 0, edge = 0;

    void back(float* __restrict g, const float* __restrict acc, float m, Range range, long n) {
        for (; n >= BLOCK; n -= BLOCK, g += BLOCK, acc += BLOCK) block<LANES>(g, acc, m, range, BLOCK);
        block<1>(g, acc, m, range, n);
    }
    template <int W>
    void block(float* __restrict g, const float* __restrict acc, float m, Range range, long n) {
        float products[W] = {}, outside[W] = {};
        for (long i = 0; i < n; i += W)
            for (int l = 0; l < W; l++) {
                float passed = inside(acc[i + l] * m, range) ? g[i + l] : 0.0f;
                outside[l] += g[i + l] - passed;
                products[l] += passed * acc[i + l];
                g[i + l] = passed * m;
            }
        for (int l = 0; l < W; l++) of_m += products[l], edge += outside[l];
    }
    // ends the result; -> the gradient of the accumulator's step
    double end(Result& result, double acc_step) {
        double step = result.tensor.step;
        result.end(-of_m * acc_step / step / step, edge);
        return of_m / step;
    }
};

struct Operation {
    virtual ~Operation() = default;
    virtual void forward(long windows) = 0;
    virtual void backward(long windows) = 0;
};

// The input, in counts: windows x channels x samples. A pass of the program sees all channels, side by side at every sample, or one.
struct Quantise : Operation {
    const float*& input;
    Result y;
    std::vector<double> units;  // of the channels
    long seen;
    std::vector<float> m, scratch;
    Quantise(const float*& input, Result y, std::vector<double> units, long seen)
        : input(input), y(y), units(units), seen(seen), m(units.size()), scratch(y.tensor.size / seen) {}
    // each(channel, place in the input, place in the tensor, length) for all runs of samples of one channel
    template <class F>
    void runs(long windows, F each) {
        long samples = y.tensor.size / seen;
        if (units.size() == 1) return each(0, 0, 0, windows * samples);
        for (long i = 0; i < windows * seen; i++) each(i % units.size(), i * samples, i / seen * y.tensor.size + i % seen, samples);
    }
    void forward(long windows) override {
        Range range = y.begin();
        for (size_t c = 0; c < units.size(); c++) m[c] = multiplier(units[c] / y.tensor.step);
        runs(windows, [&](long c, long from, long to, long n) {
            float* codes = y.tensor.values.data() + to;
            requantise(input + from, seen == 1 ? codes : scratch.data(), m[c], range, n);
            for (long t = 0; seen > 1 && t < n; t++) codes[t * seen] = scratch[t];
        });
    }
    void backward(long windows) override {
        float* g = y.tensor.summed(windows);
        std::vector<Scalar> sums(units.size());
        runs(windows, [&](long c, long from, long to, long n) {
            for (long t = 0; seen > 1 && t < n; t++) scratch[t] = g[to + t * seen];
            sums[c].back(seen == 1 ? g + to : scratch.data(), input + from, m[c], y.range(), n);
        });
        double of_step = 0, edge = 0, step = y.tensor.step;
        for (size_t c = 0; c < units.size(); c++) of_step -= sums[c].of_m * units[c] / step / step, edge += sums[c].edge;
        y.end(of_step, edge);
    }
};

struct Requantise : Operation {
    Tensor& x;
    Result y;
    float m = 0;
    Requantise(Tensor& x, Result y) : x(x), y(y) {}
    void forward(long windows) override {
        Range range = y.begin();
        m = multiplier(x.step / y.tensor.step);
        requantise(x.values.data(), y.tensor.values.data(), m, range, windows * x.size);
    }
    void backward(long windows) override {
        Scalar sums;
        float* g = y.tensor.summed(windows);
        sums.back(g, x.values.data(), m, y.range(), windows * x.size);
        x.put(0, g, windows * x.size);
        x.met = true;
        x.of_step += sums.end(y, x.step);
    }
};

// Mean over the tokens
struct Pool : Operation {
    Tensor& x;
    Result y;
    Floats acc;
    float m = 0;
    Pool(Tensor& x, Result y) : x(x), y(y) {}
    void forward(long windows) override {
        long channels = y.tensor.size, tokens = x.size / channels;
        Range range = y.begin();
        m = multiplier(x.step / tokens / y.tensor.step);
        acc.assign(windows * channels, 0);
        for (long w = 0; w < windows; w++)
            for (long t = 0; t < tokens; t++)
                for (long c = 0; c < channels; c++) acc[w * channels + c] += x.values[(w * tokens + t) * channels + c];
        requantise(acc.data(), y.tensor.values.data(), m, range, windows * channels);
    }
    void backward(long windows) override {
        long channels = y.tensor.size, tokens = x.size / channels;
        Scalar sums;
        float* g = y.tensor.summed(windows);
        sums.back(g, acc.data(), m, y.range(), windows * channels);
        for (long w = 0; w < windows; w++)
            for (long t = 0; t < tokens; t++) x.put((w * tokens + t) * channels, g + w * channels, channels);
        x.met = true;
        x.of_step += sums.end(y, x.step / tokens) / tokens;
    }
};

// The weight's step stays above |bias| / (x_step * room), at which bias and accumulator fit.
struct Linear : Operation {
    Tensor& x;
    Result y;
    const Parameter &weight, &bias, &log_step;
    long inputs, outputs, steps;
    double finer, room;
    Range range;  // of the weights
    Floats whole, turned, whole_bias, m, acc, sums, of_weight, panel, of_x;
    std::vector<double> step, acc_step, of_m, edge, of_bias;

    Linear(Tensor& x, Result y, const Parameter& weight, const Parameter& bias, const Parameter& log_step, long inputs, long outputs,
           long steps, double finer, double room, float low, float high)
        : x(x),
          y(y),
          weight(weight),
          bias(bias),
          log_step(log_step),
          inputs(inputs),
          outputs(outputs),
          steps(steps),
          finer(finer),
          room(room),
          range(nullptr, low, high),
          whole(outputs * padded(inputs) + PAD),
          turned(inputs * padded(outputs) + PAD),
          of_weight(whole.size()),
          panel(PANEL * padded(outputs) + PAD),
          of_x(PANEL * padded(inputs) + PAD) {
        for (auto* v : {&whole_bias, &m}) v->resize(outputs);
        for (auto* v : {&step, &acc_step}) v->resize(outputs);
        sums.resize(3 * outputs);
    }
    double learned(long o) const { return std::exp(log_step.values[steps == 1 ? 0 : o] + finer); }

    void forward(long windows) override {
        Range result = y.begin();
        long rows = windows * y.tensor.size / outputs, wide = padded(outputs);
        for (long o = 0; o < outputs; o++) {
            double b = bias.values[o];
            step[o] = std::max(learned(o), std::fabs(b) / (x.step * room));
            acc_step[o] = x.step * step[o];
            whole_bias[o] = std::floor(b / acc_step[o] + 0.5);
            m[o] = multiplier(acc_step[o] / y.tensor.step);
            const float* from = weight.values + o * inputs;
            float* to = whole.data() + o * padded(inputs);
            for (long i = 0; i < inputs; i++) to[i] = whole_of(from[i], step[o], range);
        }
        transpose(whole.data(), padded(inputs), turned.data(), outputs, inputs);
        acc.resize(rows * outputs);
        for (long r = 0; r < rows; r += PANEL) {
            long n = std::min(PANEL, rows - r);
            product(&x.values[r * inputs], inputs, turned.data(), wide, panel.data(), wide, n, inputs, outputs);
            for (long i = 0; i < n; i++) end(&panel[i * wide], &acc[(r + i) * outputs], &y.tensor.values[(r + i) * outputs], result);
        }
    }
    void end(const float* __restrict sum, float* __restrict acc, float* __restrict codes, Range result) const {
        const float* __restrict b = whole_bias.data(), * __restrict m = this->m.data();
        for (long o = 0; o < outputs; o++) {
            acc[o] = sum[o] + b[o];
            codes[o] = rounded(acc[o] * m[o], result);
        }
    }

    void backward(long windows) override {
        Range result = y.range();
        long rows = windows * y.tensor.size / outputs, wide = padded(outputs);
        const float* g = y.tensor.summed(windows);
        std::fill(of_weight.begin(), of_weight.end(), 0.0f);
        for (auto* v : {&of_m, &edge, &of_bias}) v->assign(outputs, 0);
        for (long r = 0; r < rows; r += PANEL) {
            long n = std::min(PANEL, rows - r);
            std::fill(sums.begin(), sums.end(), 0.0f);
            for (long i = 0; i < n; i++) begin(&g[(r + i) * outputs], &acc[(r + i) * outputs], &panel[i * wide], result);
            for (long o = 0; o < outputs; o++) of_m[o] += sums[o], edge[o] += sums[outputs + o], of_bias[o] += sums[2 * outputs + o];
            outer(panel.data(), wide, &x.values[r * inputs], inputs, of_weight.data(), padded(inputs), n, outputs, inputs);
            product(panel.data(), wide, whole.data(), padded(inputs), of_x.data(), padded(inputs), n, outputs, inputs);
            for (long i = 0; i < n; i++) x.put((r + i) * inputs, &of_x[i * padded(inputs)], inputs);
        }
        x.met = true;
        double of_step = 0, beyond = 0;
        for (long o = 0; o < outputs; o++) {
            of_step -= of_m[o] * acc_step[o] / y.tensor.step / y.tensor.step;
            beyond += edge[o];
            weights_back(o, of_m[o] / y.tensor.step);
        }
        y.end(of_step, beyond);
    }
    void begin(const float* __restrict g, const float* __restrict acc, float* __restrict g_acc, Range result) {
        float* __restrict of_m = sums.data(), * __restrict edge = of_m + outputs, * __restrict of_bias = edge + outputs;
        const float* __restrict m = this->m.data();
        for (long o = 0; o < outputs; o++) {
            float passed = inside(acc[o] * m[o], result) ? g[o] : 0.0f;
            edge[o] += g[o] - passed;
            of_m[o] += passed * acc[o];
            of_bias[o] += g_acc[o] = passed * m[o];
        }
    }
    void weights_back(long o, double g_acc_step) {
        double of_step = 0, of_acc_step = g_acc_step - of_bias[o] * bias.values[o] / acc_step[o] / acc_step[o];
        const float *from = weight.values + o * inputs, *g = &of_weight[o * padded(inputs)];
        for (long i = 0; i < inputs; i++) {
            double v = from[i] / step[o], passed = (inside(v, range) ? g[i] : 0.0f) / step[o];
            weight.grad[o * inputs + i] += passed;
            of_step -= passed * v;
        }
        bias.grad[o] += of_bias[o] / acc_step[o];
        x.of_step += of_acc_step * step[o];
        if (step[o] == learned(o)) log_step.grad[steps == 1 ? 0 : o] += (of_step + of_acc_step * x.step) * step[o];
    }
};

// columns(width, first): all columns in blocks of LANES, the rest one by one
template <class F>
void across(long columns, F f) {
    long c = 0;
    for (; c + LANES <= columns; c += LANES) f(std::integral_constant<int, LANES>(), c);
    for (; c < columns; c++) f(std::integral_constant<int, 1>(), c);
}

// codes = clamp(round(a1 * x + shift + a2 * y)), of which a1 = gain * x_step / step, a2 = gain * y_step / step, shift = offset / step.
// Either y is a tensor, and gain and offset are parameters; or it is positions, of `steps` learned steps, gain 1 and offset 0.
struct Add : Operation {
    Tensor &x, *other;
    Result z;
    const Parameter *gain, *offset, *position, *log_step;
    long channels, rows, steps;  // rows of a window
    Range range;                 // of the positions
    Floats whole, factors, of_y;
    std::vector<double> y_step, exact, of_exact;  // of_exact: and what lies beyond the range

    Add(Tensor& x, Tensor* other, Result z, const Parameter* gain, const Parameter* offset, const Parameter* position,
        const Parameter* log_step, long channels, long steps, float low, float high)
        : x(x),
          other(other),
          z(z),
          gain(gain),
          offset(offset),
          position(position),
          log_step(log_step),
          channels(channels),
          rows(x.size / channels),
          steps(steps),
          range(nullptr, low, high),
          whole(x.size),
          factors(3 * channels),
          of_y(x.size),
          y_step(channels),
          exact(3 * channels) {}

    void forward(long windows) override {
        Range result = z.begin();
        for (long c = 0; c < channels; c++) {
            y_step[c] = other ? other->step : std::exp((double)log_step->values[steps == 1 ? 0 : c]);
            double by = gain ? gain->values[c] : 1.0, step = z.tensor.step;
            double all[] = {by * x.step / step, by * y_step[c] / step, offset ? offset->values[c] / step : 0.0};
            for (int i = 0; i < 3; i++) exact[i * channels + c] = all[i];
            addition(all[0], all[1], all[2]);
            for (int i = 0; i < 3; i++) factors[i * channels + c] = all[i];
        }
        if (!other)
            for (long i = 0; i < x.size; i++) whole[i] = whole_of(position->values[i], y_step[i % channels], range);
        across(channels, [&](auto width, long c) { columns<width>(c, windows * rows, result); });
    }
    const float* y(long r) const { return other ? &other->values[r * channels] : &whole[r % rows * channels]; }
    template <int W>
    void columns(long c, long n, Range range) {
        const float *a1 = &factors[c], *a2 = a1 + channels, *shift = a2 + channels, *from = &x.values[c];
        float* to = &z.tensor.values[c];
        for (long r = 0; r < n; r++, from += channels, to += channels) {
            const float* y = this->y(r) + c;
            for (int i = 0; i < W; i++) to[i] = rounded(from[i] * a1[i] + shift[i] + y[i] * a2[i], range);
        }
    }

    void backward(long windows) override {
        Range result = z.range();
        z.tensor.summed(windows), x.summed(windows);
        if (other) other->summed(windows);
        std::fill(of_y.begin(), of_y.end(), 0.0f);
        of_exact.assign(4 * channels, 0);
        across(channels, [&](auto width, long c) { columns_back<width>(c, windows * rows, result); });
        double of_step = 0, beyond = 0, step = z.tensor.step;
        for (long c = 0; c < channels; c++) {
            double by = gain ? gain->values[c] : 1.0f, *of = &of_exact[c];
            for (int i = 0; i < 3; i++) of_step -= of[i * channels] * exact[i * channels + c] / step;
            beyond += of[3 * channels];
            x.of_step += of[0] * by / step;
            if (other)
                other->of_step += of[channels] * by / step;
            else
                position_back(c, of[channels] / step);
            if (gain) gain->grad[c] += (of[0] * x.step + of[channels] * y_step[c]) / step;
            if (offset) offset->grad[c] += of[2 * channels] / step;
        }
        z.end(of_step, beyond);
    }
    template <int W>
    void columns_back(long c, long n, Range range) {
        const float *a1 = &factors[c], *a2 = a1 + channels, *shift = a2 + channels;
        double* of = &of_exact[c];
        for (long first = 0; first < n; first += BLOCK) {
            float of_a1[W] = {}, of_a2[W] = {}, of_shift[W] = {}, beyond[W] = {};
            for (long r = first; r < std::min(n, first + BLOCK); r++) {
                const float *from = &x.values[r * channels + c], *g = &z.tensor.grad[r * channels + c], *y = this->y(r) + c;
                float *g_x = &x.grad[r * channels + c], *g_y = (other ? &other->grad[r * channels] : &of_y[r % rows * channels]) + c;
                INDEPENDENT for (int i = 0; i < W; i++) {
                    float passed = inside(from[i] * a1[i] + shift[i] + y[i] * a2[i], range) ? g[i] : 0.0f;
                    beyond[i] += g[i] - passed;
                    of_a1[i] += passed * from[i];
                    of_a2[i] += passed * y[i];
                    of_shift[i] += passed;
                    g_x[i] += passed * a1[i];
                    g_y[i] += passed * a2[i];
                }
            }
            for (int i = 0; i < W; i++)
                of[i] += of_a1[i], of[channels + i] += of_a2[i], of[2 * channels + i] += of_shift[i], of[3 * channels + i] += beyond[i];
        }
    }
    void position_back(long c, double of_y_step) {
        for (long i = c; i < x.size; i += channels) {
            double v = position->values[i] / y_step[c], passed = (inside(v, range) ? of_y[i] : 0.0f) / y_step[c];
            position->grad[i] += passed;
            of_y_step -= passed * v;
        }
        log_step->grad[steps == 1 ? 0 : c] += of_y_step * y_step[c];
    }
};

// Matrices of the heads lie side by side in a token: head h of window w begins at (w * tokens) * heads * width + h * width.
struct Heads {
    long count, width;
    long row() const { return count * width; }
    long at(long window, long tokens, long head) const { return window * tokens * row() + head * width; }
};

void copy_padded(const float* from, long from_row, float* to, long rows, long columns) {
    for (long r = 0; r < rows; r++) std::copy(from + r * from_row, from + r * from_row + columns, to + r * padded(columns));
}

void add_rows(Tensor& to, long at, long to_row, const float* from, long rows, long columns) {
    for (long r = 0; r < rows; r++) to.put(at + r * to_row, from + r * padded(columns), columns);
}

// Q K^T / sqrt(width) as codes of a fixed power of two
struct Scores : Operation {
    Tensor &query, &key, &y;
    Heads heads;
    long queries, keys;
    float power, m = 0;
    Range range{nullptr, -128, 127};
    Floats acc, turned, square, wide, g_acc;

    Scores(Tensor& query, Tensor& key, Tensor& y, Heads heads, float power)
        : query(query),
          key(key),
          y(y),
          heads(heads),
          queries(query.size / heads.row()),
          keys(key.size / heads.row()),
          power(power),
          turned(heads.width * padded(keys) + PAD),
          square(queries * padded(keys) + PAD),
          wide(std::max(queries, keys) * padded(heads.width) + PAD),
          g_acc(queries * padded(keys) + PAD) {}

    double product_step() const { return query.step * key.step / std::sqrt((double)heads.width); }
    void forward(long windows) override {
        y.step = power;
        m = multiplier(product_step() / y.step);
        acc.resize(windows * y.size);
        float* sum = acc.data();
        for (long w = 0; w < windows; w++)
            for (long h = 0; h < heads.count; h++, sum += queries * keys) {
                transpose(&key.values[heads.at(w, keys, h)], heads.row(), turned.data(), keys, heads.width);
                product(&query.values[heads.at(w, queries, h)], heads.row(), turned.data(), padded(keys), square.data(), padded(keys),
                        queries, heads.width, keys);
                for (long q = 0; q < queries; q++) std::copy(&square[q * padded(keys)], &square[q * padded(keys)] + keys, sum + q * keys);
            }
        requantise(acc.data(), y.values.data(), m, range, windows * y.size);
    }
    void backward(long windows) override {
        Scalar sums;
        float* g = y.summed(windows);
        sums.back(g, acc.data(), m, range, windows * y.size);
        for (long w = 0; w < windows; w++)
            for (long h = 0; h < heads.count; h++, g += queries * keys) {
                const float *q = &query.values[heads.at(w, queries, h)], *k = &key.values[heads.at(w, keys, h)];
                copy_padded(k, heads.row(), wide.data(), keys, heads.width);
                product(g, keys, wide.data(), padded(heads.width), square_of(queries), padded(heads.width), queries, keys, heads.width);
                add_rows(query, heads.at(w, queries, h), heads.row(), square_of(queries), queries, heads.width);
                std::fill(square_of(keys), square_of(keys) + keys * padded(heads.width), 0.0f);
                outer(g, keys, q, heads.row(), square_of(keys), padded(heads.width), queries, keys, heads.width);
                add_rows(key, heads.at(w, keys, h), heads.row(), square_of(keys), keys, heads.width);
            }
        query.met = key.met = true;
        double of_product_step = sums.of_m / y.step;
        query.of_step += of_product_step * product_step() / query.step;
        key.of_step += of_product_step * product_step() / key.step;
    }
    float* square_of(long rows) {
        if ((long)g_acc.size() < rows * padded(heads.width) + PAD) g_acc.resize(rows * padded(heads.width) + PAD);
        return g_acc.data();
    }
};

// kernels.softmax of each row; `p` keeps T / sum T for the way back, negative where the code was clipped
struct Softmax : Operation {
    Tensor& x;
    Result y;
    long keys;
    Floats table, p;
    Softmax(Tensor& x, Result y, long keys, const double* table) : x(x), y(y), keys(keys), table(table, table + 256) {}

    void forward(long windows) override {
        y.begin();
        double limit = 255 << 17, step = y.tensor.step, k = std::min(24.0, std::floor(std::log2(limit * step)));
        if (std::floor(std::exp2(k) / step + 0.5) >= limit) k--;
        double numerator = std::floor(std::exp2(k) / step + 0.5), scale = std::exp2(-k);
        p.resize(windows * x.size);
        const float* scores = x.values.data();
        float *codes = y.tensor.values.data(), *p = this->p.data();
        for (long r = 0; r < windows * x.size / keys; r++, scores += keys, codes += keys, p += keys) {
            float largest = *std::max_element(scores, scores + keys), total = 0;
            for (long i = 0; i < keys; i++) {
                float below = largest - scores[i];
                bool real = below >= 0 && below <= 255;  // else a training that diverged: it shall show in the loss
                total += p[i] = real ? table[(int)below] : NAN;
            }
            double reciprocal = std::floor(numerator / total) * scale;
            for (long i = 0; i < keys; i++) {
                float code = std::floor(p[i] * reciprocal + 0.5);  // of 25 bits
                codes[i] = std::min(code, y.high);
                p[i] = (code > y.high ? -p[i] : p[i]) / total;
            }
        }
    }
    // Of the real softmax: d code / d p = 1 / step where the code was not clipped
    void backward(long windows) override {
        double of_step = 0;
        float ratio = x.step / y.tensor.step;
        float *g = y.tensor.summed(windows), *p = this->p.data();
        for (long r = 0; r < windows * x.size / keys; r++, g += keys, p += keys) {
            float total = 0;
            for (long i = 0; i < keys; i++) total += g[i] = p[i] > 0 ? g[i] * p[i] : 0.0f;
            for (long i = 0; i < keys; i++) g[i] = (g[i] - std::fabs(p[i]) * total) * ratio;
            of_step -= total;
        }
        x.put(0, y.tensor.grad.data(), windows * x.size);
        x.met = true;
        y.end(of_step / y.tensor.step / y.tensor.step, 0);
    }
};

// P V
struct Context : Operation {
    Tensor &p, &value;
    Result y;
    Heads heads;
    long queries, keys;
    float m = 0;
    Floats acc, wide, turned, scratch;

    Context(Tensor& p, Tensor& value, Result y, Heads heads)
        : p(p),
          value(value),
          y(y),
          heads(heads),
          queries(y.tensor.size / heads.row()),
          keys(value.size / heads.row()),
          wide(keys * padded(heads.width) + PAD),
          turned(heads.width * padded(keys) + PAD),
          scratch(std::max(queries, keys) * std::max(padded(heads.width), padded(keys)) + PAD) {}

    void forward(long windows) override {
        Range range = y.begin();
        m = multiplier(p.step * value.step / y.tensor.step);
        acc.resize(windows * y.tensor.size + PAD);
        const float* row = p.values.data();
        for (long w = 0; w < windows; w++)
            for (long h = 0; h < heads.count; h++, row += queries * keys) {
                copy_padded(&value.values[heads.at(w, keys, h)], heads.row(), wide.data(), keys, heads.width);
                product(row, keys, wide.data(), padded(heads.width), scratch.data(), padded(heads.width), queries, keys, heads.width);
                for (long q = 0; q < queries; q++)
                    std::copy_n(&scratch[q * padded(heads.width)], heads.width, &acc[heads.at(w, queries, h) + q * heads.row()]);
            }
        requantise(acc.data(), y.tensor.values.data(), m, range, windows * y.tensor.size);
    }
    void backward(long windows) override {
        Scalar sums;
        float* g = y.tensor.summed(windows);
        sums.back(g, acc.data(), m, y.range(), windows * y.tensor.size);
        long at = 0;
        for (long w = 0; w < windows; w++)
            for (long h = 0; h < heads.count; h++, at += queries * keys) {
                const float *g_acc = g + heads.at(w, queries, h), *v = &value.values[heads.at(w, keys, h)];
                transpose(v, heads.row(), turned.data(), keys, heads.width);
                product(g_acc, heads.row(), turned.data(), padded(keys), scratch.data(), padded(keys), queries, heads.width, keys);
                add_rows(p, at, keys, scratch.data(), queries, keys);
                std::fill(scratch.begin(), scratch.end(), 0.0f);
                outer(&p.values[at], keys, g_acc, heads.row(), scratch.data(), padded(heads.width), queries, keys, heads.width);
                add_rows(value, heads.at(w, keys, h), heads.row(), scratch.data(), keys, heads.width);
            }
        p.met = value.met = true;
        double of_product_step = sums.end(y, p.step * value.step);
        p.of_step += of_product_step * value.step;
        value.of_step += of_product_step * p.step;
    }
};

// `count` values of every window, from `from` on, followed by zeros
struct Part : Operation {
    Tensor &x, &y;
    long from, count;
    Part(Tensor& x, Tensor& y, long from, long count) : x(x), y(y), from(from), count(count) {}
    void forward(long windows) override {
        y.step = x.step;
        for (long w = 0; w < windows; w++) {
            float* to = &y.values[w * y.size];
            std::fill(std::copy_n(&x.values[w * x.size + from], count, to), to + y.size, 0.0f);
        }
    }
    void backward(long windows) override {
        float *to = x.summed(windows), *g = y.summed(windows);
        for (long w = 0; w < windows; w++)
            for (long i = 0; i < count; i++) to[w * x.size + from + i] += g[w * y.size + i];
        x.of_step += y.of_step;
    }
};

struct Plan {
    std::vector<Tensor> tensors;
    std::vector<Parameter> parameters;
    std::vector<long> sizes;  // of the parameters
    std::vector<std::unique_ptr<Operation>> operations;
    const float* input = nullptr;
    long windows = 0, room = 0;
};

}  // namespace

extern "C" {

// A plan of tensors (values per window each) and parameters (values each), still without operations
Plan* plan(const long* tensors, long n_tensors, const long* parameters, long n_parameters) {
    auto* plan = new Plan;
    for (long i = 0; i < n_tensors; i++) plan->tensors.push_back({tensors[i], {}, {}});
    plan->parameters.resize(n_parameters);
    plan->sizes.assign(parameters, parameters + n_parameters);
    return plan;
}

void free_plan(Plan* plan) { delete plan; }

// Appends an operation. i: tensors in, tensor out, then parameters (-1: none) and sizes; f: numbers. -> whether the kind is known
int operation(Plan* plan, const char* kind, const long* i, const double* f) {
    auto tensor = [&](long n) -> Tensor& { return plan->tensors[n]; };
    auto parameter = [&](long n) { return n < 0 ? nullptr : &plan->parameters[n]; };
    auto result = [&](const long* i) { return Result{tensor(i[0]), parameter(i[1]), parameter(i[2]), (float)f[0], (float)f[1]}; };
    std::string name = kind;
    Operation* made;
    if (name == "quantise")
        made = new Quantise(plan->input, result(i), std::vector<double>(f + 2, f + 2 + i[3]), i[4]);
    else if (name == "requantise")
        made = new Requantise(tensor(i[0]), result(i + 1));
    else if (name == "pool")
        made = new Pool(tensor(i[0]), result(i + 1));
    else if (name == "linear")
        made = new Linear(tensor(i[0]), result(i + 1), *parameter(i[4]), *parameter(i[5]), *parameter(i[6]), i[7], i[8], i[9], f[2], f[3],
                          f[4], f[5]);
    else if (name == "add")
        made = new Add(tensor(i[0]), &tensor(i[1]), result(i + 2), parameter(i[5]), parameter(i[6]), nullptr, nullptr, i[7], 0, 0, 0);
    else if (name == "add_position")
        made = new Add(tensor(i[0]), nullptr, result(i + 1), nullptr, nullptr, parameter(i[4]), parameter(i[5]), i[6], i[7], f[2], f[3]);
    else if (name == "scores")
        made = new Scores(tensor(i[0]), tensor(i[1]), tensor(i[2]), {i[3], i[4]}, f[0]);
    else if (name == "softmax")
        made = new Softmax(tensor(i[0]), result(i + 1), i[4], f + 2);
    else if (name == "context")
        made = new Context(tensor(i[0]), tensor(i[1]), result(i + 2), {i[5], i[6]});
    else if (name == "part")
        made = new Part(tensor(i[0]), tensor(i[1]), i[2], i[3]);
    else
        return 0;
    plan->operations.emplace_back(made);
    return 1;
}

// input: counts minus anchor; forecast: the last tensor in real values
void forward(Plan* plan, const float* const* parameters, const float* input, long windows, float* forecast) {
    if (windows > plan->room) {
        for (auto& t : plan->tensors) t.values.resize(windows * t.size + PAD), t.grad.resize(windows * t.size + PAD);
        plan->room = windows;
    }
    for (size_t i = 0; i < plan->parameters.size(); i++) plan->parameters[i].values = parameters[i];
    plan->input = input, plan->windows = windows;
    for (auto& operation : plan->operations) operation->forward(windows);
    const Tensor& last = plan->tensors.back();
    for (long i = 0; i < windows * last.size; i++) forecast[i] = last.values[i] * last.step;
}

// Of the latest way forward, whose parameters and input are still there. grads: of all parameters, one after another
void backward(Plan* plan, const float* g, float* grads) {
    for (size_t i = 0; i < plan->parameters.size(); grads += plan->sizes[i++]) {
        plan->parameters[i].grad = grads;
        std::fill(grads, grads + plan->sizes[i], 0.0f);
    }
    for (auto& t : plan->tensors) t.met = false, t.of_step = 0;
    Tensor& last = plan->tensors.back();
    for (long i = 0; i < plan->windows * last.size; i++) {
        last.grad[i] = g[i] * last.step;
        last.of_step += g[i] * last.values[i];
    }
    last.met = true;
    for (auto i = plan->operations.rbegin(); i != plan->operations.rend(); i++) (*i)->backward(plan->windows);
}
}
