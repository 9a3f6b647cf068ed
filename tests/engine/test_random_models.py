"""Random programs: the same for the same seed, of every kind, and alive: what does not change with the window tests
nothing."""

import numpy as np
import pytest

from qatlib.engine.random_models import FAMILIES, Shape, extreme_windows, random_model
from qatlib.integer_model.model import IntegerModel


@pytest.fixture(scope="module")
def models():
    return [random_model(seed) for seed in range(60)]  # each is checked as it is made


def test_a_seed_is_a_model(models, tmp_path):
    again = random_model(7)
    again.save(tmp_path / "model.safetensors")
    counts = extreme_windows(again, 1, 12)
    assert again.describe() == models[7].describe() != models[8].describe()
    for other in (models[7], IntegerModel.load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(other.forward(counts), again.forward(counts))


def test_every_kind_is_there(models):
    kinds = {o.kind for m in models for o in m.operations}
    assert {"placeholders", "pool", "requantise", "last_tokens"} <= kinds
    operations = [o for m in models for o in m.operations]
    assert {o.attributes["weight_bits"] for o in operations if o.kind == "linear"} == set(range(2, 9))
    assert {o.attributes["heads"] for o in operations if o.kind == "scores"} == {1, 2, 3, 4}
    tensors = [t for m in models for t in m.tensors.values()]
    assert {t.high - t.low + 1 for t in tensors} >= {4, 8, 16, 32, 64, 128, 256} and any(t.zero_point for t in tensors)
    assert any(m.channels[0].anchor is None for m in models) and any(
        m.channels[0].anchor is not None and m.channels[0].anchor < 0 for m in models
    )
    asymmetric = [t for t in tensors if t.zero_point]
    assert any(t.zero_point == t.low < -8 for t in asymmetric) and any(t.zero_point == t.high > 7 for t in asymmetric)
    shapes = {(m.context % 4, m.horizon % 4) for m in models}
    assert len(shapes) > 12 and {1} < {m.horizon for m in models} and max(m.horizon for m in models) > 28
    assert any(m.tensors["tokens.position"].shape[0] == 1 for m in models)
    shifts = np.concatenate([a for m in models for name, a in m.arrays.items() if name.endswith(".n")])
    assert set(shifts) >= set(range(1, 41))
    biases = np.concatenate([a for m in models for name, a in m.arrays.items() if name.endswith(".bias")])
    assert biases.min() < -(1 << 23) and biases.max() > 1 << 23


def test_half_have_several_channels(models):
    several = [m for m in models if len(m.channels) > 1]
    mixed = [m for m in several if m.mode == "mixed"]
    assert 20 < len(several) < 40 and 5 < len(mixed) < len(several) - 5
    assert {len(m.channels) for m in mixed} > {3, 4, 5, 6} and any(1 < len(m.targets) < len(m.channels) for m in mixed)
    assert any(len({c.anchor is None for c in m.channels}) == 2 for m in mixed)
    assert any(len(m.arrays["output.m"]) > 1 for m in several) and any(len(m.arrays["output.m"]) == 1 for m in several)


def test_most_forecasts_change_with_the_window(models):
    alive = [np.ptp(m.output_codes(extreme_windows(m, 0, 12)), axis=0).any() for m in models]
    assert np.mean(alive) > 0.7  # the extreme ones are not


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shape_may_be_asked_for(family):
    shape = Shape(family, tokens=6, patch=4, horizon=5, d_model=12, heads=3, layers=2, factor=2, label=7)
    model = random_model(0, shape)
    assert (model.context, model.horizon) == (24, 5)
    assert model.tensors["encoder.1.attention.scores"].shape == (3, 6, 6)
    assert ("decoder.1.cross.scores" in model.tensors) == (family == "decoder")


def test_windows_go_to_the_edges(models):
    windows = extreme_windows(models[0], 0, 60)
    assert windows.shape == (60, *models[0].window_shape) and windows.dtype == np.int16
    for channel in windows.reshape(60, models[0].context, -1).transpose(2, 0, 1):
        assert channel.min() == -(1 << 15) and channel.max() == (1 << 15) - 1
        assert any((w == w[0]).all() for w in channel) and len({w.tobytes() for w in channel}) > 40
