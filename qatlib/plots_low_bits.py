"""The figures of notebook 08, `plot_x(frame, ax=None) -> Axes` as in `plots`."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from qatlib.plots import COLOURS, PALETTE, verbatim
from qatlib.search import ENGINE

WIDTH_COLOURS = {"W4A4": PALETTE[0], "W3A3": PALETTE[1], "W2A4": PALETTE[4], "W2A2": PALETTE[3], "all 4 bit": PALETTE[2]}


def plot_worth(frame, axes=None):
    """What each part of the recipe is worth, a panel a width. frame: variant, width, change, low, high (%); the first variant is the
    chosen one."""
    widths, order = list(dict.fromkeys(frame["width"])), list(dict.fromkeys(frame["variant"]))
    if axes is None:
        size = (3.4 + 2.6 * len(widths), 0.34 * len(order) + 1.2)
        axes = plt.subplots(1, len(widths), figsize=size, sharey=True, squeeze=False)[1][0]
    for ax, width in zip(axes, widths, strict=True):
        part = frame[frame["width"] == width].set_index("variant").reindex(order)
        y, colour = np.arange(len(order)), WIDTH_COLOURS[width]
        error = np.nan_to_num([part["change"] - part["low"], part["high"] - part["change"]])
        ax.errorbar(part["change"], y, xerr=error, fmt="o", color=colour, capsize=3, ms=6)
        ax.axvline(0, color=COLOURS["float"], lw=2)
        ax.axvline(part["change"].iloc[0], color=colour, lw=1, ls=":")
        ax.set_yticks(y, order, fontsize=10)
        ax.set(title=width, ylim=(len(order) - 0.5, -0.5))
    axes[len(widths) // 2].set_xlabel("test MSE against float (%), integers; line: float, dotted: the chosen recipe")
    return axes[0]


def plot_widths(frame, ax=None):
    """Paired change by width, on one or several data sets. frame: width, dataset, change, low, high (%)."""
    ax = ax or plt.subplots(figsize=(8, 4.2))[1]
    widths, datasets = list(dict.fromkeys(frame["width"])), list(dict.fromkeys(frame["dataset"]))
    for i, name in enumerate(datasets):
        part = frame[frame["dataset"] == name].set_index("width").reindex(widths)
        x = np.arange(len(widths)) + 0.18 * (i - (len(datasets) - 1) / 2)
        error = np.nan_to_num([part["change"] - part["low"], part["high"] - part["change"]])
        ax.errorbar(x, part["change"], error, fmt="os^D"[i % 4], color=PALETTE[i], ms=6, capsize=3, label=verbatim(name))
    ax.axhline(0, color=COLOURS["float"], lw=2, label="float")
    ax.set_xticks(range(len(widths)), widths)
    ax.set(xlabel="bits (residual stream and edges 8, but for the last)", ylabel="test MSE against float (%)")
    ax.legend()
    return ax


def plot_front(frame, trained, ax=None):
    """Every trial of a search, and what was trained by the whole recipe. frame: size_bytes, error (%, validation), cycles; trained: the
    same, series (uniform widths, finalists) and label."""
    ax = ax or plt.subplots(figsize=(8.6, 4.8))[1]
    top = 1.5 * max(trained["error"].max(), 1)
    shown = frame[frame["error"] <= top]
    finite = frame["cycles"][np.isfinite(frame["cycles"].astype(float))]
    norm = Normalize(finite.min(), finite.max()) if len(finite) else Normalize(0, 1)
    size = shown["size_bytes"] / 1000
    ax.scatter(size, shown["error"], c=shown["cycles"], norm=norm, cmap="viridis_r", s=22, label=f"trial, trained briefly ({len(frame)})")
    for (series, part), marker, below in zip(trained.groupby("series", sort=False), "Do", (6, -14), strict=True):
        size, style = part["size_bytes"] / 1000, {"marker": marker, "s": 90, "edgecolor": PALETTE[3], "linewidth": 2}
        ax.scatter(size, part["error"], c=part["cycles"], norm=norm, cmap="viridis_r", label=f"{series}, whole recipe", **style)
        for row in part.itertuples():
            ax.annotate(row.label, (row.size_bytes / 1000, row.error), xytext=(8, below), textcoords="offset points", fontsize=9)
    ax.axhline(0, color=COLOURS["float"], lw=2, label="float")
    ax.figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=ax, label=f"cycles on {ENGINE.name} (predicted)")
    ax.set(xlabel="stored on the device (kB)", ylabel="validation MSE against float (%)", ylim=(None, top))
    ax.legend(fontsize=9)
    return ax


def plot_chosen_bits(frame, ax=None):
    """Bits of every tensor. frame: a row a model (its label as index), a column a tensor."""
    names = [name.replace("encoder.0.", "") for name in frame.columns]
    ax = ax or plt.subplots(figsize=(0.42 * len(names) + 2.4, 0.42 * len(frame) + 2.6))[1]
    values = frame.to_numpy(dtype=float)
    ax.imshow(np.log2(values), cmap="Blues", vmin=0.4, vmax=3.6, aspect="auto")
    for (i, j), bits in np.ndenumerate(values):
        ax.text(j, i, f"{bits:.0f}", ha="center", va="center", fontsize=10, color="white" if bits >= 8 else "black")
    ax.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=9)
    ax.set_yticks(range(len(frame)), frame.index, fontsize=9)
    ax.grid(False)
    ax.set_title("bits of each tensor", fontsize=11)
    return ax
