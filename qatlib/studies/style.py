"""Every figure: `plot_x(frame, ax=None) -> Axes`, one style. `save` keeps a figure as SVG and PNG with its numbers as
CSV beside it."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import EngFormatter, FormatStrFormatter, FuncFormatter, LogLocator, NullFormatter

from qatlib.system import paths

plt.style.use(paths.STYLE)


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
SIMULATED = "simulated RTL"  # evidence: cycles of the engine in Verilator
DASHES = {"persistence": (5, 2), "seasonal": (1, 1.5), "ridge": (6, 2, 1, 2), "float": (1, 0)}


def save(ax, name, frame, dataset, note=""):
    """Write FIGURES/name.svg, .png and .csv (the frame), on the figure the data set's name, and the note beneath.

    -> the figure."""
    figure = ax.figure
    about = f"{dataset.name}, {dataset.target}" + (f"  ({dataset.note})" if dataset.note else "")
    title = f"{about}\n{note}" if note else about
    figure.suptitle(title, x=0.99, ha="right", fontsize=9, color="0.35", parse_math=False)
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


def series_colour(series):
    """A method's colour, also where the series says more: "qat, best by validation"."""
    return COLOURS[series.split(",")[0]]


def plain_log(axis):
    """Ticks at 1, 2 and 5 of each decade, in plain figures."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def new_axes(ax, **size):
    """The axes given, else those of a new figure."""
    return ax or plt.subplots(**size)[1]


def say_evidence(ax, text):
    """What kind of numbers these are, at the top left; short, since `save` puts the data at the top right."""
    ax.figure.text(0.01, 0.99, text, va="top", fontsize=9, color="0.35")


def label_rows(ax, labels):
    """A row a label, from the top; lines behind the bars, and none along them."""
    ax.set_yticks(range(len(labels)), labels, fontsize=10)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set_axisbelow(True)


def in_unit(value, unit):
    """Three digits with a prefix of the unit: 1.5 µs, 44 ms, 9.17 kB; – where there is none."""
    return EngFormatter(unit)(float(f"{value:.3g}")) if np.isfinite(value) else "–"


def unit_ticks(unit, scale=1):
    """A formatter of ticks whose values are that many units."""
    return FuncFormatter(lambda x, _: in_unit(scale * x, unit))


def baseline_lines(ax, frame):
    """A line for each baseline of the default context; one that lies far off is named at the edge instead."""
    low, high = ax.get_ylim()
    values = frame.groupby("method", sort=False)["mse"].mean()
    top = max(high, values.get("ridge", high) * 1.05)
    ax.set_ylim(low - 0.05 * (top - low), top)
    for method, value in values.items():
        if value <= top:
            colour = COLOURS.get(method, COLOURS["baseline"])
            ax.axhline(
                value, color=colour, dashes=DASHES[method], lw=1.2, label=f"{BASELINE_NAMES[method]} {value:.4f}"
            )
        else:
            ax.plot(
                [],
                [],
                color=COLOURS["baseline"],
                dashes=DASHES[method],
                lw=1.2,
                label=f"{BASELINE_NAMES[method]} {value:.4f} (above)",
            )
