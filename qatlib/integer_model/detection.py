"""From forecasts to flags, in integers: how far each row lies from what the network makes of the rows before it, or of
its own window.

An error of a channel counts in sixteenths of its mean magnitude on sound rows, at most CAP of them, squared; a row's
score is their sum over horizon and channels, smoothed. `mcu/detect.c` is the same in C.
"""

from dataclasses import replace

import numpy as np

from qatlib.integer_model.program import Operation

UNIT, CAP = 16, 128  # sixteenths; of an error of one mean magnitude, and of the largest one
SHIFT = 12  # weights are in 2**-12
MOST_SMOOTHING = 8


def length(model, ahead=None):
    """Rows that one score takes."""
    ahead = model.operations[-1].attributes["ahead"] if ahead is None else ahead
    return model.context + model.horizon * ahead


def detect(model, rows, forward):
    """int16 rows as they come, (n, channel), of a single channel (n,) -> scores int64 and flags bool, (n - length + 1,)
    each: for every row from the one on that completes a window.

    forward: int16 windows -> int16 forecasts. TypeError, ValueError for rows of another kind or too few."""
    model.need("detect")
    rows = checked(model, rows)
    scores = smoothed(raw_scores(model, rows, forward), model.operations[-1].attributes["smoothing"])
    return scores, scores > model.threshold


def raw_scores(model, rows, forward):
    """As `detect` gives them, before smoothing."""
    errors = np.abs(_errors(model, rows, forward, model.operations[-1].attributes["ahead"]))
    units = np.minimum(errors * model.arrays["output.weight"] >> SHIFT, CAP)
    return (units * units).sum(axis=(1, 2))


def smoothed(raw, shift):
    """Each the one before, moved towards the new one by a 2**shift-th of the difference; the first is as it is."""
    state, found = int(raw[0]) << shift, np.empty(len(raw), np.int64)
    for i, value in enumerate(raw.tolist()):
        state += value - (state >> shift)
        found[i] = state >> shift
    return found


def detector(model, sound, *, ahead, smoothing, threshold, forward=None):
    """A forecaster of all its channels as a detector. sound: rows free of faults that training has not seen, by which
    errors are weighed.

    forward: where the errors of another model, as of its float twin, shall count: windows -> forecasts in counts."""
    forward = forward or model.forward
    last = model.operations[-1]
    end = Operation(last.kind, last.path, last.inputs, last.output, {"ahead": int(ahead), "smoothing": smoothing})
    rows = np.asarray(sound).reshape(len(sound), -1)
    mean = np.abs(_errors(model, rows, forward, ahead)).mean(axis=(0, 1))
    weight = np.clip(np.round((UNIT << SHIFT) / np.maximum(mean, 1e-3)), 1, (1 << 16) - 1).astype(np.uint16)
    facts = {"operations": (*model.operations[:-1], end), "arrays": model.arrays | {"output.weight": weight}}
    return replace(model, task="detect", threshold=threshold, **facts)


def _errors(model, rows, forward, ahead):
    """Forecast less counts: int64 (windows, horizon, channel)."""
    n = model.context + model.horizon * ahead
    windows = np.lib.stride_tricks.sliding_window_view(rows, n, axis=0).transpose(0, 2, 1)
    seen = np.ascontiguousarray(windows[:, : model.context]).reshape(-1, *model.window_shape)
    forecast = forward(seen).reshape(len(windows), model.horizon, -1).astype(np.int64)
    return forecast - windows[:, n - model.horizon :]


def checked(model, rows):
    """The rows as an array (n, channel), if they are int16 rows of this model. TypeError, ValueError"""
    rows = np.asarray(rows)
    if rows.dtype != np.int16:
        raise TypeError(f"rows are {rows.dtype}, not int16 counts")
    wanted = model.window_shape[1:]
    if rows.shape[1:] != wanted or len(rows) < length(model):
        shape = ", ".join(map(str, ("rows", *wanted)))
        raise ValueError(f"rows have shape {rows.shape}; this model takes ({shape}), {length(model)} or more of them")
    return rows.reshape(len(rows), -1)
