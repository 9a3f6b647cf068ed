"""Notebook 02: errors of baselines and float models, beside those published."""

import numpy as np
import pandas as pd

from qatlib.studies.published import ERRORS
from qatlib.studies.style import COLOURS, PALETTE, new_axes


def errors(table, *, published):
    """Run table of baselines and float models -> label, kind, mse, mae, a row a run; with the published errors if asked
    for."""
    is_ridge = table["method"] == "ridge"
    context = table["model"].str.extract(r"-[cw](\d+)-")[0]
    label = table["model"].where(table["method"] == "float", table["method"].replace({"seasonal": "seasonal naive"}))
    label = label.where(~is_ridge, "ridge, context " + context)
    frame = table.assign(label=label, kind=np.where(table["method"] == "float", "float", "baseline"), source="measured")
    frame = frame[["label", "kind", "seed", "n_params", "mse_validation", "mse", "mae", "source"]]
    return pd.concat([frame, ERRORS.assign(kind="published")]) if published else frame


def plot_errors(frame, ax=None):
    """frame: label, kind (baseline, float, published), mse, one row a run; several seeds of a label share a line."""
    ax = new_axes(ax, figsize=(7.5, 5))
    order = frame.groupby("label")["mse"].mean().sort_values().index
    for y, label in enumerate(order):
        rows = frame[frame["label"] == label]
        kind, mean = rows["kind"].iloc[0], rows["mse"].mean()
        ax.barh(
            y,
            mean,
            color=COLOURS[kind],
            height=0.7,
            label=kind if kind not in ax.get_legend_handles_labels()[1] else None,
        )
        if len(rows) > 1:
            ax.plot(rows["mse"], [y] * len(rows), "|", color="black", ms=8)
        ax.text(rows["mse"].max() * 1.03, y, f"{mean:.4f}", va="center", fontsize=10)
    ax.set_yticks(range(len(order)), order)
    ax.set_xscale("log")
    ax.set(
        xlabel="test MSE (standardised, log scale); bars: each seed",
        xlim=(frame["mse"].min() * 0.8, frame["mse"].max() * 1.35),
    )
    ticks = [t for t in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2) if ax.get_xlim()[0] < t < ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.invert_yaxis()
    ax.legend(loc="upper right")
    return ax


def one_forecast(values, truth, forecast, attention):
    """One window: sample (0 is the first to forecast), measured, forecast, and the attention that its patch gets.

    values: (context,), truth and forecast: (horizon,), all in sensor units; attention: (token,).
    """
    past, ahead = np.full(len(values), np.nan), np.full(len(truth), np.nan)
    return pd.DataFrame(
        {
            "sample": np.arange(-len(values), len(truth)),
            "measured": np.concatenate([values, truth]),
            "forecast": np.concatenate([past, forecast]),
            "attention": np.concatenate([np.repeat(attention, len(values) // len(attention)), ahead]),
        }
    )


def plot_forecast(frame, ax=None):
    """frame: as `one_forecast` gives it. The darker a patch, the more attention it gets."""
    ax = new_axes(ax, figsize=(9, 4))
    ax.plot(frame["sample"], frame["measured"], color="black", lw=1.2, label="measured")
    ax.plot(frame["sample"], frame["forecast"], color=PALETTE[1], lw=2, label="forecast")
    seen = frame["attention"].dropna().to_numpy()
    top = max(seen.max(), 2 * seen.mean())  # even attention stays in the middle of the scale
    shade = ax.pcolorfast((-len(seen), 0), ax.get_ylim(), seen[None], cmap="Blues", vmin=0, vmax=top, alpha=0.5)
    ax.figure.colorbar(shade, label="attention (probability)")
    ax.set(xlabel="samples from the first one to forecast")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax
