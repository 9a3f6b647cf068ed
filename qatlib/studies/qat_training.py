"""Notebook 04: QAT against PTQ against float."""

import numpy as np
import pandas as pd

from qatlib.runs import comparison
from qatlib.studies.style import BASELINE_NAMES, COLOURS, DASHES, PALETTE, new_axes, plain_log, series_colour


def baseline_changes(table, model, float_table):
    """Baselines of a model's context against the mean float error of that model: method, mse, size_bytes, change
    (%)."""
    rows = table[table["method"].isin(("persistence", "seasonal", "ridge")) & (table["model"] == model)]
    reference = float_table.loc[float_table["model"] == model, "mse"].mean()
    return rows.assign(change=100 * (rows["mse"] / reference - 1))[["method", "mse", "size_bytes", "change"]]


def ptq_against_qat(ptq_table, qat_table, float_table):
    """Paired change against float by width, for the PTQ method and granularity that validation chose, and every QAT
    scheme."""
    best = comparison.chosen(ptq_table, comparison.WIDTHS, ["method", "granularity"]).assign(
        method="ptq, best by validation"
    )
    both = comparison.with_labels(pd.concat([best, qat_table]))
    frame = comparison.paired_change(both, float_table, ["method", "width", *comparison.WIDTHS]).rename(
        columns={"method": "series"}
    )
    return frame.sort_values(comparison.WIDTHS, ascending=False, kind="stable")


def plot_change(frame, baselines, ax=None):
    """Paired change against float by width. frame: width, series, change, low, high (%); baselines: method, mse, change
    (%)."""
    ax = new_axes(ax, figsize=(7.5, 4.6))
    widths, series = list(dict.fromkeys(frame["width"])), list(dict.fromkeys(frame["series"]))
    for i, name in enumerate(series):
        part = frame[frame["series"] == name].set_index("width").reindex(widths)
        x = np.arange(len(widths)) + 0.16 * (i - (len(series) - 1) / 2)
        error = np.nan_to_num([part["change"] - part["low"], part["high"] - part["change"]])
        ax.errorbar(x, part["change"], error, fmt="os^D"[i % 4], ms=6, capsize=3, color=series_colour(name), label=name)
    ax.axhline(0, color=COLOURS["float"], lw=2, label="float")
    top = max(frame["high"].fillna(frame["change"]).max(), 1) * 1.08
    for row in baselines.itertuples():
        inside = row.change <= top
        x, y = ([0, 1], [row.change] * 2) if inside else ([], [])
        label = f"{BASELINE_NAMES[row.method]} {row.change:+.1f} %" + ("" if inside else " (above)")
        ax.plot(
            x,
            y,
            color=COLOURS["baseline"],
            dashes=DASHES[row.method],
            lw=1.2,
            label=label,
            transform=ax.get_yaxis_transform(),
        )
    ax.set_xticks(range(len(widths)), widths)
    ax.set(xlabel="bits of weights (W) and activations (A)", ylabel="test MSE against float (%)", ylim=(None, top))
    ax.legend(ncols=2, fontsize=9)
    return ax


def plot_descent(curve, path, ax=None):
    """Loss over the step, and the way that gradient descent takes on it. curve, path: step, loss."""
    ax = new_axes(ax, figsize=(7.5, 4.2))
    ax.plot(curve["step"], curve["loss"], color="0.35", label="loss at a fixed step")
    ax.plot(path["step"], path["loss"], "o", color=COLOURS["qat"], ms=4, alpha=0.6, label="the learned step on its way")
    for place, marker, when in ((0, "s", "start: min-max"), (-1, "D", "end")):
        row = path.iloc[place]
        ax.plot(row["step"], row["loss"], marker, color=PALETTE[1], ms=9, label=f"{when}, {row['step']:.3g}")
    ax.set(xscale="log", yscale="log", xlabel="step (log scale)", ylabel="mean squared error / variance (log scale)")
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)
    ax.legend()
    return ax
