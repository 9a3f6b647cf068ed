"""The figures of notebook 11, `plot_x(frame, ax=None) -> Axes` as in `plots`."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from qatlib.studies import assessment, cost
from qatlib.studies.accelerator_plots import _rows, _time
from qatlib.studies.style import BASELINE_NAMES, DASHES, PALETTE

COLOURS = {
    assessment.LAPTOP: "0.45",
    cost.RV32.name: PALETTE[0],
    cost.M4.name: PALETTE[1],
    assessment.TARGETS["xc7s15"]: PALETTE[2],
    assessment.SWITCHED: PALETTE[5],
    assessment.TARGETS["pynq-z2"]: PALETTE[9],
    "cloud over NB-IoT or LTE-M": PALETTE[3],
    "cloud over Wi-Fi": PALETTE[4],
    "ESP32": "black",
}
MARKERS = {"measured": "o", "simulated": "s", "estimated": "x", "published": "D"}
STYLES = {"PTQ": ("s", PALETTE[1]), "QAT": ("o", PALETTE[0]), "float": ("D", PALETTE[2]), "ridge": ("X", "0.35")}
PLACES = {
    "W2A4": (-20, -3),
    "W3A3": (2, 7),
    "mixed": (-4, -14),
    "QAT W2A2": (0, 7),
    "PTQ W4A4": (20, 4),
    "QAT W4A4": (14, -14),
}
SIZES = (2e3, 5e3, 10e3, 20e3, 40e3, 100e3)
PANELS = (
    ("mse", "test MSE"),
    ("size_bytes", "stored"),
    ("latency_us", "latency of a forecast"),
    ("energy_uj", "energy of a forecast"),
)


def _label(row):
    if np.isnan(row.weight_bits) or row.weight_bits == 32:
        return row.method
    method, comma, more = row.method.partition(",")
    return f"{method} W{row.weight_bits:.0f}A{row.activation_bits:.0f}{comma}{more}"


def _bytes(x):
    return f"{x:,.0f} B" if x < 1e3 else f"{x / 1e3:,.0f} kB"


def _energy(x):
    return f"{x:g} µJ" if x < 1e3 else f"{x / 1e3:g} mJ" if x < 1e6 else f"{x / 1e6:g} J"


def plot_verdict(frame, axes=None):
    """Error, size, latency and energy of every method on every target. frame: of `assessment.everywhere`."""
    placed = frame[frame["target"] != "any"]
    labels = [_label(row) for row in placed.itertuples()]
    order = list(dict.fromkeys(labels))
    if axes is None:
        axes = plt.subplots(1, 4, figsize=(13, 0.36 * len(order) + 2.4), sharey=True)[1]
    for ax, (column, title) in zip(axes, PANELS, strict=True):
        for row, label in zip(placed.itertuples(), labels, strict=True):
            value = getattr(row, column)
            if np.isfinite(value):
                evidence = "measured" if column == "size_bytes" else getattr(row, f"{column.split('_')[0]}_evidence")
                colour = COLOURS[row.target] if column != "mse" else "black"
                ax.plot(value, order.index(label), MARKERS[evidence], color=colour, ms=6, mew=1.6, alpha=0.9)
        _rows(ax, order)
        ax.grid(True, axis="y")
        ax.set(xlabel=title)
        if column != "mse":
            ax.set_xscale("log")
            ax.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes[0].get_xlim()
    for row in frame[frame["target"] == "any"].itertuples():
        where = f"{row.mse:.4f}"
        if row.mse <= high:
            axes[0].axvline(row.mse, color="0.35", dashes=DASHES[row.method], lw=1.2)
        else:
            where += ", to the right"
        axes[0].plot(
            [], [], color="0.35", dashes=DASHES[row.method], lw=1.2, label=f"{BASELINE_NAMES[row.method]} {where}"
        )
    axes[0].set_xlim(low, high)
    axes[1].set_xticks([t for t in SIZES if axes[1].get_xlim()[0] < t < axes[1].get_xlim()[1]])
    for ax, form in zip(axes[1:], (_bytes, _time, _energy), strict=True):
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _, form=form: form(x)))
    used = [target for target in COLOURS if (placed["target"] == target).any()]
    handles = [Line2D([], [], marker="o", ls="", color=COLOURS[target], label=target) for target in used]
    handles += [
        Line2D([], [], marker=m, ls="", color="0.6", mew=1.6, label=evidence) for evidence, m in MARKERS.items()
    ]
    axes[0].figure.legend(
        handles=[*handles, *axes[0].get_legend_handles_labels()[0]], loc="outside lower center", ncols=5, fontsize=9
    )
    return axes[0]


def plot_axes(frame, targets, axes=None):
    """The short form: error over stored bytes of every method, energy over latency of every target. frame, targets:
    `frames_verdict`'s `everywhere` and `by_target`."""
    axes = plt.subplots(1, 2, figsize=(10.5, 3.7))[1] if axes is None else axes
    shown = frame[
        (frame["target"] == assessment.LAPTOP) & ~frame["method"].str.startswith("float, onnx")
        | (frame["method"] == "ridge")
    ]
    for row in shown.itertuples():
        method, name = row.method.split(",")[0], _label(row).split(", Py")[0]
        label = name.removeprefix("QAT").removeprefix("PTQ").removesuffix("widths").strip(", ")
        marker, colour = STYLES[method]
        axes[0].plot(row.size_bytes, row.mse, marker, color=colour, ms=7)
        place = PLACES.get(name, PLACES.get(label, (0, -14) if method == "QAT" else (0, 7)))
        axes[0].annotate(
            label, (row.size_bytes, row.mse), place, textcoords="offset points", fontsize=9, color=colour, ha="center"
        )
    for method in ("PTQ", "QAT"):
        axes[0].plot([], [], STYLES[method][0], color=STYLES[method][1], label=method)
    axes[0].set(xscale="log", xlabel="stored", ylabel="test MSE")
    axes[0].margins(x=0.12, y=0.16)
    axes[0].set_xticks([t for t in SIZES if axes[0].get_xlim()[0] < t < axes[0].get_xlim()[1]])
    axes[0].legend()
    for row in targets.itertuples():
        axes[1].plot(
            row.latency_us, row.energy_uj, MARKERS[row.latency_evidence], color=COLOURS[row.target], ms=8, mew=1.8
        )
        right = row.latency_us > 1e6
        place = {
            "xytext": (-8 if right else 8, 0),
            "textcoords": "offset points",
            "va": "center",
            "ha": "right" if right else "left",
        }
        axes[1].annotate(row.target.split(" (")[0], (row.latency_us, row.energy_uj), fontsize=9, **place)
    axes[1].set(xscale="log", yscale="log", xlabel="latency of a forecast", ylabel="energy of a forecast")
    axes[1].margins(x=0.12, y=0.12)
    axes[1].set_xticks([10.0**e for e in range(-1, 10, 2) if axes[1].get_xlim()[0] < 10.0**e < axes[1].get_xlim()[1]])
    for ax in axes:
        ax.xaxis.set_minor_formatter(NullFormatter())
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: _bytes(x)))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda x, _: _time(x)))
    axes[1].yaxis.set_major_formatter(FuncFormatter(lambda x, _: _energy(x)))
    handles = [Line2D([], [], marker=m, ls="", color="0.6", mew=1.8, label=evidence) for evidence, m in MARKERS.items()]
    axes[1].legend(handles=handles, title="latency; energy: estimated", fontsize=9, title_fontsize=9)
    return axes[0]


def plot_money(options, terms, crossings, ax=None):
    """Money over the number of devices. options: [cost.Option, ..]; terms: cost.Terms; crossings: of
    `assessment.break_even`."""
    ax = ax or plt.subplots(figsize=(8, 4.6))[1]
    devices = np.geomspace(10, 1e5, 200)
    for option in options:
        ax.plot(devices, [terms.total(option, n) for n in devices], color=COLOURS[option.name], lw=2, label=option.name)
    for row in crossings[np.isfinite(crossings["devices"]) & (crossings["devices"] > 0)].itertuples():
        total = terms.total(next(o for o in options if o.name == row.option), row.devices)
        ax.plot(row.devices, total, "o", color="black", ms=6)
        ax.annotate(
            f"{np.ceil(row.devices):,.0f}", (row.devices, total), (6, -12), textcoords="offset points", fontsize=10
        )
    ax.set(xscale="log", yscale="log", xlabel="devices", ylabel=f"money over {terms.years:g} years")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.legend(loc="upper left")
    return ax
