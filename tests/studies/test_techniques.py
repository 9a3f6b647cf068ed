"""Techniques for the last part of training: damping, freezing, activations before weights, late folding."""

import copy

import numpy as np
import pytest
import torch

from qatlib.float_model import train
from qatlib.quantised_model import fused, ptq, qat
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quant_layers import QuantLinear
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.studies import techniques


@pytest.fixture
def twin(float_model, quantised):
    return quantised(float_model("patch"), QuantConfig(3, 3))


def layers(model):
    return [m for m in model.modules() if isinstance(m, QuantLinear)]


def codes(layer):
    return layer.weight_quantizer(layer.weight, layer.weight_quantizer.step())


def test_damping_pulls_to_the_nearest_code(twin):
    damping = techniques.Damping(1.0)(twin, None)
    damping.distance().backward()
    for layer in layers(twin):
        step = layer.weight_quantizer.step()
        distance = (layer.weight / step).clamp(-4, 3) - codes(layer)
        inside = (layer.weight / step > -4) & (layer.weight / step < 3)
        torch.testing.assert_close(layer.weight.grad[inside], (2 * distance * step)[inside])
        layer.weight.data = codes(layer) * step
    assert damping.distance() < 1e-9
    assert damping.before(0, 4) == 0 and damping.before(4, 4) == damping.distance()


def test_a_weight_that_flips_is_frozen_and_no_other(twin):
    freezer, head = techniques.Freezing()(twin, None), twin.head
    step, start = head.weight_quantizer.step()[0, 0].item(), head.weight.detach().clone()
    for i in range(12):
        with torch.no_grad():
            head.weight[0, 0] = step * (0.4 if i % 2 else 0.6)  # code 0, code 1
            head.weight[0, 1] += 0.01 * step  # drifts one way
        freezer.after()
    frozen = head.weight[0, 0].item()
    with torch.no_grad():
        head.weight[0, 0] = 5 * step
    freezer.after()
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
    recipe = QATConfig(epochs=4, batch=64, techniques=(techniques.ActivationsFirst(0.5),))
    errors, _ = fused.fit(twin, model, training, validation, recipe, seed=0)
    half = len(seen) // 2
    assert min(seen[:half]) > 2 and max(seen[half:]) <= 2
    assert train.mse(twin, validation) == pytest.approx(min(errors[0], *errors[3:]), rel=1e-5)
    assert not torch.equal(before["head.weight"], twin.head.weight) and codes(twin.head).abs().max() <= 2


@pytest.mark.parametrize("more", [(), (techniques.Freezing(), techniques.Damping(0.1))])
def test_late_folding_follows_the_batches_and_ends_folded_and_exact(
    float_model, batches, both_codes, extreme_counts, more
):
    model = float_model("patch")
    data = batches(model.config)
    twin = ptq.quantise(model, QuantConfig(4, 4), data[0].inputs[::8])
    names, gain = list(twin.state_dict()), twin.encoder[0].norm_attention.gain.clone()
    recipe = QATConfig(epochs=2, batch=64, averaging=0.5, techniques=(techniques.LateFolding(), *more))
    fused.fit(twin, model, *data, recipe, seed=0)
    assert list(twin.state_dict()) == names and not torch.equal(gain, twin.encoder[0].norm_attention.gain)
    evaluated, integers = both_codes(twin, extreme_counts(48))
    np.testing.assert_array_equal(evaluated, integers)
    assert qat.export(twin).operations


def test_late_folding_begins_with_the_folded_model(float_model, quantised, batches):
    model = float_model("patch")
    twin, inputs = quantised(model, QuantConfig(4, 4)), batches(model.config)[1].inputs
    before = qat.output_codes(twin, inputs)
    hook = techniques.LateFolding()(twin, model)
    unfolded = twin.encoder[0].norm_attention
    assert isinstance(unfolded, techniques.UnfoldedAddNorm)
    torch.testing.assert_close(unfolded.affine()[0], unfolded.folded.gain)
    hook.end()
    np.testing.assert_array_equal(qat.output_codes(twin, inputs), before)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_a_share_is_between_none_and_all(share):
    with pytest.raises(ValueError, match="the share is"):
        techniques.ActivationsFirst(share)
