"""What the overlay plays: one model at several bit widths, and test windows in the order of time. With numpy alone."""

from dataclasses import dataclass

import numpy as np

from qatlib.device.shipped import load, names, windows


@dataclass(frozen=True, eq=False)
class Replay:
    """title: the data, for figures; models: {"W4A4": IntegerModel, ..} of the same channels, context and horizon.

    windows: counts as the models take them, int16 (n, context) or (n, context, channels), each a sample after the one
    before; truth: what followed, int16 (n, horizon) or (n, horizon, targets); of classifiers the label of each window's
    last sample, (n,).

    `channel` of a method: the name of a forecast channel, of a classifier of any, by default the first. ValueError
    tells which there are, and names windows or truth that the models do not go with.
    """

    title: str
    models: dict
    windows: np.ndarray
    truth: np.ndarray

    def __post_init__(self):
        for label, model in self.models.items():
            for what, given, wanted in (
                ("windows have shape", self.windows.shape[1:], model.window_shape),
                ("truth has shape", self.truth.shape[1:], () if model.task == "classify" else model.forecast_shape),
                ("the first model has channels", _columns(self._model), _columns(model)),
            ):
                if given != wanted:
                    raise ValueError(f"{what} {given}, the model {label} is for {wanted}; play what goes together")

    @property
    def resolution(self):
        """Sensor units per count: of a single channel a number, of several float64 (channel,)."""
        return self._model.resolution

    @property
    def labels(self):
        """Names of the labels; () where the models forecast."""
        return self._model.labels

    @property
    def channels(self):
        """Names of the channels that can be drawn: those forecast, of a classifier all."""
        return tuple(self._model.channels[i].name for i in self._drawn)

    @property
    def _drawn(self):
        return range(len(self._model.channels)) if self.labels else self._model.targets

    def past(self, channel=None):
        """The windows of a channel: int16 (n, context)."""
        return self.windows if self.windows.ndim == 2 else self.windows[:, :, self._drawn[self._place(channel)]]

    def ahead(self, counts, channel=None):
        """Of forecasts, or truth, that of a channel: (.., horizon) or (.., horizon, targets) -> (.., horizon)."""
        return counts if self.truth.ndim == 2 else counts[..., self._place(channel)]

    def step(self, channel=None):
        """Sensor units per count of a channel."""
        return self._model.channels[self._drawn[self._place(channel)]].resolution

    @property
    def _model(self):
        return next(iter(self.models.values()))

    def _place(self, channel):
        if channel is not None and channel not in self.channels:
            raise ValueError(f"no channel {channel!r} is forecast; there are {', '.join(self.channels)}")
        return 0 if channel is None else self.channels.index(channel)


def _columns(model):
    return [(c.name, c.resolution, i in model.targets) for i, c in enumerate(model.channels)]


def by_width(models):
    """{"patch-c336-d16-w4a4": model, ..} -> {"W4A4": model, ..}, the widest first."""
    return {name.rpartition("-")[2].upper(): models[name] for name in sorted(models, reverse=True)}


def shipped(dataset="jfk-weather"):
    """The models and windows that ship with the project."""
    models = by_width({name: load(dataset, name) for name in names(dataset)})
    return Replay(dataset, models, *windows(dataset))
