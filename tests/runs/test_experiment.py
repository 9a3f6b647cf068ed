"""Grids, frames, figures and closing tables of a small experiment, from a CSV to files."""

from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest

from qatlib.float_model import transformer
from qatlib.float_model.config import FAMILIES, Sensor, patch_config
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model.qat import QATConfig
from qatlib.runs import cached, comparison, experiment
from qatlib.runs.experiment import Experiment
from qatlib.studies import float_baseline, integer_kernels, low_bits, ptq_baselines, qat_training, sensor_data, style
from qatlib.system import paths

matplotlib.use("agg")
FAST = TrainConfig(epochs=1, batch=128, averaging=0.5)


@pytest.fixture(scope="module")
def small(sensor_csv, tmp_path_factory):
    """A quick experiment in folders of its own, one epoch for everything."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("BUILD", home / "build"),
            ("FIGURES", home / "figures"),
            ("TABLES", home / "figures" / "tables"),
        ):
            patch.setattr(paths, name, value)
        patch.setattr(experiment, "RECIPES", dict.fromkeys(FAMILIES, (FAST, QATConfig(**vars(FAST), distil=1.0))))
        yield Experiment("quick", str(sensor_csv), "value", context=48, horizon=6)


@pytest.fixture(scope="module")
def accuracy(small):
    """Table of the default model's baselines, float, one PTQ and two QAT runs; computed in this process."""
    grid = [r for r in small.all_runs() if r.model == small.default_model]
    grid = [
        r
        for r in grid
        if not r.quantization or (r.quantization.weight_bits == 4 and r.method in ("ptq-mse", "qat-asymmetric"))
    ]
    for run in grid:
        cached.execute(run, small.dataset)
    return small.table(grid)


@pytest.fixture
def run(small, accuracy):
    return small.quantised_run(weight_bits=4, activation_bits=4)


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
    model = transformer.Forecaster(patch_config(), Sensor(0.002, 0.0, 1.0))
    assert sum(p.numel() for p in model.parameters()) <= 10_000


def test_every_output_agrees_and_each_broken_rule_is_counted(small, run):
    frame = integer_kernels.differences(run, small.dataset)
    sums = frame.groupby("arithmetic")["share"].sum()
    assert np.allclose(sums, 1) and set(sums.index) == set(integer_kernels.BROKEN)
    as_trained = frame[frame["arithmetic"] == "as trained"]
    assert as_trained["steps"].tolist() == [0] and as_trained["share"].tolist() == [1.0]
    truncated = frame[frame["arithmetic"].str.startswith("truncation")]
    assert truncated.loc[truncated["steps"] > 0, "share"].sum() > 0.1


def test_tensors_with_a_width_are_each_named_once(small):
    pairs = list(ptq_baselines.tensors(small.default_model))
    assert len(set(pairs)) == len(pairs)
    assert {("source", "activations"), ("head", "weights"), ("encoder.0.attention.softmax", "activations")} <= set(
        pairs
    )
    exported = cached.integer_model(small.one_tensor_low("head", "weights")[0], small.dataset)
    bits = {o.path: o.attributes["weight_bits"] for o in exported.operations if o.kind == "linear"}
    assert bits.pop("head") == 4 and set(bits.values()) == {8}


def test_series_marks_splits_and_gaps(small):
    frame = sensor_data.series(small.dataset)
    assert (
        frame["split"].value_counts()[["train", "validation", "test"]].tolist() == [540, 180, 180]
        and not frame["gap"].any()
    )


def test_autocorrelation_of_a_daily_wave(small):
    frame = sensor_data.autocorrelation(small.dataset, days=2)
    value = frame[frame["series"] == "value"].set_index("lag")["autocorrelation"]
    assert value[0.0] == pytest.approx(1) and value[1.0] > value[0.5]


def test_published_errors_only_where_they_belong(small, accuracy):
    assert not small.has_published_errors
    assert "Informer" not in set(float_baseline.errors(accuracy, published=False)["label"])
    shown = float_baseline.errors(accuracy, published=True)
    assert shown.loc[shown["kind"] == "published", "source"].str.contains("arXiv").all()


def test_forecasts_show_the_integers_and_the_truth(small, run):
    frame = integer_kernels.forecasts(small, run)
    assert frame["panel"].nunique() == 2 and {"truth", "ridge", "persistence", "float", "integers, W4A4"} == set(
        frame["series"]
    )


def test_figures_carry_the_data_set_and_their_numbers(small, accuracy, run):
    default = small.default_model.name
    floats = accuracy[accuracy["method"] == "float"]
    ptq, qat = (accuracy[accuracy["method"].str.startswith(kind)] for kind in ("ptq-", "qat-"))
    baselines = accuracy[accuracy["method"].isin(("persistence", "seasonal", "ridge"))]
    series, errors = sensor_data.series(small.dataset), float_baseline.errors(accuracy, published=True)
    changes = qat_training.ptq_against_qat(ptq, qat, floats)
    sizes, agree = integer_kernels.sizes(accuracy, default), integer_kernels.differences(run, small.dataset)
    costs = pd.DataFrame({"tensor": ["a", "a"], "kind": ["weights", "activations"], "change": [1.0, -0.5]})
    correlation, shown = sensor_data.autocorrelation(small.dataset), integer_kernels.forecasts(small, run)
    figures = {
        "series": (sensor_data.plot_series(series), series),
        "autocorrelation": (sensor_data.plot_autocorrelation(correlation), correlation),
        "errors": (float_baseline.plot_errors(errors), errors),
        "bits": (
            ptq_baselines.plot_bits(ptq.assign(mse=comparison.final_error(ptq)), pd.concat([baselines, floats])),
            ptq,
        ),
        "change": (
            qat_training.plot_change(changes, qat_training.baseline_changes(accuracy, default, floats)),
            changes,
        ),
        "cost": (ptq_baselines.plot_tensor_cost(costs), costs),
        "agreement": (integer_kernels.plot_agreement(agree), agree),
        "size": (integer_kernels.plot_size(sizes, baselines), sizes),
        "forecasts": (integer_kernels.plot_forecasts(shown), shown),
    }
    for name, (ax, frame) in figures.items():
        style.save(ax, name, frame, small.dataset)
        svg = (paths.FIGURES / f"{name}.svg").read_text()
        assert "sensor, value" in svg and ax.get_xlabel(), name
        assert len(pd.read_csv(paths.FIGURES / f"{name}.csv")) == len(frame)
        assert (paths.FIGURES / f"{name}.png").stat().st_size > 5000


def test_the_note_of_a_fallback_stands_on_the_figure(small):
    series = sensor_data.series(small.dataset)
    style.save(sensor_data.plot_series(series), "noted", series, replace(small.dataset, note="embedded weather data"))
    assert "embedded weather data" in (paths.FIGURES / "noted.svg").read_text()


@pytest.mark.parametrize("name", ["$\\frac{$", "a_b$c$", "_hidden", "\\alpha", "x--y <&>", "{0}", r"se\x1b"])
def test_names_of_a_users_file_stand_on_figures_as_they_are(small, name):
    series = sensor_data.series(small.dataset)
    figure = style.save(
        sensor_data.plot_series(series), "named", series, replace(small.dataset, name=name, target=name)
    )
    assert figure.get_suptitle() == f"{name}, {name}"
    ElementTree.parse(paths.FIGURES / "named.svg")
    widths = pd.DataFrame({"width": "W4A4", "dataset": [name, "etth2"], "change": 1.0, "low": 0.5, "high": 1.5})
    ax = low_bits.plot_widths(widths)
    shown = [text.get_text().strip().replace(r"\$", "$") for text in ax.get_legend().get_texts()]
    assert sorted(shown) == sorted(["float", name, "etth2"])
    ax.figure.canvas.draw()


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
