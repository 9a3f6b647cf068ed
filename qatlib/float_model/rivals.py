"""Published forecasters to be judged by, in float alone: (batch, context) counts minus the training mean -> (batch,
horizon) in training standard deviations from it.

Each takes the window's last value or mean out by itself, as its paper does.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from qatlib.float_model.layers import Output, Source

PERIOD = 24  # samples of a day, for SparseTSF
SMOOTHED = 25  # samples of DLinear's moving average
KEPT = 0.4  # of the spectrum below its cut, for FITS
WIDTH = 16  # channels of the two small networks


class NLinear(nn.Module):
    """A linear map of the changes from the last value (Zeng et al., arXiv 2205.13504)."""

    def __init__(self, context, horizon):
        super().__init__()
        self.map = nn.Linear(context, horizon)

    def forward(self, x):
        return self.map(x - x[:, -1:]) + x[:, -1:]


class DLinear(nn.Module):
    """A linear map of the moving average, and one of what it leaves (same paper)."""

    def __init__(self, context, horizon):
        super().__init__()
        self.trend, self.rest = nn.Linear(context, horizon), nn.Linear(context, horizon)

    def forward(self, x):
        padded = F.pad(x.unsqueeze(1), (SMOOTHED // 2, SMOOTHED // 2), mode="replicate")
        trend = F.avg_pool1d(padded, SMOOTHED, 1).squeeze(1)
        return self.trend(trend) + self.rest(x - trend)


class SparseTSF(nn.Module):
    """One small linear map for every hour of the day (Lin et al., arXiv 2405.00946). Context and horizon are multiples
    of the period."""

    def __init__(self, context, horizon):
        super().__init__()
        if context % PERIOD or horizon % PERIOD:
            raise ValueError(f"SparseTSF needs a context and a horizon of whole periods of {PERIOD} samples")
        self.smooth = nn.Conv1d(1, 1, 1 + 2 * (PERIOD // 2), padding=PERIOD // 2, bias=False)
        self.map = nn.Linear(context // PERIOD, horizon // PERIOD, bias=False)

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        x = (x - mean).unsqueeze(1)
        x = (self.smooth(x) + x).reshape(len(x), -1, PERIOD)  # (batch, day, hour)
        return self.map(x.transpose(1, 2)).transpose(1, 2).flatten(1) + mean


class Fits(nn.Module):
    """A complex linear map of the low frequencies to those of a longer window (Xu et al., arXiv 2307.03756)."""

    def __init__(self, context, horizon):
        super().__init__()
        self.length, self.kept = context + horizon, max(2, int(context // 2 * KEPT))
        made = int(self.kept * self.length / context)
        self.real, self.imaginary = (nn.Linear(self.kept, made, bias=False) for _ in range(2))

    def forward(self, x):
        mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        low = torch.fft.rfft((x - mean) / deviation)[:, : self.kept]
        real = self.real(low.real) - self.imaginary(low.imag)
        spectrum = torch.complex(real, self.real(low.imag) + self.imaginary(low.real))
        longer = torch.fft.irfft(spectrum, n=self.length) * (self.length / x.shape[1])
        return longer[:, x.shape[1] :] * deviation + mean


class Convolutions(nn.Module):
    """Three convolutions, each with half the samples of the one before it, and a linear layer."""

    def __init__(self, context, horizon, channels=1):
        super().__init__()
        sizes = (channels, WIDTH, WIDTH, WIDTH)
        convolutions = [nn.Conv1d(a, b, 5, stride=2, padding=2) for a, b in pairwise(sizes)]
        self.encode = nn.Sequential(*(part for c in convolutions for part in (c, nn.ReLU())))
        for _ in convolutions:
            context = -(-context // 2)
        self.map = nn.Linear(WIDTH * context, horizon)

    def forward(self, x):
        return self.scores((x - x[:, -1:]).unsqueeze(2)) + x[:, -1:]

    def scores(self, x):
        """(batch, sample, channel) -> (batch, horizon), for a classifier."""
        return self.map(self.encode(x.transpose(1, 2)).flatten(1))


class Lstm(nn.Module):
    """One LSTM over patches of a day, and a linear layer on its last state."""

    def __init__(self, context, horizon):
        super().__init__()
        self.patch = next(p for p in range(PERIOD, 0, -1) if context % p == 0)
        self.recur, self.map = nn.LSTM(self.patch, 2 * WIDTH, batch_first=True), nn.Linear(2 * WIDTH, horizon)

    def forward(self, x):
        patches = (x - x[:, -1:]).unflatten(1, (-1, self.patch))
        return self.map(self.recur(patches)[0][:, -1]) + x[:, -1:]


RIVALS = {
    "nlinear": NLinear,
    "dlinear": DLinear,
    "sparsetsf": SparseTSF,
    "fits": Fits,
    "cnn": Convolutions,
    "lstm": Lstm,
}


class Rival(nn.Module):
    """One of RIVALS as a float model of a ModelConfig."""

    def __init__(self, config, sensor):
        super().__init__()
        self.config, self.sensor = config, sensor
        self.source, self.output = Source(sensor.unit, config.mode), Output(config)
        if config.task == "classify":
            self.inner = Convolutions(config.context, config.horizon, config.inputs)
        else:
            self.inner = RIVALS[config.family](config.context, config.horizon)

    def forward(self, difference):
        samples = self.source(difference)
        if self.config.task == "classify":
            return self.output(self.inner.scores(samples))
        return self.output(self.inner(samples.squeeze(-1)))

    def start(self, training, validation):
        """Nothing to begin from."""
