"""Quantisers, their gradients, and multipliers rounded as the integers round them."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from qatlib.integer_model import kernels
from qatlib.quantised_model import ptq, quantisers
from qatlib.quantised_model.quantisers import ActivationQuantizer, QuantConfig, WeightQuantizer, round_clamp


def asymmetric(x, bits, *, scheme="asymmetric", method="minmax"):
    """A quantiser with steps set to x."""
    quantizer = ActivationQuantizer(bits=bits, scheme=scheme)
    step, zero = ptq.asymmetric_steps(x.reshape(1, -1), bits, method)
    with torch.no_grad():
        quantizer.log_step.fill_(
            ptq.symmetric_steps(x.reshape(1, -1), quantizer.code_low, quantizer.code_high, method).log().item()
        )
        quantizer.log_step_asymmetric.fill_(step.log().item())
        quantizer.zero.fill_(zero.item())
    return quantizer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_bits": 9}, "weight_bits is 9; choose 2 to 8"),
        ({"activation_bits": 1}, "activation_bits is 1"),
        ({"residual_bits": 0}, "residual_bits is 0"),
        ({"edge_bits": 16}, "edge_bits is 16"),
        ({"scheme": "affine"}, "unknown scheme 'affine'; choose one of symmetric, asymmetric, adaptive"),
        ({"granularity": "row"}, "unknown granularity 'row'; choose one of channel, tensor"),
    ],
)
def test_wrong_config_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        QuantConfig(**change)


def test_round_clamp_rounds_half_up_and_saturates():
    v = torch.tensor([-9.0, -8.5, -2.5, -1.5, -0.5, -0.49, 0.5, 1.5, 2.5, 7.4, 7.5, 300])
    assert round_clamp(v, -8, 7).tolist() == [-8, -8, -2, -1, 0, 0, 1, 2, 3, 7, 7, 7]


def test_gradient_passes_inside_and_not_outside():
    v = torch.tensor([-20.0, -8.6, -8.4, -0.5, 0.3, 7.4, 7.6, 20.0], requires_grad=True)
    round_clamp(v, -8, 7).sum().backward()
    assert v.grad.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


def test_gradient_of_moving_bounds():
    """With high = low + 15, every clipped value moves with `low`, at either end."""
    v = torch.tensor([-20.0, -12.0, 0.3, 1.0, 20.0], requires_grad=True)
    low = torch.tensor(-8.0, requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    (round_clamp(v, low, low + 15) * weights).sum().backward()
    assert low.grad == 1 + 2 + 16 and v.grad.tolist() == [0, 0, 4, 8, 0]


def test_step_gradient_is_that_of_lsq():
    """d(q * s)/ds = round(x/s) - x/s inside, the bound outside (arXiv 1902.08153, equation 3)."""
    x, s = torch.tensor([-3.0, -0.4, 0.13, 0.26, 0.9]), torch.tensor(0.1, requires_grad=True)
    for i, expected in enumerate([-8.0, 0.0, -0.3, 0.4, 7.0]):
        s.grad = None
        (round_clamp(x[i] / s, -8, 7) * s).backward()
        assert s.grad.item() == pytest.approx(expected, abs=1e-4)


def test_straight_through():
    x = torch.tensor([0.3, -1.7], dtype=torch.float64, requires_grad=True)
    y = quantisers.straight_through(torch.tensor([0.0, -2.0], dtype=torch.float64), x)
    y.sum().backward()
    assert y.tolist() == [0.0, -2.0] and x.grad.tolist() == [1.0, 1.0]


# -- multipliers


def nearest(multiplier):
    """(m, n) with 2**15 <= m < 2**16, from fractions."""
    n = 1
    while Fraction(multiplier) * 2**n < Fraction(65535) + Fraction(1, 2) and n < 40:
        n += 1
    m = math.floor(Fraction(multiplier) * 2**n + Fraction(1, 2))
    if m < 65536:
        return m, n
    return math.floor(
        Fraction(multiplier) * 2 ** (n - 1) + Fraction(1, 2)
    ), n - 1  # the finest shift at which m has 16 bits


def test_split_multiplier():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(2.0 ** rng.uniform(-24.9, 14.9, 500))
    m, n = quantisers.split_multiplier(x)
    assert [(int(a), int(b)) for a, b in zip(m, n, strict=True)] == [nearest(v) for v in x.tolist()]


@pytest.mark.parametrize("exponent", [-24, -16, -1, 0, 1, 14])
def test_mantissa_that_rounds_up_carries(exponent):
    """Just below a power of two, m would round to 2**16: it becomes 2**15, one shift less."""
    m, n = quantisers.split_multiplier(
        torch.tensor([2.0**exponent * (1 - 2.0**-20), 2.0**exponent], dtype=torch.float64)
    )
    assert m.tolist() == [32768, 32768] and n.tolist() == [15 - exponent] * 2


def test_multipliers_keep_to_what_the_shift_can_hold():
    m, n = quantisers.split_multiplier(torch.tensor([0.0, 1e-30, 2.0**-25, 65535 / 2, 1e9], dtype=torch.float64))
    assert m.tolist() == [32768, 32768, 32768, 65535, 65535] and n.tolist() == [40, 40, 40, 1, 1]


def test_round_multiplier_is_the_fraction_and_passes_the_gradient():
    x = torch.from_numpy(np.random.default_rng(1).uniform(1e-5, 3, 300)).requires_grad_()
    y = quantisers.round_multiplier(x)
    y.sum().backward()
    m, n = quantisers.split_multiplier(x.detach())
    assert y.tolist() == [float(Fraction(int(a), 1 << int(b))) for a, b in zip(m, n, strict=True)]
    assert (x.grad == 1).all() and not torch.equal(x.detach(), y.detach())


def test_split_addition():
    """m1, m2 signed 17 bit, c below 2**30, n 1 to 30, each the nearest; the larger factor uses its bits unless the
    shift needs them."""
    rng = np.random.default_rng(2)
    a1, a2 = (torch.from_numpy(2.0 ** rng.uniform(-12, 8, 400) * rng.choice([-1, 1], 400)) for _ in range(2))
    shift = torch.from_numpy(2.0 ** rng.uniform(-10, 9, 400) * rng.choice([-1, 1], 400))
    m1, m2, c, n = quantisers.split_addition(a1, a2, shift)
    for i in range(400):
        for number, exact, limit in ((m1, a1, 65535), (m2, a2, 65535), (c, shift, 2**30 - 1)):
            rounded = math.floor(Fraction(float(exact[i])) * 2 ** int(n[i]) + Fraction(1, 2))
            assert int(number[i]) == max(-limit, min(limit, rounded))
        assert 1 <= n[i] <= 30 and (max(abs(m1[i]), abs(m2[i])) >= 1 << 15 or abs(c[i]) >= 1 << 28 or n[i] == 30)


def test_split_addition_of_nothing_and_of_too_much():
    zero, huge = torch.zeros(1, dtype=torch.float64), torch.tensor([1e12], dtype=torch.float64)
    assert [int(v) for v in quantisers.split_addition(zero, zero, zero)[:3]] == [0, 0, 0]
    m1, m2, c, n = (int(v) for v in quantisers.split_addition(huge, -huge, huge))
    assert (m1, m2, c, n) == (65535, -65535, 2**30 - 1, 1)


# -- weights


@pytest.mark.parametrize(("bits", "low"), [(8, -127), (7, -64), (4, -8), (2, -2)])
def test_weight_range(bits, low):
    quantizer = WeightQuantizer(3, bits=bits, granularity="channel")
    weight = torch.tensor([-1e6, -0.5, 0.5, 1e6]).repeat(3, 1)
    assert quantizer(weight, quantizer.step()).tolist() == [[low, 0, 1, 2 ** (bits - 1) - 1]] * 3


@pytest.mark.parametrize(("granularity", "steps"), [("channel", 5), ("tensor", 1)])
def test_weight_granularity(granularity, steps):
    quantizer = WeightQuantizer(5, bits=4, granularity=granularity)
    quantizer(torch.linspace(1, 3, 20).reshape(5, 4), quantizer.step()).square().sum().backward()
    assert quantizer.log_step.shape == (steps, 1) and (quantizer.log_step.grad != 0).all()


# -- activations


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("ends", [(3, 5), (-5, -3), (-1, 9), (-7, 2), (0, 4), (-0.01, 4)])
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_zero_is_a_code_of_every_asymmetric_range(bits, ends, method):
    """A range that leaves zero out, [3, 5], is widened to hold it; zero itself is then met exactly."""
    x = torch.linspace(*ends, 500)
    quantizer = asymmetric(x, bits, method=method)
    low, high = kernels.code_range(bits)
    assert low <= quantizer.zero_point() <= high
    step = quantizer.step()
    codes = quantizer(x / step)
    assert low <= (codes + quantizer.zero_point()).min() and (codes + quantizer.zero_point()).max() <= high
    assert quantizer(torch.zeros(3)).tolist() == [0, 0, 0]
    if method == "minmax":
        assert (codes * step - x).abs().max() <= 1.001 * step  # one half by rounding, one by rounding the zero point


def test_zero_point_stays_a_code_when_learned_beyond_its_range():
    quantizer = ActivationQuantizer(bits=4, scheme="asymmetric")
    for learned, code in ((-30.0, -8), (300.0, 7), (7.5, 0), (7.49, -1)):
        with torch.no_grad():
            quantizer.zero.fill_(learned)
        assert quantizer.zero_point() == code
        assert sorted(quantizer(torch.tensor([-1e9, 1e9])).tolist()) == [-8 - code, 7 - code]


def test_unsigned_is_symmetric_about_nothing():
    quantizer = ActivationQuantizer(bits=4, scheme="adaptive", unsigned=True)
    assert quantizer.zero_point() == 0 and quantizer(torch.tensor([-3.0, 0.5, 15.5])).tolist() == [0, 1, 15]


def test_products_are_narrow_at_eight_bits():
    for bits, low in ((8, -127), (4, -8)):
        assert ActivationQuantizer(bits=bits, narrow=True)(torch.tensor([-1e9])).item() == low


@pytest.mark.parametrize("scheme", quantisers.SCHEMES)
def test_steps_and_zero_point_receive_gradients(scheme):
    x = torch.randn(400, generator=torch.Generator().manual_seed(0)) + 1.5
    quantizer = (
        asymmetric(x, 3, scheme="asymmetric") if scheme == "asymmetric" else ActivationQuantizer(bits=3, scheme=scheme)
    )
    if scheme == "adaptive":
        quantizer.running_error.copy_(torch.tensor([1.0, 0.0]))
        quantizer.choosing = False
    with torch.no_grad():
        quantizer.log_step.sub_(1)
        if scheme != "symmetric":
            quantizer.log_step_asymmetric.fill_(-1.0)
    step = quantizer.step()
    (quantizer(x / step) * step - x).square().mean().backward()
    if scheme == "symmetric":
        assert quantizer.log_step.grad != 0
    else:
        assert quantizer.log_step_asymmetric.grad != 0 and quantizer.zero.grad != 0 and quantizer.log_step.grad is None


def test_learning_moves_step_and_zero_point_to_a_smaller_error():
    x = torch.rand(1, 500, generator=torch.Generator().manual_seed(1)) * 2 + 3
    x[0, :250] -= 4  # -1..5
    quantizer = asymmetric(x, 3)
    with torch.no_grad():
        quantizer.zero.add_(2)
        quantizer.log_step_asymmetric.sub_(0.5)
    before = quantizer.error(x, asymmetric=True)
    optimiser = torch.optim.Adam(quantizer.parameters(), lr=0.03)
    for _ in range(100):
        optimiser.zero_grad()
        step = quantizer.step()
        (quantizer(x / step) * step - x).square().mean().backward()
        optimiser.step()
    assert quantizer.error(x, asymmetric=True) < before / 3


@pytest.mark.parametrize(("x", "choice"), [(torch.linspace(3, 5, 300), True), (torch.linspace(-4, 4, 300), False)])
def test_adaptive_takes_the_scheme_with_the_lower_error(x, choice):
    """One-sided: asymmetric. Even about zero: min-max finds no gain in moving the zero point, symmetric is kept."""
    quantizer = asymmetric(x, 4, scheme="adaptive", method="minmax" if choice else "mse")
    quantizer.running_error.copy_(torch.tensor([0.0, 1.0] if choice else [1.0, 0.0]))  # begin with the wrong one
    for _ in range(1600):
        quantizer(x / quantizer.step().detach())
    assert quantizer.is_asymmetric() == choice
    assert (quantizer.bounds()[0] == quantizer.code_low) != choice


def test_a_frozen_choice_stays():
    quantizer = asymmetric(torch.linspace(3, 5, 300), 4, scheme="adaptive")
    quantizer.running_error.copy_(torch.tensor([0.0, 1.0]))
    quantizer.freeze_choice()
    for _ in range(50):
        quantizer(torch.linspace(3, 5, 300) / quantizer.step())
    assert not quantizer.is_asymmetric()


def test_evaluation_chooses_nothing():
    quantizer = asymmetric(torch.linspace(3, 5, 300), 4, scheme="adaptive").eval()
    errors = quantizer.running_error.clone()
    quantizer(torch.randn(300))
    assert torch.equal(errors, quantizer.running_error)
