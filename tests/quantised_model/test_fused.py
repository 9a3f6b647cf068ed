"""The fast way of training against the quantised model itself: the same values, the same gradients."""

import copy
import functools
import shutil
from pathlib import Path

import pytest
import torch

from qatlib.float_model.config import FAMILIES
from qatlib.quantised_model import fused, ptq, quant_layers, quantisers
from qatlib.quantised_model.quantisers import QuantConfig, WeightQuantizer
from qatlib.studies import techniques

UNIT = 2.0**-24  # of float32: the most that one rounding moves a number, in parts of it
BLOCK = 512  # terms of the longest sum that `fused.cpp` takes in float32


def carried_out(network, model, inputs, gradient):
    """One way forward and back. -> forecasts, {parameter: its gradient}"""
    model.zero_grad()
    forecasts = network(inputs)
    forecasts.backward(gradient)
    return forecasts.detach(), {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


class RoundSingle(torch.autograd.Function):
    """round_clamp of v, whose float32 is `single`."""

    @staticmethod
    def forward(ctx, v, single, low, high):
        codes = quantisers._RoundClamp.forward(ctx, single, low, high)
        ctx.save_for_backward(single.double())
        return codes.double()

    @staticmethod
    def backward(ctx, gradient):
        passed, edge, _ = quantisers._RoundClamp.backward(ctx, gradient)
        return passed, None, edge, None


@pytest.fixture
def exact(monkeypatch):
    """A model -> the same in float64, but that activations are rounded as float32 must find them.

    Whole numbers are exact in both. A multiplier times an accumulator is exact in float64, and its float32 is the
    product rounded once; a residual add in float32 rounds two products and two sums, in the order written. IEEE 754
    leaves no choice in either, so codes are the same on every computer.
    """
    now = {}

    def added(module, x, y):
        now["operands"] = x.values.float(), y.values.float()
        return original_added(module, x, y)

    def split_addition(*exact):
        *factors, n = quantisers.split_addition(*exact)
        now["factors"] = [torch.ldexp(factor, -n).float() for factor in factors]
        return *factors, n

    def round_single(v, low, high):
        single = v.float()
        if "factors" in now:
            (a1, a2, shift), (x, y) = now.pop("factors"), now.pop("operands")
            single = x * a1 + shift + y * a2
        return RoundSingle.apply(v, single, low, high)

    original_added, round_clamp = quant_layers.QuantAdd.added, quantisers.round_clamp

    def use(model):
        model = copy.deepcopy(model).double()
        monkeypatch.setattr(quant_layers.QuantAdd, "added", added)
        monkeypatch.setattr(quant_layers, "split_addition", split_addition)
        monkeypatch.setattr(
            quantisers.WeightQuantizer, "forward", lambda q, weight, step: round_clamp(weight / step, q.low, q.high)
        )
        for module in (quantisers, quant_layers):
            monkeypatch.setattr(module, "round_clamp", round_single)
        return model

    return use


def compare(model, inputs, exact):
    network = fused.Fused(model).train()
    gradient = torch.randn(len(inputs), model.config.horizon, generator=torch.Generator().manual_seed(0))
    fast, gradients = carried_out(network, model, inputs, gradient)
    assert network.plan is not None and network.plan.runs == 1
    reference = exact(model)
    forecasts, expected = carried_out(reference, reference, inputs.double(), gradient.double())
    torch.testing.assert_close(fast.double(), forecasts, rtol=2 * UNIT, atol=0)  # a code times its step
    assert gradients.keys() == expected.keys() and expected
    everywhere = max(g.abs().max() for g in expected.values())
    for name, g in expected.items():
        difference, largest = (gradients[name] - g).abs().max(), g.abs().max()
        rounding = UNIT * (BLOCK * largest + 64 * everywhere)
        assert difference <= rounding, (
            f"{name}: off by {difference:.3g}, largest {largest:.3g}, of all {everywhere:.3g}"
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("scheme", "granularity", "heads"),
    [("symmetric", "channel", 1), ("asymmetric", "tensor", 4), ("asymmetric", "channel", 2)],
)
@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (4, 4, 8, 8), (2, 2, 4, 4)])
def test_values_and_gradients_are_those_of_the_model(
    exact, float_model, batches, family, scheme, granularity, heads, widths
):
    model = float_model(family, layers=2, heads=heads)
    data = batches(model.config)[0]
    twin = ptq.quantise(model, QuantConfig(*widths, scheme=scheme, granularity=granularity), data.inputs[:60]).train()
    with torch.no_grad():
        floored = twin.linear.narrow if family == "linear" else twin.encoder[0].feed_forward.narrow
        floored.bias[0] = 1e4  # the weights' step is floored
        for name, p in twin.named_parameters():
            p.add_(0.3 if name.endswith("zero") else 0)
    compare(twin, data.inputs[:67], exact)  # no multiple of anything


@pytest.fixture
def twin(float_model, batches):
    """A 4-bit model to train, and inputs."""
    model = float_model("patch")
    inputs = batches(model.config)[0].inputs[:32]
    return ptq.quantise(model, QuantConfig(4, 4), inputs).train(), inputs


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_vectors_of_another_width(monkeypatch, twin, exact, compiler):
    """Those of a processor without AVX-512, at addresses that are multiples of a float's size only."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    if not {"avx2", "fma", "bmi2"} <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this processor has no AVX2")
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("QATLIB_MARCH", "x86-64-v3")
    monkeypatch.setattr(fused, "_library", functools.lru_cache(fused._library.__wrapped__))
    compare(*twin, exact)


def test_weights_of_other_widths_for_now(twin, exact):
    """As when activations are narrowed first."""
    model, inputs = twin
    network = fused.Fused(model)
    narrow = network(inputs)
    quantizers = [m for m in model.modules() if isinstance(m, WeightQuantizer)]
    for quantizer in quantizers:
        quantizer.use_bits(8)
    wide = network(inputs)
    assert not torch.equal(narrow, wide)
    reference = exact(model)
    for quantizer in quantizers:
        quantizer.use_bits(quantizer.bits)
    assert torch.equal(network(inputs), narrow)
    torch.testing.assert_close(wide.double(), reference(inputs.double()), rtol=2 * UNIT, atol=0)


@pytest.mark.parametrize("change", ["adaptive scheme", "late folding"])
def test_where_the_arithmetic_still_moves_the_model_itself_runs(float_model, batches, change):
    model = float_model("patch")
    inputs = batches(model.config)[0].inputs[:32]
    twin = ptq.quantise(
        model, QuantConfig(4, 4, scheme="adaptive" if change == "adaptive scheme" else "symmetric"), inputs
    )
    if change == "late folding":
        techniques.LateFolding()(twin, model)
    network = fused.Fused(twin).train()
    network(inputs)
    assert network.plan is None


def test_gradients_of_a_forecast_that_is_gone_are_refused(twin):
    network = fused.Fused(twin[0])
    first = network(twin[1])
    network(twin[1][:8])
    with pytest.raises(RuntimeError, match="forecast again since"):
        first.sum().backward()


def test_a_training_that_diverged_shows_it(twin):
    model, inputs = twin
    network = fused.Fused(model)
    assert network(inputs).isfinite().all()
    with torch.no_grad():
        model.encoder[0].attention.query.bias[0] = float("nan")
    assert network(inputs).isnan().all()
