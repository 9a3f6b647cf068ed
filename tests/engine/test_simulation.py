"""The simulated hardware takes the counts that a model takes, and no others."""

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine import CONFIGS, EngineError, simulate

CONFIG = CONFIGS["xc7s15"]


@pytest.mark.parametrize(
    "counts, error, message",
    [
        (np.zeros((2, 12)), TypeError, "counts are float64, not int16"),
        (np.full((2, 12), 40_000), TypeError, "counts are int64, not int16"),
        (np.zeros((2, 13), np.int16), ValueError, r"counts have shape \(2, 13\); .* takes \(windows, 12\)"),
        (np.zeros(12, np.int16), ValueError, r"counts have shape \(12,\)"),
        (np.zeros((0, 12), np.int16), EngineError, "0 windows in one run"),
        (np.zeros((65_536, 12), np.int16), EngineError, "65536 windows in one run"),
    ],
)
def test_counts_that_are_none_of_the_model(counts, error, message):
    with pytest.raises(error, match=message):
        simulate(shipped.load("etth1", "point-w12-d32-h1-w4a4"), counts, CONFIG)
