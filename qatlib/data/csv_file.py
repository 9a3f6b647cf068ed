"""A user's CSV: read, judged, repaired. Only its time column and the column to forecast are kept and judged.

Nothing is repaired unless asked for: every fault is a ValueError that names the line as an editor shows it, the column
and the way out. Times are year first (ISO 8601), because 01/02/2016 may be either month, to the microsecond, and carry
no time zone; numbers are decimal, in ASCII. A cell may hold line breaks, unless a line of it looks like a row: then its
quotation mark was left open, and rows would be lost. Texts of a file are shown without what steers a terminal.
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

MIN_ROWS = 10
LONGEST = 1 << 20  # characters of a line
CHUNK = 1 << 16  # cells that are parsed at a time
FAR, FAR_SENTINEL = 100, 3  # times the span from the 5th to the 95th percentile
LIMITS = (2.0**15 - 1, 2.0**15, 2.0**16 - 1, 2.0**31 - 1, 2.0**31, 2.0**32 - 1)  # of integers, in magnitude
BEYOND = 1e18  # more than sensors read: what fills gaps in files, such as 1e20, 9.97e36 or the largest float
NINES = re.compile(r"9{2,}(\.9+)?|10{9,}|1e\+(09|[1-9]\d)")  # and the powers of ten from 1e9 on
TIME_NAMES = ("date", "time", "timestamp", "datetime")
EXAMPLE = "2016-07-01 14:00:00"
WAY_OUT = "correct the file, or repair it with CLEAN=1 (clean=True)"
DATED = re.compile(r"\d{4}[-/]\d", re.ASCII)
CLOCK = r"\d{4}[-/]\d\d?(?:[-/]\d\d?(?:[T ]\d\d?(?::\d\d?(?::\d\d?(\.\d{1,6})?)?)?)?)?"
TIME = re.compile(rf"[ \t]*({CLOCK})(?(2)0*)[ \t]*", re.ASCII)
ZONE = r"(?:Z|(?:UTC|GMT)?[+\-\u2212]\d\d?(?::?\d\d){0,2}|UTC|GMT)"
ZONED = re.compile(rf"[ \t]*{CLOCK}\d*[ \t]*{ZONE}[ \t]*", re.ASCII | re.IGNORECASE)
NUMBER = re.compile(r"[ \t]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?[ \t]*", re.ASCII | re.IGNORECASE)
BROKEN = re.compile("[\0\ud800-\udfff]")  # NUL, and what no UTF-8 decodes to
CELL = re.compile(r' *(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|),')


def printable(text):
    """A text with every character that does not print, or turns the writing direction, as an escape such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


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
                f"{path}, line {line}: one column only ({_shown(header[0])}); a CSV separated by commas is needed"
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
    width, first, pending = (
        0,
        1,
        [],
    )  # cells of the header; the record that is being read: its first line, all its lines

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


def _shown(cell):
    return f"{cell[:60]!r}{'..' * (len(cell) > 60)}" if isinstance(cell, str) else repr(cell)


def choose_columns(frame, target=None, path="table"):
    """(time, target) columns: the first that holds times, and the one to forecast, which needs no name where one alone
    is numeric.

    ValueError lists the columns where the choice is not plain.
    """
    columns, head = list(frame.columns), frame.head(100)
    listed = f"its columns are {', '.join(map(_shown, columns[:50]))}" + ", .." * (len(columns) > 50)
    timed = [name for i, name in enumerate(columns) if np.mean([_is_time(cell) for cell in head.iloc[:, i]]) > 0.5]
    named = [name for name in columns if name.lower() in TIME_NAMES]
    choices = [name for name in named if name in timed] or timed or named
    if not choices:
        raise ValueError(f"{path}: no column of times such as {EXAMPLE}; {listed}")
    time = choices[0]
    if _is_time(time):
        raise ValueError(f"{path}: its first line holds data, not column names; add a header line such as date,value")
    numeric = [name for i, name in enumerate(columns) if name != time and np.isfinite(_numbers(head.iloc[:, i])).any()]
    candidates = [target] if target else numeric or [name for name in columns if name != time]
    if len(candidates) != 1:
        raise ValueError(f"{path}: say which column to forecast with TARGET=column (target='column'); {listed}")
    target = candidates[0]
    if target not in columns or target == time:
        raise ValueError(f"{path}: no column {_shown(target)} to forecast; {listed}, and {_shown(time)} is the time")
    for name in (time, target):
        if columns.count(name) > 1:
            raise ValueError(f"{path}: {columns.count(name)} columns are named {_shown(name)}; rename all but one")
    return time, target


def check(frame, path="table"):
    """(times, values, step) of a frame from `read` that passes every check: datetime64 (rows,), float64 (rows,), the
    sampling period.

    Times are in whole seconds where the file's are, else in microseconds. ValueError names the first line at fault.
    """
    times, values, unusable = _judge(frame, path)
    if len(times) < MIN_ROWS:
        raise ValueError(f"{path}: {len(times)} rows are too few; give at least {MIN_ROWS}, and for windows many more")
    steps = np.diff(times)
    late, twice = _after(steps < np.timedelta64(0)), _after(steps == np.timedelta64(0))
    for what, mask in (*unusable, ("earlier than the row before it", late), ("same time as the row before it", twice)):
        if mask.any():
            row = int(mask.argmax())
            cells = [f"{printable(name)}={_shown(cell)}" for name, cell in frame.iloc[row].items() if cell is not None]
            where = ", ".join((f"line {frame.index[row]}", *cells))
            raise ValueError(f"{path}, {where}: {what} (rows like this: {mask.sum()}); {WAY_OUT}")
    whole = times.astype("datetime64[s]")
    times = whole if (whole == times).all() else times
    return times, values, _sampling_period(times, frame.columns[0], path)


def clean(frame, path="table"):
    """Repair a frame from `read` -> (frame, report): the report has a sentence for each kind of change, none where
    nothing was wrong.

    Rows without a time or a number, or with a placeholder for one, are dropped, which leaves a gap; the rest is sorted
    by time; of equal times the first is kept. What is dropped may show others to be far from all that is left: it goes
    on until nothing is.
    """
    report = []
    while sentences := (repaired := _repair(frame, path))[1]:
        frame = repaired[0]
        report += sentences
    return frame, tuple(report)


def _repair(frame, path):
    times, _, unusable = _judge(frame, path)
    report = [f"dropped {_lines(frame, mask)}: {what}" for what, mask in unusable if mask.any()]
    keep = ~np.logical_or.reduce([mask for _, mask in unusable])
    if not keep.any():
        raise ValueError(f"{path}: no row can be used: {'; '.join(report)}")
    frame, times = frame[keep], times[keep]
    late = _after(times[1:] < np.maximum.accumulate(times)[:-1])
    if late.any():
        report.append(f"sorted {_lines(frame, late)}: earlier than a row before")
    order = np.argsort(times, kind="stable")
    frame, times = frame.iloc[order], times[order]
    twice = _after(times[1:] == times[:-1])
    if twice.any():
        report.append(f"dropped {_lines(frame, twice)}: same time as a row before")
    return frame[~twice], report


def _judge(frame, path):
    """(times, values, ((fault, mask of rows), ..)): each row that no sorting could mend has one fault."""
    (time, clocks), (target, cells) = ((_shown(name), column) for name, column in frame.items())
    times, values = _times(clocks), _numbers(cells)
    ragged = clocks.isna().to_numpy()
    untimed = np.isnat(times) & ~ragged
    zoned = next((cell for cell in clocks[untimed] if ZONED.fullmatch(cell)), None)
    if zoned is not None:
        raise ValueError(
            f"{path}: times in column {time} carry a time zone ({_shown(zoned)}); bring them to one clock and "
            f"leave the zone out"
        )
    unnumbered = ~np.isfinite(values) & ~ragged & ~untimed
    for name, column, bad, wanted in (
        (time, clocks, np.isnat(times), f"time such as {EXAMPLE}"),
        (target, cells, ~np.isfinite(values), "finite number"),
    ):
        if bad.all() and not ragged.all():
            cell = _shown(column.iloc[int((~ragged).argmax())])
            raise ValueError(
                f"{path}: column {name} holds no {wanted}; its first cell is {cell}; correct it, or choose "
                f"another column"
            )
    usable, far = np.isfinite(values) & ~untimed, np.zeros(len(values), dtype=bool)
    far[usable] = _far(values[usable])
    unusable = (
        ("another number of cells than the header has", ragged),
        (f"no time such as {EXAMPLE} in column {time}", untimed),
        (f"no finite number in column {target}", unnumbered),
        (f"so far from all others that it must be a placeholder or a mistake in column {target}", far),
    )
    return times, values, unusable


def _far(values):
    """What no sensor read: 100 spans away from nearly all values, or a placeholder, as -999 is, apart from the others.

    A placeholder may fill any share of the rows, so the span, from the 5th to the 95th percentile, is that of the
    others. Apart: by more than the span and twice the others' tail on that side, and besides 3 spans from their median,
    or repeated; or below zero where no other value is. What strays by 3 spans, and is rarer than half the placeholders,
    hides none. 99 and 99.9 may be percentages: they count among the others, and to repeat them says nothing.
    """
    if not len(values):
        return np.zeros(0, dtype=bool)
    distinct, which, often = np.unique(values, return_inverse=True, return_counts=True)
    sentinel = _sentinels(np.abs(distinct))
    sentinel = (sentinel & (2 * sentinel.sum() <= len(distinct)))[which]
    strong = sentinel & ((values < 0) | (values > 100))
    with np.errstate(over="ignore"):
        low, middle, high = np.percentile(values[~strong], (5, 50, 95))
        distance = np.abs(values - middle)
        far, stray = ((distance > spans * (high - low)) & (high > low) for spans in (FAR, FAR_SENTINEL))
        stray = far if strong.sum() <= 2 * (stray & ~sentinel).sum() else stray
        others = values[~sentinel & ~stray]
        least, most = (others.min(), others.max()) if len(others) else (low, high)
        span = high - low if high > low else most - least
        gap = np.where(values < least, least - values, values - most)
        tail = np.where(values < least, middle - least, most - middle)
        clear = (distance > FAR_SENTINEL * span) | strong & (often[which] > 1)
        apart = clear & (gap > np.maximum(span, 2 * tail)) & (span > 0)
        return far | sentinel & (apart | (values < 0) & (least >= 0))


def _sentinels(magnitude):
    """Which magnitudes fill gaps: in nines, also as a float32 has them, powers of ten, limits of integers, too
    large."""
    found = np.isin(magnitude, LIMITS) | (magnitude >= BEYOND)
    with np.errstate(divide="ignore", invalid="ignore"):
        leading = magnitude / 10.0 ** np.floor(np.log10(magnitude))
    for i in np.flatnonzero(~found & ((leading > 9.89) & (magnitude > 98) | (leading < 1.0001) & (magnitude > 9e8))):
        found[i] = any(NINES.fullmatch(f"{magnitude[i]:.{digits}g}") for digits in (15, 7))
    return found


def _times(cells):
    """Texts -> datetime64[us] (rows,), NaT for what is no time or carries a zone."""
    found = (TIME.fullmatch(cell) if isinstance(cell, str) else None for cell in cells)
    texts = iter(lambda: [match and match[1] for match in islice(found, CHUNK)], [])
    parsed = [pd.to_datetime(part, format="ISO8601", errors="coerce", cache=False).to_numpy() for part in texts]
    return np.concatenate([np.zeros(0, "datetime64[us]"), *parsed]).astype("datetime64[us]")


def _is_time(cell):
    """Whether it looks like one, even with a zone, which is for `check` to refuse."""
    return isinstance(cell, str) and bool(TIME.fullmatch(cell) or ZONED.fullmatch(cell))


def _numbers(cells):
    """Texts -> float64 (rows,), the nearest to what is written; NaN for what is no number."""
    return np.array(
        [float(cell) if isinstance(cell, str) and NUMBER.fullmatch(cell) else np.nan for cell in cells],
        dtype=np.float64,
    )


def _after(mask):
    """A mask of steps -> of the rows that end them; there is at least one row."""
    return np.r_[False, mask]


def _lines(frame, mask):
    lines = [str(line) for line in frame.index[mask]]
    return f"{len(lines)} row{'s' * (len(lines) > 1)} (line {', '.join(lines[:5])}{', ..' * (len(lines) > 5)})"


def _sampling_period(times, time, path):
    """The commonest step; steps that differ from it are gaps. ValueError where it is not even half of them."""
    steps, often = np.unique(np.diff(times), return_counts=True)
    step = steps[often.argmax()]
    if 2 * often.max() < often.sum():
        raise ValueError(
            f"{path}: column {_shown(time)} has no sampling period: its commonest step, {step}, is {often.max()} "
            f"of {often.sum()}; "
            "resample it first, for example with pandas: frame.resample('1h').mean()"
        )
    return step
