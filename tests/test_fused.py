"""The fast way of the quantised layers against the spelled-out one: the same values, the same gradients."""

import copy

import pytest
import torch

from qatlib import models, native, ptq, quant_layers
from qatlib.quantize import QuantConfig


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("widths", [(8, 8, 8, 8), (4, 4, 8, 8), (2, 2, 4, 4)])
def test_values_and_gradients_are_those_of_the_spelled_out_way(float_model, batches, monkeypatch, family, scheme, granularity, widths):
    """Of every code that the layers pass on, and of every parameter."""
    model = float_model(family, layers=2)
    data = batches(model.config)[0]
    fast = ptq.quantise(model, QuantConfig(*widths, scheme=scheme, granularity=granularity), data.inputs[:60]).train()
    with torch.no_grad():
        for name, p in fast.named_parameters():
            p.add_(0.3 if "log_step" not in name and name.endswith("zero") else 0)
        fast.head.bias[0] = 1e5  # the weights' step is floored
    results = []
    for way in (torch.float32, None):
        monkeypatch.setattr(quant_layers, "FAST", way)
        twin = copy.deepcopy(fast)
        codes = []
        for module in twin.modules():
            if isinstance(module, (quant_layers.Quantized, quant_layers.QuantScores, quant_layers.QuantSoftmax)):
                module.register_forward_hook(lambda m, i, y, codes=codes: codes.append(y.values.detach().clone()))
        forecast = twin(data.inputs[:256])
        (forecast * torch.linspace(-1, 2, forecast.numel()).view_as(forecast)).sum().backward()
        results.append((codes, {name: p.grad for name, p in twin.named_parameters()}))
    (codes, gradients), (exact_codes, exact_gradients) = results
    for a, b in zip(codes, exact_codes, strict=True):
        assert torch.equal(a, b)
    for name, exact in exact_gradients.items():
        assert (gradients[name] is None) == (exact is None), name
    # Gradients of steps are small differences of large sums: noise is judged against the largest of their kind.
    for kind in {name.rpartition(".")[2] for name in gradients}:
        names = [name for name, g in gradients.items() if g is not None and name.endswith(kind)]
        ours, exact = (torch.cat([g[name].flatten() for name in names]) for g in (gradients, exact_gradients))
        assert (ours - exact).abs().max() <= 2e-3 * exact.abs().max(), kind


def test_a_tool_that_fails_says_what_it_said(tmp_path):
    source = tmp_path / "wrong.cpp"
    source.write_text("int f() { return missing; }")
    with pytest.raises(native.BuildError, match="missing"):
        native.library(source)
