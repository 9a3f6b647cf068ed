"""A user's CSV, read: its time column and the column to forecast, as text.

A cell may hold line breaks, unless a line of it looks like a row: then its quotation mark was left open, and rows would
be lost. Every fault is a ValueError that names the line as an editor shows it.
"""

import csv
import os
import re
from array import array
from bisect import bisect_right
from functools import partial
from itertools import accumulate, chain, islice

import numpy as np
import pandas as pd

from qatlib.data.cells import EXAMPLE, is_time, parse_numbers, printable, shown

LONGEST = 1 << 20  # characters of a line
TIME_NAMES = ("date", "time", "timestamp", "datetime")
DATED = re.compile(r"\d{4}[-/]\d", re.ASCII)
BROKEN = re.compile("[\0\ud800-\udfff]")  # NUL, and what no UTF-8 decodes to
CELL = re.compile(r' *(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|),')


def read(path, target=None):
    """A CSV's time column and the one to forecast, as text: a row a record, indexed by its line in the file.

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
        columns = choose_columns(pd.DataFrame(cells, columns=header, dtype=object), target, path)
        return _two_columns(chain(head, records), columns, header)


def _two_columns(records, columns, header):
    at = [header.index(name) for name in columns]
    lines, kept = array("q"), ([], [])
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


def choose_columns(frame, target=None, path="table"):
    """(time, target) columns: the first that holds times, and the one to forecast, which needs no name where one alone
    is numeric.

    ValueError lists the columns where the choice is not plain.
    """
    columns, head = list(frame.columns), frame.head(100)
    listed = f"its columns are {', '.join(map(shown, columns[:50]))}" + ", .." * (len(columns) > 50)
    timed = [name for i, name in enumerate(columns) if np.mean([is_time(cell) for cell in head.iloc[:, i]]) > 0.5]
    named = [name for name in columns if name.lower() in TIME_NAMES]
    choices = [name for name in named if name in timed] or timed or named
    if not choices:
        raise ValueError(f"{path}: no column of times such as {EXAMPLE}; {listed}")
    time = choices[0]
    if is_time(time):
        raise ValueError(f"{path}: its first line holds data, not column names; add a header line such as date,value")
    others = [(name, head.iloc[:, i]) for i, name in enumerate(columns) if name != time]
    numeric = [name for name, cells in others if np.isfinite(parse_numbers(cells)).any()]
    candidates = [target] if target else numeric or [name for name, _ in others]
    if len(candidates) != 1:
        raise ValueError(f"{path}: say which column to forecast with TARGET=column (target='column'); {listed}")
    target = candidates[0]
    if target not in columns or target == time:
        raise ValueError(f"{path}: no column {shown(target)} to forecast; {listed}, and {shown(time)} is the time")
    for name in (time, target):
        if columns.count(name) > 1:
            raise ValueError(f"{path}: {columns.count(name)} columns are named {shown(name)}; rename all but one")
    return time, target
