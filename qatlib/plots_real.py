"""The figures of notebook 10, `plot_x(frame, ax=None) -> Axes` as in `plots`."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.dates import ConciseDateFormatter

from qatlib.plots import PALETTE

UNITS = {"spike": "SD", "step": "SD", "drift": "SD", "stuck": "samples", "dropout": "samples", "noise": "SD"}


def plot_degradation(frame, axes=None):
    """Error under disturbances, and what quantisation adds to float's. frame: `frames_real.degradation`."""
    names, methods = (list(dict.fromkeys(frame[c])) for c in ("disturbance", "method"))
    axes = plt.subplots(1, 2, figsize=(11, 0.42 * len(names) + 1.6), sharey=True)[1] if axes is None else axes
    error = frame.pivot(index="disturbance", columns="method", values="mse").loc[names, methods]
    added = frame.pivot(index="disturbance", columns="method", values="quantisation").loc[names, methods[2:]]
    sns.heatmap(error, ax=axes[0], annot=True, fmt=".3f", cmap="Blues", cbar=False, vmax=3 * error.iloc[0].min(), linewidths=0.5)
    sns.heatmap(added, ax=axes[1], annot=True, fmt="+.1f", cmap="RdBu_r", center=0, vmin=-10, vmax=10, cbar=False, linewidths=0.5)
    axes[0].set(title="test MSE", xlabel="", ylabel="")
    axes[1].set(title="of it by quantisation (% against float)", xlabel="", ylabel="")
    return axes[0]


def plot_detection(frame, axes=None):
    """Windows found by the guard over the strength of a fault. frame: `frames_real.detection`."""
    kinds = list(dict.fromkeys(frame["fault"]))
    axes = plt.subplots(1, len(kinds), figsize=(2.4 * len(kinds), 2.9), sharey=True)[1] if axes is None else axes
    for ax, kind in zip(axes, kinds, strict=True):
        part = frame[frame["fault"] == kind]
        ax.plot(part["strength"], part["found"], "o-", color=PALETTE[0], ms=4)
        ax.axvline(part["bar"].iloc[0], color="0.5", lw=1, dashes=(4, 2))
        ax.axhline(95, color="0.5", lw=1, dashes=(4, 2))
        ax.set(title=kind, xlabel=UNITS[kind], ylim=(-3, 104), xlim=(0, None))
    axes[0].set(ylabel="windows found (%)")
    return axes[0]


def plot_life(frame, segments, noticed=None, ax=None):
    """The error of a device through an update. frame, segments: `frames_real.life`; noticed: the time at which the guard did."""
    ax = ax or plt.subplots(figsize=(9.5, 3.8))[1]
    for (series, part), (colour, style) in zip(frame.groupby("series", sort=False), (("0.5", "--"), (PALETTE[0], "-")), strict=True):
        apart = part["time"].diff() > 20 * part["time"].diff().median()  # no line across a gap
        ax.plot(part["time"], part["mse"].where(~apart), style, color=colour, lw=1.8, label=series)
    for row in segments.itertuples():
        ax.axvline(row[2], color="0.75", lw=1, zorder=0)
        ax.annotate(row.event, (row[2], 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9)
    if noticed is not None:
        ax.axvline(noticed, color=PALETTE[3], lw=1.2, dashes=(4, 2), label="noticed by the guard")
    ax.set(ylabel="MSE, mean of a week", ylim=(0, None), xlim=(frame["time"].min(), frame["time"].max()))
    ax.legend(fontsize=9, loc="lower right")
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    return ax
