"""The integer arithmetic against Python's own integers and fractions, one number at a time."""

import math
from fractions import Fraction

import numpy as np
import pytest

from qatlib.integer_model import kernels

RANGES = [(-128, 127), (-127, 127), (0, 255), (-8, 7), (0, 15), (-2, 1), (0, 3)]


def half_up(x):
    return math.floor(Fraction(x) + Fraction(1, 2))


def clamp(x, low, high):
    return max(low, min(high, x))


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize(
    ("bits", "options", "expected"),
    [
        (8, {}, (-128, 127)),
        (8, {"narrow": True}, (-127, 127)),
        (8, {"unsigned": True}, (0, 255)),
        (2, {}, (-2, 1)),
        (2, {"unsigned": True}, (0, 3)),
        (4, {"narrow": False}, (-8, 7)),
    ],
)
def test_code_range(bits, options, expected):
    assert kernels.code_range(bits, **options) == expected


def test_only_eight_bits_are_narrow():
    assert [bits for bits in range(2, 9) if kernels.is_narrow(bits)] == [8]


def test_round_half_up_takes_ties_up_for_negatives_too():
    x = [-2.5, -2.4999, -1.5, -0.5, -0.2, 0.0, 0.5, 1.5, 2.5, 2.4999]
    assert kernels.round_half_up(x).tolist() == [-2, -2, -1, 0, 0, 0, 1, 2, 3, 2]


def test_shift_round_ties():
    assert kernels.shift_round([-6, -5, -3, -2, -1, 1, 2, 3, 5, 6], 2).tolist() == [-1, -1, -1, 0, 0, 0, 1, 1, 1, 2]
    assert kernels.shift_round([-3, -1, 1, 3], 1).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_requantise(rng, low, high):
    acc = rng.integers(-(1 << 24) + 1, 1 << 24, (40, 30))
    acc[0] = rng.integers(-40, 40, 30)
    acc[1], acc[2] = (1 << 24) - 1, -(1 << 24) + 1
    m = np.r_[1 << 15, 65535, rng.integers(1 << 15, 1 << 16, 28)].astype(np.uint16)
    n = np.r_[1, 40, rng.integers(1, 41, 28)].astype(np.uint8)
    for zero_point in {low, high, (low + high + 1) // 2}:
        expected = [
            [clamp(zero_point + half_up(Fraction(a * int(m[j]), 1 << int(n[j]))), low, high) for j, a in enumerate(row)]
            for row in acc.tolist()
        ]
        np.testing.assert_array_equal(kernels.requantise(acc, m, n, zero_point, low, high), expected)


def test_requantise_ties_and_saturation():
    """m * 2**-n = 1/2: every odd accumulator is a tie, and goes up."""
    m, n = np.uint16([1 << 15]), np.uint8([16])
    acc = np.array([[-257], [-256], [-5], [-3], [-1], [0], [1], [3], [253], [254], [255], [1 << 23]])
    assert kernels.requantise(acc, m, n, 0, -128, 127).ravel().tolist() == [
        -128,
        -128,
        -2,
        -1,
        0,
        0,
        1,
        2,
        127,
        127,
        127,
        127,
    ]
    assert kernels.requantise(acc, m, n, -128, -128, 127).ravel().tolist()[:3] == [-128] * 3
    assert kernels.requantise(acc[:3], m, n, 127, -128, 127).ravel().tolist() == [-1, -1, 125]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_add(rng, low, high):
    q1, q2 = (rng.integers(-128, 256, (5, 3, 40)).astype(np.int32) for _ in range(2))
    q1[0], q2[0] = -128, 255
    m1, m2 = (np.r_[65535, -65535, 0, rng.integers(-65535, 65536, 37)].astype(np.int32) for _ in range(2))
    c = np.r_[0, 1, -1, rng.integers(-(1 << 30), 1 << 30, 37)].astype(np.int32)
    n = np.r_[1, 30, 16, rng.integers(1, 31, 37)].astype(np.uint8)
    zero_point = (low + high + 1) // 2
    got = kernels.add(q1, q2, m1, m2, c, n, zero_point, low, high)
    for index in np.ndindex(q1.shape):
        j = index[-1]
        total = int(m1[j]) * int(q1[index]) + int(m2[j]) * int(q2[index]) + int(c[j])
        assert got[index] == clamp(zero_point + (total >> int(n[j])), low, high)


def test_linear(rng):
    q, weight = rng.integers(-128, 256, (3, 2, 17)).astype(np.int32), rng.integers(-127, 128, (5, 17))
    bias = rng.integers(-(1 << 23), 1 << 23, 5).astype(np.int32)
    expected = [
        [
            [
                sum(int(a) * int(b) for a, b in zip(token, row, strict=True)) + int(c)
                for row, c in zip(weight, bias, strict=True)
            ]
            for token in window
        ]
        for window in q
    ]
    np.testing.assert_array_equal(kernels.linear(q, weight, bias), expected)


def test_matmul_is_exact_up_to_the_limit():
    a, b = np.full((1, 518), 255), np.full((518, 1), 127)
    assert kernels.matmul(a, b)[0, 0] == 518 * 255 * 127 < kernels.ACCUMULATOR_LIMIT
    assert kernels.matmul(-a, b)[0, 0] == -518 * 255 * 127


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_scores_and_context_head_by_head(rng, heads):
    """Query and key/value lengths differ, as in cross-attention; head h owns the h-th block of channels."""
    d = 6 // heads
    query, key, value = (rng.integers(-127, 128, (2, tokens, 6)).astype(np.int32) for tokens in (3, 5, 5))
    p = rng.integers(0, 256, (2, heads, 3, 5)).astype(np.int32)
    scores, context = kernels.scores(query, key, heads), kernels.context(p, value, heads)
    assert scores.shape == (2, heads, 3, 5) and context.shape == (2, 3, 6)
    for w, h, i, j in np.ndindex(scores.shape):
        block = range(h * d, h * d + d)
        assert scores[w, h, i, j] == sum(int(query[w, i, c]) * int(key[w, j, c]) for c in block)
    for w, i, c in np.ndindex(context.shape):
        assert context[w, i, c] == sum(int(p[w, c // d, i, j]) * int(value[w, j, c]) for j in range(5))


def test_pool_sums_over_tokens(rng):
    q = rng.integers(-128, 256, (2, 336, 3)).astype(np.int32)
    expected = [[[sum(int(v) for v in window[:, c]) - 336 * -100 for c in range(3)]] for window in q]
    np.testing.assert_array_equal(kernels.pool(q, -100), expected)


@pytest.mark.parametrize("exponent", [3, 4, 5, 6])
def test_softmax_table(exponent):
    table = kernels.softmax_table(exponent)
    assert table.dtype == np.uint8 and table[0] == 255
    assert table.tolist() == [math.floor(255 * math.exp(-j / 2**exponent) + 0.5) for j in range(256)]


@pytest.mark.parametrize("step", [1.0, 1 / 3, 0.3, 1 / 15, 1 / 255, 0.0039, 1 / 336 / 3, 1 / 336 / 255, 1e-6])
def test_softmax_constants(step):
    """N is the rounded 2**k / step, and k the largest (up to 24) whose reciprocals stay below 2**17."""
    numerator, k = kernels.softmax_constants(step)
    assert numerator == half_up(Fraction(2) ** k / Fraction(step)) and 1 <= k <= 24
    assert numerator // 255 < 1 << 17
    assert k == 24 or half_up(Fraction(2) ** (k + 1) / Fraction(step)) // 255 >= 1 << 17


def reference_softmax(row, exponent, step, high):
    table = [math.floor(255 * math.exp(-j / 2**exponent) + 0.5) for j in range(256)]
    numerator, k = kernels.softmax_constants(step)
    t = [table[max(row) - s] for s in row]
    reciprocal = numerator // sum(t)
    return [min(high, (v * reciprocal + (1 << (k - 1))) >> k) for v in t]


@pytest.mark.parametrize("exponent", [3, 6])
@pytest.mark.parametrize(("step", "bits"), [(1 / 255, 8), (1 / 2000, 8), (1 / 15, 4), (1 / 3, 2), (1 / 336 / 3, 2)])
def test_softmax(rng, exponent, step, bits):
    scores = rng.integers(-128, 128, (2, 2, 9, 12)).astype(np.int32)
    scores[0, 0, :4] = [[-128] * 12, [127] * 12, [127] + [-128] * 11, [-128, 127] * 6]
    high = (1 << bits) - 1
    got = kernels.softmax(scores, kernels.softmax_table(exponent), *kernels.softmax_constants(step), high)
    for index in np.ndindex(scores.shape[:3]):
        assert got[index].tolist() == reference_softmax(scores[index].tolist(), exponent, step, high)


@pytest.mark.parametrize("tokens", [96, 336])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_long_uniform_row_is_no_row_of_zeros(tokens, bits):
    """Probabilities of 1 / tokens, at a step that was fitted to them, stay within one step of what they are."""
    high = (1 << bits) - 1
    step = 1 / tokens / high
    p = kernels.softmax(np.full((1, 1, 1, tokens), 5), kernels.softmax_table(4), *kernels.softmax_constants(step), high)
    assert np.unique(p).tolist() in ([high], [high - 1])


def test_softmax_saturates():
    """A single peak at a step too fine for it takes the highest code."""
    scores = np.full((1, 1, 1, 336), -128)
    scores[..., 7] = 127
    p = kernels.softmax(scores, kernels.softmax_table(3), *kernels.softmax_constants(1 / 1000), 15).ravel()
    assert p[7] == 15 and p.sum() == 15


def test_requantise_at_the_largest_difference_of_counts():
    """Differences of two int16 counts have 17 bits."""
    m, n = np.uint16([40000]), np.uint8([24])
    got = kernels.requantise(np.array([[-65535], [65535], [-210], [-209], [209], [210]]), m, n, 3, -128, 127).ravel()
    expected = [
        clamp(3 + half_up(Fraction(d * 40000, 1 << 24)), -128, 127) for d in (-65535, 65535, -210, -209, 209, 210)
    ]
    assert got.tolist() == expected and expected[:2] == [-128, 127]


def test_output_counts():
    """Rounded half up, the anchor added back, saturated to int16 at both ends."""
    q = np.array([[-128, -3, -2, -1, 0, 1, 127]], dtype=np.int32)
    got = kernels.output_counts(q, 1 << 15, 16, -1, np.array([[10]]))  # multiplier 1/2, zero point -1
    assert got.dtype == np.int16 and got.tolist() == [[10 - 63, 9, 10, 10, 11, 11, 74]]
    ends = kernels.output_counts(np.repeat(q, 2, axis=0), 65535, 4, 0, np.array([[32000], [-32000]]))
    assert (ends[0, -1], ends[1, 0]) == (32767, -32768)
    assert kernels.output_counts(q, 65535, 1, 0, 5).tolist() == [[-32768, -32768, -32768, -32762, 5, 32767, 32767]]
