"""Sensor units around anything that forecasts in counts; with a model in it, see `test_model`."""

import numpy as np
import pytest

from qatlib.integer_model import in_units
from tests.integer_model.by_hand import by_hand


def taking(samples):
    """A model of so many samples in half units."""
    return by_hand([[0] * samples] * samples, [0] * samples)


def reversed_counts(counts):
    assert counts.dtype == np.int16 and counts.ndim == 2
    return counts[:, ::-1]


def test_counts_go_in_and_units_come_out():
    values = [[0.26, -0.25, 1.0], [5.0, 0.5, -3.0]]
    np.testing.assert_array_equal(in_units(values, taking(3), reversed_counts), [[1.0, 0, 0.5], [-3.0, 0.5, 5.0]])
    np.testing.assert_array_equal(in_units(values[1], taking(3), reversed_counts), [-3.0, 0.5, 5.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 16383.75, -16384.26])
def test_what_is_no_count_never_reaches_the_forecaster(value):
    with pytest.raises(ValueError, match=r"NaN or infinite|outside the sensor's range of \+-16383.5"):
        in_units([0.0, value], taking(2), lambda counts: pytest.fail("it did"))
