"""A device's model grows old: its sensor becomes noisy, the guard notices, a retrained version passes a gate or does
not."""

from dataclasses import dataclass, replace
from functools import cached_property

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.dates import ConciseDateFormatter

from qatlib.data import SPLITS, faults
from qatlib.device import guard
from qatlib.float_model import train
from qatlib.integer_model import kernels
from qatlib.integer_model.model import IntegerModel
from qatlib.quantised_model import fused, ptq, qat
from qatlib.runs import cached
from qatlib.runs.experiment import Experiment
from qatlib.studies.style import PALETTE

NOISE = 0.2  # standard deviations of the train rows


@dataclass(frozen=True)
class Candidate:
    """What might become a version. error: MSE on the latest windows before the update, unseen in training; NaN where
    there is none."""

    model: IntegerModel
    limits: guard.Guard
    error: float


@dataclass(frozen=True)
class Course:
    """The test split as a device lives it: all is well, the sensor becomes noisy, an update, a wrong one, the way
    back."""

    experiment: Experiment

    def _row(self, share):
        """The first forecast of the window that comes after that share of the test windows."""
        rows = self.experiment.windows("test").rows
        return int(rows[int(share * len(rows))])

    @property
    def rows(self):
        """{what happens: the row from which on}."""
        shares = {"sensor becomes noisy": 1 / 8, "version 2": 1 / 2, "version 3": 3 / 4, "rolled back": 7 / 8}
        return {what: self._row(share) for what, share in shares.items()}

    @cached_property
    def dataset(self):
        """The experiment's, with noise from that row on: what the sensor reads, and so what there is to forecast."""
        sound = self.experiment.dataset
        return _noisy(sound, slice(self.rows["sensor becomes noisy"], None), NOISE * sound.std, seed=0)

    @cached_property
    def windows(self):
        return self.dataset.windows("test", self.experiment.context, self.experiment.horizon)

    def noticed(self, limits):
        """The row at which the guard had distrusted every window of a day; None where it never did."""
        bad = (limits.check(self.windows.counts)[1] & guard.DISTRUST) != 0
        in_a_row = np.convolve(bad, np.ones(limits.day), "valid") == limits.day
        return int(self.windows.rows[in_a_row.argmax() + limits.day - 1]) if in_a_row.any() else None

    def noise(self):
        """The noise that the rows after the change have and the older ones had not, in sensor units, found in their
        second differences."""
        onset = self.rows["sensor becomes noisy"]
        then, now = (_roughness(self.dataset, rows) for rows in (slice(onset), slice(onset, self._judged_from)))
        return float(np.sqrt(max(0.0, now**2 - then**2)))

    def candidates(self, limits):
        """Version 1: the 4-bit model of notebook 04, with its guard. Version 2: retrained on the older rows, with the
        noise that the later ones have. Version 3, a mistake: retrained on the older rows as they were. -> {version:
        Candidate}"""
        own = cached.integer_model(self._run, self.experiment.dataset)
        retrained = [self._retrained(noise) for noise in (self.noise(), 0.0)]
        found = [(own, limits), *retrained]
        return {
            f"version {i + 1}": Candidate(model, limits, self._gate(model)) for i, (model, limits) in enumerate(found)
        }

    def errors(self, forecasts, part=slice(None)):
        """Squared error of each test window, or of those of a part: int16 (n, horizon) -> (n,)."""
        values = self.dataset.standardise(forecasts * self.dataset.resolution)
        return ((values - self.windows.truth[part]) ** 2).mean(axis=1)

    @property
    def _run(self):
        return self.experiment.quantised_run(weight_bits=4, activation_bits=4)

    @property
    def _judged_from(self):
        """Noisy rows before this one choose the epoch, those from it on the version."""
        return self._row(1 / 4) + self.experiment.horizon

    def _gate(self, model):
        rows = self.windows.rows
        late = np.flatnonzero((rows >= self._judged_from) & (rows + model.horizon <= self.rows["version 2"]))
        return float(self.errors(model.forward(self.windows.counts[late]), late).mean()) if len(late) else np.nan

    def _retrained(self, noise):
        """-> IntegerModel, Guard"""
        run, shape = self._run, self.experiment.default_model
        _, begin, end = self.experiment.dataset.bounds
        dataset = replace(
            _noisy(self.dataset, slice(self.rows["sensor becomes noisy"]), noise, seed=1),
            bounds=(begin, self._judged_from, end),
        )
        windows = [dataset.windows(split, shape.context, shape.horizon) for split in SPLITS[:2]]
        training, validation = (
            train.batches(w, cached.sensor_of(dataset), subtract_last=shape.subtract_last) for w in windows
        )
        network = cached.float_model(run, self.experiment.dataset)
        train.fit(
            network, training, validation, replace(run.recipe, epochs=max(1, run.recipe.epochs // 3)), seed=run.seed
        )
        calibration = training.inputs[:: max(1, len(training) // cached.CALIBRATION_WINDOWS)]
        quantised = ptq.quantise(network, run.quantization, calibration, "mse")
        teacher = train.forecast(network, training.inputs)
        fused.fit(quantised, network, training, validation, run.qat_recipe, seed=run.seed, teacher=teacher)
        return qat.export(quantised), guard.Guard.fit(windows[0].counts, day=self.experiment.day)


def _noisy(dataset, rows, size, *, seed):
    """The data set with noise of that standard deviation (sensor units) on some rows, in whole counts that a sensor can
    give."""
    values = dataset.values.copy()
    values[rows] += np.random.default_rng(seed).normal(0, size, len(values[rows]))
    values[rows] = faults.as_counts(kernels.round_half_up(values[rows] / dataset.resolution)) * dataset.resolution
    return replace(dataset, values=values)


def _roughness(dataset, rows):
    """The standard deviation that white noise would have whose second differences, but for those across gaps, are as
    large."""
    even = (np.diff(dataset.times) == dataset.step)[rows]
    bends = np.diff(dataset.values[rows], n=2)
    bends = bends[even[: len(bends)] & even[1 : len(bends) + 1]]
    return np.sqrt(np.mean(bends**2) / 6) if len(bends) else 0.0


def gate(candidates):
    """Which version may come into use: the error on the latest windows before the update, against the best that passed
    before.

    candidates: {version: Candidate}, the first of them in use. -> version, mse, mse_in_use, passes"""
    rows, best = [], None
    for version, candidate in candidates.items():
        error = candidate.error
        passes = best is None or error < best
        rows.append((version, error, best, passes))
        best = error if passes else best
    return pd.DataFrame(rows, columns=["version", "mse", "mse_in_use", "passes"])


EVENTS = {  # what happens to the versions of a device, one after the other
    "all is well": lambda versions: versions.use(1),
    "sensor becomes noisy": lambda versions: versions.load(1),
    "version 2": lambda versions: versions.use(2),
    "version 3": lambda versions: versions.use(3),
    "rolled back": lambda versions: versions.roll_back(),
}


def life(course, candidates, versions, engine):
    """The test split on the engine: every window by the version in use at its time. -> (segments, windows)

    candidates: as for `gate`, in the order of their numbers; versions: an empty `Versions`. segments: what happens,
    from, version, windows, mse, mse_version_1, distrusted (% of the windows, by the guard of the version in use),
    outputs, equal (to NumPy's). windows: time, series, mse (mean of the week before).
    """
    for candidate in candidates.values():
        versions.add(candidate.model, candidate.limits)
    windows, begins = course.windows, [course.experiment.dataset.bounds[1], *course.rows.values()]
    starts = [*np.searchsorted(windows.rows, begins), len(windows.rows)]
    first = course.errors(candidates["version 1"].model.forward(windows.counts))
    rows, errors = [], []
    for i, (event, change) in enumerate(EVENTS.items()):
        part = slice(starts[i], starts[i + 1])
        model, limits = change(versions)
        engine.load(model)
        forecasts = engine.run(windows.counts[part])
        equal = (forecasts == model.forward(windows.counts[part])).sum()
        errors.append(course.errors(forecasts, part))
        distrusted = (limits.check(windows.counts[part])[1] & guard.DISTRUST) != 0
        about = (versions.history[-1], len(forecasts), errors[-1].mean(), first[part].mean(), 100 * distrusted.mean())
        rows.append((event, course.dataset.times[begins[i]], *about, forecasts.size, int(equal)))
    columns = "event, from, version, windows, mse, mse_version_1, distrusted, outputs, equal".split(", ")
    series = {"version 1 throughout": first, "the device": np.concatenate(errors)}
    return pd.DataFrame(rows, columns=columns), _weekly(course, series)


def _weekly(course, series):
    """Means of the week before each window. series: {name: error of each window}. -> time, series, mse"""
    week = max(1, int(np.timedelta64(7, "D") / course.dataset.step))
    times = course.dataset.times[course.windows.rows]
    parts = [
        pd.DataFrame({"time": times, "series": name, "mse": pd.Series(errors).rolling(week, 1).mean()})
        for name, errors in series.items()
    ]
    return pd.concat(parts, ignore_index=True)


def plot_life(frame, segments, noticed=None, ax=None):
    """The error of a device through an update. frame, segments: of `life`; noticed: the time at which the
    guard did."""
    ax = ax or plt.subplots(figsize=(9.5, 3.8))[1]
    for (series, part), (colour, style) in zip(
        frame.groupby("series", sort=False), (("0.5", "--"), (PALETTE[0], "-")), strict=True
    ):
        apart = part["time"].diff() > 20 * part["time"].diff().median()  # no line across a gap
        ax.plot(part["time"], part["mse"].where(~apart), style, color=colour, lw=1.8, label=series)
    for row in segments.itertuples():
        ax.axvline(row[2], color="0.75", lw=1, zorder=0)
        ax.annotate(
            row.event, (row[2], 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9
        )
    if noticed is not None:
        ax.axvline(noticed, color=PALETTE[3], lw=1.2, dashes=(4, 2), label="noticed by the guard")
    ax.set(ylabel="MSE, mean of a week", ylim=(0, None), xlim=(frame["time"].min(), frame["time"].max()))
    ax.legend(fontsize=9, loc="lower right")
    ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    return ax
