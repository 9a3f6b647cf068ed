"""A user's CSV: read, judged, repaired. Only its time column and the column to forecast are judged.

Nothing is repaired unless asked for: every fault is a ValueError that names the line as an editor shows it, the column and the way out.
Times are year first (ISO 8601), because 01/02/2016 may be either month, and carry no time zone.
"""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

MIN_ROWS = 10
FAR, FAR_IN_NINES = 100, 3  # times the span from the 5th to the 95th percentile
NINES = re.compile(r"9{2,}(\.9+)?")
TIME_NAMES = ("date", "time", "timestamp", "datetime")
EXAMPLE = "2016-07-01 14:00:00"
WAY_OUT = "correct the file, or repair it with CLEAN=1 (clean=True)"
DATED = re.compile(r"\d{4}[-/]\d")
ZONED = re.compile(r"\d[T ]\d.*(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$", re.IGNORECASE)


def read(path):
    """A CSV as text: one row per record, indexed by its line in the file. A record that is too short or too long is all None.

    ValueError for what is no comma-separated UTF-8 file with a header.
    """
    text = _decode(Path(path))
    if not text.strip():
        raise ValueError(f"{path} is empty; a header line with column names and one line per sample are needed")
    lines, records = _records(text, path)
    header = [name.strip() for name in records[0]]
    if len(header) < 2:
        raise ValueError(f"{path}, line {lines[0]}: one column only ({header[0][:60]!r}); a CSV separated by commas is needed")
    if len(records) < 2:
        raise ValueError(f"{path}: a header, but no data below it")
    cells = [record if len(record) == len(header) else [None] * len(header) for record in records[1:]]
    return pd.DataFrame(cells, columns=header, index=pd.Index(lines[1:], name="line"), dtype=object)


def _decode(path):
    raw = path.read_bytes()
    try:
        text, broken = raw.decode("utf-8-sig"), raw.find(b"\0")
    except UnicodeDecodeError as error:
        broken = error.start
    if broken >= 0:
        line = raw[:broken].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: this is no UTF-8 text; save the file as a CSV in UTF-8")
    return text


def _records(text, path):
    """(first line, cells) of every record that is not blank; lines count as in an editor, also after cells with line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    lines, records, line = [], [], 1
    try:
        for record in reader:
            if len(record) > 1 or "".join(record).strip():
                lines.append(line)
                records.append(record)
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: no CSV ({error}); is a quotation mark left open?") from None
    return lines, records


def choose_columns(frame, target=None, path="table"):
    """(time, target) columns: the first that holds times, and the one to forecast, which needs no name where one alone is numeric.

    ValueError lists the columns where the choice is not plain.
    """
    columns, head = list(frame.columns), frame.head(100)
    listed = f"its columns are {', '.join(map(repr, columns))}"
    timed = [name for i, name in enumerate(columns) if (~np.isnat(_times(head.iloc[:, i]))).mean() > 0.5]
    named = [name for name in columns if name.lower() in TIME_NAMES]
    choices = [name for name in named if name in timed] or timed or named
    if not choices:
        raise ValueError(f"{path}: no column of times such as {EXAMPLE}; {listed}")
    time = choices[0]
    if not np.isnat(_times([time]))[0]:
        raise ValueError(f"{path}: its first line holds data, not column names; add a header line such as date,value")
    numeric = [name for i, name in enumerate(columns) if name != time and np.isfinite(_numbers(head.iloc[:, i])).any()]
    candidates = [target] if target else numeric or [name for name in columns if name != time]
    if len(candidates) != 1:
        raise ValueError(f"{path}: say which column to forecast with TARGET=column (target='column'); {listed}")
    target = candidates[0]
    if target not in columns or target == time:
        raise ValueError(f"{path}: no column {target!r} to forecast; {listed}, and {time!r} is the time")
    for name in (time, target):
        if columns.count(name) > 1:
            raise ValueError(f"{path}: {columns.count(name)} columns are named {name!r}; rename all but one")
    return time, target


def check(frame, target=None, path="table"):
    """(times, values, target, step) of a frame that passes every check: datetime64 (rows,), float64 (rows,), the sampling period.

    Times are in whole seconds where the file's are, else in microseconds. ValueError names the first line at fault.
    """
    time, target = choose_columns(frame, target, path)
    times, values, unusable = _judge(frame, time, target, path)
    if len(times) < MIN_ROWS:
        raise ValueError(f"{path}: {len(times)} rows are too few; give at least {MIN_ROWS}, and for windows many more")
    steps = np.diff(times)
    late, twice = _after(steps < np.timedelta64(0)), _after(steps == np.timedelta64(0))
    for what, mask in (*unusable, ("earlier than the row before it", late), ("same time as the row before it", twice)):
        if mask.any():
            row = int(mask.argmax())
            cells = [f"{name}={frame[name].iloc[row]!r}" for name in (time, target) if frame[name].iloc[row] is not None]
            where = ", ".join((f"line {frame.index[row]}", *cells))
            raise ValueError(f"{path}, {where}: {what} (rows like this: {mask.sum()}); {WAY_OUT}")
    whole = times.astype("datetime64[s]")
    times = whole if (whole == times).all() else times
    return times, values, target, _sampling_period(times, time, path)


def clean(frame, target=None, path="table"):
    """Repair a frame from `read` -> (frame, report): the report has a sentence for each kind of change, none where nothing was wrong.

    Rows without a time or a number, or with a placeholder for one, are dropped, which leaves a gap; the rest is sorted by time; of equal
    times the first is kept.
    """
    time, target = choose_columns(frame, target, path)
    times, _, unusable = _judge(frame, time, target, path)
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
    return frame[~twice], tuple(report)


def _judge(frame, time, target, path="table"):
    """(times, values, ((fault, mask of rows), ..)): each row that no sorting could mend has one fault."""
    zoned = next((cell for cell in frame[time] if ZONED.search(str(cell).strip())), None)
    if zoned is not None:
        raise ValueError(f"{path}: times in column {time!r} carry a time zone ({zoned!r}); bring them to one clock and leave the zone out")
    times, values = _times(frame[time]), _numbers(frame[target])
    ragged = frame[time].isna().to_numpy()
    untimed = np.isnat(times) & ~ragged
    unnumbered = ~np.isfinite(values) & ~ragged & ~untimed
    for name, bad, wanted in ((time, np.isnat(times), f"time such as {EXAMPLE}"), (target, ~np.isfinite(values), "finite number")):
        if bad.all() and not ragged.all():
            cell = frame[name].iloc[int((~ragged).argmax())]
            raise ValueError(f"{path}: column {name!r} holds no {wanted}; its first cell is {cell!r}; correct it, or choose another column")
    unusable = (
        ("another number of cells than the header has", ragged),
        (f"no time such as {EXAMPLE} in column {time!r}", untimed),
        (f"no finite number in column {target!r}", unnumbered),
        (f"so far from all others that it must be a placeholder or a mistake in column {target!r}", _far(values) & ~untimed),
    )
    return times, values, unusable


def _far(values):
    """What no sensor read: far outside the span of nearly all values, and all the more if it is written in nines, as -999 is."""
    finite = values[np.isfinite(values)]
    low, middle, high = np.percentile(finite, (5, 50, 95)) if len(finite) else (0, 0, 0)
    with np.errstate(invalid="ignore", over="ignore"):
        spans = np.abs(values - middle) / (high - low) if high > low else np.zeros(len(values))
        nines = np.array([bool(NINES.fullmatch(f"{abs(v):.15g}")) for v in values])
        return np.isfinite(values) & ((spans > FAR) | (nines & (spans > FAR_IN_NINES)))


def _times(cells):
    """Texts -> datetime64[us] (rows,), NaT for what is no time; zones are found elsewhere."""
    texts = (str(cell).strip() for cell in cells)
    parsed = pd.to_datetime([text if DATED.match(text) else None for text in texts], format="ISO8601", errors="coerce", utc=True)
    return parsed.tz_localize(None).to_numpy().astype("datetime64[us]")


def _numbers(cells):
    """Texts -> float64 (rows,), exactly as written; NaN for what is no number."""
    return np.array([_number(cell) for cell in cells], dtype=np.float64)


def _number(cell):
    try:
        return np.nan if cell is None or "_" in str(cell) else float(cell)  # '1_000' is Python's, not a sensor's
    except (TypeError, ValueError):
        return np.nan


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
            f"{path}: column {time!r} has no sampling period: its commonest step, {step}, is {often.max()} of {often.sum()}; "
            "resample it first, for example with pandas: frame.resample('1h').mean()"
        )
    return step
