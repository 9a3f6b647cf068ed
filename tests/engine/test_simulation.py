"""The simulated hardware takes the counts that a model takes, and no others."""

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine import CONFIGS, DoesNotFit, EngineError, simulate, simulation
from qatlib.engine.random_models import Shape, random_model

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


def test_nothing_is_built_for_what_does_not_run(monkeypatch):
    monkeypatch.setattr(simulation, "Rtl", lambda config: pytest.fail("an engine was built"))
    large = random_model(0, Shape("patch", tokens=4, patch=300, horizon=6, d_model=5, factor=1))
    with pytest.raises(DoesNotFit):
        simulate(large, np.zeros((1, 1200), np.int16), CONFIG)
    with pytest.raises(TypeError):
        simulate(shipped.load("etth1", "point-w12-d32-h1-w4a4"), np.zeros((2, 12)), CONFIG)
