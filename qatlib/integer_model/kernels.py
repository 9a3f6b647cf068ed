"""The integer arithmetic, in NumPy: the definition that training, C and hardware are compared with by equality.

An integer array `q` stands for `scale * (q - zero_point)`. Activations are int32 arrays of shape (window, token,
channel). Rounding is round-half-up everywhere, `(x + 2**(n-1)) >> n` with an arithmetic shift, and results are clamped,
never wrapped. Every accumulator stays below 2**24 in magnitude, which is proven when a model is exported.
"""

import numpy as np

ACCUMULATOR_LIMIT = 1 << 24
COUNT_MIN, COUNT_MAX = -(1 << 15), (1 << 15) - 1  # a sensor count is an int16


def code_range(bits, *, unsigned=False, narrow=False):
    """Lowest and highest code of a tensor; `narrow` leaves out the lowest (so that two 8-bit products share one
    multiplier)."""
    if unsigned:
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)) + bool(narrow), (1 << (bits - 1)) - 1


def is_narrow(bits):
    """Weights and Q, K, V leave out the lowest code at 8 bits, and only there."""
    return bits == 8


def round_half_up(x):
    """floor(x + 0.5) as int64: ties go up, for negatives too (-0.5 -> 0). Never a language's own `round`."""
    return np.floor(np.asarray(x, dtype=np.float64) + 0.5).astype(np.int64)


def shift_round(x, n):
    """(x + 2**(n-1)) >> n in int64, n >= 1, broadcast over the last axis."""
    n = np.asarray(n, dtype=np.int64)
    return (np.asarray(x, dtype=np.int64) + (np.int64(1) << (n - 1))) >> n


def requantise(accumulator, m, n, zero_point, low, high):
    """clamp(z + ((acc * m + 2**(n-1)) >> n)).

    accumulator: (..., channel), |acc| < 2**24; m: 16-bit unsigned with its top bit set; n: 1 to 40; both per channel or
    scalar.
    """
    scaled = shift_round(np.asarray(accumulator, dtype=np.int64) * np.asarray(m, dtype=np.int64), n)
    return np.clip(zero_point + scaled, low, high).astype(np.int32)


def add(q1, q2, m1, m2, c, n, zero_point, low, high):
    """Residual add with batch norm, or positional add: clamp(z + ((m1*q1 + m2*q2 + c) >> n)).

    q1, q2: (..., channel); m1, m2: signed 17-bit, c: 32-bit and n: 1 to 30, per channel. `c` holds offset, zero points
    and the half.
    """
    total = q1.astype(np.int64) * m1 + q2.astype(np.int64) * m2 + c
    return np.clip(zero_point + (total >> n.astype(np.int64)), low, high).astype(np.int32)


def matmul(a, b):
    """Exact integer product. Codes have at most 9 bits and |acc| < 2**24, so float64 BLAS loses nothing and is some 20
    times faster."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def linear(q, weight, bias):
    """q: (..., in), weight: (out, in), bias: (out,) with the activation's zero point folded in -> accumulator (...,
    out)."""
    return matmul(q, weight.T) + bias


def split_heads(q, heads):
    """(window, token, channel) -> (window, head, token, channel / heads)."""
    windows, tokens, channels = q.shape
    return q.reshape(windows, tokens, heads, channels // heads).transpose(0, 2, 1, 3)


def scores(query, key, heads):
    """Q K^T per head: (window, token, channel) twice -> accumulator (window, head, query token, key token)."""
    return matmul(split_heads(query, heads), split_heads(key, heads).transpose(0, 1, 3, 2))


def context(probabilities, value, heads):
    """P V per head: (window, head, query token, key token), (window, key token, channel) -> accumulator (window, token,
    channel)."""
    mixed = matmul(probabilities, split_heads(value, heads))
    windows, _, tokens, _ = mixed.shape
    return mixed.transpose(0, 2, 1, 3).reshape(windows, tokens, -1)


def pool(q, zero_point):
    """Sum over the tokens, zero points taken out: (window, token, channel) -> accumulator (window, 1, channel)."""
    return q.sum(axis=1, keepdims=True, dtype=np.int64) - q.shape[1] * zero_point


def softmax_table(exponent):
    """T[j] = floor(255 * exp(-j * 2**-exponent) + 0.5), j = 0..255, uint8."""
    return round_half_up(255 * np.exp(-np.arange(256) * 2.0**-exponent)).astype(np.uint8)


def softmax_constants(step):
    """N = floor(2**k / step + 0.5) and k, the largest for which every reciprocal r = floor(N / S) stays below 2**17 (S
    >= 255)."""
    limit = 255 << 17
    k = min(24, int(np.floor(np.log2(limit * step))))
    numerator = int(round_half_up(2.0**k / step))
    return (numerator, k) if numerator < limit else (int(round_half_up(2.0 ** (k - 1) / step)), k - 1)


def softmax(score, table, numerator, k, high):
    """Integer softmax of each row: 8-bit scores (..., key token) -> unsigned probabilities in steps, 0..high.

    p = min(high, (T[max - score] * r + 2**(k-1)) >> k) with r = floor(N / sum T).
    """
    t = table.astype(np.int64)[score.max(axis=-1, keepdims=True) - score]
    reciprocal = numerator // t.sum(axis=-1, keepdims=True)
    return np.minimum(shift_round(t * reciprocal, k), high).astype(np.int32)


def output_counts(q, m, n, zero_point, anchor):
    """Output codes -> counts: requantised, the anchor added back, saturated to int16. q: (window, horizon, target); m,
    n: one, or one a target; anchor: (window, 1, target)."""
    change = shift_round((q.astype(np.int64) - zero_point) * m, n)
    return np.clip(change + anchor, COUNT_MIN, COUNT_MAX).astype(np.int16)
