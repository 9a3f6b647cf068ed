"""Steps from calibration windows: what each method is for."""

import copy

import pytest
import torch

from qatlib.float_model.config import FAMILIES
from qatlib.quantised_model import ptq, qat, quantisers
from qatlib.quantised_model.quantisers import QuantConfig


def error(step, x, low, high, zero=0):
    codes = (torch.floor(x / step + 0.5) + zero).clamp(low, high) - zero
    return (codes * step - x).square().mean(-1)


@pytest.fixture
def heavy():
    """Rows of values with a few outliers far out."""
    x = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    x[:, 0], x[:, 1] = 30, -20
    return x


@pytest.mark.parametrize(("low", "high"), [(-8, 7), (-127, 127), (0, 15)])
def test_min_max_clips_nothing(heavy, low, high):
    x = heavy.clamp(min=0) if low == 0 else heavy
    codes = x / ptq.symmetric_steps(x, low, high, "minmax")
    assert codes.max() <= high + 1e-3 and codes.min() >= low - 1e-3
    assert (codes.max(1).values > high - 0.51).all() or (codes.min(1).values < low + 0.51).all()


def test_min_max_of_a_one_sided_tensor():
    """[3, 5] becomes [0, 5] for the asymmetric range, and -5..5 for the symmetric one."""
    x = torch.linspace(3, 5, 200).unsqueeze(0)
    step, zero = ptq.asymmetric_steps(x, 4, "minmax")
    assert step.item() == pytest.approx(5 / 15) and zero.item() == 0
    assert ptq.symmetric_steps(x, -8, 7, "minmax").item() == pytest.approx(5 / 7)
    step, zero = ptq.asymmetric_steps(-x, 4, "minmax")
    assert step.item() == pytest.approx(5 / 15) and zero.item() == 15


def test_percentile_forgets_outliers_and_keeps_the_rest(heavy):
    step = ptq.symmetric_steps(heavy, -127, 127, "percentile")
    assert (step * 127 < 10).all() and ((heavy.abs() > step * 127).float().mean(1) <= 0.0025).all()


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_mse_clipping_has_the_smallest_error(heavy, bits):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    best = error(ptq.symmetric_steps(heavy, low, high, "mse"), heavy, low, high)
    for method in ("minmax", "percentile"):
        assert (best <= 1.02 * error(ptq.symmetric_steps(heavy, low, high, method), heavy, low, high)).all()
    assert (best < 0.9 * error(ptq.symmetric_steps(heavy, low, high, "minmax"), heavy, low, high)).all() or bits == 8


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_asymmetric_is_better_on_one_side(method):
    x = torch.rand(1, 2000, generator=torch.Generator().manual_seed(0)) * 3
    step, zero = ptq.asymmetric_steps(x, 3, method)
    assert error(step, x, 0, 7, zero) < 0.5 * error(ptq.symmetric_steps(x, -4, 3, method), x, -4, 3)


def test_a_tensor_of_zeros_has_a_step():
    zeros = torch.zeros(1, 100)
    for method in ("minmax", "percentile", "mse"):
        step, zero = ptq.asymmetric_steps(zeros, 4, method)
        assert step > 0 and 0 <= zero <= 15 and (ptq.symmetric_steps(zeros, -8, 7, method) > 0).all()


def test_channels_have_their_own_steps(float_model, quantised):
    """Per channel the weights' error is lower than per tensor, and a channel of small weights has a small step."""
    model = copy.deepcopy(float_model("patch"))
    with torch.no_grad():
        model.head.weight[0] *= 0.01
    errors = {}
    for granularity in quantisers.GRANULARITIES:
        head = quantised(model, QuantConfig(4, granularity=granularity), "minmax").head
        codes = head.weight_quantizer(head.weight, head.weight_quantizer.step())
        errors[granularity] = (codes * head.weight_quantizer.step() - head.weight).square().mean(1)
    assert errors["channel"].mean() < errors["tensor"].mean() and errors["channel"][0] < 0.01 * errors["tensor"][0]


def test_calibration_reaches_every_tensor(float_model, quantised):
    """All steps are set, but that of an operand quantiser that no stream passes."""
    for family in FAMILIES:
        twin = quantised(float_model(family, layers=2), QuantConfig(4, 4, 8, 8, "asymmetric"))
        untouched = [n for n, p in twin.named_parameters() if "log_step_asymmetric" in n and p.ndim == 0 and p == 0]
        assert untouched == (["operand.quantizer.log_step_asymmetric"] if family == "point" else [])


def test_scores_get_the_finest_exponent_that_holds_them(float_model, batches):
    model = copy.deepcopy(float_model("patch"))
    inputs, reach = batches(model.config)[0].inputs[:50], []
    hook = model.encoder[0].attention.scores.register_forward_hook(lambda m, i, y: reach.append(y.abs().max().item()))
    exponents = {}
    for scale in (1e-3, 1, 30, 1e4):
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.encoder[0].attention.query.weight.mul_(scale)
            twin.encoder[0].attention.query.bias.mul_(scale)
        exponent = int(ptq.quantise(twin, QuantConfig(), inputs).encoder[0].attention.scores.exponent)
        assert 127 * 2.0**-exponent >= reach[-1] or exponent == 3
        assert exponent == 6 or 127 * 2.0 ** -(exponent + 1) < reach[-1]
        exponents[scale] = exponent
    hook.remove()
    assert exponents[1e-3] == 6 and exponents[1e4] == 3


def test_adaround_brings_the_layer_closer_than_rounding_to_nearest(float_model, batches, quantised):
    """At 2 bits, on the outputs of the first layer, whose inputs are the same. It leaves codes, each next to where the
    weight was."""
    model = float_model("patch")
    inputs = batches(model.config)[0].inputs[:60]
    outputs = {}
    twins = {method: quantised(model, QuantConfig(2, 8), method) for method in ("mse", "adaround")}
    for key, network in {"float": model, **twins}.items():
        hook = network.tokens.embed.register_forward_hook(lambda m, i, y, key=key: outputs.__setitem__(key, y))
        with torch.no_grad():
            network.eval()(inputs)
        hook.remove()
    off = {key: (outputs[key].values * outputs[key].step - outputs["float"]).square().mean() for key in twins}
    assert off["adaround"] < 0.9 * off["mse"]
    layer, before = twins["adaround"].tokens.embed, model.tokens.embed.weight
    step = layer.weight_quantizer.step()
    codes = (layer.weight / step).detach()
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    inside = (before / step > -2) & (before / step < 1)
    assert ((layer.weight - before).abs() <= step * 1.001)[inside].all()


def test_unknown_method_is_named(float_model, quantised):
    with pytest.raises(ValueError, match="unknown PTQ method 'kl'; choose one of minmax, percentile, mse, adaround"):
        quantised(float_model("patch"), QuantConfig(), "kl")


def test_adaptive_begins_with_the_better_scheme(float_model, quantised):
    twin = quantised(float_model("patch"), QuantConfig(4, 4, 4, 8, "adaptive"))
    adaptive = [m for m in twin.modules() if isinstance(m, quantisers.ActivationQuantizer) and m.scheme == "adaptive"]
    for quantizer in adaptive:
        assert (quantizer.running_error > 0).all()
        assert quantizer.is_asymmetric() == bool(quantizer.running_error[1] < quantizer.running_error[0])
    assert any(q.is_asymmetric() for q in adaptive)


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_bits_cost_little(float_model, quantised, batches, family):
    """An 8-bit model forecasts what the float one does, to a small part of their spread."""
    model = float_model(family, layers=2)
    inputs = batches(model.config)[0].inputs[::8]  # the windows it was calibrated on
    twin = quantised(model, QuantConfig(scheme="asymmetric"))
    with torch.no_grad():
        forecast = model.eval()(inputs)
        assert (twin(inputs) - forecast).abs().mean() < 0.05 * forecast.std()
    assert qat.export(twin).size_bytes < 4 * sum(p.numel() for p in model.parameters())
