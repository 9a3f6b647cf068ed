"""The frames behind figures and tables of notebook 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from qatlib.data import sources
from qatlib.engine import simulate
from qatlib.runs import cached, comparison
from qatlib.studies import recipes, search
from qatlib.studies.recipes import ENGINE
from qatlib.studies.style import COLOURS, PALETTE, verbatim

ENGINE_WINDOWS = 64


def worth(table, floats, by=("variant", "width")):
    """Change against the float models of the same seeds, per group: test error (%) with its 90 % interval, validation
    error (%), means."""
    by = list(by)
    table = with_error(table, floats).assign(
        model=floats["model"].iloc[0]
    )  # models of another shape: against the same float models
    changes = comparison.paired_change(table, floats, by)
    columns = [c for c in ("mse_validation", "error", "size_bytes", "cycles") if c in table]
    return changes.merge(table.groupby(by)[columns].mean(), left_on=by, right_index=True).drop(
        columns=["model", "mse_reference"]
    )


def with_error(table, floats):
    """The table with the column error: validation error against the float model of the same seed (%)."""
    reference = table["seed"].map(floats.set_index("seed")["mse_validation"])
    return table.assign(error=100 * (table["mse_validation"] / reference - 1))


def ranking(frame):
    """Validation error of each variant against float (%), and its mean over the widths, best first."""
    error = frame.pivot(index="variant", columns="width", values="error")
    return error.assign(mean=error.mean(axis=1)).sort_values("mean").reset_index()


def elsewhere(experiment, by_width):
    """Changes by width here and, by the unchanged recipe, on the other data sets."""
    parts = [by_width.assign(dataset=experiment.dataset.name)]
    for name in recipes.others(experiment):
        try:
            other = experiment.on(name)
            parts.append(worth(recipes.uniform(other, recipes.ABLATED), recipes.floats(other)).assign(dataset=name))
        except (sources.Unavailable, ValueError) as reason:
            print(f"left out, {name}: {reason}")
    return pd.concat(parts)


def trained_points(experiment, uniform, finalists, floats, choice):
    """Of what was trained by the whole recipe, validation error against float (%), bytes and engine cycles, the means
    over seeds."""
    firsts = {w: recipes.run(experiment, recipes.WIDTHS[w], experiment.seeds[0]) for w in uniform["width"].unique()}
    cycles = {width: search.cycles(run, experiment.dataset) for width, run in firsts.items()}
    named = ["chosen" if trial == choice else "" for trial in finalists["trial"]]
    table = pd.concat(
        [
            uniform.assign(
                series="uniform widths", label=uniform["width"], cycles=uniform["width"].map(cycles), trial=-1
            ),
            finalists.assign(series="finalists", label=named),
        ]
    )
    by = ["series", "trial", "label"]
    return with_error(table, floats).groupby(by, sort=False)[["error", "size_bytes", "cycles"]].mean().reset_index()


def bits(finalists, space, choice):
    """Bits of every searched tensor: a row a finalist, the chosen one named."""
    label = [
        f"{row['size_bytes']:,} bytes, {row['cycles']:,.0f} cycles" + (", chosen" if row["trial"] == choice else "")
        for _, row in finalists.iterrows()
    ]
    frame = finalists[[search.shown(tensor) for tensor, choices in space.tensors().items() if len(choices) > 1]]
    return frame.set_axis(label, axis=0).rename_axis("model")


def on_engine(experiment, named):
    """{name: run} -> per model: windows through the simulated engine, how many equal NumPy's, cycles predicted and
    simulated (infinite where it does not fit)."""
    rows = []
    for name, run in named.items():
        model = cached.integer_model(run, experiment.dataset)
        counts = cached.splits(run.model, experiment.dataset)[2].counts[:ENGINE_WINDOWS]
        predicted = search.cycles(run, experiment.dataset)
        if np.isinf(predicted):
            rows.append((name, model.size_bytes, 0, 0, predicted, predicted))
            continue
        outputs, cycles = simulate(model, counts, ENGINE)
        equal = int((outputs == model.forward(counts)).all(axis=1).sum())
        rows.append((name, model.size_bytes, len(counts), equal, predicted, cycles.interval))
    return pd.DataFrame(
        rows, columns=["model", "size_bytes", "windows", "equal", "cycles_predicted", "cycles_simulated"]
    )


def found(floats, uniform, chosen, ridge):
    """The closing table. chosen: {name: run table}; ridge: its row."""
    parts = [uniform.assign(what=uniform["width"]), *(table.assign(what=name) for name, table in chosen.items())]
    frame = worth(pd.concat(parts), floats, ["what"])[["what", "seeds", "mse", "change", "low", "high", "size_bytes"]]
    reference = floats["mse"].mean()
    first = {
        "what": "float",
        "seeds": len(floats),
        "mse": reference,
        "change": 0.0,
        "size_bytes": floats["size_bytes"].iloc[0],
    }
    last = {"what": "ridge", "seeds": 1, "change": 100 * (ridge["mse"] / reference - 1), **ridge[["mse", "size_bytes"]]}
    return pd.concat([pd.DataFrame([first]), frame, pd.DataFrame([last])], ignore_index=True)


def every_run(**tables):
    """All run tables in one, with the column `part`."""
    parts = [table.assign(part=name) for name, table in tables.items()]
    return pd.concat(parts).replace({pd.NA: np.nan})


WIDTH_COLOURS = {
    "W4A4": PALETTE[0],
    "W3A3": PALETTE[1],
    "W2A4": PALETTE[4],
    "W2A2": PALETTE[3],
    "all 4 bit": PALETTE[2],
}


def plot_worth(frame, axes=None):
    """What each part of the recipe is worth, a panel a width. frame: variant, width, change, low, high (%); the first
    variant is the chosen one."""
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
        ax.errorbar(
            x, part["change"], error, fmt="os^D"[i % 4], color=PALETTE[i], ms=6, capsize=3, label=verbatim(name)
        )
    ax.axhline(0, color=COLOURS["float"], lw=2, label="float")
    ax.set_xticks(range(len(widths)), widths)
    ax.set(xlabel="bits (residual stream and edges 8, but for the last)", ylabel="test MSE against float (%)")
    ax.legend()
    return ax


def plot_front(frame, trained, ax=None):
    """Every trial of a search, and what was trained by the whole recipe. frame: size_bytes, error (%, validation),
    cycles; trained: the same, series (uniform widths, finalists) and label."""
    ax = ax or plt.subplots(figsize=(8.6, 4.8))[1]
    top = 1.5 * max(trained["error"].max(), 1)
    shown = frame[frame["error"] <= top]
    finite = frame["cycles"][np.isfinite(frame["cycles"].astype(float))]
    norm = Normalize(finite.min(), finite.max()) if len(finite) else Normalize(0, 1)
    size = shown["size_bytes"] / 1000
    ax.scatter(
        size,
        shown["error"],
        c=shown["cycles"],
        norm=norm,
        cmap="viridis_r",
        s=22,
        label=f"trial, trained briefly ({len(frame)})",
    )
    for (series, part), marker, below in zip(trained.groupby("series", sort=False), "Do", (6, -14), strict=True):
        size, style = part["size_bytes"] / 1000, {"marker": marker, "s": 90, "edgecolor": PALETTE[3], "linewidth": 2}
        ax.scatter(
            size, part["error"], c=part["cycles"], norm=norm, cmap="viridis_r", label=f"{series}, whole recipe", **style
        )
        for row in part.itertuples():
            ax.annotate(
                row.label, (row.size_bytes / 1000, row.error), xytext=(8, below), textcoords="offset points", fontsize=9
            )
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
