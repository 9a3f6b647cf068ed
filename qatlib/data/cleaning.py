"""Rows of a CSV, judged and repaired.

Nothing is repaired unless asked for: every fault is a ValueError that names the line as an editor shows it, the column
and the way out.
"""

import re

import numpy as np

from qatlib.data.cells import EXAMPLE, ZONED, parse_numbers, parse_times, printable, shown

MIN_ROWS = 10
FAR, FAR_SENTINEL = 100, 3  # times the span from the 5th to the 95th percentile
LIMITS = (2.0**15 - 1, 2.0**15, 2.0**16 - 1, 2.0**31 - 1, 2.0**31, 2.0**32 - 1)  # of integers, in magnitude
BEYOND = 1e18  # more than sensors read: what fills gaps in files, such as 1e20, 9.97e36 or the largest float
NINES = re.compile(r"9{2,}(\.9+)?|10{9,}|1e\+(09|[1-9]\d)")  # and the powers of ten from 1e9 on
WAY_OUT = "correct the file, or repair it with CLEAN=1 (clean=True)"


def check(frame, path="table"):
    """(times, values, step) of a frame from `read` that passes every check: datetime64 (rows,), a float64 (rows,) for
    each column but the first, and the sampling period.

    Times are in whole seconds where the file's are, else in microseconds. ValueError names the first line at fault.
    """
    times, values, unusable = _judge(frame, path)
    if len(times) < MIN_ROWS:
        raise ValueError(f"{path}: {len(times)} rows are too few; give at least {MIN_ROWS}, and for windows many more")
    steps = np.diff(times)
    late, twice = _after(steps < np.timedelta64(0)), _after(steps == np.timedelta64(0))
    disorder = (("earlier than the row before it", late, 1), ("same time as the row before it", twice, 1))
    for what, mask, column in (*unusable, *disorder):
        if mask.any():
            row = int(mask.argmax())
            beside = frame.iloc[row, [0, column]]
            cells = [f"{printable(name)}={shown(cell)}" for name, cell in beside.items() if cell is not None]
            where = ", ".join((f"line {frame.index[row]}", *cells))
            raise ValueError(f"{path}, {where}: {what} (rows like this: {mask.sum()}); {WAY_OUT}")
    whole = times.astype("datetime64[s]")
    times = whole if (whole == times).all() else times
    return times, values, _sampling_period(times, frame.columns[0], path)


def clean(frame, path="table"):
    """Repair a frame from `read` -> (frame, report): the report has a sentence for each kind of change, none where
    nothing was wrong.

    Rows without a time or a number in every column, or with a placeholder for one, are dropped, which leaves a gap; the
    rest is sorted
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
    report = [f"dropped {_lines(frame, mask)}: {what}" for what, mask, _ in unusable if mask.any()]
    keep = ~np.logical_or.reduce([mask for _, mask, _ in unusable])
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


def lacking(values):
    """Where a column has no number, or a placeholder for one: bool (rows,)."""
    found = ~np.isfinite(values)
    found[~found] = _far(values[~found])
    return found


def _judge(frame, path):
    """(times, values of each column, [(fault, mask of rows, column), ..]): each row that no sorting could mend has one
    fault."""
    clocks, time = frame.iloc[:, 0], shown(frame.columns[0])
    times, ragged = parse_times(clocks), clocks.isna().to_numpy()
    untimed = np.isnat(times) & ~ragged
    zoned = next((cell for cell in clocks[untimed] if ZONED.fullmatch(cell)), None)
    if zoned is not None:
        raise ValueError(
            f"{path}: times in column {time} carry a time zone ({shown(zoned)}); bring them to one clock and "
            f"leave the zone out"
        )
    _some(clocks, np.isnat(times), ragged, f"time such as {EXAMPLE}", path)
    unusable = [("another number of cells than the header has", ragged, 1)]
    unusable += [(f"no time such as {EXAMPLE} in column {time}", untimed, 1)]
    sound, columns = ~ragged & ~untimed, []
    for i in range(1, frame.shape[1]):
        name, values = shown(frame.columns[i]), parse_numbers(frame.iloc[:, i])
        unnumbered = ~np.isfinite(values)
        _some(frame.iloc[:, i], unnumbered, ragged, "finite number", path)
        far = lacking(np.where(untimed, np.nan, values)) & ~unnumbered
        for what, mask in (
            (f"no finite number in column {name}", unnumbered),
            (f"so far from all others that it must be a placeholder or a mistake in column {name}", far),
        ):
            unusable.append((what, mask & sound, i))
            sound = sound & ~mask
        columns.append(values)
    return times, columns, unusable


def _some(cells, bad, ragged, wanted, path):
    """ValueError where a whole column is bad."""
    if bad.all() and not ragged.all():
        cell = shown(cells.iloc[int((~ragged).argmax())])
        raise ValueError(
            f"{path}: column {shown(cells.name)} holds no {wanted}; its first cell is {cell}; correct it, or choose "
            f"another column"
        )


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
            f"{path}: column {shown(time)} has no sampling period: its commonest step, {step}, is {often.max()} "
            f"of {often.sum()}; "
            "resample it first, for example with pandas: frame.resample('1h').mean()"
        )
    return step
