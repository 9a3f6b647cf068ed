"""What a detector has to beat: everything or nothing flagged, z-scores of the channels, principal components, and the
guard of a forecaster.

z-scores and components are fitted by the train rows of a Watched and take their threshold from the validation rows as
the detectors do; the guard has limits of its own, of both. -> scores, and flags of the test rows.
"""

import numpy as np
from sklearn.decomposition import PCA

from qatlib.data.series import SPLITS
from qatlib.device.guard import DISTRUST, Guard

COMPONENTS = 0.9  # share of the variance that principal components keep
GUARDED = 16  # rows of the guard's windows


def everything(data, margin):
    """Every row flagged."""
    rows = len(data.values) - data.bounds[1]
    return np.ones(rows), np.ones(rows, bool)


def nothing(data, margin):
    """None."""
    rows = len(data.values) - data.bounds[1]
    return np.zeros(rows), np.zeros(rows, bool)


def z_scores(data, margin):
    """Mean magnitude over channels of how many standard deviations a row lies from the training mean."""
    return _judged(np.abs(data.standardise(data.values)).mean(axis=1), data, margin)


def components(data, margin):
    """Hotelling's T² within the principal components and the squared rest outside of them (Q), whichever is higher over
    its threshold."""
    z = data.standardise(data.values)
    model = PCA(COMPONENTS).fit(z[: data.bounds[0]])
    inside = model.transform(z)
    outside = z - model.inverse_transform(inside)
    both = [(inside**2 / model.explained_variance_).sum(axis=1), (outside**2).sum(axis=1)]
    parts = [_judged(score, data, margin) for score in both]
    return np.maximum(*(scores for scores, _ in parts)), np.logical_or(*(flags for _, flags in parts))


def guard(data, margin):
    """The integer guard, which knows levels, jumps, stuck and noisy values, one channel at a time."""
    train, validation, test = (data.ending_in(split, GUARDED)[0] for split in SPLITS)
    if len(data.names) == 1:
        train, validation, test = (part[:, :, 0] for part in (train, validation, test))
    fitted = Guard.fit(train, validation, day=GUARDED // 2)
    flags = (fitted.check(test)[1] & DISTRUST).reshape(len(test), -1) > 0
    return flags.sum(axis=1).astype(float), flags.any(axis=1)


def _judged(scores, data, margin):
    begin, end = data.span("validation")
    relative = scores[end:] / (margin * scores[begin:end].max())
    return relative, relative > 1


BASELINES = {
    "everything flagged": everything, "nothing flagged": nothing, "z-scores": z_scores,
    "principal components, T² and Q": components, "guard": guard,
}  # fmt: skip
