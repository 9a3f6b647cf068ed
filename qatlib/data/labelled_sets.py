"""Known recordings with a class at every row: the occupancy of an office, the foot strikes of runners."""

import numpy as np
import pandas as pd

from qatlib.data.labelled import Labelled, Stretch, cut, of_csv, stretches
from qatlib.data.sources import SOURCES, fetch_file

ROOM = ("Temperature", "Humidity", "Light", "CO2", "HumidityRatio")
STRIKES = {"forefoot": "forefootstrike", "heel": "heelstrike"}  # class: of a file's name
RUNNERS = range(1, 13)


def load(data="auto", target="", inputs="", *, clean=False):
    """A user's CSV with a column of labels, `target`, or of `auto` the office without its light sensor. ValueError as
    of `of_csv`, and for a known series, which has no labels."""
    if data in SOURCES:
        raise ValueError(f"{data} has no labels; TASK=classify takes a CSV that has, or no DATA at all")
    return occupancy() if data == "auto" else of_csv(data, target, inputs or None, repair=clean)


def occupancy(light=False):
    """An office, a row a minute (Candanedo & Feldheim, Energy and Buildings 2016): is somebody in? Trained on the
    official train file but its last fifth, which validates; both official test files as they are. light: with the light
    sensor, which gives the answer away."""
    names = tuple(name for name in ROOM if light or name != "Light")
    train, test1, test2 = (_room(f"occupancy/{file}.txt", names) for file in ("datatraining", "datatest", "datatest2"))
    parts = cut(train, {"train": 0.8, "validation": 1.0}) | {"test1": test1, "test2": test2}
    return Labelled(f"occupancy{'' if light else ', no light'}", names, ("empty", "occupied"), parts, {})


def _room(file, names):
    frame = pd.read_csv(fetch_file(file), parse_dates=["date"])  # has a row number ahead of the columns named
    return stretches(frame["date"].to_numpy(), frame[list(names)].to_numpy(float), frame["Occupancy"].to_numpy())


def strikewatch(runner, *, alone=True, stride=10):
    """The wrist of a runner, three channels of acceleration: forefoot or heel strike? (Ling et al., StrikeWatch,
    arXiv 2510.24738.)

    alone: trained on the first 70 % of the runner's recordings, validated on the next 10 %, tested on the last 20 %,
    as published; else trained and validated on 90 and 10 % of all others. Every recording is cut to the shortest one.
    stride: rows from window to window."""
    recordings = {(r, label): _strikes(r, file) for r in RUNNERS for label, file in enumerate(STRIKES.values())}
    shortest = min(map(len, recordings.values()))
    parts = {}
    for (who, _), recording in recordings.items():
        shares = {"train": 0.7, "validation": 0.8, "test": 1.0} if alone else {"train": 0.9, "validation": 1.0}
        if alone and who != runner:
            continue
        shares = shares if alone or who != runner else {"test": 1.0}
        for split, part in cut((recording[:shortest],), shares).items():
            parts[split] = (*parts.get(split, ()), *part)
    protocol = "" if alone else ", left out"
    parts = {split: parts[split] for split in ("train", "validation", "test")}
    return Labelled(
        f"strikewatch, runner {runner}{protocol}", ("x", "y", "z"), tuple(STRIKES), parts, dict.fromkeys(parts, stride)
    )


def _strikes(runner, file):
    frame = pd.read_csv(fetch_file(f"strikewatch/person{runner}_{file}.csv"), usecols=["x", "y", "z"])
    label = list(STRIKES.values()).index(file)
    return Stretch(frame[["x", "y", "z"]].to_numpy(float), np.full(len(frame), label))
