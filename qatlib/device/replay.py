"""What the overlay plays: one model at several bit widths, and test windows in the order of time. With numpy alone."""

from dataclasses import dataclass

import numpy as np

from qatlib.device.shipped import load, names, windows


@dataclass(frozen=True, eq=False)
class Replay:
    """title: the data, for figures; models: {"W4A4": IntegerModel, ..} of one context, horizon and resolution.

    windows: int16 counts (n, context), each a sample after the one before; truth: int16 counts (n, horizon), what
    followed.
    """

    title: str
    models: dict
    windows: np.ndarray
    truth: np.ndarray

    @property
    def resolution(self):
        """Sensor units per count."""
        return next(iter(self.models.values())).resolution


def by_width(models):
    """{"patch-c336-d16-w4a4": model, ..} -> {"W4A4": model, ..}, the widest first."""
    return {name.rpartition("-")[2].upper(): models[name] for name in sorted(models, reverse=True)}


def shipped(dataset="jfk-weather"):
    """The models and windows that ship with the project."""
    models = by_width({name: load(dataset, name) for name in names(dataset)})
    return Replay(dataset, models, *windows(dataset))
