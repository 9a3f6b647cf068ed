"""What a model has to beat: persistence, seasonal naive and ridge. They see the same counts as the models.

Forecasts are (n, horizon) in standard deviations of the train rows, as `Windows.truth` is.
"""

import numpy as np

PENALTIES = 10.0 ** np.arange(-1, 6, 0.5)


def mse(prediction, truth):
    """Mean squared error over all windows and steps."""
    return float(np.mean((prediction - truth) ** 2))


def mae(prediction, truth):
    """Mean absolute error over all windows and steps."""
    return float(np.mean(np.abs(prediction - truth)))


def persistence(windows, dataset):
    """The last value, for every step."""
    return np.repeat(_samples(windows, dataset)[:, -1:], windows.truth.shape[1], axis=1)


def seasonal(windows, dataset, period=None):
    """The value one period ago, in samples (`daily_period` unless given). ValueError where the context is shorter than
    a period."""
    context, horizon = windows.counts.shape[1], windows.truth.shape[1]
    period = daily_period(dataset, context, horizon) if period is None else period
    if not 1 <= period <= context:
        raise ValueError(f"period {period} must lie within 1 and the context of {context} samples")
    return _samples(windows, dataset)[:, context - period + np.arange(horizon) % period]


def daily_period(dataset, context, horizon):
    """Samples in a day where the sampling period divides one and the context holds it, else the horizon, or the context
    if shorter."""
    day = np.timedelta64(1, "D")
    samples = int(day // dataset.step)
    regular = samples >= 1 and samples * dataset.step == day
    return samples if regular and samples <= context else min(horizon, context)


def ridge(train, validation, test, dataset):
    """Linear forecast, with intercept, of the change from the last value by the context's changes from it.

    The penalty is the one of PENALTIES with the least validation error.
    """
    x, y = _changes(train, dataset)
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)  # centred, so that the intercept is not penalised
    power, axes = np.linalg.eigh((x - x_mean).T @ (x - x_mean))  # one decomposition serves every penalty
    projected = axes.T @ ((x - x_mean).T @ (y - y_mean))
    weights = [axes @ (projected / (power + penalty)[:, None]) for penalty in PENALTIES]
    x, y = _changes(validation, dataset)
    best = weights[int(np.argmin([mse((x - x_mean) @ weight + y_mean, y) for weight in weights]))]
    return persistence(test, dataset) + (_changes(test, dataset)[0] - x_mean) @ best + y_mean


def _changes(windows, dataset):
    """Context (n, context) and truth (n, horizon), each minus the last value of the context."""
    samples = _samples(windows, dataset)
    return samples - samples[:, -1:], windows.truth - samples[:, -1:]


def _samples(windows, dataset):
    return dataset.standardise(windows.counts * dataset.resolution)
