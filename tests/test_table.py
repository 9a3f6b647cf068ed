"""What a user's CSV may look like, and what is said when it does not."""

import numpy as np
import pytest

from qatlib import table

HOURS = np.datetime64("2020-01-01T00", "s") + np.arange(48) * np.timedelta64(3600, "s")
LINES = ["date,value", *(f"{time},{value}".replace("T", " ") for time, value in zip(HOURS, range(48)))]
FAULTY = 13  # index of the line that the tests spoil: 12:00, line 14 of the file


def write(tmp_path, text):
    path = tmp_path / "sensor.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def spoiled(*replacements):
    """The good file with the line of 12:00 replaced."""
    return "\n".join([*LINES[:FAULTY], *replacements, *LINES[FAULTY + 1 :]])


def check(tmp_path, text, target=None):
    path = write(tmp_path, text)
    return table.check(table.read(path, target), path)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\r\n".join(LINES) + "\r\n",
        "\ufeff" + "\n".join(LINES),
        "\n\n".join(LINES),
        "\n".join(LINES).replace(" ", "T"),
        "\n".join(LINES).replace("date", "when"),
        "\n".join(f"x{i},{line}" for i, line in enumerate(LINES)),
    ],
    ids=["plain", "crlf", "bom", "blank lines", "T", "time column by content", "text column"],
)
def test_good_files(tmp_path, text):
    times, values, step = check(tmp_path, text)
    assert step == np.timedelta64(1, "h")
    assert times.dtype == "datetime64[s]" and (times == HOURS).all() and (values == np.arange(48)).all()


def test_numbers_are_read_exactly(tmp_path):
    text = spoiled("2020-01-01 12:00:00,30.5310001373291")
    assert check(tmp_path, text)[1][12] == 30.5310001373291


def test_fractions_of_a_second_are_kept(tmp_path):
    rows = [f"2020-01-01 00:00:{i // 2:02d}.{5 * (i % 2)},{i}" for i in range(40)]
    times, _, step = check(tmp_path, "\n".join(["date,value", *rows]))
    assert step == np.timedelta64(500, "ms") and len(np.unique(times)) == 40


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2020-01-01 12:00:00,n/a", "no finite number in column 'value'"),
        ("2020-01-01 12:00:00,", "no finite number in column 'value'"),
        ("2020-01-01 12:00:00,nan", "no finite number in column 'value'"),
        ("2020-01-01 12:00:00,-inf", "no finite number in column 'value'"),
        ("2020-01-01 12:00:00,1_0", "no finite number in column 'value'"),
        ("2020-01-01 25:00:00,1", "no time such as .* in column 'date'"),
        (",1", "no time such as .* in column 'date'"),
        ("2020-01-01 12:00:00", "another number of cells"),
        ("2020-01-01 12:00:00,3,5", "another number of cells"),
        ("2020-01-01 09:30:00,1", "earlier than the row before it"),
        ("2020-01-01 11:00:00,1", "same time as the row before it"),
    ],
)
def test_faults_name_the_line_and_the_way_out(tmp_path, line, says):
    with pytest.raises(ValueError, match=rf"sensor\.csv, line 14.*{says}.*CLEAN=1"):
        check(tmp_path, spoiled(line))


def test_fault_shows_time_and_cell(tmp_path):
    with pytest.raises(ValueError, match=r"line 14, date='2020-01-01 12:00:00', value='n/a'.*rows like this: 2"):
        check(tmp_path, spoiled("2020-01-01 12:00:00,n/a", "2020-01-01 12:30:00,n/a"))


def test_lines_count_as_in_an_editor(tmp_path):
    text = 'date,note,value\n\n2020-01-01 00:00:00,"two\nlines",1\n2020-01-01 01:00:00,,bad\n'
    assert list(table.read(write(tmp_path, text)).index) == [3, 5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("date,value\n", "no data below it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "line 1: this is no UTF-8"),
        (spoiled("2020-01-01 12:00:00,3 °C").encode("latin-1"), "line 14: this is no UTF-8"),
        ("\n".join(LINES).encode("utf-16"), "line 1: this is no UTF-8"),
        ("<html>\n<body>moved</body>\n</html>", "one column only.*separated by commas"),
        ("\n".join(LINES).replace(",", ";"), "one column only.*separated by commas"),
        (spoiled("2020-01-01 12:00:00,\0"), "line 14: this is no UTF-8"),
        ("date,value\n" + '"' + "x" * 200_000, "no CSV"),
        ("\n".join(LINES[1:]), "first line holds data.*add a header"),
        ("\n".join(LINES).replace("date", "when").replace("2020-01-", "day "), "no column of times.*'when', 'value'"),
        ("\n".join(LINES).replace("2020-01-", "day "), "column 'date' holds no time.*'day 01 00:00:00'"),
        ("\n".join(LINES).replace(":00,", ":00+01:00,"), "time zone.*'2020-01-01 00:00:00[+]01:00'"),
        ("\n".join(LINES).replace(":00,", ":00Z,"), "time zone"),
        ("\n".join(f"{line},{i}" if i else f"{line},other" for i, line in enumerate(LINES)), "TARGET=column.*'value', 'other'"),
        ("\n".join(f"{line},{i}" if i else f"{line},date" for i, line in enumerate(LINES)), "2 columns are named 'date'"),
        (
            "\n".join(line if not i else line.split(",")[0] + ',"3,5"' for i, line in enumerate(LINES)),
            "'value' holds no finite number.*'3,5'",
        ),
        ("\n".join(LINES[:5]), "4 rows are too few"),
    ],
)
def test_files_that_are_refused(tmp_path, text, says):
    with pytest.raises(ValueError, match=rf"(?s)sensor\.csv.*{says}"):
        check(tmp_path, text)


@pytest.mark.parametrize("target", ["humidity", "date"])
def test_no_such_target(tmp_path, target):
    with pytest.raises(ValueError, match=f"no column '{target}' to forecast; its columns are 'date', 'value'"):
        check(tmp_path, "\n".join(LINES), target)


def test_only_time_and_target_are_judged(tmp_path):
    lines = [f"{line},{'pressure' if not i else 'broken' if i == 5 else '' if i == 6 else 1}" for i, line in enumerate(LINES)]
    assert len(check(tmp_path, "\n".join(lines), "value")[1]) == 48


def test_sampling_without_a_period_is_refused(tmp_path):
    minutes = np.cumsum(np.arange(40) % 7 + 1)
    rows = [f"2020-01-01 {m // 60:02d}:{m % 60:02d}:00,{m}" for m in minutes]
    with pytest.raises(ValueError, match=r"column 'date' has no sampling period.*resample"):
        check(tmp_path, "\n".join(["date,value", *rows]))


def test_clean_repairs_and_reports(tmp_path):
    good, late = LINES[FAULTY], "2020-01-01 09:00:00,77"
    text = spoiled("2020-01-01 12:00:00,n/a", "yesterday,1", "2020-01-01 12:00:00,1,2", late, LINES[FAULTY + 2], good)
    frame, report = table.clean(table.read(write(tmp_path, text)))
    assert report == (
        "dropped 1 row (line 16): another number of cells than the header has",
        "dropped 1 row (line 15): no time such as 2016-07-01 14:00:00 in column 'date'",
        "dropped 1 row (line 14): no finite number in column 'value'",
        "sorted 3 rows (line 17, 19, 20): earlier than a row before",
        "dropped 2 rows (line 17, 21): same time as a row before",
    )
    times, values, _ = table.check(frame)
    assert (times == HOURS).all() and (values == np.arange(48)).all()  # of the two rows at 09:00 the first is kept


def test_clean_keeps_the_first_of_equal_times(tmp_path):
    again = [line.split(",")[0] + ",-1" for line in LINES[1:]]
    frame, report = table.clean(table.read(write(tmp_path, "\n".join([*LINES, *again]))))
    assert frame["value"].astype(float).tolist() == list(range(48))
    assert report[1] == "dropped 48 rows (line 50, 51, 52, 53, 54, ..): same time as a row before"


def test_clean_leaves_a_good_file_alone(tmp_path):
    frame = table.read(write(tmp_path, "\n".join(LINES)))
    repaired, report = table.clean(frame)
    assert report == () and repaired.equals(frame)


@pytest.mark.parametrize("placeholder", ["-999", "-9999.0", "9999.99", "1e9", "-2000"])
def test_a_placeholder_is_a_fault(tmp_path, placeholder):
    text = spoiled(f"2020-01-01 12:00:00,{placeholder}")
    if placeholder == "-2000":  # far, but not beyond doubt
        assert check(tmp_path, text)[1][12] == -2000
        return
    with pytest.raises(ValueError, match=r"line 14, .*placeholder or a mistake in column 'value'.*CLEAN=1"):
        check(tmp_path, text)
    frame, report = table.clean(table.read(write(tmp_path, text)))
    assert len(frame) == 47 and report[0].startswith("dropped 1 row (line 14): so far from all others")


def test_rare_large_values_are_none(tmp_path):
    """Rain: mostly nothing, seldom much; and 99 among values up to a hundred."""
    rain = np.where(np.arange(48) % 8 == 0, np.arange(48.0), 0.0)
    rain[20] = 400
    lines = ["date,value", *(f"{time},{value}" for time, value in zip(HOURS, rain, strict=True))]
    assert check(tmp_path, "\n".join(lines))[1].max() == 400
    assert check(tmp_path, spoiled("2020-01-01 12:00:00,99"))[1][12] == 99


def test_clean_with_nothing_left(tmp_path):
    frame = table.read(write(tmp_path, "date,value\n2020-01-01\n2020-01-02\n"))
    with pytest.raises(ValueError, match="no row can be used: dropped 2 rows"):
        table.clean(frame)
