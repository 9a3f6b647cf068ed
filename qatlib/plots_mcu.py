"""The figures of notebook 09, `plot_x(frame, ax=None) -> Axes` as in `plots`. What is emulated or estimated says so on the figure."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import FuncFormatter

from qatlib.frames_mcu import BARS
from qatlib.plots import PALETTE
from qatlib.plots_engine import _rows, _say, _time

TARGETS = {"rv32imc": ("RV32IMC", PALETTE[0]), "cortex-m4": ("Cortex-M4", PALETTE[1])}
DEVICES = {"ESP32-C3 (RV32IMC)": PALETTE[0], "STM32L4 (Cortex-M4)": PALETTE[1], "ESP32": "black"}
OPTIONS = {
    "ESP32-C3 (RV32IMC)": (PALETTE[0], "-"),
    "STM32L4 (Cortex-M4)": (PALETTE[1], "-"),
    "XC7S15, waits idle": (PALETTE[2], "-"),
    "XC7S15, switched off between": (PALETTE[2], "--"),
    "cloud over NB-IoT or LTE-M": (PALETTE[3], "-"),
    "cloud over Wi-Fi": (PALETTE[3], "--"),
}


def plot_instructions(frame, axes=None):
    """Instructions a multiply-accumulate, flash and RAM. frame: `frames_mcu.emulated`."""
    labels = list(dict.fromkeys(frame["model"] + " " + frame["width"]))
    if axes is None:
        axes = plt.subplots(1, 3, figsize=(11, 0.36 * len(labels) + 1.9), sharey=True)[1]
    columns = (("per_mac", 1, "instructions a multiply-accumulate"), ("flash_bytes", 1e3, "flash (kB)"), ("ram_bytes", 1e3, "RAM (kB)"))
    for ax, (column, unit, title) in zip(axes, columns, strict=True):
        for i, (target, (name, colour)) in enumerate(TARGETS.items()):
            part = frame[frame["target"] == target]
            y = [labels.index(label) + 0.36 * (i - 0.5) for label in part["model"] + " " + part["width"]]
            ax.barh(y, part[column] / unit, 0.34, color=colour, label=name)
            if column == "per_mac":
                ax.axvline(BARS[target], color=colour, lw=1.2, dashes=(4, 2))
        _rows(ax, labels)
        ax.set(xlabel=title)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    _say(axes[0], "emulated: instructions are exact, and no cycles; dashed: the bars that 8 bits had to meet")
    return axes[0]


def plot_latency(frame, ax=None):
    """Milliseconds of a forecast. frame: `frames_mcu.latencies`."""
    lines = [f"{r.model} {r.width}, {r.device}" if r.evidence == "estimated" else f"{r.model}, {r.device}" for r in frame.itertuples()]
    ax = ax or plt.subplots(figsize=(9.5, 0.3 * len(lines) + 1.8))[1]
    for y, row in enumerate(frame.itertuples()):
        ax.barh(y, row.typical, 0.6, color=DEVICES[row.device])
        if row.high > row.low:
            ax.plot([row.low, row.high], [y, y], color="black", lw=1.4)
        ax.text(1.15 * row.high, y, f"{_time(1e3 * row.typical)}, {row.evidence}", va="center", fontsize=9)
    _rows(ax, lines)
    ax.set_xscale("log")
    ax.set_xlim(10 ** np.floor(np.log10(frame["low"].min())), 12 * frame["high"].max())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _time(1e3 * x)))
    ax.set(xlabel="one forecast (log scale)")
    _say(ax, "estimated: counted instructions at an assumed 1.4 cycles each, line: 1 to 2; black: published, another model")
    return ax


def plot_energy(frame, ax=None):
    """Energy a request over the time between requests. frame: `frames_mcu.energy`."""
    ax = ax or plt.subplots(figsize=(9.5, 5.6))[1]
    for option, (colour, style) in OPTIONS.items():
        part = frame[frame["option"] == option]
        ax.plot(part["period"], part["typical"], style, color=colour, lw=2, label=option)
        ax.fill_between(part["period"], part["low"], part["high"], color=colour, alpha=0.15, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="time between requests", ylabel="energy a request, waiting included (mJ, log scale)")
    ax.set_xticks([0.1, 1, 10, 60, 600, 3600], ["0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h"])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    sns.despine(ax=ax)
    _say(ax, "estimated from published powers; bands: their ranges")
    return ax
