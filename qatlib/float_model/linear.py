"""A linear map of the last samples, in two factors: what a Transformer has to beat, and what may help it.

The change over the horizon is mostly a linear function of few numbers that the window holds. `low_rank` finds them in
closed form; `LinearForecaster` is that map alone, through the same quantisers and integers as the Transformers; in the
`skip` family it is added to the encoder's forecast.
"""

import numpy as np
import torch
from torch import nn

from qatlib.float_model.baselines import PENALTIES
from qatlib.float_model.layers import LastTokens, Linear, Output, Reshape, Source


class LowRank(nn.Module):
    """The last `reach` samples, through `rank` numbers: (batch, sample, channel) -> (batch, 1, rank)."""

    def __init__(self, config):
        super().__init__()
        self.last = LastTokens(config.reach) if config.reach < config.context else nn.Identity()
        self.row = Reshape(1, config.reach * config.inputs)
        self.narrow = Linear(config.reach * config.inputs, config.rank, "residual")

    def forward(self, samples):
        return self.narrow(self.row(self.last(samples)))


class LinearForecaster(nn.Module):
    """forward: (batch, context) counts minus anchor -> (batch, horizon) standardised change from the anchor."""

    def __init__(self, config, sensor):
        super().__init__()
        self.config, self.sensor = config, sensor
        self.source, self.linear = Source(sensor.unit, config.mode), LowRank(config)
        self.head = Linear(config.rank, config.horizon * config.outputs, "edge")
        self.output = Output(config)

    def forward(self, difference):
        return self.output(self.head(self.linear(self.source(difference))))

    @torch.no_grad()
    def start(self, training, validation):
        """Set the weights to those of `low_rank`. training, validation: Batches."""
        start(self, self.head, training, validation)


@torch.no_grad()
def start(model, widen, training, validation):
    """Set a model's LowRank, and the layer that takes its numbers to the horizon, to the map of `low_rank`."""
    config, linear = model.config, model.linear
    rank = config.rank
    parts = [
        (model.source(d.inputs[:, -config.reach :].double()).flatten(1).numpy(), _folded(config, d.targets.double()))
        for d in (training, validation)
    ]
    for parameter, value in zip((linear.narrow.weight, widen.weight, widen.bias), low_rank(*parts, rank), strict=True):
        parameter.copy_(torch.from_numpy(value))
    linear.narrow.bias.zero_()


def _folded(config, targets):
    """Targets (batch, horizon[, target]) as the network's last layer has them."""
    if targets.ndim == 3 and config.mode == "independent":
        targets = targets.transpose(1, 2).flatten(0, 1)
    return targets.flatten(1).numpy()


def low_rank(train, validation, rank):
    """Reduced-rank ridge regression (Mukherjee & Zhu, Statistical Analysis and Data Mining 2011): the ridge map, its
    forecasts projected on the `rank` directions in which those for the train windows vary most.

    train, validation: (x, y), (n, reach) and (n, horizon). -> (rank, reach), (horizon, rank), (horizon,):
    the two factors and the intercept. Of the numbers between them the first has variance 1; the columns of the second
    are of equal length, so that few bits serve all of them: 8 bits between are enough for numbers of lower variance.
    The penalty is the one of PENALTIES with the least validation error at this rank.
    """
    (x, y), (x_validation, y_validation) = ([np.asarray(a, np.float64) for a in part] for part in (train, validation))
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    power, axes = np.linalg.eigh((x - x_mean).T @ (x - x_mean))
    projected, best = axes.T @ ((x - x_mean).T @ (y - y_mean)), None
    for penalty in PENALTIES:
        weights = axes @ (projected / (power + penalty)[:, None])  # (reach, horizon)
        variance, directions = _directions((axes * np.sqrt(np.maximum(power, 0) / len(x))).T @ weights)
        directions = directions[:, :rank]
        deviation = np.sqrt(max(variance[0], np.finfo(float).tiny))  # of the first number
        narrow, widen = (weights @ directions / deviation).T, directions * deviation
        intercept = y_mean - widen @ (narrow @ x_mean)
        error = np.mean((x_validation @ narrow.T @ widen.T + intercept - y_validation) ** 2)
        if best is None or error < best[0]:
            best = error, (narrow, widen, intercept)
    return best[1]


def _directions(root):
    """(a, b) -> variances and directions (b, min(a, b)) of root.T @ root, the largest first."""
    if len(root) >= root.shape[1]:
        variance, directions = np.linalg.eigh(root.T @ root)
    else:  # from the smaller side
        variance, others = np.linalg.eigh(root @ root.T)
        least = max(np.finfo(float).eps * variance[-1], np.finfo(float).tiny)  # of what is no noise
        directions = root.T @ others / np.sqrt(np.maximum(variance, least))
    return variance[::-1], directions[:, ::-1]
