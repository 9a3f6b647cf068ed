"""The figures of notebook 11, `plot_x(frame, ax=None) -> Axes` as in `style`."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from qatlib.runs.comparison import width_label
from qatlib.studies import cost
from qatlib.studies.assessment import LINEAR
from qatlib.studies.style import BASELINE_NAMES, DASHES, PALETTE, label_rows, unit_ticks

TARGET_COLOURS = {
    cost.HERE: "0.45",
    cost.RV32.name: PALETTE[0],
    cost.M4.name: PALETTE[1],
    cost.M33.name: PALETTE[6],
    cost.IDLING: PALETTE[2],
    cost.SWITCHED: PALETTE[5],
    cost.BOARD.name: PALETTE[9],
    **dict(zip(cost.CLOUDS, PALETTE[3:5], strict=True)),
    cost.ESP32.name: "black",
}
MARKERS = {"measured": "o", "simulated": "s", "estimated": "x", "published": "D"}
STYLES = {"PTQ": ("s", PALETTE[1]), "QAT": ("o", PALETTE[0]), "float": ("D", PALETTE[2]), "ridge": ("X", "0.35")}
STYLES |= {LINEAR: ("^", PALETTE[4])}
PLACES = {  # of a label, in points beside its mark, where the usual place is taken
    ("QAT", "W2A4"): (-20, -3),
    ("QAT", "W3A3"): (2, 7),
    ("QAT", "mixed"): (-4, -14),
    ("QAT", "W2A2"): (0, 7),
    ("PTQ", "W4A4"): (18, 4),
    ("PTQ", "W8A8"): (18, 7),
    ("QAT", "W4A4"): (14, -14),
    ("QAT", "W8A8"): (22, -9),
}
SIZE_TICKS = (500, 2e3, 8e3, 32e3)
PANELS = (  # column, title, unit, and how many of it the column counts
    ("mse", "test MSE", "", 1),
    ("size_bytes", "stored", "B", 1),
    ("latency_us", "latency of a forecast", "s", 1e-6),
    ("energy_uj", "energy of a forecast", "J", 1e-6),
)


def _width(row):
    """W4A4 and the like; empty for float models, baselines and mixed widths."""
    return "" if row.weight_bits == 32 else width_label(row)


def _label(row):
    method, comma, more = row.method.partition(",")
    return f"{method} {width}{comma}{more}" if (width := _width(row)) else row.method


def _within(ax, ticks):
    low, high = ax.get_xlim()
    return [tick for tick in ticks if low < tick < high]


def _evidence_handles(width):
    return [Line2D([], [], marker=m, ls="", color="0.6", mew=width, label=name) for name, m in MARKERS.items()]


def plot_verdict(frame, axes=None):
    """Error, size, latency and energy of every method on every target. frame: of `assessment.everywhere`."""
    placed = frame[frame["target"] != "any"]
    labels = [_label(row) for row in placed.itertuples()]
    order = list(dict.fromkeys(labels))
    if axes is None:
        axes = plt.subplots(1, 4, figsize=(13, 0.36 * len(order) + 2.4), sharey=True)[1]
    for ax, panel in zip(axes, PANELS, strict=True):
        _plot_panel(ax, panel, placed, [order.index(label) for label in labels])
        label_rows(ax, order)
        ax.grid(True, axis="y")
    _plot_baselines(axes[0], frame[frame["target"] == "any"])
    axes[1].set_xticks(_within(axes[1], SIZE_TICKS))
    used = [target for target in TARGET_COLOURS if (placed["target"] == target).any()]
    handles = [Line2D([], [], marker="o", ls="", color=TARGET_COLOURS[target], label=target) for target in used]
    handles += [*_evidence_handles(1.6), *axes[0].get_legend_handles_labels()[0]]
    axes[0].figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    return axes[0]


def _plot_panel(ax, panel, placed, rows):
    column, title, unit, scale = panel
    for row, y in zip(placed.itertuples(), rows, strict=True):
        value = getattr(row, column)
        if np.isfinite(value):
            evidence = "measured" if column == "size_bytes" else getattr(row, f"{column.split('_')[0]}_evidence")
            colour = TARGET_COLOURS[row.target] if column != "mse" else "black"
            ax.plot(value, y, MARKERS[evidence], color=colour, ms=6, mew=1.6, alpha=0.9)
    ax.set(xlabel=title)
    if unit:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_formatter(unit_ticks(unit, scale))


def _plot_baselines(ax, baselines):
    """A line for each; one that lies outside is named in the legend alone."""
    low, high = ax.get_xlim()
    for row in baselines.itertuples():
        style = {"color": "0.35", "dashes": DASHES[row.method], "lw": 1.2}
        outside = "" if row.mse <= high else ", to the right"
        if not outside:
            ax.axvline(row.mse, **style)
        ax.plot([], [], label=f"{BASELINE_NAMES[row.method]} {row.mse:.4f}{outside}", **style)
    ax.set_xlim(low, high)


def plot_axes(frame, targets, axes=None):
    """The short form: error over stored bytes of every method, energy over latency of every target. frame, targets:
    `assessment`'s `everywhere` and `by_target`."""
    axes = plt.subplots(1, 2, figsize=(10.5, 3.7))[1] if axes is None else axes
    here = (frame["target"] == cost.HERE) & (frame["method"] != "float, onnxruntime")
    _plot_error_over_size(axes[0], frame[here | (frame["method"] == "ridge")])
    _plot_energy_over_latency(axes[1], targets)
    for ax in axes:
        ax.xaxis.set_minor_formatter(NullFormatter())
    return axes[0]


def _plot_error_over_size(ax, shown):
    for row in shown.itertuples():
        method = row.method.split(",")[0]
        label = method if method == LINEAR else _width(row) or ("mixed" if method == "QAT" else method)
        marker, colour = STYLES[method]
        place = {"xytext": PLACES.get((method, label), (0, -14) if method == "QAT" else (0, 7)), "ha": "center"}
        ax.plot(row.size_bytes, row.mse, marker, color=colour, ms=7)
        ax.annotate(label, (row.size_bytes, row.mse), textcoords="offset points", fontsize=9, color=colour, **place)
    for method in ("PTQ", "QAT"):
        ax.plot([], [], STYLES[method][0], color=STYLES[method][1], label=method)
    ax.set(xscale="log", xlabel="stored", ylabel="test MSE")
    ax.margins(x=0.12, y=0.16)
    ax.set_xticks(_within(ax, SIZE_TICKS))
    ax.xaxis.set_major_formatter(unit_ticks("B"))
    ax.legend()


def _plot_energy_over_latency(ax, targets):
    for row in targets.itertuples():
        at, colour = (row.latency_us, row.energy_uj), TARGET_COLOURS[row.target]
        ax.plot(*at, MARKERS[row.latency_evidence], color=colour, ms=8, mew=1.8)
        side = {"xytext": (8, 0), "ha": "left"} if row.latency_us <= 1e6 else {"xytext": (-8, 0), "ha": "right"}
        ax.annotate(row.target.split(" (")[0], at, textcoords="offset points", va="center", fontsize=9, **side)
    ax.set(xscale="log", yscale="log", xlabel="latency of a forecast", ylabel="energy of a forecast")
    ax.margins(x=0.12, y=0.12)
    ax.set_xticks(_within(ax, [10.0**e for e in range(-1, 10, 2)]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(unit_ticks("s" if axis is ax.xaxis else "J", 1e-6))
    ax.legend(handles=_evidence_handles(1.8), title="latency; energy: estimated", fontsize=9, title_fontsize=9)


def plot_money(options, terms, crossings, ax=None):
    """Money over the number of devices. options: [cost.Option, ..]; terms: cost.Terms; crossings: of
    `cost.break_even`."""
    ax = ax or plt.subplots(figsize=(8, 4.6))[1]
    devices = np.geomspace(10, 1e5, 200)
    for option in options:
        ax.plot(
            devices,
            [terms.total(option, n) for n in devices],
            color=TARGET_COLOURS[option.name],
            lw=2,
            label=option.name,
        )
    for row in crossings[np.isfinite(crossings["devices"]) & (crossings["devices"] > 0)].itertuples():
        total = terms.total(next(o for o in options if o.name == row.option), row.devices)
        ax.plot(row.devices, total, "o", color="black", ms=6)
        ax.annotate(
            f"{np.ceil(row.devices):,.0f}", (row.devices, total), (6, -12), textcoords="offset points", fontsize=10
        )
    ax.set(xscale="log", yscale="log", xlabel="devices", ylabel=f"money over {terms.years:g} years")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    ax.legend(loc="upper left")
    return ax
