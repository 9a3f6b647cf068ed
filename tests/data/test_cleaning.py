"""Rows that are judged and repaired: placeholders, order, gaps."""

import numpy as np
import pandas as pd
import pytest

from qatlib.data import cleaning, csv_file, sets, sources
from tests.data.files import FAULTY, HOURS, LINES, check, spoiled, write


def test_sampling_without_a_period_is_refused(tmp_path):
    minutes = np.cumsum(np.arange(40) % 7 + 1)
    rows = [f"2020-01-01 {m // 60:02d}:{m % 60:02d}:00,{m}" for m in minutes]
    with pytest.raises(ValueError, match=r"column 'date' has no sampling period.*resample"):
        check(tmp_path, "\n".join(["date,value", *rows]))


def test_clean_repairs_and_reports(tmp_path):
    good, late = LINES[FAULTY], "2020-01-01 09:00:00,77"
    text = spoiled("2020-01-01 12:00:00,n/a", "yesterday,1", "2020-01-01 12:00:00,1,2", late, LINES[FAULTY + 2], good)
    frame, report = cleaning.clean(csv_file.read(write(tmp_path, text)))
    assert report == (
        "dropped 1 row (line 16): another number of cells than the header has",
        "dropped 1 row (line 15): no time such as 2016-07-01 14:00:00 in column 'date'",
        "dropped 1 row (line 14): no finite number in column 'value'",
        "sorted 3 rows (line 17, 19, 20): earlier than a row before",
        "dropped 2 rows (line 17, 21): same time as a row before",
    )
    times, (values,), _ = cleaning.check(frame)
    assert (times == HOURS).all() and (values == np.arange(48)).all()  # of the two rows at 09:00 the first is kept


def test_clean_keeps_the_first_of_equal_times(tmp_path):
    again = [line.split(",")[0] + ",-1" for line in LINES[1:]]
    frame, report = cleaning.clean(csv_file.read(write(tmp_path, "\n".join([*LINES, *again]))))
    assert frame["value"].astype(float).tolist() == list(range(48))
    assert report[1] == "dropped 48 rows (line 50, 51, 52, 53, 54, ..): same time as a row before"


def test_clean_leaves_a_good_file_alone(tmp_path):
    frame = csv_file.read(write(tmp_path, "\n".join(LINES)))
    repaired, report = cleaning.clean(frame)
    assert report == () and repaired.equals(frame)


@pytest.mark.parametrize("placeholder", ["-999", "-9999.0", "9999.99", "1e9", "-2000"])
def test_a_placeholder_is_a_fault(tmp_path, placeholder):
    text = spoiled(f"2020-01-01 12:00:00,{placeholder}")
    if placeholder == "-2000":  # far, but not beyond doubt
        assert check(tmp_path, text)[1][12] == -2000
        return
    with pytest.raises(ValueError, match=r"line 14, .*placeholder or a mistake in column 'value'.*CLEAN=1"):
        check(tmp_path, text)
    frame, report = cleaning.clean(csv_file.read(write(tmp_path, text)))
    assert len(frame) == 47 and report[0].startswith("dropped 1 row (line 14): so far from all others")


WAVE = 20 + 15 * np.sin(np.arange(1000) / 9) + np.random.default_rng(3).normal(size=1000).round(3)


def file_of(values):
    times = np.datetime64("2020-01-01", "s") + np.arange(len(values)) * np.timedelta64(3600, "s")
    return "\n".join(["date,value", *(f"{time},{float(value)!r}" for time, value in zip(times, values, strict=True))])


@pytest.mark.parametrize("share", [0.001, 0.02, 0.06, 0.2, 0.45])
@pytest.mark.parametrize(
    "placeholder", [-999, -9999, 9999, -99.9, -999.9000244140625, -32768, 65535, 1e20, -1e30, 9.96920996838687e36]
)
def test_placeholders_are_found_whatever_their_share(tmp_path, placeholder, share):
    values = WAVE.copy()
    spoilt = np.random.default_rng(4).permutation(1000)[: int(1000 * share)]
    values[spoilt] = placeholder
    path = write(tmp_path, file_of(values))
    with pytest.raises(
        ValueError, match=rf"line {spoilt.min() + 2}, .*placeholder.*\(rows like this: {len(spoilt)}\).*CLEAN=1"
    ):
        sets.load(str(path))
    assert (sets.load(str(path), clean=True).values == np.delete(values, spoilt)).all()


def test_a_damaged_placeholder_hides_no_others(tmp_path):
    values = WAVE.copy()
    values[::5], values[5] = -999.9, -998.9
    with pytest.raises(ValueError, match=r"line 2, .*placeholder.*rows like this: 199"):
        check(tmp_path, file_of(values))


def test_placeholders_of_a_pump(tmp_path):
    values = np.where(np.arange(1000) // 50 % 2, 4000.0, 0.0)
    values[::7], values[::11] = -32768, 1e20
    frame, _ = cleaning.clean(csv_file.read(write(tmp_path, file_of(values))))
    assert set(frame["value"]) == {"0.0", "4000.0"}


def test_several_placeholders_and_a_glitch_at_once(tmp_path):
    values = WAVE.copy()
    values[::4], values[1::5], values[7] = -999, 9999, 1e7
    frame, _ = cleaning.clean(csv_file.read(write(tmp_path, file_of(values))))
    assert np.abs(frame["value"].astype(float)).max() < 60 and len(frame) == np.sum(np.abs(values) < 60)


SOUND = {
    "a pump, on or off": np.where(np.arange(1000) // 50 % 2, 4000.0, 0.0),
    "a pump with noise": np.where(np.arange(1000) // 50 % 2, 4000.0, 0.0) + WAVE / 100,
    "a fan, on or off, in nines": np.where(np.arange(1000) // 50 % 2, 999.0, 0.0),
    "a counter": np.arange(99_500.0, 100_500.0),
    "percent, often full": np.minimum(WAVE * 4, 100),
    "percent, often 99": np.minimum(WAVE * 4, 99),
    "percent, 99 or near 0": np.where(np.arange(1000) // 50 % 2, 99.0, WAVE / 30),
    "hectopascals around 999": 999 + np.round(WAVE / 4),
    "really 99 degrees": np.where(np.arange(1000) % 100 == 0, 99.0, WAVE * 2.5),
    "really -9 degrees": np.where(np.arange(1000) % 100 == 0, -9.0, WAVE),
    "beyond 1e18": 10.0 ** (17 + WAVE / 10),
}


@pytest.mark.parametrize("values", SOUND.values(), ids=SOUND)
def test_sound_data_have_no_placeholders(tmp_path, values):
    frame = csv_file.read(write(tmp_path, file_of(values)))
    assert (cleaning.check(frame)[1][0] == values).all() and cleaning.clean(frame)[1] == ()


@pytest.mark.parametrize("name", ["etth1", "etth2", "jfk-weather"])
def test_no_channel_of_real_data_has_placeholders(monkeypatch, name):
    monkeypatch.setattr(sources, "TIMEOUT", 3)
    try:
        path = sources.fetch(name)
    except sources.Unavailable as reason:
        pytest.skip(str(reason))
    for channel, values in pd.read_csv(path).iloc[:, 1:].items():
        assert not cleaning._far(values.dropna().to_numpy(dtype=float)).any(), channel


def test_rare_large_values_are_none(tmp_path):
    """Rain: mostly nothing, seldom much; and 99 among values up to a hundred."""
    rain = np.where(np.arange(48) % 8 == 0, np.arange(48.0), 0.0)
    rain[20] = 400
    lines = ["date,value", *(f"{time},{value}" for time, value in zip(HOURS, rain, strict=True))]
    assert check(tmp_path, "\n".join(lines))[1].max() == 400
    assert check(tmp_path, spoiled("2020-01-01 12:00:00,99"))[1][12] == 99


def test_clean_with_nothing_left(tmp_path):
    frame = csv_file.read(write(tmp_path, "date,value\n2020-01-01\n2020-01-02\n"))
    with pytest.raises(ValueError, match="no row can be used: dropped 2 rows"):
        cleaning.clean(frame)
