"""Figures of every kind: their numbers beside them, the data's name on them, and units with three digits."""

from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest

from qatlib.runs import comparison
from qatlib.studies import float_baseline, integer_kernels, low_bits, ptq_baselines, qat_training, sensor_data, style
from qatlib.system import paths

matplotlib.use("agg")


def test_figures_carry_the_data_set_and_their_numbers(small, accuracy, four_bit_run):
    default = small.default_model.name
    floats = accuracy[accuracy["method"] == "float"]
    ptq, qat = (accuracy[accuracy["method"].str.startswith(kind)] for kind in ("ptq-", "qat-"))
    baselines = accuracy[accuracy["method"].isin(("persistence", "seasonal", "ridge"))]
    series, errors = sensor_data.series(small.dataset), float_baseline.errors(accuracy, published=True)
    changes = qat_training.ptq_against_qat(ptq, qat, floats)
    sizes, agree = integer_kernels.sizes(accuracy, default), integer_kernels.differences(four_bit_run, small.dataset)
    costs = pd.DataFrame({"tensor": ["a", "a"], "kind": ["weights", "activations"], "change": [1.0, -0.5]})
    correlation, shown = sensor_data.autocorrelation(small.dataset), integer_kernels.forecasts(small, four_bit_run)
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


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (44.449e-3, "s", "44.4 ms"),
        (1.5e-6, "s", "1.5 µs"),
        (0.9999, "s", "1 s"),
        (9168, "B", "9.17 kB"),
        (176e-3, "s", "176 ms"),
        (1e5, "B", "100 kB"),
        (32_400, "J", "32.4 kJ"),
        (float("nan"), "J", "–"),
    ],
)
def test_units(value, unit, text):
    assert style.in_unit(value, unit) == text
    assert style.unit_ticks(unit, 1e-3)(1e3 * value, 0) == text
