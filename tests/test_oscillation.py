"""Techniques for the last part of training: damping, freezing, activations before weights, late folding."""

import copy

import numpy as np
import pytest
import torch

from qatlib import oscillation, ptq, qat, train
from qatlib.quant_layers import QuantLinear
from qatlib.quantize import QuantConfig
from qatlib.train import TrainConfig


@pytest.fixture
def twin(float_model, quantised):
    return quantised(float_model("patch"), QuantConfig(3, 3))


def layers(model):
    return [m for m in model.modules() if isinstance(m, QuantLinear)]


def codes(layer):
    return layer.weight_quantizer(layer.weight, layer.weight_quantizer.step())


def test_damping_pulls_to_the_nearest_code(twin):
    oscillation.damping(twin).backward()
    for layer in layers(twin):
        step = layer.weight_quantizer.step()
        distance = (layer.weight / step).clamp(-4, 3) - codes(layer)
        inside = (layer.weight / step > -4) & (layer.weight / step < 3)
        torch.testing.assert_close(layer.weight.grad[inside], (2 * distance * step)[inside])
        layer.weight.data = codes(layer) * step
    assert oscillation.damping(twin) < 1e-9


def test_a_weight_that_flips_is_frozen_and_no_other(twin):
    freezer, head = oscillation.Freezer(twin), twin.head
    step, start = head.weight_quantizer.step()[0, 0].item(), head.weight.detach().clone()
    for i in range(12):
        with torch.no_grad():
            head.weight[0, 0] = step * (0.4 if i % 2 else 0.6)  # code 0, code 1
            head.weight[0, 1] += 0.01 * step  # drifts one way
        freezer()
    frozen = head.weight[0, 0].item()
    with torch.no_grad():
        head.weight[0, 0] = 5 * step
    freezer()
    assert head.weight[0, 0].item() == frozen == pytest.approx(round(frozen / step) * step)
    assert head.weight[0, 1].item() == pytest.approx(start[0, 1].item() + 0.12 * step, rel=1e-4)
    assert torch.equal(head.weight[1:], start[1:])


def test_weights_keep_eight_bits_at_first(float_model, batches, monkeypatch):
    """Their codes leave the range of 2 bits until then; what is kept comes from after it, and has 2."""
    model = float_model("patch")
    training, validation = batches(model.config)
    twin, seen, real = ptq.quantise(model, QuantConfig(2, 4), training.inputs[:200]), [], train.step

    def step(network, *arguments):
        seen.append(codes(twin.head).abs().max().item())
        return real(network, *arguments)

    monkeypatch.setattr(train, "step", step)
    before = copy.deepcopy(twin.state_dict())
    errors, _ = train.fit(twin, training, validation, TrainConfig(epochs=4, batch=64, weights_after=0.5), seed=0)
    half = len(seen) // 2
    assert min(seen[:half]) > 2 and max(seen[half:]) <= 2
    assert train.mse(twin, validation) == pytest.approx(min(errors[0], *errors[3:]), rel=1e-5)
    assert not torch.equal(before["head.weight"], twin.head.weight) and codes(twin.head).abs().max() <= 2


@pytest.mark.parametrize("freezing", [False, True])
def test_late_folding_follows_the_batches_and_stays_exact(float_model, batches, both_codes, extreme_counts, freezing):
    model = float_model("patch")
    data = batches(model.config)
    twin = ptq.quantise(model, QuantConfig(4, 4, folding="late"), data[0].inputs[::8])
    norm = twin.encoder[0].norm_attention
    before = norm.norm.running_mean.clone()
    gain = norm.affine()[0].clone()
    train.fit(twin, *data, TrainConfig(epochs=2, batch=64, averaging=0.5, freezing=freezing, damping=0.1), seed=0)
    assert not torch.equal(before, norm.norm.running_mean) and not torch.equal(gain, norm.affine()[0])
    evaluated, integers = both_codes(twin, extreme_counts(48))
    np.testing.assert_array_equal(evaluated, integers)
    assert qat.export(twin).operations
