"""The figures of notebook 10, `plot_x(frame, ax=None) -> Axes` as in `plots`."""

import matplotlib.pyplot as plt
import seaborn as sns

from qatlib.plots import PALETTE

UNITS = {"spike": "SD", "step": "SD", "drift": "SD", "stuck": "samples", "dropout": "samples"}


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
    axes[0].set(ylabel="windows flagged or mended (%)")
    return axes[0]
