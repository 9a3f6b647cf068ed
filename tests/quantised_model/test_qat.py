"""The evaluation of quantised models equals their integers, every output of every window."""

import copy

import numpy as np
import pytest
import torch

from qatlib.float_model.config import FAMILIES
from qatlib.quantised_model import ptq, qat, quant_layers, quant_moves
from qatlib.quantised_model.quantisers import GRANULARITIES, SCHEMES, QuantConfig
from tests.quantised_model.trained import assert_equal, few_steps, trained

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


@pytest.mark.parametrize("family", ["patch", "point", "decoder"])
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
        kept = (quant_moves.QuantRearrange, quant_moves.QuantOutput, quant_layers.QuantSource)  # they move as in float
        assert all(isinstance(twin.get_submodule(name.rpartition(".")[0]), kept) for name in left)
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
