"""What ends up in the integer program."""

import copy

import numpy as np
import pytest
import torch

from qatlib.float_model import layers, transformer
from qatlib.float_model.config import point_config
from qatlib.quantised_model import ptq, qat, quant_layers, quantisers
from qatlib.quantised_model.quantisers import QuantConfig
from tests.quantised_model.trained import assert_equal


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_biases_are_at_the_accumulators_scale_with_the_zero_point_folded_in(float_model, quantised, scheme):
    """Bias in steps of input step * weight step, whatever the widths, minus zero point times the row's weights."""
    model = copy.deepcopy(float_model("patch"))
    with torch.no_grad():
        model.encoder[0].norm_attention.bias.add_(1)
    twin = quantised(model, QuantConfig(4, 4, 4, 8, scheme)).double()
    program, layer = qat.export(twin), twin.encoder[0].feed_forward.widen
    operation = next(o for o in program.operations if o.path == "encoder.0.feed_forward.widen")
    x_step = twin.encoder[0].norm_attention.quantizer.step()  # residual and operands are 4 bit: nothing between
    bias = torch.floor(layer.bias / (x_step * layer.weight_quantizer.step().squeeze(1)) + 0.5).detach().numpy()
    zero_point = program.tensors[operation.inputs[0]].zero_point
    assert (zero_point != 0) == (scheme == "asymmetric")
    folded = program.arrays[f"{operation.path}.bias"] + zero_point * program.weight(operation).sum(1)
    np.testing.assert_array_equal(folded, bias)


def test_narrow_ranges_at_eight_bits_only(float_model, quantised):
    for bits, low in ((8, -127), (4, -8)):
        twin = quantised(float_model("point"), QuantConfig(bits, bits, scheme="asymmetric"), "percentile")
        with torch.no_grad():
            for module in twin.modules():
                if isinstance(module, quant_layers.QuantLinear):
                    module.weight[0, 0] = -100.0
        program = qat.export(twin)
        for operation in (o for o in program.operations if o.kind == "linear"):
            assert program.weight(operation).min() == low
        for name in ("query", "key", "value"):
            tensor = program.tensors[f"encoder.0.attention.{name}"]
            assert (tensor.low, tensor.high, tensor.zero_point) == (low, 2 ** (bits - 1) - 1, 0)


def test_pooling_is_the_mean_over_the_window(float_model, quantised):
    """20 tokens of 8 channels: the multiplier divides by 20."""
    twin = quantised(float_model("point"))
    program = qat.export(twin)
    multiplier = int(program.arrays["gather.m"][0]) * 2.0 ** -int(program.arrays["gather.n"][0])
    ratio = twin.encoder[0].norm_feed_forward.quantizer.step() / twin.gather.quantizer.step()
    assert multiplier == pytest.approx(ratio.item() / 20, rel=1e-4)
    kept = layers.Pool()(torch.full((1, 20, 8), 3.0))
    twin.gather.quantizer.log_step.data.fill_(np.log(0.1))
    codes = twin.gather(quantisers.Codes(torch.full((1, 20, 8), 30.0), torch.tensor(0.1)))
    assert (codes.values * codes.step).flatten().tolist() == pytest.approx(kept.flatten().tolist())


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_stream_that_is_positive_everywhere(float_model, batches, quantised, both_codes, extreme_counts, bits):
    """Batch norms whose outputs lie in about [3, 5]: the zero point is still a code, and biases, residual adds and
    pooling still hold."""
    model = copy.deepcopy(float_model("point", layers=2))
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, layers.AddNorm)):
            norm.weight.copy_(norm.weight.sign() * 0.2)
            norm.bias.fill_(4.0)
    twin = quantised(model, QuantConfig(8, bits, bits, 8, "asymmetric"), "minmax")
    program = qat.export(twin)
    for path in ("encoder.0.norm_attention", "encoder.1.norm_feed_forward"):
        assert program.tensors[path].zero_point == program.tensors[path].low == -(2 ** (bits - 1))
    assert_equal(both_codes(twin, extreme_counts(model.config.context)))
    caught = {}
    for key, network in (("float", model), ("quantised", twin)):
        network.gather.register_forward_hook(lambda m, i, y, key=key: caught.__setitem__(key, y))
        network.eval()(batches(model.config)[1].inputs)
    pooled = caught["quantised"].values * caught["quantised"].step
    step = (twin.gather.quantizer.step() + twin.encoder[1].norm_feed_forward.quantizer.step()).item()
    assert (pooled - caught["float"]).abs().mean() < step and pooled.mean() > 2.5


def test_anchor_of_the_published_shape_is_the_training_mean(float_model, quantised, dataset):
    assert qat.export(quantised(float_model("point"))).channels[0].anchor == dataset.offset
    assert qat.export(quantised(float_model("patch"))).channels[0].anchor is None


def test_a_width_of_its_own_where_a_wider_stream_enters_a_product(float_model, quantised):
    program = qat.export(quantised(float_model("decoder"), QuantConfig(4, 4, 8, 8)))
    narrowed = [o.path for o in program.operations if o.kind == "requantise"]
    assert "decoder.0.cross.memory_operand" in narrowed and "encoder.0.attention.operand" in narrowed
    assert all(program.tensors[path].high - program.tensors[path].low == 15 for path in narrowed)
    same = qat.export(quantised(float_model("decoder"), QuantConfig(4, 4, 4, 8)))
    assert [o for o in same.operations if o.kind == "requantise"] == []


def test_an_accumulator_that_could_overflow_is_refused(sensor):
    """518 keys at 8 bits just fit below 2**24, 519 do not."""
    for window, fits in ((518, True), (519, False)):
        model = transformer.network(point_config(window, 2, d_model=2), sensor).eval()
        twin = ptq.quantise(model, QuantConfig(), torch.randn(2, window) * 100)
        if fits:
            qat.export(twin)
        else:
            with pytest.raises(
                ValueError, match=r"context encoder\.0\.attention\.context: an accumulator can reach .* 2\*\*24"
            ):
                qat.export(twin)


def test_large_biases_raise_the_weights_step_instead_of_overflowing(float_model, quantised, both_codes, extreme_counts):
    """A bias of 1e6 input steps times weight steps would not fit: the step is floored, and the bias comes out near the
    limit."""
    twin = quantised(float_model("patch"))
    with torch.no_grad():
        twin.head.bias.copy_(torch.tensor([1e6, -1e6, 3e4, 0.1, -0.1, 0]))
    program = qat.export(twin)
    bias = np.abs(program.arrays["head.bias"].astype(np.int64))
    assert bias.max() < 1 << 24 and bias[:2].min() > 1 << 23
    evaluated, integers = both_codes(twin, extreme_counts(48))
    np.testing.assert_array_equal(evaluated, integers)
