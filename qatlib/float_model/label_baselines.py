"""What a classifier has to beat: the commonest label, and ridge regression on a few features of the window.

Scores are float64 (n, label). They see the same counts as the models.
"""

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PENALTIES = 10.0 ** np.arange(-2, 5)


def statistics(counts):
    """Last value, mean and slope of every channel: (n, context, channel), or (n, context) -> (n, 3 * channel)."""
    x = counts.reshape(*counts.shape[:2], -1).astype(np.float64)
    time = np.linspace(-1, 1, x.shape[1])
    slope = np.einsum("ntc,t->nc", x, time / (time @ time))
    return np.concatenate([x[:, -1], x.mean(axis=1), slope], axis=1)


def spectra(counts):
    """Logarithm of every channel's power spectrum, its mean with it."""
    power = np.abs(np.fft.rfft(counts.astype(np.float64), axis=1)) ** 2
    return np.log1p(power).reshape(len(counts), -1)


FEATURES = {"ridge-statistics": statistics, "ridge-spectra": spectra}


def scores(method, train, parts, labels):
    """`majority`, the label that training has most often, or one of FEATURES. parts: LabelledWindows, validation first.
    -> (scores of each part, numbers stored)"""
    if method in FEATURES:
        return _ridge(train, parts, labels, FEATURES[method])
    row = np.bincount(train.labels, minlength=labels).astype(np.float64)
    return [np.tile(row, (len(part), 1)) for part in parts], 1


def _ridge(train, parts, labels, features):
    """Ridge regression to the labels, each as heavy as the others, on standardised features; of PENALTIES the one with
    the highest macro-F1 on validation."""
    x, *others = (features(part.counts) for part in (train, *parts))
    found = []
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), RidgeClassifier(penalty, class_weight="balanced")).fit(x, train.labels)
        found.append([_every_label(model, model.decision_function(part), labels) for part in others])
    f1 = [f1_score(parts[0].labels, scores[0].argmax(axis=1), average="macro") for scores in found]
    return found[int(np.argmax(f1))], (x.shape[1] + 1) * (labels if labels > 2 else 1)


def _every_label(model, scores, labels):
    """Scores of the labels that training has, as scores of all."""
    scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
    wide = np.full((len(scores), labels), -np.inf)
    wide[:, model.classes_] = scores
    return wide
