"""Sensor data: fetch, split, window, scale; `csv_file` reads the file and `cleaning` judges it.

ETTh1 and ETTh2 (Zhou et al., arXiv 2012.07436) are fetched at a pinned commit and split as the published numbers are:
12, 4 and 4 months of 30 days. Any other file is split 60/20/20 %. Gaps in time are allowed, and no window crosses one.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qatlib.data.cells import printable
from qatlib.data.cleaning import check, clean
from qatlib.data.csv_file import read
from qatlib.data.sources import SOURCES, _locate, _sha256
from qatlib.integer_model import kernels

SMALLEST, LARGEST = 1e-30, 1e30  # the magnitudes that a column may reach: 32-bit floats train on them
MONTH = 30 * 24  # rows, in the published protocol
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one split, in order of time.

    counts: int16 (n, context); truth: float64 (n, horizon), standardised and unrounded; rows: int64 (n,), the data
    set's row of each first forecast value; lost: how many more windows the split would have without its gaps.
    """

    counts: np.ndarray
    truth: np.ndarray
    rows: np.ndarray
    lost: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """One series of sensor values that passed every check.

    name, target: printable, so that both may be shown anywhere; times: datetime64 (rows,), in seconds, or microseconds
    where the file has fractions; values: float64 (rows,), in the sensor's units; bounds: the rows at which train,
    validation and test end; mean, std: of the train rows; resolution: sensor units per count; step: the sampling
    period; note: what every figure has to say about these data, '' as a rule.
    """

    name: str
    target: str
    times: np.ndarray
    values: np.ndarray
    bounds: tuple[int, int, int]
    mean: float
    std: float
    resolution: float
    step: np.timedelta64
    sha256: str
    note: str = ""

    @property
    def offset(self):
        """Mean of the train rows in counts."""
        return int(kernels.round_half_up(self.mean / self.resolution))

    @cached_property
    def fingerprint(self):
        """SHA-256 of all that runs depend on: times, values, splits, resolution."""
        facts = f"{self.name} {self.target} {self.bounds} {self.resolution} {self.step}".encode()
        return hashlib.sha256(facts + self.times.tobytes() + self.values.tobytes()).hexdigest()

    @property
    def gaps(self):
        """Rows that do not follow the row before them by one sampling period: int64 (gaps,)."""
        return np.flatnonzero(np.diff(self.times) != self.step) + 1

    def standardise(self, values):
        """Sensor units -> standard deviations from the mean, both of the train rows."""
        return (values - self.mean) / self.std

    def windows(self, split, context, horizon):
        """The windows of a split that cross no gap: `context` samples, and the next `horizon` samples as truth.

        Forecasts lie within the split. The context of validation and test begins before it, so that the first forecast
        starts on the split's first row. ValueError where no window is left.
        """
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        if min(context, horizon) < 1:
            raise ValueError(f"context {context} and horizon {horizon} must be at least 1 sample")
        begin, end = (0, *self.bounds)[SPLITS.index(split)], self.bounds[SPLITS.index(split)]
        rows = np.arange(max(begin, context), end - horizon + 1)
        stretch = np.zeros(len(self.values), dtype=np.int64)
        stretch[self.gaps] = 1
        stretch = stretch.cumsum()  # rows with equal numbers have no gap between them
        whole = stretch[rows - context] == stretch[rows + horizon - 1]
        if not whole.any():
            lost = f", and gaps cut all {len(rows)} windows" if len(rows) else ""
            raise ValueError(
                f"{self.name}: too few rows: no {split} window of context {context} and horizon {horizon} fits "
                f"the split's "
                f"{end - begin} rows{lost}; take a smaller CONTEXT or HORIZON, or more data"
            )
        rows, sliding = rows[whole], np.lib.stride_tricks.sliding_window_view
        return Windows(
            counts=sliding(to_counts(self.values, self.resolution), context)[rows - context],
            truth=sliding(self.standardise(self.values), horizon)[rows],
            rows=rows,
            lost=int((~whole).sum()),
        )


def load(name="auto", *, target=None, clean=False):
    """The data set `name`: auto, etth1, etth2, jfk-weather, or the path of a CSV.

    auto is ETTh1 where it can be had, else the embedded weather data, which is said aloud and in the data set's `note`.
    target: the column to forecast (a CSV with one numeric column needs none). clean: repair the file first, and print
    what changed. Raises Unavailable (asked for by name, and not to be had), FileNotFoundError, or ValueError that names
    line, column and way out.
    """
    name, path, note = _locate(name)
    source = SOURCES.get(name)
    target = target or (source.target if source else None)
    frame, shown = read(path, target), printable(path)
    times, values, step = check(_repair(frame, shown) if clean else frame, shown)
    target = printable(frame.columns[1])
    bounds = _bounds(len(values), source)
    train = values[: bounds[0]]
    resolution = _resolution(times, values, train, shown, target)
    return Dataset(
        name=name if source else printable(path.stem),
        target=target,
        times=times,
        values=values,
        bounds=bounds,
        mean=float(train.mean()),
        std=float(train.std()),
        resolution=resolution,
        step=step,
        sha256=_sha256(path),
        note=note,
    )


def _resolution(times, values, train, path, target):
    """Of 16-bit counts. ValueError where they cannot hold the values, or tell those of `train`, the first, apart."""
    column = f"column {target!r}"
    if train.min() == train.max():
        span = f"its {len(train)} train rows, {times[0]} to {times[len(train) - 1]}"
        raise ValueError(f"{path}: {column} is constant ({train[0]:g}) in {span}; choose another TARGET")
    largest = np.abs(values).argmax()
    at = f"{values[largest]:g} at {times[largest]}"
    if not SMALLEST <= abs(values[largest]) <= LARGEST:
        reach = f"reaches {at}, beyond {SMALLEST:g} to {LARGEST:g}"
        raise ValueError(f"{path}: {column} {reach}; correct it, or give the values in another unit")
    resolution = choose_resolution(values)
    if train.std() < 2 * resolution:
        raise ValueError(
            f"{path}: 16 bits cannot tell the values of {column} apart beside {at}; if that is a mistake, correct it, "
            "else subtract a constant from all"
        )
    return resolution


def _bounds(rows, source):
    if source and source.published:
        return 12 * MONTH, 16 * MONTH, 20 * MONTH
    return rows * 6 // 10, rows * 8 // 10, rows


def _repair(frame, path):
    frame, report = clean(frame, path)
    for line in report or ("nothing to repair",):
        print(f"{path}: {line}")
    return frame


def to_counts(values, resolution):
    """Sensor units -> int16 counts, floor(value / resolution + 0.5). ValueError names the first row that does not
    fit."""
    scaled = np.asarray(values, dtype=np.float64) / resolution
    misfit = ~((scaled >= kernels.COUNT_MIN - 0.5) & (scaled < kernels.COUNT_MAX + 0.5))  # true for NaN as well
    if misfit.any():
        row = tuple(int(i) for i in np.unravel_index(misfit.argmax(), misfit.shape))
        raise ValueError(
            f"row {row[0] if row else 0}: {np.asarray(values)[row]} does not fit in 16 bits at {resolution:g} per count"
        )
    return kernels.round_half_up(scaled).astype(np.int16)


def choose_resolution(values):
    """Finest of .., 0.001, 0.002, 0.005, 0.01, .. at which 1.25 times the largest magnitude fits in int16: the sensor's
    range.

    The largest magnitude must lie between SMALLEST and LARGEST.
    """
    largest = 1.25 * float(np.abs(values).max())
    exponent = int(np.floor(np.log10(largest / kernels.COUNT_MAX)))
    series = (float(f"{digit}e{e}") for e in (exponent, exponent + 1) for digit in (1, 2, 5))
    return next(resolution for resolution in series if largest / resolution <= kernels.COUNT_MAX)
