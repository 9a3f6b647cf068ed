"""Every figure: `plot_x(frame, ax=None) -> Axes`, one style. `save` keeps a figure as SVG and PNG with its numbers as CSV beside it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.dates import ConciseDateFormatter

from qatlib import paths

plt.style.use(Path(__file__).with_name("qatlib.mplstyle"))

PALETTE = sns.color_palette("colorblind")
COLOURS = {
    "float": PALETTE[2],
    "ptq": PALETTE[1],
    "qat": PALETTE[0],
    "baseline": "0.35",
    "published": "0.75",
    "ptq-minmax": PALETTE[3],
    "ptq-percentile": PALETTE[4],
    "ptq-mse": PALETTE[1],
    "ptq-adaround": PALETTE[0],
    "qat-symmetric": PALETTE[0],
    "qat-asymmetric": PALETTE[9],
    "qat-adaptive": PALETTE[4],
}
BASELINE_NAMES = {"persistence": "persistence", "seasonal": "seasonal naive", "ridge": "ridge", "float": "float"}
DASHES = {"persistence": (5, 2), "seasonal": (1, 1.5), "ridge": (6, 2, 1, 2), "float": (1, 0)}


def save(ax, name, frame, dataset):
    """Write FIGURES/name.svg, .png and .csv (the frame), the data set's name on the figure. -> the figure."""
    figure = ax.figure
    note = f"  ({dataset.note})" if dataset.note else ""
    figure.suptitle(f"{dataset.name}, {dataset.target}{note}", x=0.99, ha="right", fontsize=9, color="0.35", parse_math=False)
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        figure.savefig(paths.FIGURES / (name + suffix), metadata=metadata)
    frame.to_csv(paths.FIGURES / f"{name}.csv", index=False)
    return figure


def verbatim(name):
    """A user's name for a legend, where $ would begin mathematics, and _ at the front leave it out."""
    return (" " * name.startswith("_") + name).replace("$", r"\$")


def save_table(frame, name):
    """Write TABLES/name.csv. -> the frame."""
    paths.TABLES.mkdir(parents=True, exist_ok=True)
    frame.to_csv(paths.TABLES / f"{name}.csv", index=False)
    return frame


def _colour(series):
    """A method's colour, also where the series says more: "qat, best by validation"."""
    return COLOURS[series.split(",")[0]]


def _axes(ax, **size):
    return ax or plt.subplots(**size)[1]


def _baseline_lines(ax, frame):
    """A line for each baseline of the default context; one that lies far off is named at the edge instead."""
    low, high = ax.get_ylim()
    values = frame.groupby("method", sort=False)["mse"].mean()
    top = max(high, values.get("ridge", high) * 1.05)
    ax.set_ylim(low - 0.05 * (top - low), top)
    for method, value in values.items():
        if value <= top:
            colour = COLOURS.get(method, COLOURS["baseline"])
            ax.axhline(value, color=colour, dashes=DASHES[method], lw=1.2, label=f"{BASELINE_NAMES[method]} {value:.4f}")
        else:
            ax.plot([], [], color=COLOURS["baseline"], dashes=DASHES[method], lw=1.2, label=f"{BASELINE_NAMES[method]} {value:.4f} (above)")


def plot_series(frame, ax=None):
    """frame: time, value, split."""
    ax = _axes(ax, figsize=(9, 3.6))
    for (split, part), colour in zip(frame.groupby("split", sort=False), (PALETTE[0], PALETTE[1], PALETTE[2], "0.7"), strict=False):
        ax.plot(part["time"], part["value"].where(~part["gap"]), lw=0.5, color=colour)
        ax.plot([], [], lw=4, color=colour, label=f"{split}: {len(part):,} rows")
    ax.set(xlabel="time", ylabel="value (sensor units)")
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    ax.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def plot_autocorrelation(frame, ax=None):
    """frame: lag (in days), autocorrelation, series."""
    ax = _axes(ax)
    for (series, part), style in zip(frame.groupby("series", sort=False), ("-", "--"), strict=False):
        ax.plot(part["lag"], part["autocorrelation"], style, label=series)
    ax.set(xlabel="lag (days)", ylabel="autocorrelation", ylim=(None, 1.02))
    ax.legend()
    return ax


def plot_errors(frame, ax=None):
    """frame: label, kind (baseline, float, published), mse, one row a run; several seeds of a label share a line."""
    ax = _axes(ax, figsize=(7.5, 5))
    order = frame.groupby("label")["mse"].mean().sort_values().index
    for y, label in enumerate(order):
        rows = frame[frame["label"] == label]
        kind, mean = rows["kind"].iloc[0], rows["mse"].mean()
        ax.barh(y, mean, color=COLOURS[kind], height=0.7, label=kind if kind not in ax.get_legend_handles_labels()[1] else None)
        if len(rows) > 1:
            ax.plot(rows["mse"], [y] * len(rows), "|", color="black", ms=8)
        ax.text(rows["mse"].max() * 1.03, y, f"{mean:.4f}", va="center", fontsize=10)
    ax.set_yticks(range(len(order)), order)
    ax.set_xscale("log")
    ax.set(xlabel="test MSE (standardised, log scale); bars: each seed", xlim=(frame["mse"].min() * 0.8, frame["mse"].max() * 1.35))
    ticks = [t for t in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2) if ax.get_xlim()[0] < t < ax.get_xlim()[1]]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.set_xticks([], minor=True)
    ax.invert_yaxis()
    ax.legend(loc="upper right")
    return ax


def plot_bits(frame, baselines, ax=None):
    """Error of PTQ by bits. frame: weight_bits, method, granularity, mse, seed; baselines: method (float among them), mse."""
    ax = _axes(ax, figsize=(9, 4.6))
    order = sorted(frame["weight_bits"].unique(), reverse=True)
    for (method, granularity), part in frame.groupby(["method", "granularity"], sort=False):
        means = part.groupby("weight_bits")["mse"].mean().reindex(order)
        label = f"{method.removeprefix('ptq-')}, per {granularity}"
        style = "-o" if granularity == "channel" else "--s"
        ax.plot(range(len(order)), means, style, color=COLOURS[method], ms=5, label=label)
    ax.set_xticks(range(len(order)), [f"{b:.0f}" for b in order])
    ax.set(xlabel="bits of weights and activations (residual stream and edges: 8)", ylabel="test MSE of the integers")
    _baseline_lines(ax, baselines)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def plot_change(frame, baselines, ax=None):
    """Paired change against float by width. frame: width, series, change, low, high (%); baselines: method, mse, change (%)."""
    ax = _axes(ax, figsize=(7.5, 4.6))
    widths, series = list(dict.fromkeys(frame["width"])), list(dict.fromkeys(frame["series"]))
    for i, name in enumerate(series):
        part = frame[frame["series"] == name].set_index("width").reindex(widths)
        x = np.arange(len(widths)) + 0.16 * (i - (len(series) - 1) / 2)
        error = np.nan_to_num([part["change"] - part["low"], part["high"] - part["change"]])
        ax.errorbar(x, part["change"], error, fmt="os^D"[i % 4], ms=6, capsize=3, color=_colour(name), label=name)
    ax.axhline(0, color=COLOURS["float"], lw=2, label="float")
    top = max(frame["high"].fillna(frame["change"]).max(), 1) * 1.08
    for row in baselines.itertuples():
        inside = row.change <= top
        x, y = ([0, 1], [row.change] * 2) if inside else ([], [])
        label = f"{BASELINE_NAMES[row.method]} {row.change:+.1f} %" + ("" if inside else " (above)")
        ax.plot(x, y, color=COLOURS["baseline"], dashes=DASHES[row.method], lw=1.2, label=label, transform=ax.get_yaxis_transform())
    ax.set_xticks(range(len(widths)), widths)
    ax.set(xlabel="bits of weights (W) and activations (A)", ylabel="test MSE against float (%)", ylim=(None, top))
    ax.legend(ncols=2, fontsize=9)
    return ax


def plot_tensor_cost(frame, ax=None):
    """frame: tensor, kind, change (%) over seeds; what 4 bits in that tensor alone cost."""
    order = frame.groupby("tensor")["change"].mean().sort_values(ascending=False).index
    ax = _axes(ax, figsize=(8, 0.36 * len(order) + 1.2))
    palette = {"weights": PALETTE[0], "activations": PALETTE[1]}
    sns.barplot(frame, y="tensor", x="change", hue="kind", order=order, palette=palette, errorbar=("sd", 1), ax=ax)
    ax.set(xlabel="change of validation MSE (%), this tensor at 4 bits, all others at 8", ylabel="")
    ax.tick_params(axis="y", labelsize=10)
    ax.legend(title="")
    return ax


def plot_agreement(frame, ax=None):
    """Share of outputs that leave the integers. frame: arithmetic, steps (difference), share."""
    ax = _axes(ax, figsize=(8, 4))
    order = list(dict.fromkeys(frame["arithmetic"]))
    shades = sns.color_palette("rocket_r", 5)
    left = np.zeros(len(order))
    for shade, (label, low, high) in zip(shades[1:], (("1 step", 1, 1), ("2 steps", 2, 2), ("3 or more", 3, np.inf)), strict=False):
        part = frame[(frame["steps"] >= low) & (frame["steps"] <= high)].groupby("arithmetic")["share"].sum().reindex(order).fillna(0)
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
    ax = _axes(ax, figsize=(7.5, 4.8))
    for i, (name, part) in enumerate(frame.groupby("series", sort=False)):
        colour = _colour(name)
        ax.plot(part["size_bytes"] / 1000, part["mse"], "osD^"[i % 4], ls="-" if len(part) > 1 else "", color=colour, label=name, alpha=0.9)
        if name.startswith("qat"):
            for row in part.itertuples():
                below = row.mse <= part.loc[part["size_bytes"] == row.size_bytes, "mse"].min()  # two widths may have one size
                place = {"xytext": (0, -13 if below else 7), "textcoords": "offset points"}
                ax.annotate(row.width, (row.size_bytes / 1000, row.mse), ha="center", fontsize=9, **place)
    ax.set_xscale("log")
    ax.set(xlabel="stored on the device (kB, log scale)", ylabel="test MSE")
    _baseline_lines(ax, baselines)
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
