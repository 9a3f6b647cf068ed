"""Measurements as frames: what a notebook shows of them, and says where they are of an earlier state."""

import pandas as pd

from qatlib.system.measurements import MEASUREMENTS, note


def table(name):
    """The frame of a measurement of `MEASUREMENTS`. Prints where it is of an earlier state."""
    if said := note(name):
        print(f"{said}; to measure anew: {MEASUREMENTS[name].command}")
    return pd.read_csv(MEASUREMENTS[name].path, float_precision="round_trip")
