"""Notebook 01: the series, its splits, and what its past says."""

import numpy as np
import pandas as pd
from matplotlib.dates import ConciseDateFormatter

from qatlib.studies.style import PALETTE, new_axes


def series(dataset):
    """Every row: time, value, split, and whether a gap lies before it."""
    ends = (*dataset.bounds, len(dataset.values))
    split = np.repeat(["train", "validation", "test", "unused"], np.diff((0, *ends)))
    gap = np.isin(np.arange(len(split)), dataset.gaps)
    return pd.DataFrame({"time": dataset.times, "value": dataset.values, "split": split, "gap": gap})


def autocorrelation(dataset, *, days=14):
    """Autocorrelation of the train rows by lag, of the values and of their change from one sample to the next; rows in
    gaps left out."""
    train_rows = slice(0, dataset.bounds[0])
    values = pd.Series(dataset.values[train_rows], dataset.times[train_rows]).asfreq(pd.Timedelta(dataset.step))
    lags = np.arange(0, min(len(values) // 4, int(np.timedelta64(days, "D") / dataset.step)) + 1)
    parts = []
    for name, x in (("value", values), ("change from sample to sample", values.diff())):
        parts.append(
            pd.DataFrame(
                {
                    "lag": lags * (dataset.step / np.timedelta64(1, "D")),
                    "autocorrelation": _lagged(x, lags),
                    "series": name,
                }
            )
        )
    return pd.concat(parts)


def _lagged(x, lags):
    x = (x - x.mean()).to_numpy()
    power = np.nanmean(x * x)
    return [np.nanmean(x[lag:] * x[: len(x) - lag]) / power for lag in lags]


def splits(dataset, context, horizon):
    """Per split: rows, windows, windows lost to gaps, first and last forecast time."""
    frame, ends = [], (0, *dataset.bounds)
    for i, split in enumerate(("train", "validation", "test")):
        windows = dataset.windows(split, context, horizon)
        first, last = dataset.times[windows.rows[0]], dataset.times[windows.rows[-1] + horizon - 1]
        frame.append((split, ends[i + 1] - ends[i], len(windows.counts), windows.lost, first, last))
    return pd.DataFrame(frame, columns=["split", "rows", "windows", "lost to gaps", "first forecast", "last forecast"])


def plot_series(frame, ax=None):
    """frame: time, value, split."""
    ax = new_axes(ax, figsize=(9, 3.6))
    for (split, part), colour in zip(
        frame.groupby("split", sort=False), (PALETTE[0], PALETTE[1], PALETTE[2], "0.7"), strict=False
    ):
        ax.plot(part["time"], part["value"].where(~part["gap"]), lw=0.5, color=colour)
        ax.plot([], [], lw=4, color=colour, label=f"{split}: {len(part):,} rows")
    ax.set(xlabel="time", ylabel="value (sensor units)")
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def plot_autocorrelation(frame, ax=None):
    """frame: lag (in days), autocorrelation, series."""
    ax = new_axes(ax)
    for (series, part), style in zip(frame.groupby("series", sort=False), ("-", "--"), strict=False):
        ax.plot(part["lag"], part["autocorrelation"], style, label=series)
    ax.set(xlabel="lag (days)", ylabel="autocorrelation", ylim=(None, 1.02))
    ax.legend()
    return ax
