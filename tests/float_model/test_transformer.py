"""Shapes, sizes and parts of the float models."""

import copy
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from qatlib.float_model import layers, train, transformer
from qatlib.float_model.config import (
    RIVALS,
    ModelConfig,
    Sensor,
    decoder_config,
    linear_config,
    patch_config,
    point_config,
    rival_config,
    skip_config,
)

SENSOR = Sensor(0.01, 20.0, 2.0)


SKIP = partial(skip_config, rank=3, reach=10)
MAKE = {"patch": patch_config, "point": point_config, "decoder": decoder_config, "skip": SKIP}


@pytest.mark.parametrize("family", MAKE)
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (1, 4), (3, 2)])
def test_every_transformer_takes_layers_and_heads(family, layers, heads):
    config = MAKE[family](24, 7, d_model=8, heads=heads, layers=layers)
    model = transformer.network(config, SENSOR)
    forecast = model(torch.randn(5, 24) * 100)
    assert forecast.shape == (5, 7)
    forecast.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert sum(isinstance(m, transformer.Layer) for m in model.modules()) == layers * (2 if family == "decoder" else 1)


@pytest.mark.parametrize("family", ["linear", *RIVALS])
def test_what_is_no_transformer_takes_any_shape(family):
    make = partial(linear_config, rank=3, reach=31) if family == "linear" else partial(rival_config, family)
    model = transformer.network(make(72, 48), SENSOR)
    forecast = model(torch.randn(5, 72) * 100)
    assert forecast.shape == (5, 48)
    forecast.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("family", RIVALS)
def test_rivals_do_not_mind_where_the_sensor_stands(family):
    """What each takes out of the window, value or mean, comes back in its forecast; DLinear alone takes out nothing."""
    model = transformer.network(rival_config(family, 72, 48), SENSOR).eval()
    counts = torch.randn(5, 72) * 100
    lifted = model(counts + 300) - model(counts)
    moved = (lifted - 300 * SENSOR.unit).abs().max()
    assert (moved > 1e-3) if family == "dlinear" else (moved < 1e-3)


def test_skip_begins_as_its_linear_map_alone(batches, sensor):
    """And that is the `linear` family's."""
    data = batches(skip_config(48, 6, 3, 20))
    forecasts = []
    for config in (skip_config(48, 6, 3, 20), linear_config(48, 6, 3, 20)):
        model = transformer.network(config, sensor)
        model.start(*data)
        forecasts.append(train.forecast(model, data[1].inputs))
    torch.testing.assert_close(*forecasts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "gru"}, "unknown family 'gru'; choose one of patch, point, decoder, linear, skip"),
        ({"family": "skip", "rank": 4, "reach": 337}, "reach 337 must lie within 1 and the context of 336"),
        ({"family": "linear", "rank": 4}, "reach 0 must lie within"),
        ({"family": "linear", "rank": 25, "reach": 96}, "rank 25 must lie within 1 and 24, what it reads or forecasts"),
        ({"family": "point", "head_rank": 8}, "head_rank 8: `patch` and `skip` alone"),
        ({"head_rank": -1}, "head_rank -1"),
        ({"channels": 2, "mode": "mixed", "targets": (2,)}, r"targets \(2,\) must be some of the 2 channels"),
        ({"channels": 2, "mode": "mixed", "targets": (1, 0)}, "in their order"),
        ({"channels": 2, "mode": "mixed", "targets": (0, 0)}, "targets"),
        ({"channels": 2, "mode": "mixed", "targets": ()}, "targets"),
        ({"horizon": 0}, "horizon is 0; it must be at least 1"),
        ({"layers": 0}, "layers is 0"),
        ({"context": 100}, "context 100 is no multiple of the patch of 24 samples"),
        ({"heads": 3}, "d_model 16 cannot be shared by 3 heads"),
        ({"family": "decoder", "label": 337}, "label 337 must lie within 1 and the context of 336"),
        ({"family": "decoder", "label": 0}, "label 0 must lie within"),
    ],
)
def test_wrong_config_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_the_default_model():
    config = patch_config()
    assert (config.context, config.horizon, config.patch, config.tokens, config.d_model) == (336, 24, 24, 14, 16)
    assert config.subtract_last == (True,) and config.name == "patch-c336-d16"
    assert sum(p.numel() for p in transformer.network(config, SENSOR).parameters()) <= 10_000


def test_the_published_shape():
    config = point_config(96)
    model = transformer.network(config, SENSOR)
    assert (config.tokens, config.heads, config.layers, config.subtract_last) == (96, 1, 1, (False,))
    assert config.name == "point-w96-d16-h24" and model.tokens.position.position.shape == (96, 16)
    assert model.encoder[0].feed_forward.widen.out_features == 64 and isinstance(
        model.encoder[0].norm_attention, torch.nn.BatchNorm1d
    )


@pytest.mark.parametrize(("context", "patch"), [(336, 24), (96, 24), (100, 20), (23, 23), (7, 7), (97, 1)])
@pytest.mark.parametrize("make", [patch_config, decoder_config])
def test_patch_divides_any_context(make, context, patch):
    assert make(context).patch == patch


def test_sensor():
    sensor = Sensor(0.5, -3.25, 4.0)
    assert sensor.unit == 0.125 and sensor.offset == -6  # -6.5 goes up
    assert Sensor(0.5, 3.25, 4.0).offset == 7


def test_attention_is_attention():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 5, 12), torch.randn(3, 9, 12), torch.randn(3, 9, 12)
    mixed = layers.Context(4)(layers.Softmax()(layers.Scores(4)(query, key)), value)
    split = (x.view(3, -1, 4, 3).transpose(1, 2) for x in (query, key, value))
    torch.testing.assert_close(mixed, F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(3, 5, 12))


def test_add_norm_is_batch_norm_over_batch_and_token():
    norm, x, y = layers.AddNorm(4), torch.randn(6, 5, 4), torch.randn(6, 5, 4) * 3 + 2
    out = norm(x, y)
    torch.testing.assert_close(out.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var((0, 1), unbiased=False), torch.ones(4), atol=1e-3, rtol=0)


def test_pool_divides_by_the_number_of_tokens():
    x = torch.arange(24.0).view(1, 12, 2)
    assert layers.Pool()(x).tolist() == [[[11.0, 12.0]]]


def test_placeholders_are_real_zeros_after_the_label():
    samples = torch.arange(1.0, 7.0).view(1, 6, 1)
    assert layers.Placeholders(2, 3)(samples).flatten().tolist() == [5, 6, 0, 0, 0]


def test_decoder_sees_the_whole_context_and_every_step_is_its_own():
    """Cross-attention brings in samples before the label; all steps come in one pass and differ."""
    torch.manual_seed(0)
    model = transformer.network(decoder_config(48, 6, d_model=8, label=4), SENSOR).eval()
    x = torch.randn(1, 48) * 200
    changed = x.clone()
    changed[0, 3] += 500
    assert not torch.equal(model(x), model(changed)) and len(model(x).unique()) == 6


def test_linear_has_a_relu_only_where_unsigned():
    x = torch.randn(50, 4)
    assert (layers.Linear(4, 8, "unsigned")(x) >= 0).all() and (layers.Linear(4, 8, "residual")(x) < 0).any()


def test_dropout():
    """A quarter of the values is dropped, the rest scaled up, in training alone."""
    torch.manual_seed(0)
    dropout, x = layers.Dropout(0.25), torch.ones(200, 201)
    assert dropout(x).unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropout(x).mean().item() == pytest.approx(1, abs=0.02)
    assert dropout.eval()(x) is x


def test_evaluation_is_repeatable_and_training_is_not():
    model = transformer.network(patch_config(48, 6, d_model=8), SENSOR)
    x = torch.randn(4, 48) * 100
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_a_copy_is_independent():
    model = transformer.network(patch_config(48, 6, d_model=8), SENSOR).eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.head.bias.add_(1)
    difference = twin(torch.zeros(1, 48)) - model(torch.zeros(1, 48))
    assert all(math.isclose(d, 1, rel_tol=1e-5) for d in difference.flatten().tolist())
