"""What looks at a window before it is forecast, in integers: mends short gaps and single outliers, and flags what no
forecast should trust.

Thresholds come from windows that are known to be sound (train and validation), so a guard fits its sensor.
`mcu/guard.c` is the same in C. Drift is judged by how far the last day lies from the first one, not by the level:
seasons move the level of sound data further than a drifting sensor does.
"""

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from qatlib.integer_model import kernels
from qatlib.integer_model.program import LONGEST

MISSING = kernels.COUNT_MIN  # the count that stands for a sample that never came
LONGEST_GAP = 5  # samples that are mended
INT32_MAX, INT64_MAX = (1 << 31) - 1, (1 << 63) - 1  # what guard.c counts in
REPAIRED, GAP, RANGE, JUMP, STUCK, DRIFT, NOISY = (1 << i for i in range(7))
FLAGS = {"repaired": REPAIRED, "gap": GAP, "range": RANGE, "jump": JUMP, "stuck": STUCK, "drift": DRIFT, "noisy": NOISY}
DISTRUST = GAP | RANGE | JUMP | STUCK | DRIFT | NOISY


@dataclass(frozen=True)
class Guard:
    """For windows of `context` samples, `day` of them a day. Thresholds in counts: of samples (low, high), of the
    change from one to the next (jump), of how far a sample stands out from both its neighbours (spike); of equal
    samples in a row (stuck); of the sum of the last `day` samples against that of the first (drift); of the magnitudes
    of a window's second differences together (noise).

    ValueError names a field that is no whole number, or not one that a guard can work with, in `mcu/guard.c` too."""

    context: int
    day: int
    low: int
    high: int
    jump: int
    spike: int
    stuck: int
    drift: int
    noise: int

    def __post_init__(self):
        for name in (field.name for field in fields(self)):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"a guard's {name} must be a whole number")
        for name, (least, most) in self._bounds().items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"a guard's {name} must lie between {least} and {most}")

    def _bounds(self):
        counts, magnitude = (kernels.COUNT_MIN, kernels.COUNT_MAX), (0, INT32_MAX)
        return {
            "context": (2, LONGEST),
            "day": (1, self.context // 2),  # the first and the last one are compared
            "low": counts,
            "high": (self.low, kernels.COUNT_MAX),
            "jump": magnitude,
            "spike": magnitude,
            "stuck": (2, INT32_MAX),  # every sample is one in a row
            "drift": magnitude,
            "noise": (0, INT64_MAX),
        }

    def require(self, model):
        """ValueError where the model is for windows of another length."""
        if self.context != model.context:
            raise ValueError(
                f"the guard is for windows of {self.context} samples, the model for {model.context}; fit it to "
                f"the model's windows"
            )

    @classmethod
    def fit(cls, *sound, day=24):
        """The guard that lets these windows pass, int16 (n, context) each, with an eighth to spare, one more of equal
        samples.

        day: samples of one.

        ValueError where a window has fewer than two days, or another length than the others, or a sample is missing.
        """
        if not sound or any(c.ndim != 2 or c.dtype != np.int16 or not c.size or (c == MISSING).any() for c in sound):
            raise ValueError("a guard needs sound windows, int16 counts (n, context) without a missing sample")
        if len({counts.shape[1] for counts in sound}) > 1:
            raise ValueError(
                f"windows of {' and '.join(str(c.shape[1]) for c in sound)} samples: a guard is for windows of "
                f"one length"
            )
        half = sound[0].shape[1] // 2
        if not isinstance(day, int | np.integer) or not 1 <= day <= half:
            raise ValueError(
                f"a guard compares the first day with the last, of 1 to {half} samples in these windows, not {day!r}"
            )
        counts = [np.asarray(c, dtype=np.int64) for c in sound]
        low, high = min(c.min() for c in counts), max(c.max() for c in counts)
        spare = (high - low) // 8
        most = {name: max(int(of(c, day).max()) for c in counts) for name, of in STATISTICS.items()}
        spared = {name: value + value // 8 for name, value in most.items() if name != "stuck"}
        return cls(
            sound[0].shape[1],
            int(day),
            max(int(low - spare), kernels.COUNT_MIN + 1),
            min(int(high + spare), kernels.COUNT_MAX),
            stuck=most["stuck"] + 1,
            **spared,
        )

    def check(self, counts):
        """int16 (n, context), MISSING where a sample is missing -> the same, mended, and flags uint8 (n,): see
        FLAGS."""
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.dtype != np.int16 or counts.shape[1] != self.context:
            raise ValueError(
                f"{counts.dtype} of shape {counts.shape}; this guard looks at int16 counts (n, {self.context})"
            )
        mended, flags = counts.astype(np.int64), np.zeros(len(counts), np.int64)
        for i in np.flatnonzero((mended == MISSING).any(axis=1)):
            flags[i] |= _fill(mended[i])
        whole = (flags & GAP) == 0
        out = (_standing_out(mended) > self.spike) & whole[:, None]
        middle = (mended[:, :-2] + mended[:, 2:] + 1) >> 1
        mended[:, 1:-1] = np.where(out, middle, mended[:, 1:-1])
        flags[out.any(axis=1)] |= REPAIRED
        flags[((mended < self.low) | (mended > self.high)).any(axis=1) & whole] |= RANGE
        for name, flag in (("jump", JUMP), ("stuck", STUCK), ("drift", DRIFT), ("noise", NOISY)):
            worst, limit = STATISTICS[name](mended, self.day), getattr(self, name)
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
