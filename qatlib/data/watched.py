"""Recordings that are watched for faults: rows as they come, and which of them are faulty."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from qatlib.data import faults, sets
from qatlib.data.labelled import one_alone
from qatlib.data.series import SPLITS, Windows, to_counts
from qatlib.data.sets import choose_resolution
from qatlib.data.sources import fetch_file
from qatlib.integer_model import kernels

SKAB = {"valve1": range(16), "valve2": range(4), "other": range(1, 15)}  # folder: files
FITTED, TRAINED = 400, 280  # rows of a SKAB file: fault-free by the protocol; of these, by which a network is trained
LENGTHS = (30, 61)  # rows of a fault that is put in
SCALE = 6.0  # times as far from the mean as the rows are
EVERY = 120  # rows with one fault each
FAULTS = {"step": 3, "drift": 3, "stuck": None, "noise": 1}  # how far off, in standard deviations


@dataclass(frozen=True, eq=False)
class Watched:
    """Rows of several channels, in time.

    values: float64 (rows, channel), in the sensor's units; resolution: of these per count, (channel,); faulty: bool
    (rows,); bounds: the rows at which train, validation and test end, where the first two are taken as free of faults;
    ahead: whether a window's truth is what comes after it, else its own last rows.
    """

    name: str
    names: tuple[str, ...]
    values: np.ndarray
    resolution: np.ndarray
    faulty: np.ndarray
    bounds: tuple[int, int, int]
    ahead: bool = False
    note: str = ""

    @property
    def target(self):
        """For titles."""
        return ", ".join(self.names)

    @property
    def mean(self):
        """Of the train rows, (channel,)."""
        return self.values[: self.bounds[0]].mean(axis=0)

    @cached_property
    def std(self):
        """Of the train rows; of a channel that stands still in them one count."""
        spread = self.values[: self.bounds[0]].std(axis=0)
        return np.where(spread > 0, spread, self.resolution)

    @property
    def offset(self):
        """Mean of the train rows in counts."""
        return kernels.round_half_up(self.mean / self.resolution).astype(int)

    @cached_property
    def counts(self):
        """int16 (rows, channel)."""
        return to_counts(self.values, self.resolution)

    @cached_property
    def fingerprint(self):
        """SHA-256 of all that runs depend on."""
        facts = f"{self.name} {self.names} {self.bounds} {self.ahead} {self.resolution.tolist()}".encode()
        return hashlib.sha256(facts + self.values.tobytes() + self.faulty.tobytes()).hexdigest()

    def standardise(self, values):
        """Sensor units (.., channel) -> standard deviations from the mean, both of the train rows."""
        return (values - self.mean) / self.std

    def span(self, split):
        """Rows of a split: begin, end."""
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        at = SPLITS.index(split)
        return (0, *self.bounds)[at], self.bounds[at]

    def windows(self, split, context, horizon):
        """A window and its truth for every row of a split, which is the truth's last one; the first windows of
        validation and test begin before it. To train by, there are more. ValueError where none fits."""
        length = context + horizon * self.ahead
        counts, rows = self.ending_in(split, length)
        if not 1 <= horizon <= length:
            raise ValueError(f"{self.name}: a truth of {horizon} rows within {length}; take fewer")
        sliding = np.lib.stride_tricks.sliding_window_view(self.standardise(self.values), horizon, axis=0)
        truth = sliding[rows - horizon + 1].transpose(0, 2, 1)
        if split == "train":
            counts, truth, rows = self._scaled(counts, truth, rows)
        return Windows(one_alone(counts[:, :context]), one_alone(truth), rows, 0)

    def ending_in(self, split, length):
        """int16 windows of so many rows, (n, length, channel), that end in a split, and the rows where they do.
        ValueError where none fits."""
        begin, end = self.span(split)
        rows = np.arange(max(begin, length - 1), end)
        if not len(rows):
            raise ValueError(f"{self.name}: no {split} window of {length} rows fits {end - begin}; take fewer")
        sliding = np.lib.stride_tricks.sliding_window_view(self.counts, length, axis=0)
        return np.ascontiguousarray(sliding[rows - length + 1].transpose(0, 2, 1)), rows

    def _scaled(self, counts, truth, rows):
        """Windows and copies of them, up to SCALE times as far from the training mean: levels move without a fault, and
        a network that saturates there would flag each that training has not seen."""
        by = np.random.default_rng(0).uniform(1, SCALE, (len(rows), 1, 1))
        mean = self.mean / self.resolution
        far = kernels.round_half_up(mean + by * (counts - mean))
        inside = ((far >= kernels.COUNT_MIN) & (far <= kernels.COUNT_MAX)).all(axis=(1, 2))
        kept = [counts, far[inside].astype(np.int16)], [truth, (by * truth)[inside]], [rows, rows[inside]]
        return map(np.concatenate, kept)

    def with_faults(self, split, seed):
        """The same with faults in a split, one every EVERY rows, each in one channel. ValueError where there are
        fewer."""
        rng, (begin, end) = np.random.default_rng(seed), self.span(split)
        if end - begin < EVERY:
            raise ValueError(
                f"{self.name}: {end - begin} {split} rows are too few for a fault in every {EVERY} of them"
            )
        counts, faulty = self.counts.copy(), self.faulty.copy()
        for at in range(begin, end - EVERY + 1, EVERY):
            first, channel = at + rng.integers(EVERY - LENGTHS[1]), rng.integers(len(self.names))
            rows, kind = slice(first, first + rng.integers(*LENGTHS)), rng.choice(list(FAULTS))
            sound = counts[None, rows, channel].copy()
            strength = (FAULTS[kind] or 0) * self.std[channel] / self.resolution[channel]
            strength = sound.shape[1] - 1 if kind == "stuck" else strength
            counts[rows, channel] = faults.KINDS[kind](sound, strength, rng)[0]
            changed = np.flatnonzero(counts[rows, channel] != sound[0])
            if len(changed):
                faulty[first + changed[0] : rows.stop] = True
        return replace(self, name=f"{self.name}, faults", values=counts * self.resolution, faulty=faulty)


def of_series(series):
    """A Dataset, or the channels that a Recording forecasts: its rows as they come, none of them known to be faulty."""
    members = getattr(series, "members", (series,))
    values = np.stack([member.values for member in members], axis=-1)
    resolution = np.array([member.resolution for member in members])
    names = tuple(member.target for member in members)
    bounds = members[0].bounds[:2]
    return Watched(series.name, names, values, resolution, np.zeros(len(values), bool), (*bounds, len(values)))


def weather():
    """The embedded weather, four channels."""
    return of_series(sets.load("jfk-weather", target="all"))


def skab():
    """The files of the Skoltech Anomaly Benchmark (Katser & Kozitsyn 2020): a water circuit, eight channels, a row a
    second; every file is watched by itself, from its row FITTED on."""
    return [_skab(f"{folder}/{number}") for folder, numbers in SKAB.items() for number in numbers]


def _skab(file):
    frame = pd.read_csv(fetch_file(f"skab/{file}.csv"), sep=";")
    names, values = tuple(frame.columns[1:9]), frame.iloc[:, 1:9].to_numpy(float)
    bounds = (TRAINED, FITTED, len(frame))
    return Watched(f"skab {file}", names, values, _resolution(values), frame["anomaly"].to_numpy() == 1, bounds)


def _resolution(values):
    """What all rows need."""
    return np.array([choose_resolution(column) for column in values.T])
