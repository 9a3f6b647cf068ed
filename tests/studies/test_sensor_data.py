"""The series, its splits, and what its past says."""

import pytest

from qatlib.studies import sensor_data


def test_series_marks_splits_and_gaps(small):
    frame = sensor_data.series(small.dataset)
    assert (
        frame["split"].value_counts()[["train", "validation", "test"]].tolist() == [540, 180, 180]
        and not frame["gap"].any()
    )


def test_autocorrelation_of_a_daily_wave(small):
    frame = sensor_data.autocorrelation(small.dataset, days=2)
    value = frame[frame["series"] == "value"].set_index("lag")["autocorrelation"]
    assert value[0.0] == pytest.approx(1) and value[1.0] > value[0.5]
