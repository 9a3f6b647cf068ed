"""The fast way of training against the quantised model itself: the same values, the same gradients."""

import pytest
import torch

from qatlib import fused, models, native, ptq, qat
from qatlib.quantize import QuantConfig


def carried_out(network, model, inputs, gradient):
    """One way forward and back. -> forecasts, {parameter: its gradient}"""
    model.zero_grad()
    forecasts = network(inputs)
    forecasts.backward(gradient)
    return forecasts.detach(), {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def compare(model, inputs):
    network = fused.Fused(model).train()
    gradient = torch.randn(len(inputs), model.config.horizon, generator=torch.Generator().manual_seed(0))
    fast, gradients = carried_out(network, model, inputs, gradient)
    assert network.plan is not None and network.plan.runs == 1
    spelled, rough = carried_out(model, model, inputs, gradient)
    torch.testing.assert_close(fast, spelled, rtol=1e-6, atol=1e-6)  # a code's step is some 1e-2
    model.double()
    exact = carried_out(model, model, inputs.double(), gradient.double())[1]
    model.float()
    assert gradients.keys() == exact.keys() == rough.keys() and exact
    everywhere = max(g.abs().max() for g in exact.values())
    for name, expected in exact.items():
        difference, largest = (gradients[name] - expected).abs().max(), expected.abs().max()
        noise = 3e-3
        ties = (rough[name] - expected).abs().max()  # some values are rounded otherwise in float32
        assert difference <= noise * largest + 3 * ties + 1e-5 * everywhere, f"{name}: off by {difference:.3g}, largest {largest:.3g}"


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize(
    ("scheme", "granularity", "heads"), [("symmetric", "channel", 1), ("asymmetric", "tensor", 4), ("asymmetric", "channel", 2)]
)
@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (4, 4, 8, 8), (2, 2, 4, 4)])
def test_values_and_gradients_are_those_of_the_model(float_model, batches, family, scheme, granularity, heads, widths):
    model = float_model(family, layers=2, heads=heads)
    data = batches(model.config)[0]
    twin = ptq.quantise(model, QuantConfig(*widths, scheme=scheme, granularity=granularity), data.inputs[:60]).train()
    with torch.no_grad():
        twin.encoder[0].feed_forward.narrow.bias[0] = 1e4  # the weights' step is floored
        for name, p in twin.named_parameters():
            p.add_(0.3 if name.endswith("zero") else 0)
    compare(twin, data.inputs[:67])  # no multiple of anything


@pytest.fixture
def twin(float_model, batches):
    """A 4-bit model to train, and inputs."""
    model = float_model("patch")
    inputs = batches(model.config)[0].inputs[:32]
    return ptq.quantise(model, QuantConfig(4, 4), inputs).train(), inputs


def test_weights_of_other_widths_for_now(twin):
    """As when activations are narrowed first."""
    model, inputs = twin
    network = fused.Fused(model)
    narrow = network(inputs)
    qat.use_weight_bits(model, 8)
    wide = network(inputs)
    assert not torch.equal(narrow, wide)
    torch.testing.assert_close(wide, model(inputs), rtol=1e-6, atol=1e-6)
    qat.use_weight_bits(model)
    assert torch.equal(network(inputs), narrow)


@pytest.mark.parametrize("change", [{"scheme": "adaptive"}, {"folding": "late"}])
def test_where_the_arithmetic_still_moves_the_model_itself_runs(float_model, batches, change):
    model = float_model("patch")
    inputs = batches(model.config)[0].inputs[:32]
    network = fused.Fused(ptq.quantise(model, QuantConfig(4, 4, **change), inputs)).train()
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


def test_a_tool_that_fails_says_what_it_said(tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return missing; }")
    with pytest.raises(native.BuildError, match="missing"):
        native.library(source)
