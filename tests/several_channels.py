"""Random models of several channels, made of those of a single one, and windows for them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.integer_model import detection
from qatlib.integer_model.program import Channel

SMALL = Shape("patch", tokens=3, patch=5, horizon=5, d_model=8, heads=2)


def independent(seed, count, shape=SMALL):
    """Every channel with multipliers and, in turns, an anchor of its own."""
    model, rng = random_model(seed, shape), np.random.default_rng(seed)
    arrays = model.arrays | _own(model, count, rng, "source") | _own(model, count, rng, "output")
    return replace(model, channels=_channels(count, rng), targets=tuple(range(count)), arrays=arrays)


def mixed(seed, count, targets):
    """A model of patches that hold all channels side by side, and a head for all targets."""
    rng, samples, horizon = np.random.default_rng(seed), 4, 3
    shape = Shape("patch", tokens=3, patch=samples * count, horizon=horizon * len(targets), d_model=8, heads=2)
    model = random_model(seed, shape)
    source = replace(model.tensors["source"], shape=(3 * samples, count))
    return replace(
        model,
        context=3 * samples,
        horizon=horizon,
        channels=_channels(count, rng),
        mode="mixed",
        targets=targets,
        tensors=model.tensors | {"source": source},
        arrays=model.arrays | _own(model, count, rng, "source") | _own(model, len(targets), rng, "output"),
    )


def windows(model, seed, n):
    """int16 windows that go to the edges, of each channel others, for a model or a guard: (n, context[, channels])."""
    count = len(model.channels)
    shape = (model.context, count) if count > 1 else (model.context,)
    return extreme_windows(SimpleNamespace(context=model.context, channels=(0,) * count, window_shape=shape), seed, n)


def _channels(count, rng):
    anchors = [None if i % 2 else int(rng.integers(-500, 500)) for i in range(count)]
    return tuple(Channel(f"sensor{i}", 0.5 / (i + 1), anchor) for i, anchor in enumerate(anchors))


def _own(model, count, rng, path):
    """m and n of an operation, for each of `count` channels."""
    m = rng.integers(1 << 15, 1 << 16, count).astype(np.uint16)
    n = (model.arrays[f"{path}.n"][0] + rng.integers(0, 3, count)).clip(1, 40).astype(np.uint8)
    return {f"{path}.m": m, f"{path}.n": n}


MODELS = {
    "two independent": independent(1, 2),
    "seven independent": independent(2, 7),
    "points": independent(3, 3, Shape("point", tokens=5, patch=1, horizon=3, d_model=5)),
    "two mixed, both forecast": mixed(4, 2, (0, 1)),
    "five mixed, two forecast": mixed(5, 5, (1, 3)),
    "three mixed, the last forecast": mixed(6, 3, (2,)),
}


def classifier(model):
    """A model whose forecast becomes scores of labels."""
    one = {"output.m": np.array([1 << 15], np.uint16), "output.n": np.array([15], np.uint8)}
    labels = tuple(f"label{i}" for i in range(model.horizon))
    return replace(model, task="classify", labels=labels, arrays=model.arrays | one)


CLASSIFIERS = {
    "one channel": classifier(random_model(7, SMALL)),
    "three channels": classifier(mixed(8, 3, (0,))),
}


def detector(model, ahead):
    """A model whose forecast is what rows are judged by."""
    sound = windows(model, 1, 12).reshape(-1, *model.window_shape[1:]) >> 6
    made = detection.detector(model, sound, ahead=ahead, smoothing=2, threshold=0)
    return replace(made, threshold=int(1.1 * np.quantile(made.detect(sound)[0], 0.9)))


DETECTORS = {
    "one channel, by its own window": detector(random_model(9, SMALL), False),
    "one channel, ahead": detector(random_model(9, SMALL), True),
    "three channels, by their own window": detector(mixed(10, 3, (0, 1, 2)), False),
    "three channels, ahead": detector(mixed(11, 3, (0, 1, 2)), True),
}
