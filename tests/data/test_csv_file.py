"""What a user's CSV may look like, and what is said when it does not."""

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qatlib.data import cleaning, csv_file, sets
from tests.attack import csvs
from tests.attack.csv_mutations import case, insert
from tests.data.files import FAULTY, HOURS, LINES, check, spoiled, write


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
        ("2020-01-01 12:00:00,１２", "no finite number in column 'value'"),
        ('2020-01-01 12:00:00,"12\n"', "no finite number in column 'value'"),
        ("2020-01-01 12:00:00.0000001,12", "no time such as .* in column 'date'"),
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
    assert list(csv_file.read(write(tmp_path, text)).index) == [3, 5]


def noted(*replacements):
    """The good file with two columns more, note and count, and the line of 12:00 replaced."""
    before, after = ([f"{line},,1" for line in part] for part in (LINES[1:FAULTY], LINES[FAULTY + 1 :]))
    return "\n".join(["date,value,note,count", *before, *replacements, *after])


OPEN = {
    "before a number": (spoiled('2020-01-01 12:00:00,"12'), 14),
    "before a time": (spoiled('"2020-01-01 12:00:00,12'), 14),
    "in the last line": ("\n".join([*LINES[:-1], '2020-01-02 23:00:00,"47']), 49),
    "in the header": ("\n".join(['date,"value', *LINES[1:]]), 1),
    "in a column that nobody asked for": (noted('2020-01-01 12:00:00,12,"pump off,3'), 14),
    "in the last column": (noted('2020-01-01 12:00:00,12,,"3'), 14),
    "closed by another many lines later": (
        "\n".join([*LINES[:13], '2020-01-01 12:00:00,"12', *LINES[14:30], '2020-01-02 05:00:00,29"']),
        14,
    ),
    "closed by the marks of the next line": (spoiled('2020-01-01 12:00:00,"12', '"2020-01-01 12:30:00","12"'), 14),
    "after a cell of two lines": (noted('2020-01-01 12:00:00,12,"two', 'lines","3'), 15),
    "swallows a row without a time": (noted('2020-01-01 12:00:00,12,"pump', 'yesterday,12,,3"'), 14),
    "text behind it": (spoiled('2020-01-01 12:00:00,"1"2'), 14),
}


@pytest.mark.parametrize("clean", [False, True], ids=["as it is", "CLEAN=1"])
@pytest.mark.parametrize(("text", "line"), OPEN.values(), ids=OPEN)
def test_an_open_quotation_mark_is_named_and_nothing_is_lost_in_it(tmp_path, text, line, clean):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=rf"sensor\.csv, line {line}: no CSV .*quotation mark left open"):
        sets.load(str(path), target="value", clean=clean)


def test_a_note_of_several_lines_is_no_fault(tmp_path):
    path = write(tmp_path, noted('2020-01-01 12:00:00,12,"pump off, then on\nand off, on 2020-01-03\n",3'))
    assert (sets.load(str(path), target="value", clean=True).values == np.arange(48)).all()


def test_a_file_of_one_column_is_refused_by_its_header(tmp_path):
    path = write(tmp_path, "value\n")
    os.truncate(path, 1 << 30)  # the rest would be a line of a gigabyte, and no text
    with pytest.raises(ValueError, match="line 1: one column only"):
        csv_file.read(path)


def test_a_line_without_an_end(tmp_path):
    with pytest.raises(ValueError, match="line 3: this is a line of more than 1048576 characters"):
        check(tmp_path, "\n".join(LINES[:2]) + "\n" + "1" * (1 << 21))


def test_memory_is_a_small_multiple_of_the_file(tmp_path):
    times = np.datetime64("2020-01-01", "s") + np.arange(8_000)
    path = write(
        tmp_path,
        "\n".join(
            ["date,value,a,b,c,d,e,f", *(f"{t},{i % 977}.5,1.25,2.25,3.25,4.25,5.25,6.25" for i, t in enumerate(times))]
        ),
    )
    tracemalloc.start()
    cleaning.check(csv_file.read(path, "value"), path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * path.stat().st_size


@pytest.mark.parametrize("clean", [False, True], ids=["as it is", "CLEAN=1"])
@pytest.mark.parametrize("zone", ["Z", "+2", "-5:30", "+02:00", " UTC", "UTC+1", "-0530", "+05:30:00", "−5"])
def test_a_time_zone_in_one_row_is_named(tmp_path, zone, clean):
    path = write(tmp_path, spoiled(f"2020-01-01 12:00:00{zone},12"))
    with pytest.raises(ValueError, match=r"carry a time zone .'2020-01-01 12:00:00"):
        sets.load(str(path), clean=clean)


@pytest.mark.parametrize("evil", ["\x1b[2J", "\u202e", "\x07", "\x85", "\u2028"])
def test_nothing_of_a_file_steers_a_terminal(tmp_path, capsys, evil):
    lines = "\n".join(LINES).replace("value", f"{evil}value").replace("12:00:00,12", f"12:00:00,{evil}")
    path = write(tmp_path, lines)
    for target in (None, f"{evil}none"):
        with pytest.raises(ValueError, match="value") as error:
            sets.load(str(path), target=target)
        assert str(error.value).isprintable()
    loaded = sets.load(str(path), clean=True)
    assert f"{loaded.name}{loaded.target}{capsys.readouterr().out.strip()}".isprintable()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len("\n".join(LINES))), st.integers(0, 60), st.text('",\r\n -+:.eZ0129\0\x0cé', max_size=6))
@example(31, 0, '"').via("a quotation mark opens before a number")
@example(31, 1, '"0"').via("a quoted number is a number")
@example(31, 0, "\r").via("a lone carriage return ends a line")
@example(30, 0, "+2").via("a zone of one digit")
@example(394, 26, "").via("a month cannot have a clock")
@example(31, 0, "\x0c").via("a form feed is no blank")
def test_a_changed_file_is_read_as_it_stands_or_refused(tmp_path_factory, at, drop, piece):
    text = "\n".join(LINES)
    raw = (text[:at] + piece + text[at + drop :]).encode()
    verdicts = csvs.judge(raw, (insert,), (0, 47), tmp_path_factory.getbasetemp() / "changed.csv")
    assert [complaint for _, complaint in verdicts] == [None, None]


@pytest.mark.parametrize("number", range(20))
def test_cases_of_the_attack(tmp_path, number):
    assert [complaint for _, complaint in csvs.judge(*case(number), tmp_path / "sensor.csv")] == [
        None,
        None,
    ]


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
        (
            "\n".join(LINES).replace("date", "when").replace(":00,", ":00+2,"),
            "times in column 'when' carry a time zone",
        ),
        (
            "\n".join(f"{line},{i}" if i else f"{line},date" for i, line in enumerate(LINES)),
            "2 columns are named 'date'",
        ),
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
    lines = [
        f"{line},{'pressure' if not i else 'broken' if i == 5 else '' if i == 6 else 1}" for i, line in enumerate(LINES)
    ]
    assert len(check(tmp_path, "\n".join(lines), "value")[1]) == 48
