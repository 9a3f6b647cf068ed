"""Notebook 12: every family on every data set, by error and bytes, and over longer horizons beside published ones."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from qatlib import mcu
from qatlib.data import sources
from qatlib.engine import CONFIGS, simulate
from qatlib.engine.memory import DoesNotFit, Unsupported
from qatlib.runs import cached
from qatlib.runs.comparison import final_error, interval
from qatlib.runs.families import FOUR, Families
from qatlib.studies.published import LONG_HORIZONS
from qatlib.studies.style import PALETTE, new_axes, plain_log, unit_ticks, verbatim

COLUMNS = (
    "dataset, channels, channel_mode, model, family, method, horizon, context, weight_bits, activation_bits, seed, "
    "n_params, size_bytes, mse_validation, mse, mae, mse_integer, equal_outputs, source"
).split(", ")
FAMILIES = {  # legend, colour, marker
    "linear": ("linear map", PALETTE[2], "o"),
    "patch": ("patch Transformer", PALETTE[0], "s"),
    "skip": ("Transformer and linear map", PALETTE[1], "D"),
}
HORIZONS = {"etth1": (96, 192, 336, 720), "etth2": (96, 192, 336, 720), "jfk-weather": (96, 192)}
SETS = ("etth1", "etth2", "jfk-weather")
LINEAR, CHOSEN = "best linear map, float", "chosen by validation, W4A4"  # series over the horizon


def everywhere(experiment):
    """{data set: its Families} of the experiment's own data and, in the full profile, of the known ones."""
    return _studied({name: _on(experiment, name) for name in _sets(experiment)}, whole=True)


def over_horizons(experiment):
    """{(data set, horizon): its Families} for the horizons that the data hold, all seeds at the first and the last; one
    in the quick profile."""
    found = {}
    for name in _sets(experiment):
        here, lengths = _on(experiment, name), _lengths(name, experiment)
        for horizon in lengths:
            seeds = None if horizon in (lengths[0], lengths[-1]) else here.seeds[:1]
            found |= _studied({(name, horizon): here.reaching(horizon)}, whole=False, seeds=seeds)
    return found


def of_channels(experiment):
    """{(data set, horizon, mode): its Families} of several channels together, at the horizons of the field's tables: at
    the first one independent and mixed, in the full profile with encoders (of the first seed) and linear maps of all
    seeds; further ahead linear maps by the mode that was better there."""
    found = {}
    for name in _sets(experiment):
        own = name == experiment.dataset.name and hasattr(experiment.series, "members")
        here = experiment if own or name not in SETS else experiment.on(name, "all")
        if not _held(name, here) or not hasattr(here.series, "members"):
            continue
        first, *others = _lengths(name, experiment)
        near = {
            (name, first, mode): families
            for mode in ("independent", "mixed")
            for families in _studied(
                {name: here.reaching(first)}, whole=False, encoders=experiment.full, mode=mode
            ).values()
        }
        found |= near
        if near:
            mode = min(near, key=lambda key: near[key].chosen().table["mse_validation"].mean())[2]
            further = {(name, horizon, mode): here.reaching(horizon) for horizon in others}
            found |= _studied(further, whole=False, encoders=False, mode=mode, seeds=here.seeds[:1])
    return found


def _sets(experiment):
    """Names of data sets: the experiment's own and, in the full profile, the known ones."""
    return list(dict.fromkeys([experiment.dataset.name, *(SETS if experiment.full else ())]))


def _on(experiment, name):
    return experiment if name == experiment.dataset.name else experiment.on(name)


def _lengths(name, experiment):
    lengths = HORIZONS.get(name, HORIZONS["jfk-weather"])
    return lengths if experiment.full else lengths[:1]


def _studied(experiments, **options):
    return {key: Families(experiment, **options) for key, experiment in experiments.items() if _held(key, experiment)}


def _held(key, experiment):
    """Whether the data are to be had, and long enough; why not is printed."""
    try:
        for split in ("train", "validation", "test"):
            experiment.windows(split)
    except (sources.Unavailable, ValueError) as reason:
        print(f"left out, {key}: {reason}")
        return False
    return True


def placed(studies):
    """Integers of the first seed of what was chosen, on a few test windows: AssertionError where C or a simulated
    engine differs from NumPy. -> the cycles of a window of all channels on each engine, or what is short there; on the
    smallest alone in the quick profile."""
    rows = []
    for families in studies:
        model = cached.integer_model(next(families.runs_of_width(families.chosen().model, FOUR)), families.series)
        counts = families.series.windows("test", model.context, model.horizon).counts[:4]
        assert np.array_equal(mcu.compiled(model).forward(counts), model.forward(counts))
        row = {"dataset": families.experiment.dataset.name, "horizon": model.horizon, "model": model.name}
        for name, config in list(CONFIGS.items())[: None if families.experiment.full else 1]:
            try:
                forecast, cycles = simulate(model, counts, config)
                assert np.array_equal(forecast, model.forward(counts))
                row[name] = round(cycles.interval)
            except (DoesNotFit, Unsupported) as reason:
                row[name] = str(reason)
        rows.append(row)
    return pd.DataFrame(rows)


def runs(studies):
    """Every run of many Families, and the published errors of the same targets and horizons: COLUMNS."""
    tables = [table for f in studies for table in (f.linear, f.tried, f.rivals, f.encoders, f.integers)]
    own = pd.concat(tables).drop_duplicates().assign(source="measured")
    shown = own[["dataset", "horizon", "channels"]].drop_duplicates()
    return pd.concat([own, LONG_HORIZONS.merge(shown)]).reindex(columns=COLUMNS)


def found(studies):
    """The closing table, three rows for each of the Families: what validation chose at 4 bits, the smallest model
    of all, and the best in float.

    change: of the test error against the best linear map in float, in %, with the 90 % interval over seeds;
    change_from_float: against the model's own float of the same seeds.
    """
    rows = []
    for families in studies:
        linear = families.linear.set_index("model")["mse"][families.best_linear.name]
        choices = (families.chosen(), families.smallest(), families.best_float())
        for what, choice in zip(("chosen at 4 bits", "smallest", "float"), choices, strict=True):
            change, low, high = interval(families.against_linear(choice.table))
            rows.append(
                {
                    "dataset": families.experiment.dataset.name, "horizon": families.experiment.horizon,
                    "channels": families.shape["channels"], "mode": families.mode, "what": what,
                    "model": choice.model.name, "width": choice.table["width"].iloc[0], "size_bytes": choice.size_bytes,
                    "mse": final_error(choice.table).mean(), "linear_mse": linear, "change": change, "low": low,
                    "high": high, "change_from_float": families.against_float(choice).mean(),
                    "equal_outputs": choice.table["equal_outputs"].min(), "seeds": len(choice.table),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def sizes(studies):
    """Mean over seeds of every integer model: dataset, family, model, bits, size_bytes, mse; linear_mse: the best
    linear map's in float."""
    parts = []
    for families in studies:
        table = families.integers.assign(error=final_error(families.integers))
        by = ["dataset", "family", "model", "weight_bits"]
        means = table.groupby(by, sort=False)[["size_bytes", "error", "mse_validation"]].mean().reset_index()
        base = families.linear.set_index("model").loc[families.best_linear.name, "mse"]
        parts.append(means.rename(columns={"error": "mse"}).assign(linear_mse=base))
    return pd.concat(parts)


def _panels(names):
    """Axes side by side, one a data set."""
    size = (max(7, 4.2 * len(names) + 0.6), 4.6)
    return plt.subplots(1, len(names), figsize=size, squeeze=False, layout="constrained")[1][0]


def plot_sizes(frame, axes=None):
    """frame: as `sizes` gives it. Error over bytes, a panel a data set; the line is the front: nothing is smaller and
    better."""
    names = list(dict.fromkeys(frame["dataset"]))
    axes = _panels(names) if axes is None else axes
    for ax, name in zip(np.ravel(axes), names, strict=True):
        rows = frame[frame["dataset"] == name].sort_values("size_bytes")
        for family, (label, colour, marker) in FAMILIES.items():
            for bits, fill in ((8, "none"), (4, colour)):
                part = rows[(rows["family"] == family) & (rows["weight_bits"] == bits)]
                ax.plot(
                    part["size_bytes"], part["mse"], marker, color=colour, mfc=fill, ms=7, label=f"{label}, {bits} bit"
                )
        front = rows[rows["mse"] < rows["mse"].cummin().shift(fill_value=np.inf)]
        ax.step(front["size_bytes"], front["mse"], where="post", color="0.4", lw=1, zorder=0, label="front")
        ax.axhline(rows["linear_mse"].iloc[0], color="0.35", lw=1, dashes=(6, 2), label="best linear map, float")
        ax.set_xscale("log")
        plain_log(ax.xaxis)
        ax.xaxis.set_major_formatter(unit_ticks("B"))
        ax.set(title=verbatim(name), xlabel="stored (bytes)")
    first = np.ravel(axes)[0]
    first.set_ylabel("test MSE (standardised)")
    handles = dict(zip(*reversed(first.get_legend_handles_labels()), strict=True))
    ncols = 4 if len(names) > 1 else 2
    first.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=ncols, fontsize=9)
    return first


def horizons(studies):
    """Errors over the horizon: dataset, horizon, channels, series, mse, source; the float linear map, what was chosen
    at 4 bits, and the published ones of as many channels."""
    rows = []
    for families in studies:
        mixed = ", mixed" * (families.mode == "mixed")
        facts = {"dataset": families.experiment.dataset.name, "horizon": families.experiment.horizon}
        facts |= {"channels": families.shape["channels"], "source": "measured"}
        linear = families.linear.set_index("model").loc[families.best_linear.name, "mse"]
        chosen = final_error(families.chosen().table).mean()
        rows += [facts | {"series": LINEAR + mixed, "mse": linear}, facts | {"series": CHOSEN + mixed, "mse": chosen}]
    own = pd.DataFrame(rows)
    published = LONG_HORIZONS.merge(own[["dataset", "horizon", "channels"]].drop_duplicates())
    return pd.concat([own, published.rename(columns={"model": "series"})[own.columns]])


def plot_horizons(frame, axes=None):
    """frame: as `horizons` gives it. Own errors in colour, published ones in grey."""
    names = list(dict.fromkeys(frame["dataset"]))
    axes = _panels(names) if axes is None else axes
    styles = {LINEAR: ("o-", PALETTE[2]), CHOSEN: ("D-", PALETTE[1])}
    marks = dict(zip(dict.fromkeys(frame.loc[frame["source"] != "measured", "series"]), "sv^P*Xdh", strict=False))
    for ax, name in zip(np.ravel(axes), names, strict=True):
        here = frame[frame["dataset"] == name]
        for series, rows in here.groupby("series", sort=False):
            line, colour = styles.get(series.removesuffix(", mixed"), (marks.get(series, "s") + ":", "0.55"))
            label = f"{series}, published" if series in marks else series
            fill = "none" if series.endswith(", mixed") else colour
            ax.plot(rows["horizon"], rows["mse"], line, color=colour, mfc=fill, ms=6, label=label)
        ax.set(title=verbatim(name), xlabel="horizon (samples)", xticks=sorted(set(here["horizon"])))
        ax.set_ylim(0)
    first = np.ravel(axes)[0]
    first.set_ylabel("test MSE (standardised)")
    handles = {label: h for ax in np.ravel(axes) for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    first.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize=9)
    return first


def plot_linear(frame, ax=None):
    """frame: run table of linear maps. Validation error over the rank, a line a reach."""
    ax = new_axes(ax)
    parts = frame["model"].str.extract(r"-r(?P<rank>\d+)x(?P<reach>\d+)$").astype(int)
    for colour, (reach, rows) in zip(PALETTE, frame.assign(**parts).groupby("reach"), strict=False):
        ax.plot(rows["rank"], rows["mse_validation"], "o-", color=colour, label=f"last {reach} samples")
    ax.set(xlabel="rank", ylabel="validation MSE (standardised)")
    ax.legend()
    return ax
