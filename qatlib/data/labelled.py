"""Recordings with a class at every row.

Splits are in time within each recording; no window crosses a split, or a gap.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qatlib.data import csv_file
from qatlib.data.cells import parse_numbers, printable, shown
from qatlib.data.cleaning import check, clean
from qatlib.data.series import to_counts
from qatlib.data.sets import choose_resolution, fitting_resolution
from qatlib.integer_model import kernels
from qatlib.integer_model.check import MOST_LABELS

SHARES = {"train": 0.6, "validation": 0.8, "test": 1.0}  # of a user's rows: up to where


@dataclass(frozen=True, eq=False)
class Stretch:
    """Rows that follow one another: values float64 (rows, channel), in the sensor's units; labels int64 (rows,),
    indices of classes."""

    values: np.ndarray
    labels: np.ndarray

    def __getitem__(self, rows):
        return Stretch(self.values[rows], self.labels[rows])

    def __len__(self):
        return len(self.values)


@dataclass(frozen=True, eq=False)
class LabelledWindows:
    """counts: int16 (n, context, channel), of one channel (n, context); labels: int64 (n,), each that of the window's
    last row."""

    counts: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.counts)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Recordings of several channels, cut into splits.

    name, note: as of a Dataset; names: of the channels; classes: names of the labels; parts: {split: (Stretch, ..)},
    `train` and `validation` and one or more to test by; strides: {split: rows from window to window}.
    """

    name: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    parts: dict
    strides: dict
    note: str = ""

    def __post_init__(self):
        """ValueError for splits in another order: what trains and what validates is known by its place."""
        if tuple(self.parts)[:2] != ("train", "validation") or len(self.parts) < 3:
            raise ValueError(f"{self.name}: its splits are {', '.join(self.parts)}; train, validation, a test in order")

    @property
    def target(self):
        """For titles."""
        return ", ".join(self.names)

    @cached_property
    def _train(self):
        return np.concatenate([stretch.values for stretch in self.parts["train"]])

    @property
    def mean(self):
        """Of the train rows, (channel,)."""
        return self._train.mean(axis=0)

    @property
    def std(self):
        return self._train.std(axis=0)

    @cached_property
    def resolution(self):
        """Sensor units per count, (channel,): what all rows need."""
        rows = np.concatenate([stretch.values for part in self.parts.values() for stretch in part])
        return np.array([choose_resolution(column) for column in rows.T])

    @property
    def offset(self):
        """Mean of the train rows in counts."""
        return kernels.round_half_up(self.mean / self.resolution).astype(int)

    @property
    def fingerprint(self):
        """What runs depend on."""
        return self.sha256

    @cached_property
    def sha256(self):
        """Of all rows and what is known of them."""
        facts = [f"{self.name} {self.names} {self.classes} {self.strides} {self.resolution.tolist()}".encode()]
        for split, part in self.parts.items():
            facts += [split.encode(), *(a.tobytes() for stretch in part for a in (stretch.values, stretch.labels))]
        return hashlib.sha256(b"".join(hashlib.sha256(fact).digest() for fact in facts)).hexdigest()

    def windows(self, split, context):
        """Windows of a split, in order. ValueError for an unknown split, and where no window fits."""
        if split not in self.parts:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(self.parts)}")
        found, stride = [], self.strides.get(split, 1)
        for stretch in self.parts[split]:
            if len(stretch) >= context:
                counts = to_counts(stretch.values, self.resolution)
                sliding = np.lib.stride_tricks.sliding_window_view(counts, context, axis=0)[::stride]
                found.append((one_alone(sliding.transpose(0, 2, 1)), stretch.labels[context - 1 :: stride]))
        if not found:
            raise ValueError(
                f"{self.name}: no {split} window of {context} rows fits between its gaps; bring longer stretches"
            )
        return LabelledWindows(*map(np.concatenate, zip(*found, strict=True)))


def one_alone(values):
    """(.., channel), of one channel (..)."""
    return values[..., 0] if values.shape[-1] == 1 else values


def stretches(times, values, labels):
    """Rows -> (Stretch, ..), cut where a step is not the commonest one, give or take less than half of it: jitter is no
    gap."""
    steps = np.diff(times).astype("timedelta64[us]").astype(np.int64)
    distinct, often = np.unique(steps, return_counts=True)
    period = distinct[often.argmax()]
    cuts = np.flatnonzero(2 * np.abs(steps - period) >= period) + 1
    whole = Stretch(values, labels)
    return tuple(whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True))


def cut(part, shares):
    """Stretches in order of time -> {split: (Stretch, ..)}, each up to its share of the rows."""
    total, found, begin = sum(map(len, part)), {}, 0
    for split, share in shares.items():
        end, row, taken = int(share * total), 0, []
        for stretch in part:
            piece = stretch[max(begin - row, 0) : max(end - row, 0)]
            taken += [piece] * (len(piece) > 0)
            row += len(stretch)
        found[split], begin = tuple(taken), end
    return found


def of_csv(path, target, inputs=None, *, repair=False):
    """A user's CSV with a column of labels: the first 60 % of the rows train, the next 20 % validate, the last 20 %
    test. target: the column of labels; inputs: those that are read, all others of numbers where none is named.

    ValueError names line, column and way out: what `read` and `check` refuse, more than one column of labels, a row
    without a label, one label alone, more than a model takes, one number written in two ways, and one that training
    never saw."""
    place = printable(path)
    if csv_file.takes_all(target, ()):
        raise ValueError(f"{place}: which column holds the labels? Name it: TARGET=column (target='column')")
    frame = csv_file.read(path, target, inputs, others=not inputs)
    if len(csv_file.names(target, frame.columns)) > 1:
        raise ValueError(f"{place}: TARGET={shown(target)} names several columns; labels are in one")
    column, channels = frame.columns[1], frame.drop(columns=frame.columns[1])
    if repair:
        channels, report = clean(channels, place)
        for line in report or ("nothing to repair",):
            print(f"{place}: {line}")
    times, values, _ = check(channels, place)
    for name, channel in zip(channels.columns[1:], values, strict=True):
        fitting_resolution(times, channel, channel[: int(SHARES["train"] * len(channel))], place, name)
    cells = frame[column].loc[channels.index].str.strip()
    classes = _classes(cells, place, shown(column))
    parts = cut(stretches(times, np.stack(values, axis=-1), np.searchsorted(classes, cells)), SHARES)
    names = tuple(map(printable, channels.columns[1:]))
    return Labelled(printable(Path(path).stem), names, tuple(map(printable, classes)), parts, {})


def _classes(cells, place, column):
    """Labels of rows, as text -> those that there are, sorted. ValueError as of `of_csv`."""
    empty = cells.str.lower().isin(("", "nan")).to_numpy()
    if empty.any():
        where = f"{place}, line {cells.index[empty][0]}"
        raise ValueError(f"{where}: no label in column {column} (rows like this: {empty.sum()}); give it one")
    rows = int(SHARES["train"] * len(cells))
    classes = tuple(sorted(set(cells.iloc[:rows])))
    if not 2 <= len(classes) <= MOST_LABELS:
        raise ValueError(
            f"{place}: column {column} has {len(classes)} labels in its first {rows} rows, which train; "
            f"2 to {MOST_LABELS} can be told apart: is it the column of labels?"
        )
    numbers = dict(zip(classes, parse_numbers(classes).tolist(), strict=True))
    for label in classes:
        if twins := [other for other in classes if other > label and numbers[other] == numbers[label]]:
            raise ValueError(
                f"{place}: the labels {shown(label)} and {shown(twins[0])} in column {column} are one number; write it "
                f"in one way"
            )
    unknown = ~cells.isin(classes).to_numpy()
    if unknown.any():
        raise ValueError(
            f"{place}, line {cells.index[unknown][0]}: the label {shown(cells[unknown].iloc[0])} in column "
            f"{column} is in none of the first {rows} rows, which train; bring some there, or leave it out"
        )
    return classes
