"""What looks at a window before it is forecast, in integers: mends short gaps and single outliers, and flags what no
forecast should trust.

Thresholds come from windows that are known to be sound (train and validation), so a guard fits its sensor; each channel
has its own. `mcu/guard.c` is the same in C. Drift is judged by how far the last day lies from the first one, not by the
level: seasons move the level of sound data further than a drifting sensor does.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qatlib.integer_model import kernels
from qatlib.integer_model.check import MOST_CHANNELS, is_whole
from qatlib.integer_model.program import LONGEST

MISSING = kernels.COUNT_MIN  # the count that stands for a sample that never came
LONGEST_GAP = 5  # samples that are mended
INT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 63) - 1  # what guard.c counts in
REPAIRED, GAP, RANGE, JUMP, STUCK, DRIFT, NOISY = (1 << i for i in range(7))
FLAGS = {"repaired": REPAIRED, "gap": GAP, "range": RANGE, "jump": JUMP, "stuck": STUCK, "drift": DRIFT, "noisy": NOISY}
DISTRUST = GAP | RANGE | JUMP | STUCK | DRIFT | NOISY


@dataclass(frozen=True)
class Limits:
    """Of one channel, in counts: of samples (low, high), of the change from one to the next (jump), of how far a sample
    stands out from both its neighbours (spike); of equal samples in a row (stuck); of the sum of the last day's samples
    against that of the first (drift); of the magnitudes of a window's second differences together (noise).

    ValueError names one that is no whole number, or not one that a guard can work with, in `mcu/guard.c` too."""

    low: int
    high: int
    jump: int
    spike: int
    stuck: int
    drift: int
    noise: int

    def __post_init__(self):
        counts, magnitude = (kernels.COUNT_MIN, kernels.COUNT_MAX), (0, INT32_MAX)
        _require(self, low=counts, jump=magnitude, spike=magnitude, drift=magnitude, noise=(0, INT64_MAX))
        _require(self, high=(self.low, kernels.COUNT_MAX), stuck=(2, INT32_MAX))  # every sample is one in a row

    @classmethod
    def fit(cls, sound, day):
        """Those that let windows of one channel pass, int16 (n, context) each: see `Guard.fit`."""
        counts = [c.astype(np.int64) for c in sound]
        low, high = int(min(c.min() for c in counts)), int(max(c.max() for c in counts))
        spare = (high - low) // 8
        most = {name: max(int(of(c, day).max()) for c in counts) for name, of in STATISTICS.items()}
        spared = {name: value + value // 8 for name, value in most.items() if name != "stuck"}
        low, high = max(low - spare, kernels.COUNT_MIN + 1), min(high + spare, kernels.COUNT_MAX)
        return cls(low, high, stuck=most["stuck"] + 1, **spared)


@dataclass(frozen=True)
class Guard:
    """For windows of `context` samples, `day` of them a day; channels: the Limits of each of a model's channels.

    Windows are int16 (n, context, channels), of a single channel (n, context), as a model takes them. ValueError names
    what a guard cannot work with."""

    context: int
    day: int
    channels: tuple

    def __post_init__(self):
        _require(self, context=(2, LONGEST))
        _require(self, day=(1, self.context // 2))  # the first and the last one are compared
        limited = isinstance(self.channels, tuple) and all(isinstance(c, Limits) for c in self.channels)
        if not limited or not 1 <= len(self.channels) <= MOST_CHANNELS:
            raise ValueError(f"a guard's channels must be Limits, 1 to {MOST_CHANNELS} of them")

    def require(self, model):
        """ValueError where the model is for windows of another length, or of another number of channels."""
        for what, own, of_model in (
            ("windows of {} samples", self.context, model.context),
            ("{} channel(s)", len(self.channels), len(model.channels)),
        ):
            if own != of_model:
                raise ValueError(
                    f"the guard is for {what.format(own)}, the model for {of_model}; fit it to the model's windows"
                )

    @classmethod
    def fit(cls, *sound, day=24):
        """The guard that lets these windows pass, int16 (n, context) or (n, context, channels) each, with an eighth to
        spare, one more of equal samples.

        day: samples of one.

        ValueError where a window has fewer than two days, or another shape than the others, or a sample is missing.
        """
        if not sound or any(_unsound(counts) for counts in sound):
            wanted = "int16 counts (n, context), of several channels (n, context, channels)"
            raise ValueError(f"a guard needs sound windows, {wanted}, without a missing sample")
        shape = sound[0].shape[1:]
        if any(counts.shape[1:] != shape for counts in sound):
            raise ValueError(
                f"windows of shapes {' and '.join(str(c.shape[1:]) for c in sound)}: a guard is for windows of one"
            )
        half = shape[0] // 2
        if not isinstance(day, int | np.integer) or not 1 <= day <= half:
            raise ValueError(
                f"a guard compares the first day with the last, of 1 to {half} samples in these windows, not {day!r}"
            )
        channels = zip(*(_by_channel(counts) for counts in sound))
        return cls(shape[0], int(day), tuple(Limits.fit(parts, day) for parts in channels))

    def check(self, counts):
        """int16 windows, MISSING where a sample is missing -> the same, mended, and flags (see FLAGS): uint8 (n,
        channels), of a single channel (n,). ValueError for other windows."""
        counts = np.asarray(counts)
        wanted = (self.context, len(self.channels))[: 1 + (len(self.channels) > 1)]
        if counts.dtype != np.int16 or not counts.ndim or counts.shape[1:] != wanted:
            shape = ", ".join(map(str, ("n", *wanted)))
            raise ValueError(f"{counts.dtype} of shape {counts.shape}; this guard looks at int16 counts ({shape})")
        parts = [_look(part, limits, self.day) for part, limits in zip(_by_channel(counts), self.channels)]
        mended, flags = (np.stack(of_each, axis=-1) for of_each in zip(*parts))
        return mended.reshape(counts.shape), flags.reshape(len(counts), *counts.shape[2:])


def _require(part, **bounds):
    """ValueError for a field that is no whole number within its bounds."""
    for name, (least, most) in bounds.items():
        if not is_whole(getattr(part, name), least, most):
            raise ValueError(f"a guard's {name} must be a whole number between {least} and {most}")


def _unsound(counts):
    shaped = counts.ndim in (2, 3) and counts.shape[2:] != (1,) and counts.size
    return not shaped or counts.dtype != np.int16 or (counts == MISSING).any()


def _by_channel(counts):
    """(n, context) or (n, context, channels) -> (n, context) of each channel."""
    return np.moveaxis(counts.reshape(*counts.shape[:2], *counts.shape[2:] or (1,)), -1, 0)


def _look(counts, limits, day):
    """Windows of one channel, int16 (n, context) -> mended, and flags uint8 (n,)."""
    mended, flags = counts.astype(np.int64), np.zeros(len(counts), np.int64)
    for i in np.flatnonzero((mended == MISSING).any(axis=1)):
        flags[i] |= _fill(mended[i])
    whole = (flags & GAP) == 0
    out = (_standing_out(mended) > limits.spike) & whole[:, None]
    middle = (mended[:, :-2] + mended[:, 2:] + 1) >> 1
    mended[:, 1:-1] = np.where(out, middle, mended[:, 1:-1])
    flags[out.any(axis=1)] |= REPAIRED
    flags[((mended < limits.low) | (mended > limits.high)).any(axis=1) & whole] |= RANGE
    for name, flag in (("jump", JUMP), ("stuck", STUCK), ("drift", DRIFT), ("noise", NOISY)):
        worst, limit = STATISTICS[name](mended, day), getattr(limits, name)
        flags[(worst >= limit if name == "stuck" else worst > limit) & whole] |= flag
    return mended.astype(np.int16), flags.astype(np.uint8)


def _fill(window):
    """Mend the gaps of one window in place, on a straight line; -> REPAIRED, or GAP where one is too long or nothing
    else is there."""
    real = np.flatnonzero(window != MISSING)
    bounds = np.concatenate([[-1], real, [len(window)]])
    if np.diff(bounds).max() > LONGEST_GAP + 1 or not len(real):
        return GAP
    for before, after in pairwise(bounds):
        width = int(after - before)
        if width > 1:
            left = window[before] if before >= 0 else window[after]
            right = window[after] if after < len(window) else left
            steps = np.arange(1, width)
            window[before + 1 : after] = left + (2 * (right - left) * steps + width) // (2 * width)
    return REPAIRED


def _standing_out(x):
    """How far each sample but the first and the last lies outside of its two neighbours: (n, context - 2)."""
    left, middle, right = x[:, :-2], x[:, 1:-1], x[:, 2:]
    return np.maximum(middle - np.maximum(left, right), np.minimum(left, right) - middle)


def _longest_run(x, day):
    run, longest = np.ones(len(x), np.int64), np.ones(len(x), np.int64)
    for same in (np.diff(x, axis=1) == 0).T:
        run = np.where(same, run + 1, 1)
        longest = np.maximum(longest, run)
    return longest


STATISTICS = {  # of (n, context), and the samples of a day: the worst of each window
    "jump": lambda x, day: np.abs(np.diff(x, axis=1)).max(1, initial=0),
    "spike": lambda x, day: _standing_out(x).max(1, initial=0),
    "stuck": _longest_run,
    "drift": lambda x, day: np.abs(x[:, -day:].sum(1) - x[:, :day].sum(1)),
    "noise": lambda x, day: np.abs(np.diff(x, n=2, axis=1)).sum(1),
}
