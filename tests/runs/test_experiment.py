"""Grids and what is played of a small experiment."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.float_model import transformer
from qatlib.float_model.config import Sensor, patch_config
from qatlib.runs import cached
from qatlib.runs.experiment import Experiment


def test_unknown_profile():
    with pytest.raises(ValueError, match="unknown profile 'fast'; choose quick or full"):
        Experiment("fast")


def test_the_full_grid_is_what_was_promised(small):
    full = replace(small, profile="full")
    cells = {
        (r.quantization.scheme, r.quantization.weight_bits, r.quantization.activation_bits, r.seed) for r in full.qat()
    }
    widths = {(8, 8), (6, 6), (4, 4), (3, 3), (2, 2), (2, 4)}
    assert {
        (s, *w, seed) for s in ("symmetric", "asymmetric", "adaptive") for w in widths for seed in range(5)
    } <= cells
    assert len(set(full.ptq())) == 4 * 2 * 5 * 5
    others = {(r.model.family, r.model.context, r.quantization.weight_bits) for r in full.qat()}
    assert {
        ("point", 24, 8),
        ("point", 24, 4),
        ("point", 96, 8),
        ("point", 96, 4),
        ("decoder", 48, 8),
        ("decoder", 48, 4),
    } <= others
    assert all(r.quantization.residual_bits == r.quantization.edge_bits == 8 for r in full.qat())


def test_the_one_step_model_is_in_the_full_grid_and_beside_no_error_of_another_horizon(small):
    full, shape = replace(small, profile="full"), small.one_step_model
    assert (shape.name, shape.horizon) == ("point-w12-d32-h1", 1)
    beside = [*full.baselines(), *full.floats(), *full.ptq(), *full.qat()]
    assert {r.model.horizon for r in beside} == {6} and {r.model for r in full.one_step()} == {shape}
    assert set(full.all_runs()) == {*beside, *full.one_step()} and shape not in {r.model for r in small.all_runs()}
    cells = {(r.quantization.weight_bits, r.seed) for r in full.one_step() if r.quantization}
    assert cells == {(w, seed) for w in (8, 4) for seed in range(5)}
    assert {p for r in full.one_step() for p in r.parents} == {r for r in full.one_step() if r.method == "float"}


def test_the_engine_runs_models_of_the_full_grid(small):
    """Five models at four widths; those at 8 and 4 bits, and the default model at 2, are runs of the full grid."""
    named, grid = small.engine_runs(), set(replace(small, profile="full").all_runs())
    shapes = [m.name for m in (small.default_model, *small.other_models, small.one_step_model)]
    assert list(named) == [f"{shape}-{width}" for shape in shapes for width in ("w8a8", "w4a4", "w2a2", "mixed")]
    outside = {name for name, run in named.items() if run not in grid}
    assert outside == {f"{s}-mixed" for s in shapes} | {f"{s}-w2a2" for s in shapes[1:]}
    assert named["patch-c48-d16-w4a4"] == small.quantised_run(weight_bits=4, activation_bits=4)


def test_mixed_widths_reach_every_attention_of_the_decoder(small):
    exceptions = dict(small.engine_runs()["decoder-c48-d16-mixed"].exceptions)
    attentions = ("encoder.0.attention", "decoder.0.attention", "decoder.0.cross")
    assert all(
        exceptions[f"{path}.{part}"].activation_bits == 8
        for path in attentions
        for part in ("query", "key", "value", "softmax")
    )
    assert exceptions["decoder.0.feed_forward.widen"].weight_bits == 2 and exceptions["head"].weight_bits == 6


def test_a_seed_pairs_a_quantised_run_with_its_float_run(small):
    assert all(set(r.parents) <= set(small.floats()) for r in [*small.ptq(), *small.qat()])


def test_the_default_model_is_small():
    model = transformer.network(patch_config(), Sensor(0.002, 0.0, 1.0))
    assert sum(p.numel() for p in model.parameters()) <= 10_000


def test_playlist_is_the_default_model_at_every_width_and_the_last_windows_in_order(small):
    for name, run in small.engine_runs().items():
        if name.startswith(small.default_model.name) and not run.exceptions:
            cached.execute(run, small.dataset)
    replay = small.replay(most=40)
    assert list(replay.models) == ["W8A8", "W4A4", "W2A2"]
    assert replay.title == "sensor, value"
    windows = small.windows("test")
    np.testing.assert_array_equal(replay.windows, windows.counts[-40:])
    np.testing.assert_array_equal(replay.windows[1:, -1], replay.truth[:-1, 0])
    truth = small.dataset.standardise(replay.truth * small.dataset.resolution)
    np.testing.assert_allclose(truth, windows.truth[-40:], atol=small.dataset.resolution / small.dataset.std)


def test_last_counts_begin_after_a_gap(small, monkeypatch):
    windows = small.windows("test")
    rows = windows.rows + np.where(
        np.arange(len(windows.rows)) < len(windows.rows) - 25, -7, 0
    )  # 25 windows after the gap
    monkeypatch.setattr(Experiment, "windows", lambda self, split: replace(windows, rows=rows))
    assert [len(part) for part in small.last_counts(40)] == [25, 25]
    assert [len(part) for part in small.last_counts(10)] == [10, 10]
