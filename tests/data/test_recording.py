"""Several channels of one file."""

from pathlib import Path

import numpy as np
import pytest

from qatlib.data import sets
from qatlib.data.recording import Recording


@pytest.fixture(scope="module")
def recording(sensor_csv):
    return sets.load(str(sensor_csv), target="value, other")


def test_its_channels_are_the_columns_each_with_its_own_resolution(recording, sensor_csv):
    alone = [sets.load(str(sensor_csv), target=name) for name in ("value", "other")]
    assert isinstance(recording, Recording) and recording.names == ("value", "other")
    for name in ("resolution", "mean", "std"):
        assert getattr(recording, name).tolist() == [getattr(member, name) for member in alone]
    assert len({recording.fingerprint, *(member.fingerprint for member in alone)}) == 3
    assert (recording.name, recording.target, recording.step) == ("sensor", "value, other", np.timedelta64(1, "h"))


def test_windows_have_one_more_axis(recording):
    windows = recording.windows("test", 20, 6)
    for i, member in enumerate(recording.members):
        alone = member.windows("test", 20, 6)
        assert np.array_equal(windows.counts[:, :, i], alone.counts)
        assert np.array_equal(windows.truth[:, :, i], alone.truth)
        assert np.array_equal(windows.rows, alone.rows)


def test_a_name_with_a_comma_is_a_column_where_there_is_one(tmp_path):
    path = tmp_path / "odd.csv"
    rows = [f"2021-01-01 {h:02}:{m:02},{h + m},{h - m}" for h in range(24) for m in (0, 30)]
    path.write_text("\n".join(['date,"a,b",b', *rows]))
    assert sets.load(str(path), target="a,b").target == "a,b"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("value,nothing", "no column 'nothing' to forecast"),
        ("value,date", "no column 'date' to forecast.*is the time"),
        ("value,value", "column 'value' is named twice"),
        ("value,", "no column '' to forecast"),
    ],
)
def test_wrong_targets_are_named(sensor_csv, target, message):
    with pytest.raises(ValueError, match=message):
        sets.load(str(sensor_csv), target=target)


@pytest.fixture
def faulty(tmp_path):
    """40 rows; line 12 has no number in column a, line 21 none in column b."""
    rows = [[f"2021-01-01 {h:02}:{m:02}", f"{h + m}", f"{h - m / 7:.2f}"] for h in range(20) for m in (0, 30)]
    rows[10][1], rows[19][2] = "none", ""
    path = tmp_path / "faulty.csv"
    path.write_text("\n".join(["date,a,b", *(",".join(row) for row in rows)]))
    return str(path)


def test_a_fault_is_named_by_line_and_column(faulty):
    with pytest.raises(ValueError, match=r"line 12, .*no finite number in column 'a'"):
        sets.load(faulty, target="a,b")
    with pytest.raises(ValueError, match=r"line 21, .*no finite number in column 'b'"):
        sets.load(faulty, target="b,a")


def test_repaired_rows_are_gone_from_every_channel(faulty, capsys):
    recording = sets.load(faulty, target="a,b", clean=True)
    assert [len(member.values) for member in recording.members] == [38, 38]
    said = capsys.readouterr().out
    assert "line 12): no finite number in column 'a'" in said and "line 21): no finite number in column 'b'" in said


def test_what_is_known_to_be_missing_is_a_gap_and_said(capsys):
    weather = sets.load("jfk-weather", target="temperature_c,dew_point_c,humidity_pct,wind_speed_kmh")
    assert "3 rows have no value in column 'wind_speed_kmh': they are gaps" in capsys.readouterr().out
    assert len(weather.members[0].values) == 8706 - 3 == 8703


def test_every_column_of_numbers_is_forecast_where_none_is_named(sensor_csv, capsys):
    for target in (None, "all"):
        assert sets.load(str(sensor_csv), target=target).names == ("value", "other")
        assert "all 2 columns of numbers are forecast: 'value', 'other'" in capsys.readouterr().out


def test_only_what_all_channels_have_in_common_is_the_recordings(recording):
    assert not hasattr(recording, "values") and not hasattr(recording, "offset")


@pytest.fixture
def wide(tmp_path):
    """-> write(columns, header): a CSV of 200 hours."""

    def write(header, *columns):
        times = np.datetime64("2021-01-01", "s") + np.arange(200) * np.timedelta64(3600, "s")
        rows = [",".join(map(str, row)) for row in zip(times, *columns, strict=True)]
        path = tmp_path / "wide.csv"
        path.write_text("\n".join([f"date,{header}", *rows]))
        return str(path)

    return write


def test_what_all_leaves_out_is_said(wide, capsys):
    walk = np.random.default_rng(0).normal(size=200).cumsum().round(3)
    late = ["" if i < 105 else i for i in range(200)]
    held = [-999 if i % 3 == 0 else v for i, v in enumerate(walk)]
    path = wide("a,late,held,flag,b", walk, late, held, [1] * 150 + [0] * 50, 2 * walk)
    for clean in (False, True):
        assert sets.load(path, clean=clean).names == ("a", "b")
        said = capsys.readouterr().out
        assert "without a number in their first 100 rows, and left out: 'late'" in said
        assert "column 'held' is left out: it lacks 67 of 200 values" in said
        assert "column 'flag' is left out: it is constant" in said


def test_more_columns_than_a_model_takes_are_refused_before_anything_is_trained(wide):
    path = wide(",".join(f"c{i}" for i in range(65)), *[range(200)] * 65)
    with pytest.raises(ValueError, match="65 columns of numbers, and at most 64 go together; name them in TARGET"):
        sets.load(path)
    assert len(sets.load(path, target="c3,c64", inputs="c5").members) == 3


def test_of_two_rows_with_one_time_the_whole_one_is_kept(wide):
    values = np.arange(200)
    lines = Path(wide("a,b", values, 3 * values)).read_text().splitlines()
    whole = lines[100]
    lines.insert(100, f"{whole.split(',')[0]},5,")
    path = wide("a,b", values, values)
    Path(path).write_text("\n".join(lines))
    recording = sets.load(path, target="a,b", clean=True)
    assert [list(member.values) for member in recording.members] == [list(values), list(3 * values)]


def test_inputs_are_read_and_not_forecast(sensor_csv):
    recording = sets.load(str(sensor_csv), target="other", inputs="value")
    assert (recording.names, recording.forecast) == (("other", "value"), 1)
    assert recording.forecast_alone.fingerprint == sets.load(str(sensor_csv), target="other").fingerprint
    assert recording.target == "other (from value too)"
    with pytest.raises(ValueError, match="'value' is named twice among TARGET and INPUTS"):
        sets.load(str(sensor_csv), target="value", inputs="value")
    with pytest.raises(ValueError, match="no column 'nothing'"):
        sets.load(str(sensor_csv), target="value", inputs="nothing")


def test_a_column_that_costs_windows_is_left_out_and_said_unless_it_is_named(capsys):
    names = ("dew_point_c", "humidity_pct", "wind_speed_kmh", "temperature_c")
    assert sets.load("jfk-weather", target="all").names == names
    assert "column 'pressure_hpa' is left out: it lacks 831 of 8706 values" in capsys.readouterr().out
    weather = sets.load("jfk-weather", target="temperature_c,pressure_hpa")
    with pytest.raises(ValueError, match=r"too few rows: no train window of context 336.*gaps cut all"):
        weather.windows("train", 336, 24)


def test_inputs_are_named_one_by_one(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("date,a,b\n" + "\n".join(f"2021-01-{day:02},{day % 7},{day % 5}" for day in range(1, 29)))
    with pytest.raises(ValueError, match="no column 'all'"):
        sets.load(str(path), target="a", inputs="all")
