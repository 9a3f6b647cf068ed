"""What each rule of the integer arithmetic is worth: a trained model evaluated with one rule broken, against its own
integers."""

from contextlib import ExitStack
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from qatlib.float_model import baselines, train
from qatlib.quantised_model import qat, quant_layers, quantisers
from qatlib.runs import cached, comparison
from qatlib.studies.style import COLOURS, baseline_lines, new_axes, series_colour


def _half_to_even(v, low, high):
    return torch.round(v).clamp(float(low), float(high))


def _truncate(v, low, high):
    return torch.floor(v).clamp(float(low), float(high))


def _real_softmax(scores, score_step, step, numerator, k, high):
    """The softmax without table and reciprocal, its result rounded to steps."""
    return torch.floor((scores * score_step).softmax(-1) / step + 0.5).clamp(max=high)


BROKEN = {
    "as trained": (),
    "real multipliers, not m / 2^n": ((quant_layers, "round_multiplier", lambda multiplier: multiplier),),
    "real softmax, no table": ((quant_layers, "softmax", _real_softmax),),
    "ties to even": ((quantisers, "round_clamp", _half_to_even), (quant_layers, "round_clamp", _half_to_even)),
    "truncation, as a bare shift does": (
        (quantisers, "round_clamp", _truncate),
        (quant_layers, "round_clamp", _truncate),
    ),
}


def differences(run, dataset):
    """Steps between a run's evaluation and its integers, over all test outputs, each rule broken in turn: arithmetic,
    steps, share, mse."""
    _, _, test = cached.split_batches(run.model, dataset)
    windows = cached.splits(run.model, dataset)[2]
    model, exported = cached.quantised_model(run, dataset), cached.integer_model(run, dataset)
    truth = exported.output_codes(windows.counts) - exported.tensors["head"].zero_point
    step = float(model.head.quantizer.step().detach().double())
    frame = []
    for name, patches in BROKEN.items():
        with ExitStack() as stack:
            for patch in patches:
                stack.enter_context(mock.patch.object(*patch))
            codes = qat.output_codes(model, test.inputs)
        steps, counts = np.unique(np.abs(codes - truth), return_counts=True)
        mse = float(np.square(codes * step - test.targets.numpy()).mean())
        frame += [(name, s, n / codes.size, mse) for s, n in zip(steps, counts, strict=True)]
    return pd.DataFrame(frame, columns=["arithmetic", "steps", "share", "mse"])


def sizes(accuracy, model):
    """Mean size and error of one model by width, for float, and the PTQ and the QAT that validation error chose."""
    rows = accuracy[(accuracy["model"] == model) & ~accuracy["method"].isin(("persistence", "seasonal", "ridge"))]
    ptq_rows, qat_rows = (rows[rows["method"].str.startswith(prefix)] for prefix in ("ptq-", "qat-"))
    parts = [
        rows[rows["method"] == "float"].assign(series="float"),
        comparison.chosen(ptq_rows, comparison.WIDTHS, ["method", "granularity"]).assign(
            series="ptq, best by validation"
        ),
        comparison.chosen(qat_rows, comparison.WIDTHS, ["method"]).assign(series="qat, best by validation"),
    ]
    table = comparison.with_labels(pd.concat(parts))
    table["mse"] = comparison.final_error(table)
    by = ["series", "method", "granularity", "width", "size_bytes"]
    frame = table.groupby(by, sort=False, dropna=False).agg(
        seeds=("seed", "size"), mse=("mse", "mean"), mae=("mae", "mean")
    )
    return frame.reset_index().sort_values("size_bytes", ascending=False)


def forecasts(experiment, integer_run):
    """The integer model's forecasts beside truth, float, ridge and persistence, for its window of median and of largest
    error."""
    dataset, windows = experiment.dataset, experiment.windows("test")
    integers = cached.integer_model(integer_run, experiment.dataset)
    model = cached.float_model(integer_run, experiment.dataset)
    inputs = cached.split_batches(integer_run.model, experiment.dataset)[2].inputs
    anchor = dataset.standardise(windows.counts[:, -1:] * dataset.resolution)
    lines = {
        "truth": windows.truth,
        "persistence": baselines.persistence(windows, dataset),
        "ridge": baselines.ridge(experiment.windows("train"), experiment.windows("validation"), windows, dataset),
        "float": train.forecast(model, inputs).numpy() + anchor,
        f"integers, {integer_run.quantization.label}": dataset.standardise(
            integers.forward(windows.counts) * dataset.resolution
        ),
    }
    error = np.square(list(lines.values())[-1] - windows.truth).mean(1)
    ranked = np.argsort(error)
    picks = {"typical": ranked[len(ranked) // 2], "worst": ranked[-1]}
    return pd.concat([_panel(name, i, error, windows, lines, dataset) for name, i in picks.items()])


def _panel(panel, i, error, windows, lines, dataset):
    title = f"{panel}: {str(dataset.times[windows.rows[i]])[:13]}, MSE {error[i]:.3f}"
    horizon, seen = windows.truth.shape[1], min(48, windows.counts.shape[1])
    history = windows.counts[i, -seen:] * dataset.resolution
    parts = []
    for name, values in lines.items():
        future = values[i] * dataset.std + dataset.mean
        steps, shown = np.arange(1, horizon + 1), future
        if name == "truth":
            steps, shown = np.arange(1 - seen, horizon + 1), np.concatenate([history, future])
        parts.append(pd.DataFrame({"panel": title, "step": steps, "series": name, "value": shown}))
    return pd.concat(parts)


def plot_agreement(frame, ax=None):
    """Share of outputs that leave the integers. frame: arithmetic, steps (difference), share."""
    ax = new_axes(ax, figsize=(8, 4))
    order = list(dict.fromkeys(frame["arithmetic"]))
    shades = sns.color_palette("rocket_r", 5)
    left = np.zeros(len(order))
    for shade, (label, low, high) in zip(
        shades[1:], (("1 step", 1, 1), ("2 steps", 2, 2), ("3 or more", 3, np.inf)), strict=False
    ):
        part = (
            frame[(frame["steps"] >= low) & (frame["steps"] <= high)]
            .groupby("arithmetic")["share"]
            .sum()
            .reindex(order)
            .fillna(0)
        )
        ax.barh(order, 100 * part, left=left, color=shade, label=label)
        left += 100 * part.to_numpy()
    errors = frame.groupby("arithmetic")["mse"].first().reindex(order)
    for y, (total, mse) in enumerate(zip(left, errors, strict=True)):
        text = "every output equal" if total == 0 else f"{total:.2g} %"
        ax.text(total + 1, y, f"{text}, test MSE {mse:.4f}", va="center", fontsize=10)
    ax.set(xlabel="outputs that differ from the integer model (%)", xlim=(0, max(left.max() * 1.45, 1)))
    ax.set_xticks([t for t in ax.get_xticks() if t <= 100])
    ax.invert_yaxis()
    ax.legend(title="difference", loc="upper right")
    return ax


def plot_size(frame, baselines, ax=None):
    """Size against error. frame: series, size_bytes, mse, width; baselines: method, mse, size_bytes."""
    ax = new_axes(ax, figsize=(7.5, 4.8))
    for i, (name, part) in enumerate(frame.groupby("series", sort=False)):
        colour = series_colour(name)
        ax.plot(
            part["size_bytes"] / 1000,
            part["mse"],
            "osD^"[i % 4],
            ls="-" if len(part) > 1 else "",
            color=colour,
            label=name,
            alpha=0.9,
        )
        if name.startswith("qat"):
            for row in part.itertuples():
                below = (
                    row.mse <= part.loc[part["size_bytes"] == row.size_bytes, "mse"].min()
                )  # two widths may have one size
                place = {"xytext": (0, -13 if below else 7), "textcoords": "offset points"}
                ax.annotate(row.width, (row.size_bytes / 1000, row.mse), ha="center", fontsize=9, **place)
    ax.set_xscale("log")
    ax.set(xlabel="stored on the device (kB, log scale)", ylabel="test MSE")
    baseline_lines(ax, baselines)
    ridge = baselines[baselines["method"] == "ridge"]
    ax.plot(ridge["size_bytes"] / 1000, ridge["mse"], "x", color=COLOURS["baseline"], ms=8, mew=2)
    ticks = [t for t in (1, 2, 5, 10, 20, 40) if ax.get_xlim()[0] < t < ax.get_xlim()[1]]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set_xticks([], minor=True)
    ax.legend(fontsize=9)
    return ax


def plot_forecasts(frame, axes=None):
    """Forecasts over truth, a panel a window. frame: panel, hour (0 = last input), series, value."""
    panels = list(dict.fromkeys(frame["panel"]))
    if axes is None:
        axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.6), sharex=True, squeeze=False)[1][0]
    styles = {
        "truth": ("black", "-"),
        "persistence": (COLOURS["baseline"], ":"),
        "ridge": (COLOURS["baseline"], "-."),
        "float": (COLOURS["float"], "-"),
    }
    for ax, panel in zip(axes, panels, strict=True):
        for series, part in frame[frame["panel"] == panel].groupby("series", sort=False):
            colour, style = styles.get(series, (COLOURS["qat"], "-"))
            ax.plot(part["step"], part["value"], style, color=colour, label=series)
        ax.axvline(0, color="0.7", lw=1)
        ax.set(title=panel, xlabel="samples after the last input")
    axes[0].set_ylabel("value (sensor units)")
    axes[0].legend(fontsize=9)
    return axes[0]
