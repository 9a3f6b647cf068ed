"""Every figure: `plot_x(frame, ax=None) -> Axes`, one style. `save` keeps a figure as SVG and PNG with its numbers as
CSV beside it."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

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


def _colour(series):
    """A method's colour, also where the series says more: "qat, best by validation"."""
    return COLOURS[series.split(",")[0]]


def _plain_log(axis):
    """Ticks at 1, 2 and 5 of each decade, in plain figures."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


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
