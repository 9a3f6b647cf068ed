"""Sensor data: fetch, split, window, scale; `csv_file` reads the file and `cleaning` judges it.

ETTh1 and ETTh2 (Zhou et al., arXiv 2012.07436) are fetched at a pinned commit and split as the published numbers are:
12, 4 and 4 months of 30 days. Any other file is split 60/20/20 %. Gaps in time are allowed, and no window crosses one.
"""

import numpy as np

from qatlib.data import csv_file
from qatlib.data.cells import parse_numbers, printable, shown
from qatlib.data.cleaning import check, clean, lacking
from qatlib.data.recording import Recording
from qatlib.data.series import Dataset
from qatlib.data.sources import SOURCES, _locate, _sha256
from qatlib.integer_model import kernels

SMALLEST, LARGEST = 1e-30, 1e30  # the magnitudes that a column may reach: 32-bit floats train on them
COSTS = 0.01  # of the values, which a column may lack
MONTH = 30 * 24  # rows, in the published protocol


def load(name="auto", *, target=None, inputs=None, clean=False):
    """The data set `name`: auto, etth1, etth2, jfk-weather, or the path of a CSV.

    auto is ETTh1 where it can be had, else the embedded weather data, which is said aloud and in the data set's `note`.
    target: the column to forecast, several with commas between, or `all` of numbers; a known set has one of its own,
    elsewhere all are forecast where none is named. inputs: columns that are read beside them. Of several columns the
    result is a Recording; what `all` leaves out, since it COSTS too many windows, is said. clean: repair the file
    first, and print what changed. Raises Unavailable (asked for by name, and not to be had), FileNotFoundError, or
    ValueError that names line, column and way out.
    """
    name, path, note = _locate(name)
    source = SOURCES.get(name)
    target = target or (source.target if source else None)
    frame, place = csv_file.read(path, target, inputs), printable(path)
    also = csv_file.names(inputs, list(frame.columns)) if inputs else []
    if csv_file.takes_all(target, list(frame.columns)):
        frame = _affordable(frame, place, also)
    frame = _without_empty(frame, place) if source else frame
    frame = _repaired(frame, place) if clean else frame
    times, values, step = check(frame, place)
    facts = {"name": name if source else printable(path.stem), "sha256": _sha256(path), "note": note}
    facts |= {"times": times, "step": step, "bounds": _bounds(len(times), source)}
    members = [_channel(printable(c), v, place, facts) for c, v in zip(frame.columns[1:], values, strict=True)]
    return members[0] if len(members) == 1 else Recording(tuple(members), len(members) - len(also))


def _channel(target, values, path, facts):
    """The Dataset of one column. facts: what all have in common."""
    train = values[: facts["bounds"][0]]
    resolution = fitting_resolution(facts["times"], values, train, path, target)
    mean, std = float(train.mean()), float(train.std())
    return Dataset(target=target, values=values, mean=mean, std=std, resolution=resolution, **facts)


def _affordable(frame, path, also):
    """The time, the columns that are to be had beside each other, and those that were asked for by name."""
    others = [name for name in frame.columns[1:] if name not in also]
    reasons = {name: reason for name in others if (reason := _costs(parse_numbers(frame[name])))}
    kept = [name for name in others if name not in reasons] or others
    for name, reason in reasons.items() if kept != others else ():
        print(f"{path}: column {shown(name)} is left out: {reason}")
    if len(kept) > 1:
        print(f"{path}: all {len(kept)} columns of numbers are forecast: {', '.join(map(shown, kept))}; see TARGET")
    return frame[[frame.columns[0], *kept, *also]]


def _costs(values):
    """Why a column is not forecast unless it is asked for; nothing where it may be."""
    lost = lacking(values)
    if lost.sum() > COSTS * len(values):
        without = f"it lacks {lost.sum()} of {len(values)} values, and no window crosses a gap"
        return f"{without}; name it in TARGET to have it"
    rows = _bounds(len(values), None)[0]
    train = values[:rows][~lost[:rows]]
    return "it is constant where models are trained" if len(train) and train.min() == train.max() else ""


def _without_empty(frame, path):
    """The rows of a known data set in which no cell is empty: what is known to be missing is a gap, and said."""
    empty = (frame == "").any(axis=1)
    for name in frame.columns[(frame == "").any()]:
        print(f"{path}: {(frame[name] == '').sum()} rows have no value in column {shown(name)}: they are gaps")
    return frame[~empty]


def fitting_resolution(times, values, train, path, target):
    """Of 16-bit counts. ValueError where they cannot hold the values, or tell those of `train`, the first, apart."""
    column = f"column {target!r}"
    if train.min() == train.max():
        span = f"its {len(train)} train rows, {times[0]} to {times[len(train) - 1]}"
        raise ValueError(f"{path}: {column} is constant ({train[0]:g}) in {span}; choose another column")
    largest = np.abs(values).argmax()
    at = f"{values[largest]:g} at {times[largest]}"
    if not SMALLEST <= abs(values[largest]) <= LARGEST:
        reach = f"reaches {at}, beyond {SMALLEST:g} to {LARGEST:g}"
        raise ValueError(f"{path}: {column} {reach}; correct it, or give the values in another unit")
    resolution = choose_resolution(values)
    if train.std() < 2 * resolution:
        raise ValueError(
            f"{path}: 16 bits cannot tell the values of {column} apart beside {at}; if that is a mistake, correct it, "
            "else subtract a constant from all"
        )
    return resolution


def _bounds(rows, source):
    if source and source.published:
        return 12 * MONTH, 16 * MONTH, 20 * MONTH
    return rows * 6 // 10, rows * 8 // 10, rows


def _repaired(frame, path):
    frame, report = clean(frame, path)
    for line in report or ("nothing to repair",):
        print(f"{path}: {line}")
    return frame


def choose_resolution(values):
    """Finest of .., 0.001, 0.002, 0.005, 0.01, .. at which 1.25 times the largest magnitude fits in int16: the sensor's
    range.

    The largest magnitude must lie between SMALLEST and LARGEST.
    """
    largest = 1.25 * float(np.abs(values).max())
    exponent = int(np.floor(np.log10(largest / kernels.COUNT_MAX)))
    series = (float(f"{digit}e{e}") for e in (exponent, exponent + 1) for digit in (1, 2, 5))
    return next(resolution for resolution in series if largest / resolution <= kernels.COUNT_MAX)
