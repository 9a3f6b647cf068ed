"""Notebook 10: forecasts of data as they come, and what the guard sees of them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from qatlib.data import faults, series, sources
from qatlib.device import guard
from qatlib.float_model import baselines, train
from qatlib.integer_model import kernels
from qatlib.runs import cached
from qatlib.studies.style import PALETTE

WIDTHS = ((8, 8), (4, 4), (2, 4), (2, 2))  # of weights and activations, from wide to narrow
STRENGTHS = {
    "spike": (0.5, 1, 1.5, 2, 3, 4, 5),
    "step": (0.5, 1, 1.5, 2, 2.5, 3),
    "drift": (0.5, 1, 1.5, 2, 2.5, 3),
    "stuck": (6, 12, 18, 24, 30, 36),
    "dropout": (1, 2, 4, 6, 8, 12),
    "noise": (0.025, 0.05, 0.1, 0.15, 0.2, 0.3),
}


def outliers(counts, size, rng):
    """One sample in fifty off by `size` counts."""
    return faults.as_counts(counts + round(size) * rng.choice([-1, 0, 1], counts.shape, p=[0.01, 0.98, 0.01]))


def missing(counts, share, rng):
    """That share of the samples missing, none of them the newest."""
    lost = rng.random(counts.shape) < share
    lost[:, [0, -1]] = False
    return np.where(lost, np.int16(guard.MISSING), counts)


def held(counts):
    """What a device without a guard makes of missing samples: the last value again, or the first one that comes."""
    lost = counts == guard.MISSING
    first = np.argmin(lost, axis=1)[:, None]
    last = np.maximum.accumulate(np.where(lost, first, np.arange(counts.shape[1])), axis=1)
    return np.take_along_axis(counts, np.maximum(last, first), axis=1)


def swing(counts, factor, day):
    """The daily cycle, every window's deviation from its mean over a day of so many samples, that many times as
    strong."""
    half = min(day, counts.shape[1]) // 2
    days, weights = counts.astype(np.float64), np.ones(2 * half + 1) / (2 * half + 1)
    smooth = np.stack([np.convolve(row, weights, "valid") for row in np.pad(days, ((0, 0), (half, half)), "edge")])
    return faults.as_counts((smooth + factor * (days - smooth)).round())


def disturbances(dataset):
    """{name: function of int16 windows and a generator}; strengths in standard deviations of the train rows."""
    sd, day = dataset.std / dataset.resolution, max(1, int(np.timedelta64(1, "D") / dataset.step))
    return {
        "as they are": lambda c, rng: c,
        "noise, 0.05 SD": lambda c, rng: faults.noise(c, 0.05 * sd, rng),
        "noise, 0.2 SD": lambda c, rng: faults.noise(c, 0.2 * sd, rng),
        "outliers, 1 SD": lambda c, rng: outliers(c, 1 * sd, rng),
        "outliers, 5 SD": lambda c, rng: outliers(c, 5 * sd, rng),
        "10 % missing, held": lambda c, rng: held(missing(c, 0.1, rng)),
        "stuck for 24 samples": lambda c, rng: faults.stuck(c, min(24, c.shape[1] - 1), rng),
        "drift, 1 SD": lambda c, rng: faults.drift(c, sd, rng),
        "drift, 3 SD": lambda c, rng: faults.drift(c, 3 * sd, rng),
        "daily cycle halved": lambda c, rng: swing(c, 0.5, day),
        "daily cycle doubled": lambda c, rng: swing(c, 2.0, day),
    }


def forecasters(experiment):
    """{name: function of int16 windows -> standardised forecasts}: persistence, float, and integers at every width,
    first seed."""
    dataset, model = experiment.dataset, experiment.default_model
    runs = [experiment.quantised_run(weight_bits=w, activation_bits=a) for w, a in WIDTHS]
    experiment.table(runs, "models")
    network = cached.float_model(runs[0], dataset)

    def persistence(counts):
        return np.repeat(dataset.standardise(counts[:, -1:] * dataset.resolution), model.horizon, axis=1)

    def floats(counts):
        windows = series.Windows(counts, np.zeros((len(counts), model.horizon)), np.arange(len(counts)), 0)
        change = train.forecast(
            network, train.batches(windows, cached.sensor_of(dataset), subtract_last=model.subtract_last).inputs
        ).numpy()
        return change + dataset.standardise(counts[:, -1:] * dataset.resolution)

    found = {"persistence": persistence, "float": floats}
    for run in runs:
        integers = cached.integer_model(run, dataset)
        found[run.quantization.label] = lambda c, m=integers: dataset.standardise(m.forward(c) * dataset.resolution)
    return found


def degradation(experiment, named):
    """Test MSE of every forecaster (named: of `forecasters`) under every disturbance of its inputs; the truth stays as
    it was.

    -> disturbance, method, mse, quantisation (%: of integers, against float on the same inputs)."""
    windows, rows = experiment.windows("test"), []
    for name, disturb in disturbances(experiment.dataset).items():
        counts = disturb(windows.counts, np.random.default_rng(0))
        rows += [(name, method, baselines.mse(forecast(counts), windows.truth)) for method, forecast in named.items()]
    return _against_float(pd.DataFrame(rows, columns=["disturbance", "method", "mse"]))


def _against_float(frame):
    first = frame.columns[0]
    reference = frame[first].map(frame[frame["method"] == "float"].set_index(first)["mse"])
    integers = ~frame["method"].isin(("persistence", "float"))
    return frame.assign(quantisation=(100 * (frame["mse"] / reference - 1)).where(integers))


def best_width(degradation, most=1.0):
    """Of each disturbance the narrowest width that loses at most so many % to float on the same inputs; where none
    does, the best one.

    degradation: of `degradation`, whose methods stand from wide to narrow."""
    integers = degradation[degradation["quantisation"].notna()]
    good = integers[integers["quantisation"] <= most].groupby("disturbance", sort=False).tail(1)
    best = integers.loc[integers.groupby("disturbance")["mse"].idxmin()]
    order = list(dict.fromkeys(integers["disturbance"]))
    return (
        pd.concat([good, best[~best["disturbance"].isin(good["disturbance"])]])
        .set_index("disturbance")
        .loc[order]
        .reset_index()
    )


def seasons(experiment, named):
    """Test MSE by the month that the forecast begins in: month, method, mse, quantisation, windows."""
    windows = experiment.windows("test")
    month = pd.to_datetime(experiment.dataset.times[windows.rows]).strftime("%Y-%m")
    rows = []
    for method, forecast in named.items():
        error = ((forecast(windows.counts) - windows.truth) ** 2).mean(axis=1)
        rows += [(m, method, e.mean(), len(e)) for m, e in pd.Series(error).groupby(np.asarray(month))]
    return _against_float(pd.DataFrame(rows, columns=["month", "method", "mse", "windows"]))


def other_station(experiment, named):
    """ETTh2's test windows to the models of ETTh1, in ETTh1's counts: station, method, mse, quantisation; empty on
    other data."""
    here, empty = experiment.dataset, pd.DataFrame(columns=["station", "method", "mse", "quantisation"])
    if here.name != "etth1":
        return empty
    try:
        other = experiment.on("etth2", here.target).dataset
    except sources.Unavailable as reason:
        print(f"left out, etth2: {reason}")
        return empty
    windows = other.windows("test", experiment.context, experiment.horizon)
    values = windows.counts * other.resolution
    counts = faults.as_counts(kernels.round_half_up(values / here.resolution))
    truth = here.standardise(windows.truth * other.std + other.mean)
    rows = [("etth2", method, baselines.mse(forecast(counts), truth)) for method, forecast in named.items()]
    return _against_float(pd.DataFrame(rows, columns=["station", "method", "mse"]))


def fitted_guard(experiment):
    """The guard of train and validation windows."""
    return guard.Guard.fit(
        experiment.windows("train").counts, experiment.windows("validation").counts, day=experiment.day
    )


def detection(experiment, limits, strengths=None):
    """Share of test windows found, by fault and strength; strength 0: as they are.

    strengths: by default growing ones. -> fault, strength, found (%: mended or distrusted), distrusted (%), bar"""
    counts, rows = experiment.windows("test").counts, []
    for kind, sizes in (strengths or STRENGTHS).items():
        for value in (0.0, *sizes):
            if kind in ("stuck", "dropout") and value >= counts.shape[1]:
                print(f"left out, {kind} for {value} samples: longer than a window")
                continue
            size = faults.strength(kind, value, experiment.dataset)
            faulty = faults.KINDS[kind](counts, size, np.random.default_rng(0)) if value else counts
            flags = limits.check(faulty)[1]
            rows.append((kind, value, 100 * (flags != 0).mean(), 100 * ((flags & guard.DISTRUST) != 0).mean()))
    frame = pd.DataFrame(rows, columns=["fault", "strength", "found", "distrusted"])
    return frame.assign(bar=frame["fault"].map(faults.AT_LEAST))


def mended(experiment, named, limits):
    """Test MSE with one fault in every window, as the model gets it without a guard (samples missing: `held`), and
    after the guard mended it: fault, method, mse_faulty, mse_mended, forecast (%: of the windows that the guard lets
    pass, over which both are taken)."""
    windows, dataset, rows = experiment.windows("test"), experiment.dataset, []
    for kind, value in (("spike", 5), ("dropout", 5)):
        faulty = faults.KINDS[kind](windows.counts, faults.strength(kind, value, dataset), np.random.default_rng(0))
        clean, flags = limits.check(faulty)
        kept = (flags & guard.DISTRUST) == 0
        for method, forecast in named.items():
            errors = [baselines.mse(forecast(c[kept]), windows.truth[kept]) for c in (held(faulty), clean)]
            rows.append(
                (f"{kind}, {value} {'SD' if kind == 'spike' else 'samples'}", method, *errors, 100 * kept.mean())
            )
    return pd.DataFrame(rows, columns=["fault", "method", "mse_faulty", "mse_mended", "forecast"])


UNITS = {"spike": "SD", "step": "SD", "drift": "SD", "stuck": "samples", "dropout": "samples", "noise": "SD"}


def plot_degradation(frame, axes=None):
    """Error under disturbances, and what quantisation adds to float's. frame: `degradation`."""
    names, methods = (list(dict.fromkeys(frame[c])) for c in ("disturbance", "method"))
    axes = plt.subplots(1, 2, figsize=(11, 0.42 * len(names) + 1.6), sharey=True)[1] if axes is None else axes
    error = frame.pivot(index="disturbance", columns="method", values="mse").loc[names, methods]
    added = frame.pivot(index="disturbance", columns="method", values="quantisation").loc[names, methods[2:]]
    sns.heatmap(
        error, ax=axes[0], annot=True, fmt=".3f", cmap="Blues", cbar=False, vmax=3 * error.iloc[0].min(), linewidths=0.5
    )
    sns.heatmap(
        added,
        ax=axes[1],
        annot=True,
        fmt="+.1f",
        cmap="RdBu_r",
        center=0,
        vmin=-10,
        vmax=10,
        cbar=False,
        linewidths=0.5,
    )
    axes[0].set(title="test MSE", xlabel="", ylabel="")
    axes[1].set(title="of it by quantisation (% against float)", xlabel="", ylabel="")
    return axes[0]


def plot_detection(frame, axes=None):
    """Windows found by the guard over the strength of a fault. frame: `detection`."""
    kinds = list(dict.fromkeys(frame["fault"]))
    axes = plt.subplots(1, len(kinds), figsize=(2.4 * len(kinds), 2.9), sharey=True)[1] if axes is None else axes
    for ax, kind in zip(axes, kinds, strict=True):
        part = frame[frame["fault"] == kind]
        ax.plot(part["strength"], part["found"], "o-", color=PALETTE[0], ms=4)
        ax.axvline(part["bar"].iloc[0], color="0.5", lw=1, dashes=(4, 2))
        ax.axhline(95, color="0.5", lw=1, dashes=(4, 2))
        ax.set(title=kind, xlabel=UNITS[kind], ylim=(-3, 104), xlim=(0, None))
    axes[0].set(ylabel="windows found (%)")
    return axes[0]
