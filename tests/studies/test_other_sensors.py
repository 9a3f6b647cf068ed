"""Notebook 12's frames and figures."""

import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

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
    tables = (one.linear, one.rivals, one.encoders, one.integers)  # one.tried: of the same runs here
    assert len(rows) == sum(map(len, tables)) and set(rows["source"]) == {"measured"}


def test_published_rows_stand_beside_runs_of_the_same_data_and_horizon():
    rows = published.LONG_HORIZONS
    assert len(rows) == 32 + 44 and rows["source"].str.contains("arXiv").all()
    assert set(rows["horizon"]) == {96, 192, 336, 720} and rows["mse"].between(0.05, 0.6).all()


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


def test_channels_together(small, in_process, monkeypatch):
    monkeypatch.setattr(other_sensors, "HORIZONS", {"jfk-weather": (6,)})
    found = other_sensors.of_channels(replace(small, target="value,other"))
    assert [(key[1:], families.shape["channels"]) for key, families in found.items()] == [
        ((6, "independent"), 2),
        ((6, "mixed"), 2),
    ]
    frame = other_sensors.horizons(found.values())
    assert list(frame["series"]) == [
        f"{s}{m}" for m in ("", ", mixed") for s in (other_sensors.LINEAR, other_sensors.CHOSEN)
    ]
    assert set(other_sensors.found(found.values())["mode"]) == {"independent", "mixed"}
    placed = other_sensors.placed(found.values())
    assert (placed["xc7s15"] > 0).all() and list(placed["horizon"]) == [6, 6]


def test_a_channel_that_is_only_read_is_not_forecast(small, in_process, monkeypatch):
    monkeypatch.setattr(other_sensors, "HORIZONS", {"jfk-weather": (6,)})
    found = other_sensors.of_channels(replace(small, target="other", inputs="value"))
    assert [(f.shape["channels"], f.shape.get("targets")) for f in found.values()] == [(1, None), (2, (0,))]
    for one in found.values():  # of the same channels, as trained and in counts
        assert one.integers["mse_integer"].tolist() == pytest.approx(one.integers["mse"].tolist(), rel=0.02)
    assert other_sensors.of_channels(small) == {}


def test_the_full_profile_studies_the_own_data_and_the_known_sets(small, monkeypatch, capsys):
    studied = []
    monkeypatch.setattr(other_sensors, "Families", lambda experiment, **_: studied.append(experiment.dataset.name))
    monkeypatch.setattr(other_sensors, "SETS", ("etth1", "jfk-weather"))
    monkeypatch.delenv("QATLIB_DATA_DIR", raising=False)
    monkeypatch.setattr(other_sensors.sources.pooch, "os_cache", lambda _: Path("/nowhere"))
    monkeypatch.setattr(other_sensors.sources.pooch, "retrieve", Mock(side_effect=OSError("no network")))
    monkeypatch.setattr(other_sensors, "HORIZONS", {"jfk-weather": (6,)})
    full = replace(small, profile="full")
    assert list(other_sensors.everywhere(full)) == [small.dataset.name, "jfk-weather"]
    assert list(other_sensors.over_horizons(full)) == [(small.dataset.name, 6), ("jfk-weather", 6)]
    assert studied == 2 * [small.dataset.name, "jfk-weather"]
    assert len(re.findall("left out, .*etth1", capsys.readouterr().out)) == 2
