"""Notebook 12's frames and figures."""

import pytest

from qatlib.runs import families
from qatlib.studies import other_sensors, published


@pytest.fixture(scope="module")
def studies(small, in_process):
    return other_sensors.everywhere(small)


def test_a_quick_experiment_studies_its_own_data_alone(studies, small):
    assert list(studies) == [small.dataset.name]


def test_every_run_is_a_row_with_the_columns_promised(studies):
    rows, (one,) = other_sensors.runs(studies.values()), studies.values()
    assert list(rows) == other_sensors.COLUMNS
    tables = (one.linear, one.rivals, one.encoders, one.integers)  # one.tried: the same as one.rivals here
    assert len(rows) == sum(map(len, tables)) and set(rows["source"]) == {"measured"}


def test_published_rows_stand_beside_runs_of_the_same_data_and_horizon():
    rows = published.LONG_HORIZONS
    assert len(rows) == 32 and rows["source"].str.contains("arXiv").all()
    assert set(rows["horizon"]) == {96, 192, 336, 720} and rows["mse"].between(0.05, 0.3).all()


def test_what_was_found(studies):
    found, (one,) = other_sensors.found(studies.values()), studies.values()
    chosen, smallest = found.iloc[0], found.iloc[1]
    assert list(found["what"]) == ["chosen at 4 bits", "smallest", "float"] and chosen["width"] == "W4A4"
    assert (chosen["model"], smallest["size_bytes"]) == (one.chosen().model.name, one.smallest().size_bytes)
    assert chosen["change"] == pytest.approx(100 * (chosen["mse"] / chosen["linear_mse"] - 1))
    assert (found["equal_outputs"].iloc[:2] == 1).all() and found["width"].iloc[2] == "float"


def test_sizes_have_a_front(studies):
    frame = other_sensors.sizes(studies.values())
    assert len(frame) == 2 * len({name for s in studies.values() for name in s.integers["model"]})
    ax = other_sensors.plot_sizes(frame)
    assert ax.get_ylabel() == "test MSE (standardised)"


def test_horizons_that_the_data_do_not_hold_are_left_out(small, in_process, capsys, monkeypatch):
    monkeypatch.setattr(other_sensors, "HORIZONS", {"jfk-weather": (12, 5000)})
    found = other_sensors.over_horizons(small)
    assert list(found) == [(small.dataset.name, 12)]  # a quick experiment takes the first one alone
    monkeypatch.setattr(other_sensors, "HORIZONS", {"jfk-weather": (5000,)})
    assert other_sensors.over_horizons(small) == {}
    assert "left out" in capsys.readouterr().out


def test_errors_over_horizons(small, in_process):
    longer = families.Families(small.reaching(12), whole=False)
    frame = other_sensors.horizons([longer])
    assert list(frame["series"]) == ["best linear map, float", "chosen by validation, W4A4"]
    assert len(other_sensors.plot_horizons(frame).lines) == 2
