"""One series of sensor values: its splits, its windows, its counts."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qatlib.integer_model import kernels

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
