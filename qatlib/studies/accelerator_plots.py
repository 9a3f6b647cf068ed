"""The figures of the accelerator, `plot_x(frame, ax=None) -> Axes` as in `style`. What was simulated says so on the
figure."""

import matplotlib.pyplot as plt
import numpy as np

from qatlib.studies import published
from qatlib.studies.style import PALETTE, SIMULATED, in_unit, label_rows, say_evidence, unit_ticks

ISSUE, WAIT = PALETTE[0], "0.75"
KINDS = {  # of what fills a lane of the schedule
    "bus": (PALETTE[2], "on the bus"),
    "issue": (ISSUE, "issues, one a cycle"),
    "in flight": (PALETTE[1], "its last results pass the pipeline"),
}
CONFIG_MARKS = {
    "xc7s15": {"marker": "o", "color": PALETTE[0]},
    "pynq-z2": {"marker": "s", "color": PALETTE[1], "fillstyle": "none", "ms": 9, "mew": 2},
    "kv260": {"marker": "D", "color": PALETTE[2], "ms": 4},
}
MARKS = {  # of what others published
    "published code, simulated": {"marker": "P", "color": "black", "fillstyle": "none", "ms": 8},
    "published": {"marker": "X", "color": "black", "ms": 7},
}
PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # behind a text that crosses a line
RESOURCES = {
    "lut": ("LUT", PALETTE[0]),
    "ff": ("flip-flops", PALETTE[9]),
    "dsp": ("DSP", PALETTE[1]),
    "bram36": ("block RAM", PALETTE[2]),
}


def plot_cycles(frame, axes=None):
    """Cycles by operation, a panel a width. frame: `accelerator.operations`, and interval (simulated)."""
    panels, order = list(dict.fromkeys(frame["width"])), list(dict.fromkeys(frame["operation"]))
    if axes is None:
        size = (3.2 + 3.3 * len(panels), 0.3 * len(order) + 2.2)
        axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)[1][0]
    for ax, panel in zip(axes, panels, strict=True):
        part = frame[frame["width"] == panel].set_index("operation").reindex(order)
        y = np.arange(len(order))
        ax.barh(y, part["issue"], 0.7, color=ISSUE, label="issues, one a cycle")
        ax.barh(y, part["wait"], 0.7, left=part["issue"], color=WAIT, label="waits for results")
        bound = part["bound"].where(part["bound"] > 0)
        ax.plot(bound, y, "|", color="black", ms=13, mew=2, label="bound: its multiply-accumulates, every lane in use")
        ax.set_title(f"{panel}: {part['interval'].max():,.0f} cycles a window,\nbound {part['bound'].sum():,.0f}")
        ax.set(xlabel="cycles")
        label_rows(ax, order)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    say_evidence(axes[0], f"{SIMULATED}: {frame['model'].iloc[0]} on {frame['config'].iloc[0]}")
    return axes[0]


def plot_schedule(frame, ax=None):
    """What overlaps. frame: `accelerator.schedule`."""
    buses = ("bus in", "bus out")
    lanes = [buses[0], *(n for n in dict.fromkeys(frame["lane"]) if n not in buses), buses[1]]
    ax = ax or plt.subplots(figsize=(9.5, 0.27 * len(lanes) + 1.8))[1]
    last = frame.loc[frame["lane"] == buses[1], "end"].max()
    frame = frame[frame["start"] < 1.12 * last]
    for (kind, window), part in frame.groupby(["kind", "window"], sort=False):
        y = [lanes.index(n) for n in part["lane"]]
        colour, label = KINDS[kind]
        alpha, label = (1, label) if window == 1 else (0.9 / window, None)
        ax.barh(y, part["end"] - part["start"], 0.74, left=part["start"], color=colour, alpha=alpha, label=label)
    loads = frame[frame["lane"] == buses[0]]
    ax.text(
        loads["end"].max() + 0.01 * last, 0, f"this window, then the next {len(loads) - 1}", va="center", fontsize=9
    )
    ax.axvline(last, color="0.35", lw=1, dashes=(4, 2))
    ax.text(0.992 * last, len(lanes) - 1, f"last word out: {last:,}  ", ha="right", va="center", fontsize=9)
    label_rows(ax, lanes)
    ax.set(
        xlabel="cycles after the first word of the window came in (pale: the windows after it)", xlim=(0, 1.12 * last)
    )
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.06), fontsize=9)
    first = frame.iloc[0]
    say_evidence(ax, f"{SIMULATED}: {first['model']} {first['width']} on {first['config']}")
    return ax


def plot_area(frame, ax=None):
    """Area against what the chip holds. frame: config, device, resource, used, budget, percent."""
    configs = dict(zip(frame["config"], frame["device"], strict=True))
    ax = ax or plt.subplots(figsize=(8, 1.25 * len(configs) + 1.4))[1]
    for row in frame.itertuples():
        y = list(configs).index(row.config) + 0.2 * (list(RESOURCES).index(row.resource) - 1.5)
        name, colour = RESOURCES[row.resource]
        ax.barh(y, row.percent, 0.17, color=colour)
        ax.text(row.percent + 1, y, f"{row.used:,g} of {row.budget:,g} {name}", va="center", fontsize=9, bbox=PLAIN)
    ax.axvline(100, color="black", lw=1.2)
    label_rows(ax, [f"{config}\non {device}" for config, device in configs.items()])
    top = max(100, frame["percent"].max())
    ax.set(xlabel="of what the chip holds (%)", xlim=(0, 1.3 * top))
    ax.set_xticks([t for t in ax.get_xticks() if t <= top])
    say_evidence(ax, "Yosys synthesis, not placed and routed")
    return ax


def plot_latency(frame, clocks, ax=None):
    """Latencies beside published ones. frame: `accelerator.beside_published`; clocks: {configuration: MHz reached on
    an ECP5}."""
    lines = _lines(frame)
    ax = ax or plt.subplots(figsize=(10, 0.27 * len(lines) + 2.4))[1]
    for y, (_, rows) in enumerate(lines):
        _plot_line(ax, y, rows.dropna(subset=["microseconds"]), clocks)
        if y and rows["model"].iloc[0] != lines[y - 1][1]["model"].iloc[0]:
            ax.axhline(y - 0.5, color="0.85", lw=0.8)
    label_rows(ax, [label for label, _ in lines])
    ax.set_xscale("log")
    ax.set_xlim(right=7 * frame["microseconds"].max())
    ax.xaxis.set_major_formatter(unit_ticks("s", 1e-6))
    ax.set(xlabel=f"latency of one forecast (log scale; cycles at {published.CLOCK} MHz, as published)")
    handles, names = ax.get_legend_handles_labels()
    kinds = dict(zip(names, handles, strict=True))
    ax.figure.legend(kinds.values(), kinds.keys(), loc="outside lower center", ncols=2, fontsize=9)
    say_evidence(ax, f"in colour: {SIMULATED}, not measured; in black: published")
    return ax


def _plot_line(ax, y, rows, clocks):
    for row in rows.itertuples():
        style = MARKS.get(row.evidence) or CONFIG_MARKS[row.config]
        ax.plot(row.microseconds, y, ls="", label=_kind(row, clocks), **style)
    if rows.empty:
        ax.text(0.01, y, "does not fit", transform=ax.get_yaxis_transform(), va="center", fontsize=9)
        return
    last = rows.loc[rows["microseconds"].idxmax()]
    device = f", {last['config']}" if last["evidence"] in MARKS else ""
    ax.text(1.2 * last["microseconds"], y, in_unit(last["microseconds"] / 1e6, "s") + device, va="center", fontsize=9)


def _lines(frame):
    """[(label, rows)]: a line a model and width, where widths of equal latencies share one, and a line a published
    number."""
    lines = {}
    for (model, label), rows in frame.groupby(["model", "label"], sort=False):
        theirs = rows["evidence"].iloc[0] in MARKS
        key = (model, label) if theirs else (model, *rows["microseconds"].fillna(0))
        names, _ = lines.setdefault(key, (["" if theirs else f"{model} "], rows))
        names.append(label)
    return [(names[0] + ", ".join(names[1:]), rows) for names, rows in lines.values()]


def _kind(row, clocks):
    """What the legend calls a mark."""
    if row.evidence in MARKS:
        return row.evidence
    reached = f" (an ECP5 reaches {clocks[row.config]:.0f} MHz)" if row.config in clocks else ""
    return f"{row.config}, {SIMULATED}{reached}"
