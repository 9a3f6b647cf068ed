"""The fast way of the quantised layers against the spelled-out one: the same values, the same gradients."""

from functools import partial

import pytest
import torch

from qatlib import fused, kernels, models, native, ptq, quant_layers
from qatlib.quantize import Codes, QuantConfig


def carried_out(module, inputs, gradient):
    """One layer forward and backward. -> its codes, {what: its gradient} of values and steps that come in and of every parameter"""
    module.zero_grad()
    leaves = [
        x if isinstance(x, torch.Tensor) else Codes(*(t.detach().clone().requires_grad_() for t in (x.values, x.step))) for x in inputs
    ]
    values = module(*leaves).values
    values.backward(gradient)
    grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    for i, leaf in enumerate(leaf for leaf in leaves if isinstance(leaf, Codes)):
        grads[f"values {i}"] = leaf.values.grad
        grads[f"step {i}"] = leaf.step.grad
    return values.detach(), grads


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize(
    ("scheme", "granularity", "heads"), [("symmetric", "channel", 1), ("asymmetric", "tensor", 4), ("asymmetric", "channel", 2)]
)
@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (4, 4, 8, 8), (2, 2, 4, 4)])
def test_values_and_gradients_are_those_of_the_spelled_out_way(
    float_model, batches, monkeypatch, family, scheme, granularity, heads, widths
):  # fmt: skip
    """Layer by layer, on what it meets in a model, for a gradient drawn at random; of the softmax see test_qat."""
    model = float_model(family, layers=2, heads=heads)
    data = batches(model.config)[0]
    twin = ptq.quantise(model, QuantConfig(*widths, scheme=scheme, granularity=granularity), data.inputs[:60]).train()
    with torch.no_grad():
        twin.encoder[0].feed_forward.narrow.bias[0] = 1e4  # the weights' step is floored
        for name, p in twin.named_parameters():
            p.add_(0.3 if name.endswith("zero") else 0)
    met = {}

    def hook(name, module, inputs, result):
        met.setdefault(name, (module, inputs, result.values))

    for name, module in twin.named_modules():
        if isinstance(module, (quant_layers.Quantized, quant_layers.QuantScores)):
            module.register_forward_hook(partial(hook, name))
    twin(data.inputs[:256])
    for name, (module, inputs, values) in met.items():
        gradient = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
        results = []
        for way in (torch.float32, None):
            monkeypatch.setattr(quant_layers, "FAST", way)
            results.append(carried_out(module, inputs, gradient))
        (codes, gradients), (exact_codes, exact) = results
        assert torch.equal(codes, exact_codes), name
        assert gradients.keys() == exact.keys() and exact, name
        for what, expected in exact.items():
            difference, largest = (gradients[what] - expected).abs().max(), expected.abs().max()
            noise = 0.2 if "step" in what else 3e-3  # a step's gradient is a small difference of large sums
            assert difference <= noise * largest + 1e-5, f"{name}: {what}: off by {difference:.3g}, largest {largest:.3g}"


def test_a_training_that_diverged_shows_it():
    """A score that is no number makes its row's probabilities none, and no others."""
    scores, step = torch.tensor([[3.0, float("nan"), 1.0], [3.0, 2.0, 1.0]]), torch.tensor(1 / 255)
    codes = fused.Softmax.apply(scores, torch.tensor(2.0**-4), step, *kernels.softmax_constants(1 / 255), 255)
    assert codes[0].isnan().all() and not codes[1].isnan().any()


def test_a_tool_that_fails_says_what_it_said(tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return missing; }")
    with pytest.raises(native.BuildError, match="missing"):
        native.library(source)
