"""The update flow: noise noticed, a retrained version that passes the gate, a wrong one that does not, and the way
back, on the engine."""

import numpy as np
import pytest

from qatlib.board import open_engine
from qatlib.device.versions import Versions
from qatlib.runs.experiment import Experiment
from qatlib.studies import real_data, update


@pytest.fixture(scope="module")
def course():
    return update.Course(Experiment("quick", "jfk-weather", context=336, horizon=24))


def test_noise_begins_where_it_should_and_is_noticed_later(course):
    limits, first = real_data.fitted_guard(course.experiment), course.rows["sensor becomes noisy"]
    sound = course.experiment.dataset
    np.testing.assert_array_equal(course.dataset.values[:first], sound.values[:first])
    assert np.std(course.dataset.values[first:] - sound.values[first:]) == pytest.approx(
        update.NOISE * sound.std, rel=0.05
    )
    assert course.noise() == pytest.approx(update.NOISE * sound.std, rel=0.1)
    assert first < course.noticed(limits) < course.rows["version 2"]


def test_life_of_a_device(course, tmp_path):
    candidates = course.candidates(real_data.fitted_guard(course.experiment))
    assert update.gate(candidates)["passes"].tolist() == [True, True, False]
    engine = open_engine()
    segments, weekly = update.life(course, candidates, Versions(tmp_path), engine)
    engine.close()
    assert segments["version"].tolist() == [1, 1, 2, 3, 2]
    assert segments["equal"].equals(segments["outputs"]) and segments["windows"].sum() == len(course.windows.rows)
    noisy = segments.set_index("event").loc[["version 2", "rolled back"]]
    assert (noisy["mse"] < noisy["mse_version_1"]).all() and (noisy["distrusted"] < 5).all()
    assert len(weekly) == 2 * len(course.windows.rows)


def test_a_gate_compares_with_what_passed_before():
    candidates = {
        name: update.Candidate(None, None, error)
        for name, error in (("1", 3.0), ("2", 2.0), ("3", 2.5), ("4", np.nan), ("5", 1.0))
    }
    assert update.gate(candidates)["passes"].tolist() == [True, True, False, False, True]


def test_a_short_series_has_a_course_too(sensor_csv):
    """Few test windows: every part of the course has some, even where none is left to judge by."""
    course = update.Course(Experiment("quick", str(sensor_csv), "value", context=48, horizon=24))
    starts = np.searchsorted(course.windows.rows, list(course.rows.values()))
    assert (np.diff([0, *starts, len(course.windows.rows)]) > 0).all()
    assert course.noise() > 0 and course._judged_from <= course.experiment.dataset.bounds[2]
