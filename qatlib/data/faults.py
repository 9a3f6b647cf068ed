"""Faults of a sensor, put into sound windows: one a window, at a random place and with a random sign; noise
everywhere."""

import numpy as np

from qatlib.device import guard
from qatlib.integer_model import kernels


def as_counts(x):
    """Clamped to what a sensor can give, which MISSING is not."""
    return np.clip(x, kernels.COUNT_MIN + 1, kernels.COUNT_MAX).astype(np.int16)


def _signed(counts, size, rng):
    return rng.choice([-1, 1], (len(counts), 1)) * round(size)


def spike(counts, size, rng):
    """One sample off by `size` counts."""
    return as_counts(
        counts
        + _signed(counts, size, rng)
        * (np.arange(counts.shape[1]) == rng.integers(counts.shape[1], size=(len(counts), 1)))
    )


def step(counts, size, rng):
    """Off by `size` counts from some sample on."""
    first = rng.integers(1, counts.shape[1], size=(len(counts), 1))
    return as_counts(counts + _signed(counts, size, rng) * (np.arange(counts.shape[1]) >= first))


def drift(counts, size, rng):
    """Off by more and more, `size` counts at the last sample."""
    ramp = np.arange(counts.shape[1]) / (counts.shape[1] - 1)
    return as_counts(counts + kernels.round_half_up(_signed(counts, size, rng) * ramp))


def stuck(counts, length, rng):
    """One value, and `length` times the same after it."""
    first = rng.integers(0, counts.shape[1] - length, size=(len(counts), 1))
    held = np.take_along_axis(counts, first, axis=1)
    time = np.arange(counts.shape[1])
    return np.where((time > first) & (time <= first + length), held, counts)


def dropout(counts, length, rng):
    """`length` samples missing."""
    first = rng.integers(0, counts.shape[1] - length + 1, size=(len(counts), 1))
    time = np.arange(counts.shape[1])
    return np.where((time >= first) & (time < first + length), np.int16(guard.MISSING), counts)


def noise(counts, size, rng):
    """Gaussian noise of that standard deviation on every sample."""
    return as_counts(kernels.round_half_up(counts + rng.normal(0, size, counts.shape)))


KINDS = {"spike": spike, "step": step, "drift": drift, "stuck": stuck, "dropout": dropout, "noise": noise}
AT_LEAST = {
    "spike": 5,
    "step": 3,
    "drift": 3,
    "stuck": 24,
    "dropout": 6,
    "noise": 0.2,
}  # SD or samples: found from here on


def strength(kind, value, dataset):
    """A strength in counts or samples, of one in standard deviations of the train rows or samples."""
    return value if kind in ("stuck", "dropout") else value * dataset.std / dataset.resolution
