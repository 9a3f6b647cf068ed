"""Mutated CSVs, read with and without CLEAN=1, against a plain reading of the same bytes by code that shares nothing
with `qatlib.data`.

Each file comes of its number alone: `csv_mutations.case(number)`. Wrong is an error that is not documented or shows
what steers a terminal, more than a second, a row that differs from its line or is missing without a word, a placeholder
that passes, and a refusal of what is sound.
"""

import contextlib
import io
import multiprocessing
import os
import re
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from qatlib.data import cleaning, csv_file, sets
from qatlib.data.cells import printable
from tests.attack.csv_mutations import HARMLESS, PLACEHOLDERS, SEED, case, huge, placeholders
from tests.attack.csv_plainly import Unreadable, clock, number, plain, swallows
from tests.attack.outcome import Outcome

LONG, SHORT = 100_000, 2_000
SLOW = 1.0  # seconds


def _attempt(call):
    """(result, error, seconds)"""
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return call(), None, time.process_time() - began
    except Exception as error:
        return None, error, time.process_time() - began


def _misread(raw, names, lines, times, columns):
    """What is wrong with an accepted file's rows: their lines, times and, of the columns that the names after the
    time's tell, values. -> (complaint or None, {line: cells} of the plain reading)"""
    try:
        records = plain(raw)
    except Unreadable as reason:
        return f"accepted: {reason}", {}
    if swallows(records):
        return "a cell swallowed a row", {}
    header = [name.strip() for name in records[0][1]]
    at = [header.index(re.sub("\r\n|\r|\n", "\n", name)) for name in names]
    found = {line: tuple(cells[i] for i in at) if len(cells) == len(header) else None for line, cells, _ in records[1:]}
    for line, when, *values in zip(lines, times, *columns, strict=True):
        cells = found.get(line)
        if cells is None or clock(cells[0]) != when or list(map(number, cells[1:])) != values:
            return f"line {line} was read as {when}, {values}, but is {cells}", found
    return None, found


def judge(raw, mutations, limits, path):
    """(whether refused, complaint or None) without CLEAN, and with it."""
    path.write_bytes(raw)
    target = "value" if b"value" in raw[:400] else None
    frame, error, seconds = _attempt(lambda: csv_file.read(path, target))
    if error or seconds > SLOW:
        return [(bool(error), _undocumented(error, seconds) or _refused_though_sound(error, mutations))] * 2
    return _judge_as_is(raw, mutations, frame, path, target), _judge_cleaned(raw, limits, frame)


def _refused_though_sound(error, mutations):
    return f"refused though sound: {error}" if set(mutations) <= set(HARMLESS) else None


def _undocumented(error, seconds):
    if seconds > SLOW:
        return f"took {seconds:.1f} s"
    if error and (not isinstance(error, ValueError) or isinstance(error, UnicodeError) or not str(error).isprintable()):
        return f"undocumented: {error!r}"
    return None


def _judge_as_is(raw, mutations, frame, path, target):
    def call():
        cleaning.check(frame)
        return sets.load(str(path), target=target)

    dataset, error, seconds = _attempt(call)
    if error or seconds > SLOW:
        return bool(error), _undocumented(error, seconds) or _refused_though_sound(error, mutations)
    members = getattr(dataset, "members", (dataset,))
    kept = [next(name for name in frame.columns[1:] if printable(name) == member.target) for member in members]
    times, columns = dataset.times.astype("datetime64[us]"), [member.values for member in members]
    complaint, found = _misread(raw, [frame.columns[0], *kept], frame.index, times, columns)
    if not complaint and set(frame.index) != set(found):
        complaint = f"lines {sorted(set(found) - set(frame.index))[:5]} were lost"
    if not complaint and placeholders in mutations and huge not in mutations:
        passed = set(map(float, PLACEHOLDERS)) & set(np.concatenate(columns))
        complaint = f"placeholders passed: {passed}" if passed else None
    return False, complaint


def _judge_cleaned(raw, limits, frame):
    def call():
        cleaned, report = cleaning.clean(frame)
        return cleaned, report, cleaning.check(cleaned)

    result, error, seconds = _attempt(call)
    if error or seconds > SLOW:
        complaint = _undocumented(error, seconds)
        return bool(error), complaint or (f"CLEAN=1 left a fault: {error}" if "CLEAN=1" in str(error) else None)
    frame, report, (times, columns, _) = result
    times = times.astype("datetime64[us]")
    complaint, found = _misread(raw, frame.columns, frame.index, times, columns)
    if complaint:
        return False, complaint
    dropped = sum(int(re.match(r"dropped (\d+)", sentence)[1]) for sentence in report if sentence.startswith("dropped"))
    if len(found) != len(frame) + dropped or (np.diff(times) <= np.timedelta64(0)).any():
        return False, f"of {len(found)} rows {len(frame)} were kept, but {dropped} reported as dropped"
    kept = set(times)
    for line in set(found) - set(frame.index) if len(columns) == 1 else ():  # else another column may be the reason
        when, value = (clock(found[line][0]), number(found[line][1])) if found[line] else (None, None)
        if when is not None and value is not None and limits[0] <= value <= limits[1] and when not in kept:
            return False, f"line {line} was dropped for no reason: {found[line]}"
    return False, None


def _batch(numbers):
    """-> (Counter of (clean, outcome), [complaint, ..])"""
    tally, complaints = Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for i in numbers:
            raw, mutations, limits = case(i)
            for clean, (refused, complaint) in enumerate(judge(raw, mutations, limits, Path(folder) / "sensor.csv")):
                tally[clean, "wrong" if complaint else "refused" if refused else "right"] += 1
                if complaint:
                    names = ", ".join(mutate.__name__ for mutate in mutations)
                    complaints.append(f"WRONG csv_mutations.case({i}){', CLEAN=1' * clean}, {names}: {complaint!a}")
    return tally, complaints


def attack(short):
    """Outcomes without and with CLEAN=1."""
    count, tally = SHORT if short else LONG, Counter()
    workers = min(2, os.cpu_count() or 1)
    print(f"seed {SEED}, files 0 to {count - 1}; one again: tests.attack.csv_mutations.case(number)", flush=True)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for part, complaints in pool.map(
            _batch, [range(i, min(i + 500, count)) for i in range(0, count, 500)], timeout=3600
        ):
            tally += part
            print("\n".join(complaints), end="\n" * bool(complaints), flush=True)
    for clean, what in enumerate(("mutated CSVs", "mutated CSVs, CLEAN=1")):
        refused, right, wrong = (tally[clean, outcome] for outcome in ("refused", "right", "wrong"))
        yield Outcome("csvs", what, refused + right + wrong, refused, right, wrong, f"seed {SEED}")
