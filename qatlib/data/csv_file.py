"""A user's CSV, read: its time column and those to forecast, as text.

A cell may hold line breaks, unless a line of it looks like a row: then its quotation mark was left open, and rows would
be lost. Every fault is a ValueError that names the line as an editor shows it.
"""

import csv
import os
import re
from array import array
from bisect import bisect_right
from collections import Counter
from functools import partial
from itertools import accumulate, chain, islice

import numpy as np
import pandas as pd

from qatlib.data.cells import EXAMPLE, is_time, parse_numbers, printable, shown
from qatlib.integer_model.check import MOST_CHANNELS

ALL = "all"  # as a target: every numeric column
LONGEST = 1 << 20  # characters of a line
TIME_NAMES = ("date", "time", "timestamp", "datetime")
DATED = re.compile(r"\d{4}[-/]\d", re.ASCII)
BROKEN = re.compile("[\0\ud800-\udfff]")  # NUL, and what no UTF-8 decodes to
CELL = re.compile(r' *(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|),')


def read(path, target=None, inputs=None, *, others=False):
    """A CSV's time column, those to forecast and those that are only read, as text: a row a record, indexed by its line
    in the file. target, inputs: one column, or several with commas between; target None or `all`: every numeric one.
    others: all of these that are no target are read.

    A record that is too short or too long is all None. FileNotFoundError for what is no regular file; ValueError for
    what is no comma-separated UTF-8 file with a header, and where the choice of columns is not plain.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{printable(path)} is no regular file; give the path of a CSV")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        path = printable(path)
        records = _records(file, path)
        line, header = next(records, (1, []))
        header = [name.strip() for name in header]
        if not header:
            raise ValueError(f"{path} is empty; a header line with column names and one line per sample are needed")
        if len(header) < 2:
            raise ValueError(
                f"{path}, line {line}: one column only ({shown(header[0])}); a CSV separated by commas is needed"
            )
        head = list(islice(records, 100))
        if not head:
            raise ValueError(f"{path}: a header, but no data below it")
        cells = [cells if len(cells) == len(header) else [None] * len(header) for _, cells in head]
        columns = choose_columns(pd.DataFrame(cells, columns=header, dtype=object), target, path, inputs, others)
        return _columns(chain(head, records), columns, header)


def _columns(records, columns, header):
    at = [header.index(name) for name in columns]
    lines, kept = array("q"), tuple([] for _ in columns)
    for line, cells in records:
        lines.append(line)
        for i, column in zip(at, kept, strict=True):
            column.append(cells[i] if len(cells) == len(header) else None)
    index = pd.Index(np.asarray(lines), name="line")
    return pd.DataFrame(dict(zip(columns, kept, strict=True)), index=index, dtype=object)


def _records(file, path):
    """(first line, cells) of every record that is not blank; lines count as in an editor, also after cells with line
    breaks."""
    width = 0  # cells of the header
    first, pending = 1, []  # of the record that is being read: its first line, all its lines

    def lines():
        for number, line in enumerate(iter(partial(file.readline, LONGEST), ""), 1):
            if BROKEN.search(line) or len(line) == LONGEST:
                what = "no UTF-8 text" if len(line) < LONGEST else f"a line of more than {LONGEST} characters"
                raise ValueError(f"{path}, line {number}: this is {what}; save the file as a CSV in UTF-8")
            pending.append(line)
            if len(pending) > 1 and _is_record(line, width):
                raise csv.Error(f"line {number} looks like a row, and would be lost in a cell")
            yield line

    reader = csv.reader(lines(), skipinitialspace=True, strict=True)
    try:
        for record in reader:
            if len(record) > 1 or "".join(record).strip(" \t"):
                width = width or len(record)
                yield first, record
            first = reader.line_num + 1
            pending.clear()
    except csv.Error as error:
        line, advice = first + _open_at(pending), "is a quotation mark left open, or one too many?"
        raise ValueError(f"{path}, line {line}: no CSV ({error}); {advice}") from None


def _is_record(line, width):
    cells = line.split(",")
    return 0 < width <= len(cells) or any(DATED.match(cell.strip(' \t"')) for cell in cells)


def _open_at(lines):
    """Which of the lines of an unfinished record holds the mark that opens its last cell."""
    text, at = "".join(lines), 0
    while cell := CELL.match(text, at):
        at = cell.end()
    return min(bisect_right(list(accumulate(map(len, lines))), at), len(lines) - 1)


def choose_columns(frame, target=None, path="table", inputs=None, every=False):
    """(time, target, .., input, ..) columns: the first that holds times, those to forecast (None or `all`: every
    numeric one), and those that are only read; every: all other numeric ones.

    ValueError lists the columns where the choice is not plain.
    """
    columns, head = list(frame.columns), frame.head(100)
    at, often = {name: i for i, name in enumerate(columns)}, Counter(columns)
    listed = f"its columns are {', '.join(map(shown, columns[:50]))}" + ", .." * (len(columns) > 50)
    time = _time_column(columns, head, path, listed)
    read = names(inputs, columns) if inputs else []
    others = [name for name in columns if name not in {time, *read}]
    if takes_all(target, columns):
        wanted = _numeric(others, [head.iloc[:, at[name]] for name in others], path)
    else:
        wanted = names(target, columns)
    if every:
        others = [name for name in others if name not in wanted]
        read = _numeric(others, [head.iloc[:, at[name]] for name in others], path)
    if not wanted:
        raise ValueError(f"{path}: no column of numbers to forecast with TARGET=column (target='column'); {listed}")
    if len(wanted) + len(read) > MOST_CHANNELS:
        raise ValueError(
            f"{path}: {len(wanted) + len(read)} columns of numbers, and at most {MOST_CHANNELS} go together; name them "
            f"in TARGET and INPUTS; {listed}"
        )
    named = Counter((*wanted, *read))
    for name in (*wanted, *read):
        if name not in at or name == time:
            raise ValueError(f"{path}: no column {shown(name)} to forecast; {listed}, and {shown(time)} is the time")
        if named[name] > 1:
            raise ValueError(f"{path}: column {shown(name)} is named twice among TARGET and INPUTS; name it once")
    for name in (time, *wanted, *read):
        if often[name] > 1:
            raise ValueError(f"{path}: {often[name]} columns are named {shown(name)}; rename all but one")
    return time, *wanted, *read


def _time_column(columns, head, path, listed):
    timed = [name for i, name in enumerate(columns) if np.mean([is_time(cell) for cell in head.iloc[:, i]]) > 0.5]
    called = [name for name in columns if name.lower() in TIME_NAMES]
    choices = [name for name in called if name in timed] or timed or called
    if not choices:
        raise ValueError(f"{path}: no column of times such as {EXAMPLE}; {listed}")
    if is_time(choices[0]):
        raise ValueError(f"{path}: its first line holds data, not column names; add a header line such as date,value")
    return choices[0]


def _numeric(columns, cells, path):
    """The columns with a number among their first cells; the first one, if there is none."""
    found = [np.isfinite(parse_numbers(part)).any() for part in cells]
    if blank := [name for name, number in zip(columns, found, strict=True) if not number]:
        some = f"{', '.join(map(shown, blank[:5]))}{', ..' * (len(blank) > 5)}"
        print(f"{path}: without a number in their first {len(cells[0])} rows, and left out: {some}; see TARGET")
    return [name for name, number in zip(columns, found, strict=True) if number] or columns[:1]


def takes_all(target, columns):
    """Whether every numeric column is to be forecast."""
    return not target or (target == ALL and ALL not in columns)


def names(text, columns):
    """The columns that a text names: itself, if there is such a one, else what stands between its commas."""
    return [text] if text in columns else [name.strip() for name in text.split(",")]
