"""A device's model grows old: its sensor becomes noisy, the guard notices, a retrained version passes a gate or does
not."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from qatlib.data import faults, sets
from qatlib.device import guard
from qatlib.float_model import train
from qatlib.integer_model import kernels
from qatlib.integer_model.model import IntegerModel
from qatlib.quantised_model import fused, ptq, qat
from qatlib.runs import cached
from qatlib.runs.experiment import Experiment

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
        windows = [dataset.windows(split, shape.context, shape.horizon) for split in sets.SPLITS[:2]]
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
