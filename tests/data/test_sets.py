"""Fetching, splits, windows and counts."""

import os
import time

import numpy as np
import pooch
import pytest

from qatlib.data import csv_file, series, sets, sources

HOUR = np.timedelta64(3600, "s")


@pytest.fixture
def no_network(monkeypatch):
    """Neither a folder, nor a cache, nor a network."""

    def refuse(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.delenv(sources.FOLDER, raising=False)
    monkeypatch.setattr(pooch, "retrieve", refuse)


def write_csv(path, *, rows=1000, missing=(), values=None):
    values = np.sin(np.arange(rows) / 5) if values is None else values
    times = np.datetime64("2020-01-01", "s") + np.arange(rows) * HOUR
    lines = [f"{time},{value}" for i, (time, value) in enumerate(zip(times, values)) if i not in missing]
    path.write_text("\n".join(["date,value", *lines]))
    return path


@pytest.fixture
def regular(tmp_path):
    return sets.load(write_csv(tmp_path / "regular.csv"))


@pytest.fixture
def gapped(tmp_path):
    """Rows 300 and 301 and row 700 of the hours are missing."""
    return sets.load(write_csv(tmp_path / "gapped.csv", missing=(300, 301, 700)))


# -- where a file comes from


def test_embedded_weather(no_network):
    weather = sets.load("jfk-weather")
    assert (weather.name, weather.target, weather.note) == ("jfk-weather", "temperature_c", "")
    assert weather.bounds == (5223, 6964, 8706) and len(weather.gaps) == 14 and weather.step == HOUR


def test_auto_falls_back_aloud(no_network, capsys):
    weather = sets.load("auto")
    assert weather.name == "jfk-weather" and weather.note == "embedded weather data: ETTh1 could not be had"
    assert "ETTh1 could not be had" in capsys.readouterr().out


def test_by_name_says_what_to_do(no_network):
    with pytest.raises(sources.Unavailable, match=r"(?s)no network.*QATLIB_DATA_DIR.*ETTh2\.csv.*DATA=jfk-weather"):
        sets.load("etth2")


@pytest.mark.parametrize("name", ["auto", "etth1", "jfk-weather"])
def test_wrong_file_in_the_folder_is_named(no_network, monkeypatch, tmp_path, name):
    for file in ("ETTh1.csv", "jfk_weather_2013.csv"):
        write_csv(tmp_path / file)
    monkeypatch.setenv(sources.FOLDER, str(tmp_path))
    with pytest.raises(ValueError, match=rf"{tmp_path}.*\.csv is not the .* expected .sha256"):
        sets.load(name)


def test_embedded_file_is_checked(no_network, monkeypatch, tmp_path):
    write_csv(tmp_path / "jfk_weather_2013.csv")
    sources.registry()
    monkeypatch.setattr(sources, "EMBEDDED", tmp_path)
    with pytest.raises(ValueError, match=r"jfk_weather_2013\.csv is not the"):
        sets.load("jfk-weather")


def test_folder_is_looked_at_first(monkeypatch, tmp_path):
    write_csv(tmp_path / "ETTh1.csv")
    digest = pooch.file_hash(tmp_path / "ETTh1.csv")
    monkeypatch.setitem(sources.SOURCES, "etth1", sources.Source("ETTh1.csv", "value", False))
    monkeypatch.setitem(sources.registry(), "ETTh1.csv", digest)
    monkeypatch.setattr(pooch, "retrieve", None)  # calling it would fail
    monkeypatch.setenv(sources.FOLDER, str(tmp_path))
    dataset = sets.load("auto")
    assert (dataset.name, dataset.sha256, dataset.note) == ("etth1", digest, "")


def test_download_is_pinned_and_has_a_timeout(no_network, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(pooch, "retrieve", lambda *args, downloader: asked.append((args, downloader)) or str(tmp_path))
    sources.fetch("etth1")
    (url, known_hash, _, folder), downloader = asked[0]
    assert "/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv" in url
    assert known_hash == f"sha256:{sources.registry()['ETTh1.csv']}" and folder == pooch.os_cache("qatlib")
    assert downloader.kwargs["timeout"] == sources.TIMEOUT


def test_folder_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv(sources.FOLDER, str(tmp_path / "typo"))
    with pytest.raises(ValueError, match=r"QATLIB_DATA_DIR=.*typo is no folder"):
        sets.load("auto")


def test_unknown_name():
    with pytest.raises(FileNotFoundError, match=r"no file .*etth3; give auto, etth1, etth2, jfk-weather, or the path"):
        sets.load("etth3")


# -- a user's CSV


def test_csv(regular):
    assert (regular.name, regular.target, regular.bounds) == ("regular", "value", (600, 800, 1000))
    assert regular.mean == regular.values[:600].mean() and regular.std == regular.values[:600].std()
    assert regular.standardise(regular.values[:600]).std() == pytest.approx(1)


def test_clean_prints_its_report(tmp_path, capsys):
    values = [*np.sin(np.arange(99)), "n/a"]
    path = write_csv(tmp_path / "sensor.csv", rows=100, values=values)
    with pytest.raises(ValueError, match=r"line 101.*CLEAN=1"):
        sets.load(path)
    assert len(sets.load(path, clean=True).values) == 99
    assert "sensor.csv: dropped 1 row (line 101)" in capsys.readouterr().out
    sets.load(write_csv(tmp_path / "good.csv"), clean=True)
    assert "good.csv: nothing to repair" in capsys.readouterr().out


def test_constant_column(tmp_path):
    path = write_csv(tmp_path / "stuck.csv", rows=100, values=[3.5] * 60 + list(range(40)))
    with pytest.raises(
        ValueError, match=r"'value' is constant \(3.5\) in its 60 train rows, 2020-01-01T00:00:00 to .*another"
    ):
        sets.load(path)


def test_values_beyond_sixteen_bits(tmp_path):
    path = write_csv(tmp_path / "large.csv", rows=100, values=1.4e9 + np.arange(100) % 2)
    with pytest.raises(ValueError, match="16 bits cannot tell the values of column 'value' apart"):
        sets.load(path)


@pytest.mark.parametrize("values", [[1e-320, 2e-320], [1.7e308, -1.7e308], [1e-31, 0], [0, 2e30], [5e-324, 0]])
def test_values_that_no_sensor_has(tmp_path, values):
    path = write_csv(tmp_path / "extreme.csv", rows=100, values=values * 50)
    with pytest.raises(
        ValueError,
        match=r"extreme.csv: column 'value' reaches .* at 2020-01-01T0.*, beyond 1e-30 to 1e\+30; correct it",
    ):
        sets.load(path)


@pytest.mark.parametrize("values", [[1e-30, 0], [1e30, -1e30], [1e-320, 1.0]])
def test_values_at_the_ends_of_what_sensors_have(tmp_path, values):
    loaded = sets.load(write_csv(tmp_path / "far.csv", rows=100, values=values * 50))
    assert loaded.values.tolist() == values * 50 and np.isfinite([loaded.resolution, loaded.std, loaded.offset]).all()


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name/x.csv", "x" * 300 + ".csv", "a/" * 3000 + "x.csv", "\udcff.csv"]
)
def test_names_that_no_file_can_have(name):
    with pytest.raises(FileNotFoundError, match="no data set and no file") as error:
        sets.load(name)
    assert str(error.value).isprintable()


def test_regular_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    began = time.monotonic()
    for name in (tmp_path / "pipe.csv", tmp_path, "/dev/zero"):
        for read in (sets.load, csv_file.read):
            with pytest.raises(FileNotFoundError, match="no regular file"):
                read(str(name))
    assert time.monotonic() - began < 5


def test_names_are_kept_printable(tmp_path):
    path = write_csv(tmp_path / "se\x1b[2Jn\u202e.csv")
    loaded = sets.load(path)
    assert loaded.name == r"se\x1b[2Jn\u202e"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="one column") as error:
        sets.load(path)
    assert str(error.value).isprintable()


# -- windows


@pytest.mark.parametrize(("split", "first", "last"), [("train", 96, 576), ("validation", 600, 776), ("test", 800, 976)])
def test_windows_of_each_split(regular, split, first, last):
    windows = regular.windows(split, 96, 24)
    assert windows.rows.tolist() == list(range(first, last + 1)) and windows.lost == 0
    assert windows.counts.shape == (last - first + 1, 96) and windows.counts.dtype == np.int16
    assert windows.truth.shape == (last - first + 1, 24) and windows.truth.dtype == np.float64


def test_windows_hold_what_they_should(regular):
    windows = regular.windows("test", 10, 3)
    counts = series.to_counts(regular.values, regular.resolution)
    assert (windows.counts[5] == counts[795:805]).all()
    assert (windows.truth[5] == regular.standardise(regular.values)[805:808]).all()  # not rounded to counts


def test_no_window_crosses_a_gap(gapped):
    assert gapped.gaps.tolist() == [300, 698]
    for split in series.SPLITS:
        windows = gapped.windows(split, 30, 10)
        first, last = gapped.times[windows.rows - 30], gapped.times[windows.rows + 9]
        assert (last - first == 39 * HOUR).all()


def test_lost_windows_are_counted(gapped):
    assert gapped.bounds == (598, 797, 997)
    lost = {split: gapped.windows(split, 30, 10).lost for split in series.SPLITS}
    assert lost == {"train": 39, "validation": 39, "test": 0}  # a gap cuts 30 + 10 - 1 windows
    assert len(gapped.windows("train", 30, 10).rows) == 598 - 39 - 39


def test_gap_in_the_context_of_the_first_test_window(tmp_path):
    dataset = sets.load(write_csv(tmp_path / "edge.csv", rows=1001, missing=(795,)))
    windows = dataset.windows("test", 10, 5)
    assert windows.rows[0] == 805 and windows.lost == 5


def test_windows_lost_in_the_weather_data(no_network):
    weather = sets.load("jfk-weather")
    sizes = {split: weather.windows(split, 336, 24) for split in series.SPLITS}
    assert {split: (len(w.rows), w.lost) for split, w in sizes.items()} == {
        "train": (3847, 1017),
        "validation": (1127, 591),
        "test": (1142, 577),
    }


def test_too_few_rows_for_windows(tmp_path, regular):
    with pytest.raises(
        ValueError, match=r"regular: too few rows: no train window of context 590 and horizon 24.*CONTEXT or HORIZON"
    ):
        regular.windows("train", 590, 24)
    with pytest.raises(ValueError, match=r"no validation window of context 24 and horizon 201 .*200 rows"):
        regular.windows("validation", 24, 201)
    broken = sets.load(write_csv(tmp_path / "broken.csv", missing=range(0, 1000, 10)))
    with pytest.raises(ValueError, match="gaps cut all"):
        broken.windows("test", 8, 8)


def test_unknown_split_and_empty_window(regular):
    with pytest.raises(ValueError, match="unknown split 'val'; choose one of train, validation, test"):
        regular.windows("val", 96, 24)
    with pytest.raises(ValueError, match="at least 1"):
        regular.windows("test", 0, 24)


@pytest.mark.parametrize("context", [24, 96, 336])
def test_published_protocol(etth1, context):
    assert etth1.bounds == (8640, 11520, 14400) and len(etth1.values) == 17420
    windows = etth1.windows("test", context, 24)
    assert len(windows.rows) == 2857 and windows.rows[0] == 11520 and windows.lost == 0
    assert etth1.windows("train", context, 24).rows[0] == context
    assert etth1.resolution == 0.002 and etth1.offset == 8564


# -- counts


def test_counts_round_half_up():
    values = np.array([-1.5, -0.5, -0.25, 0.5, 1.5, 2.5])
    assert series.to_counts(values, 1.0).tolist() == [-1, 0, 0, 1, 2, 3]
    assert series.to_counts(np.array([-0.125, 0.125]), 0.25).tolist() == [0, 1]


def test_counts_at_the_ends_of_sixteen_bits():
    assert series.to_counts(np.array([-32768.5, 32767.25]), 1.0).tolist() == [-32768, 32767]
    for value in (-32768.75, 32767.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"row 1: {value} does not fit"):
            series.to_counts(np.array([0.0, value]), 1.0)


@pytest.mark.parametrize(
    ("largest", "resolution"),
    [
        (46.0, 0.002),
        (-46.0, 0.002),
        (26.2136, 0.001),
        (26.2137, 0.002),
        (52.4272, 0.002),
        (52.428, 0.005),
        (1.0, 0.00005),
        (1e5, 5.0),
    ],
)
def test_resolution_is_the_finest_of_1_2_5_that_fits(largest, resolution):
    assert sets.choose_resolution(np.array([0.0, largest])) == resolution
