"""The evaluation of quantised models equals their integers, every output of every window; and training them helps."""

import copy

import numpy as np
import pytest
import torch

from qatlib.float_model import layers, train, transformer
from qatlib.float_model.config import FAMILIES, point_config
from qatlib.integer_model import kernels
from qatlib.quantised_model import fused, ptq, qat, quant_layers, quant_moves, quantisers
from qatlib.quantised_model.quantisers import GRANULARITIES, SCHEMES, QuantConfig

# widths of weights, activations, residual stream, edges
WIDTHS = [(8, 8, 8, 8), (7, 6, 8, 8), (4, 4, 8, 8), (2, 4, 4, 8), (3, 3, 4, 4), (2, 2, 2, 2), (5, 8, 4, 3)]
LAYERS_HEADS = [(1, 1), (2, 2), (1, 4)]
GRID = [
    (family, scheme, widths, GRANULARITIES[(i + j + k) % 2], *LAYERS_HEADS[(i + j + k) % 3])
    for i, family in enumerate(FAMILIES)
    for j, scheme in enumerate(SCHEMES)
    for k, widths in enumerate(WIDTHS)
    if k in (0, 2) or (i + j + k) % 2  # every family and scheme at 8 and 4 bit, the other widths in turn
] + [("patch", "adaptive", WIDTHS[3], "channel", 3, 2)]


def few_steps(model, data, *, epochs=1, learning_rate=1e-2, batch=64):
    fused.fit(model, model, *data, qat.QATConfig(epochs, batch, learning_rate, averaging=0.5), seed=1)
    return model


def trained(model, config, batches, **more):
    """Calibrated and trained for real steps that move weights, steps and zero points; the last weights are kept."""
    training = batches(model.config)[0]
    twin = ptq.quantise(model, config, training.inputs[::8], **more)
    before = {name: p.detach().clone() for name, p in twin.named_parameters()}
    optimiser = torch.optim.Adam(twin.parameters(), lr=3e-3)
    for rows in torch.arange(240).split(60):
        train.step(twin.train(), optimiser, training.inputs[rows], training.targets[rows])
    moved = {name.rpartition(".")[2] for name, p in twin.named_parameters() if not torch.equal(p, before[name])}
    assert {"weight", "bias", "position", "gain", "offset"} <= moved and moved & {"log_step", "log_step_asymmetric"}
    assert config.scheme != "asymmetric" or "zero" in moved
    return twin.eval()


def assert_equal(codes, *, coarse=False):
    """coarse: so few bits that a model of random weights may give one code everywhere."""
    evaluated, integers = codes
    np.testing.assert_array_equal(evaluated, integers)
    assert coarse or len(np.unique(evaluated)) > 1


@pytest.mark.parametrize(("family", "scheme", "widths", "granularity", "layers", "heads"), GRID)
def test_evaluation_equals_integers(
    float_model, batches, both_codes, extreme_counts, family, scheme, widths, granularity, layers, heads
):
    model = float_model(family, layers=layers, heads=heads)
    twin = trained(model, QuantConfig(*widths, scheme=scheme, granularity=granularity), batches)
    assert_equal(both_codes(twin, extreme_counts(model.config.context)), coarse=min(widths) < 4)


@pytest.mark.parametrize("seed", range(12))
def test_evaluation_equals_integers_wherever_steps_and_zero_points_are(
    float_model, quantised, both_codes, extreme_counts, seed
):
    """Steps, zero points, gains and weights moved at random, far beyond what training does."""
    torch.manual_seed(seed)
    family, scheme, widths = FAMILIES[seed % 3], SCHEMES[seed // 3 % 3], WIDTHS[seed % 7]
    twin = quantised(float_model(family, layers=2), QuantConfig(*widths, scheme=scheme))
    with torch.no_grad():
        for name, p in twin.named_parameters():
            p.add_(torch.randn_like(p) * (4 if name.endswith("zero") else 0.7 if "log_step" in name else 0.3))
    evaluated, integers = both_codes(twin, extreme_counts(twin.config.context))
    np.testing.assert_array_equal(evaluated, integers)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("window", [96, 336])
def test_long_windows_of_the_published_shape(float_model, quantised, both_codes, extreme_counts, window, bits):
    twin = quantised(float_model("point", context=window, heads=1), QuantConfig(bits, bits, scheme="asymmetric"))
    probabilities = []
    hook = twin.encoder[0].attention.softmax.register_forward_hook(
        lambda m, i, codes: probabilities.append(codes.values)
    )
    assert_equal(both_codes(twin, extreme_counts(window, real=4)[::3]))
    hook.remove()
    rows = torch.cat([p.flatten(0, 2) for p in probabilities])
    assert rows.shape[1] == window and (rows.sum(1) > 0).all()


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("patch", "minmax"),
        ("point", "minmax"),
        ("decoder", "percentile"),
        ("point", "percentile"),
        ("patch", "adaround"),
    ],
)
def test_ptq_models_equal_their_integers(float_model, quantised, both_codes, extreme_counts, family, method):
    twin = quantised(float_model(family), QuantConfig(4, 5, 6, 7, "adaptive"), method)
    assert_equal(both_codes(twin, extreme_counts(twin.config.context)))


@pytest.mark.parametrize("family", FAMILIES)
def test_single_layers_of_other_widths(float_model, batches, both_codes, extreme_counts, family):
    """`exceptions` changes the layers that it names, and no other."""
    model = float_model(family, layers=2)
    exceptions = {
        "tokens.embed": QuantConfig(3, 3, 6, 3),
        "encoder.0.attention.key": QuantConfig(5, 5, scheme="asymmetric"),
        "encoder.1.norm_attention": QuantConfig(8, 8, 3, scheme="asymmetric"),
        "encoder.1.feed_forward.widen": QuantConfig(2, 7),
        "head": QuantConfig(8, edge_bits=5),
    }
    twin = trained(model, QuantConfig(4, 4, 8, 8), batches, exceptions=exceptions)
    assert_equal(both_codes(twin, extreme_counts(model.config.context)))
    program = qat.export(twin)
    bits = {o.path: o.attributes["weight_bits"] for o in program.operations if o.kind == "linear"}
    changed = {"tokens.embed": 3, "encoder.0.attention.key": 5, "encoder.1.feed_forward.widen": 2, "head": 8}
    assert bits == {path: changed.get(path, 4) for path in bits} and changed.keys() <= bits.keys()
    spans = {path: t.high - t.low for path, t in program.tensors.items()}
    changed = {
        "tokens.embed": 63,
        "encoder.0.attention.key": 31,
        "encoder.1.norm_attention": 7,
        "encoder.1.feed_forward.widen": 127,
    }
    unchanged = {"encoder.0.attention.query": 15, "encoder.0.norm_attention": 255, "encoder.0.feed_forward.widen": 15}
    assert {**spans, **changed, **unchanged, "head": 31} == spans


def test_an_exception_for_no_layer_is_an_error(float_model):
    with pytest.raises(ValueError, match=r"encoder\.7\.widen"):
        qat.quantize_model(float_model("patch"), QuantConfig(), exceptions={"encoder.7.widen": QuantConfig()})


def test_every_primitive_is_swapped(float_model):
    for family in FAMILIES:
        twin = qat.quantize_model(float_model(family), QuantConfig(4, 4, 8, 8))
        left = [name for name, module in twin.named_modules() if type(module) in qat.TWINS]
        assert all(isinstance(twin.get_submodule(name.rpartition(".")[0]), quant_moves.QuantRearrange) for name in left)
        assert not {type(m) for m in twin.modules()} & {torch.nn.Linear, torch.nn.BatchNorm1d, torch.nn.Dropout}


def test_the_float_model_is_left_alone(float_model, quantised, batches):
    model = float_model("patch")
    before = copy.deepcopy(model.state_dict())
    for method in ptq.METHODS:
        few_steps(quantised(model, QuantConfig(4, 4), method), batches(model.config))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_export_and_evaluation_leave_the_model_alone(float_model, quantised):
    twin = quantised(float_model("decoder"), QuantConfig(4, 4, scheme="adaptive")).train()
    before = copy.deepcopy(twin.state_dict())
    qat.export(twin)
    qat.output_codes(twin, np.zeros((3, twin.config.context)))
    assert all(torch.equal(before[name], value) for name, value in twin.state_dict().items())
    assert twin.training and twin.source.graph is None and next(twin.parameters()).dtype == torch.float32


def test_output_codes_do_not_depend_on_the_batch(float_model, quantised, extreme_counts):
    twin = quantised(float_model("patch"), QuantConfig(4, 4)).train()  # dropout must be off
    differences = extreme_counts(48).astype(np.int64)
    codes = qat.output_codes(twin, differences)
    assert codes.dtype == np.int32 and codes.shape == (len(differences), 6)
    np.testing.assert_array_equal(codes, qat.output_codes(twin, differences, batch=7))


# -- what ends up in the integer program


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
    assert qat.export(quantised(float_model("point"))).anchor == dataset.offset
    assert qat.export(quantised(float_model("patch"))).anchor is None


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
        model = transformer.Forecaster(point_config(window, 2, d_model=2), sensor).eval()
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


# -- training


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_parameter_in_use_learns(float_model, batches, family, scheme):
    """Weights, biases, positions, steps and zero points receive gradients; of an adaptive tensor the chosen scheme
    does."""
    model = float_model(family, layers=2)
    data = batches(model.config)[0]
    twin = ptq.quantise(model, QuantConfig(3, 3, 4, 4, scheme), data.inputs[:60]).train()
    twin(data.inputs[:60])  # the first batch may change choices
    torch.nn.functional.mse_loss(twin(data.inputs[:256]), data.targets[:256]).backward()
    unused = (
        {f"operand.quantizer.{p}" for p in ("log_step", "log_step_asymmetric", "zero")} if family == "point" else set()
    )
    for name, module in twin.named_modules():
        if isinstance(module, quantisers.ActivationQuantizer) and module.scheme != "symmetric":
            names = ("log_step",) if module.is_asymmetric() else ("log_step_asymmetric", "zero")
            unused |= {f"{name}.{parameter}" for parameter in names}
    for name, parameter in twin.named_parameters():
        if name in unused:
            assert parameter.grad is None, name
        elif not name.endswith("zero"):  # a zero point learns from clipped values, which not every tensor has
            assert parameter.grad is not None and (parameter.grad != 0).any(), name
    zeros = [p.grad for name, p in twin.named_parameters() if name.endswith("zero") and name not in unused]
    assert scheme == "symmetric" or any(g != 0 for g in zeros)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", quant_layers.SCORE_EXPONENTS)
def test_softmax_of_every_score_difference_is_that_of_the_table(exponent, dtype):
    """Two keys, every pair (127, score) and rows of all scores: equal to the integers whichever way the entries are
    come by."""
    scores = torch.tensor([[127] * 256, list(range(-128, 128))], dtype=dtype).T.reshape(1, 1, 256, 2)
    rows = torch.arange(-128, 128, dtype=dtype).reshape(1, 1, 1, 256)
    for x, steps in ((scores, (1 / 255, 1 / 15)), (rows, (1 / 255 / 20, 1 / 300))):
        for step in steps:
            module = quant_layers.QuantSoftmax.from_float(None, QuantConfig())
            with torch.no_grad():
                module.quantizer.log_step.fill_(np.log(step))
            module.to(dtype)
            codes = module(quantisers.Codes(x, torch.tensor(2.0**-exponent, dtype=dtype))).values.detach().int().numpy()
            numerator, k = kernels.softmax_constants(float(module.quantizer.step().detach()))
            table = kernels.softmax_table(exponent)
            np.testing.assert_array_equal(codes, kernels.softmax(x.int().numpy(), table, numerator, k, 255))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_gradient_is_that_of_the_real_softmax(dtype):
    """With fine steps, the table softmax and its gradient come close to the real ones."""
    scores = torch.randint(-60, 60, (2, 1, 4, 6), generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    weights = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(1)).to(dtype)
    module = quant_layers.QuantSoftmax.from_float(None, QuantConfig())
    with torch.no_grad():
        module.quantizer.log_step.fill_(np.log(1 / 250))
    module.to(dtype)
    codes = module(quantisers.Codes(scores, torch.tensor(2.0**-5, dtype=dtype)))
    (codes.values * codes.step * weights).sum().backward()
    exact = scores.detach().clone().requires_grad_()
    ((exact * 2.0**-5).softmax(-1) * weights).sum().backward()
    torch.testing.assert_close(codes.values * codes.step, (exact * 2.0**-5).softmax(-1), atol=5e-3, rtol=0)
    torch.testing.assert_close(scores.grad, exact.grad, atol=1e-3, rtol=0)


def test_training_improves_on_post_training_quantisation(float_model, batches):
    """At 2 bits, by far."""
    model = float_model("patch", d_model=16)
    training, validation = batches(model.config)
    twin = ptq.quantise(model, QuantConfig(2, 2), training.inputs[:200])
    before = train.mse(twin, validation)
    few_steps(twin, (training, validation), epochs=5)
    assert train.mse(twin, validation) < 0.8 * before


def test_training_sees_what_evaluation_gives(float_model, quantised, batches):
    """Quantised models have no dropout: training in float32 and evaluation in float64 give the same codes but for rare
    ties."""
    model = float_model("patch")
    twin, inputs = quantised(model, QuantConfig(4, 4)), batches(model.config)[1].inputs
    codes = torch.floor(twin.train()(inputs) / twin.head.quantizer.step() + 0.5).int().numpy()
    assert (codes == qat.output_codes(twin, inputs)).mean() > 0.99


def test_choices_of_the_adaptive_scheme_freeze(float_model, quantised):
    twin = quantised(float_model("patch"), QuantConfig(scheme="adaptive"))
    hook = qat.FreezeChoices(twin)
    hook.before(7, 10)
    adaptive = [m for m in twin.modules() if isinstance(m, quantisers.ActivationQuantizer) and m.scheme == "adaptive"]
    assert adaptive and all(m.choosing for m in adaptive)
    hook.before(8, 10)
    assert not any(m.choosing for m in adaptive)
