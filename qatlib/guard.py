"""What looks at a window before it is forecast, in integers: mends short gaps and single outliers, and flags what no forecast should trust.

Thresholds come from windows that are known to be sound (train and validation), so a guard fits its sensor. `mcu/guard.c` is the same in C.
Drift is judged by how far the last day lies from the first one, not by the level: seasons move the level of sound data further than a
drifting sensor does.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qatlib import kernels

MISSING = kernels.COUNT_MIN  # the count that stands for a sample that never came
LONGEST_GAP = 5  # samples that are mended
REPAIRED, GAP, RANGE, JUMP, STUCK, DRIFT, NOISY = (1 << i for i in range(7))
FLAGS = {"repaired": REPAIRED, "gap": GAP, "range": RANGE, "jump": JUMP, "stuck": STUCK, "drift": DRIFT, "noisy": NOISY}
DISTRUST = GAP | RANGE | JUMP | STUCK | DRIFT | NOISY


@dataclass(frozen=True)
class Guard:
    """For windows of `context` samples, `day` of them a day. Thresholds in counts: of samples (low, high), of the change from one to the
    next (jump), of how far a sample stands out from both its neighbours (spike); of equal samples in a row (stuck); of the sum of the
    last `day` samples against that of the first (drift); of the magnitudes of a window's second differences together (noise)."""

    context: int
    day: int
    low: int
    high: int
    jump: int
    spike: int
    stuck: int
    drift: int
    noise: int

    @classmethod
    def fit(cls, *sound, day=24):
        """The guard that lets these windows pass, int16 (n, context) each, with an eighth to spare, one more of equal samples.

        day: samples of one.

        ValueError where a window has fewer than two days, or a sample is missing.
        """
        if not sound or day < 1 or any(c.ndim != 2 or c.dtype != np.int16 or not c.size or (c == MISSING).any() for c in sound):
            raise ValueError("a guard needs sound windows, int16 counts (n, context) without a missing sample, and a day of at least one")
        if any(counts.shape[1] < 2 * day for counts in sound):
            raise ValueError(f"a guard compares the first day with the last: windows of {sound[0].shape[1]} samples have no two of {day}")
        counts = [np.asarray(c, dtype=np.int64) for c in sound]
        low, high = min(c.min() for c in counts), max(c.max() for c in counts)
        spare = (high - low) // 8
        most = {name: max(int(of(c, day).max()) for c in counts) for name, of in STATISTICS.items()}
        spared = {name: value + value // 8 for name, value in most.items() if name != "stuck"}
        return cls(
            sound[0].shape[1],
            day,
            max(int(low - spare), kernels.COUNT_MIN + 1),
            min(int(high + spare), kernels.COUNT_MAX),
            stuck=most["stuck"] + 1,
            **spared,
        )

    def check(self, counts):
        """int16 (n, context), MISSING where a sample is missing -> the same, mended, and flags uint8 (n,): see FLAGS."""
        counts = np.asarray(counts)
        if counts.ndim != 2 or counts.dtype != np.int16 or counts.shape[1] != self.context:
            raise ValueError(f"{counts.dtype} of shape {counts.shape}; this guard looks at int16 counts (n, {self.context})")
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
    """Mend the gaps of one window in place, on a straight line; -> REPAIRED, or GAP where one is too long or nothing else is there."""
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
