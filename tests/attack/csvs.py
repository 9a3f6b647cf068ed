"""Mutated CSVs, read with and without CLEAN=1, against a plain reading of the same bytes by code that shares nothing
with `qatlib.data.csv_file`.

Each file comes of its number alone: `case(number)`. Wrong is an error that is not documented or shows what steers a
terminal, more than a second, a row that differs from its line or is missing without a word, a placeholder that passes,
and a refusal of what is sound.
"""

import contextlib
import io
import math
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from qatlib.data import csv_file, sets
from tests.attack.outcome import Outcome

LONG, SHORT, SEED = 100_000, 2_000, 2026
SLOW = 1.0  # seconds
PLACEHOLDERS = ("-999", "-9999", "-999.9", "-32768", "99999", "1e20", "-1e30", "2147483647", "9.96920996838687e+36")
WORDS = (
    "| |nan|NaN|inf|-Infinity|n/a|1_000|0x1F|3,5|1e400|1e-400|4.9e-324|-0|\u0663|\uff11\uff12|\u22125|5 "
    "\xb0C|--1|1e|.|+.5|5.|1d3|1 2"
)
WORDS = [*WORDS.split("|"), *"\"|'7'|\x1b[2J|\u202e7|7\x00|7\x1f|7\u00a0|1e308|-1.7e308|TRUE".split("|")]
CLOCKS = (
    "|yesterday|01/02/2020|1577836800|2020-01-01 24:00:00|2020-13-01|2020-02-30 01:00|2020-01-01 10:00 "
    "PM|NaT|2020-W01-1|2020-1-1 1:0"
)
CLOCKS += (
    "|2020-01-01T00:00:00.123456789|\u0662\u0660\u0662\u0660-01-01|0001-01-01|9999-12-31 23:59:59|2020-01-01 03:04:60"
)
CLOCKS = CLOCKS.split("|")
ZONES = "Z|+2|-5:30|+02:00| UTC|GMT+1|-0530| +1|+05:30:00| CET|[Europe/Paris]".split("|")
NOTES = ("", "ok", "a b", '"a, b"', '"say ""hm"""', '"two\nlines"', "\xb0C", 'pipe 12" wide')
NAMES = ("value", "va$lue", "_v", "v\x1b[31m", "\u202ev", "", "time", "date", '"v\nw"', "x" * 300)


def base(rng):
    """(lines of cells, the header first; lowest and highest value) of a sound file."""
    rows, step = rng.randint(60, 120), rng.choice((1, 60, 600, 3600, 86400))
    begin, noted = datetime(2020, 1, 1) + timedelta(hours=rng.randint(0, 9999)), rng.random() < 0.5
    phase = rng.random() * 6
    values = {
        "wave": [f"{20 + 15 * math.sin(i / 5 + phase) + rng.random():.3f}" for i in range(rows)],
        "pump": [str(rng.choice((0, 4000))) for _ in range(rows)],
        "percent": [str(min(100, rng.randint(40, 130))) for _ in range(rows)],
        "counter": [str(7 * i) for i in range(rows)],
        "float32": [repr(float(np.float32(rng.gauss(0, 10)))) for _ in range(rows)],
    }[rng.choice(("wave", "pump", "percent", "counter", "float32"))]
    lines = [["date", "value"], *([str(begin + timedelta(seconds=i * step)), value] for i, value in enumerate(values))]
    if noted:
        at = rng.choice((1, 2))
        for line in lines:
            line.insert(at, "note" if line is lines[0] else rng.choice(NOTES) if rng.random() < 0.2 else "")
    return lines, min(map(float, values)), max(map(float, values))


# -- mutations: of cells (lines of cells, in place), then of bytes


def _column(lines, name="value"):
    return next((i for i, cell in enumerate(lines[0]) if cell.strip(' \t"') == name), 0)


def _at(lines, rng, name="value"):
    """(a row below the header, where it has that cell)"""
    row = rng.choice(lines[1:])
    return row, min(_column(lines, name), len(row) - 1)


def _into(words, name):
    def mutate(lines, rng):
        row, at = _at(lines, rng, name)
        row[at] = rng.choice(words)

    return mutate


def placeholders(lines, rng):
    placeholder, at = rng.choice(PLACEHOLDERS), _column(lines)
    for row in rng.sample(lines[1:], max(1, int((len(lines) - 1) * rng.choice((0.001, 0.02, 0.06, 0.2, 0.4))))):
        row[at:] = [placeholder, *row[at + 1 :]]


def huge(lines, rng):
    for _ in range(rng.choice((1, 1, 3, 9))):
        row, at = _at(lines, rng)
        row[at] = f"{rng.choice('+-')}{rng.random() * 10.0 ** rng.randint(-330, 308)!r}"


def quote(lines, rng):
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(lines)
        at = rng.randrange(len(row))
        cut = rng.choice((0, 0, 0, len(row[at]), rng.randint(0, len(row[at]))))
        row[at] = f'{row[at][:cut]}"{row[at][cut:]}'


def zone_everywhere(lines, rng):
    zone = rng.choice(ZONES)
    for row in lines[1:]:
        row[0] += zone


def zone(lines, rng):
    _at(lines, rng, "date")[0][0] += rng.choice(ZONES)


def remove_cell(lines, rng):
    row = rng.choice(lines)
    del row[rng.randrange(len(row))]
    row += [] if row else ["?"]


def add_cell(lines, rng):
    row = rng.choice(lines)
    row.insert(rng.randint(0, len(row)), rng.choice(("", "1", "x", "2020-01-01")))


def delete_lines(lines, rng):
    begin = rng.randrange(1, len(lines))
    del lines[begin : begin + rng.choice((1, 1, 5, 40))]


def duplicate_line(lines, rng):
    lines.insert(rng.randint(1, len(lines)), list(rng.choice(lines)))


def reorder(lines, rng):
    a, b = sorted(rng.sample(range(1, len(lines) + 1), 2))
    lines[a:b] = rng.sample(lines[a:b], b - a) if rng.random() < 0.5 else lines[a:b][::-1]


def join_lines(lines, rng):
    at = rng.randrange(1, len(lines))
    lines[at - 1] += lines.pop(at)


def swap_columns(lines, rng):
    for row in lines:
        row.reverse()


def rename(lines, rng):
    lines[0][rng.randrange(len(lines[0]))] = rng.choice(NAMES)


def no_header(lines, rng):
    del lines[0]


def twice_over(lines, rng):
    lines += [list(row) for row in lines]


def quote_all(lines, rng):
    for row in lines:
        row[:] = [cell if '"' in cell else f'"{cell}"' for cell in row]


def iso_t(lines, rng):
    for row in lines[1:]:
        row[0] = row[0].replace(" ", "T")


def blank_lines(lines, rng):
    for _ in range(3):
        lines.insert(rng.randint(0, len(lines)), [rng.choice(("", " ", "  "))])


def trailing_blanks(lines, rng):
    for row in lines:
        row[:] = [cell if '"' in cell else f" {cell}\t" for cell in row]


def flip(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def insert(raw, rng):
    at, odd = (
        rng.randint(0, len(raw)),
        (b"\0", b"\r", b"\n", b'"', b",", b";", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x0c", b"\x85", b"-"),
    )
    return raw[:at] + rng.choice((*odd, bytes([rng.randrange(256)]))) + raw[at:]


def cut_out(raw, rng):
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.choice((1, 1, 3, 40)) :]


def truncate(raw, rng):
    return raw[: rng.randint(0, len(raw))]


def separators(raw, rng):
    return raw.replace(b",", rng.choice((b";", b"\t", b"|", b", ")), rng.choice((1, 2, -1)))


def encoding(raw, rng):
    return raw.decode(errors="replace").encode(rng.choice(("utf-16", "latin-1", "cp037", "utf-7")), errors="replace")


def crlf(raw, rng):
    return raw.replace(b"\n", b"\r\n")


def cr(raw, rng):
    return raw.replace(b"\n", b"\r")


def bom(raw, rng):
    return b"\xef\xbb\xbf" + raw


HARMLESS = (quote_all, iso_t, blank_lines, trailing_blanks, crlf, cr, bom)
OF_CELLS = (
    quote_all,
    iso_t,
    blank_lines,
    trailing_blanks,
    placeholders,
    placeholders,
    huge,
    quote,
    quote,
    zone_everywhere,
    zone,
    remove_cell,
)
OF_CELLS += (add_cell, delete_lines, duplicate_line, reorder, join_lines, swap_columns, rename, no_header, twice_over)
OF_CELLS += (_into(WORDS, "value"), _into(WORDS, "value"), _into(CLOCKS, "date"), _into(NOTES, "note"))
OF_BYTES = (flip, flip, insert, insert, cut_out, truncate, separators, encoding, crlf, cr, bom)


def case(number):
    """(bytes, mutations, lowest and highest value of the sound file) of a number."""
    rng = random.Random(SEED * 10**9 + number)
    lines, low, high = base(rng)
    chosen = rng.sample(range(len(OF_CELLS) + len(OF_BYTES)), rng.choice((1, 1, 1, 2, 3)))
    chosen = [(*OF_CELLS, *OF_BYTES)[i] for i in sorted(chosen)]
    for mutate in chosen:
        if mutate in OF_CELLS and len(lines) > 2:
            mutate(lines, rng)
    raw = "\n".join(map(",".join, lines)).encode(errors="surrogatepass") + b"\n" * rng.randint(0, 1)
    for mutate in chosen:
        if mutate in OF_BYTES and raw:
            raw = mutate(raw, rng)
    return raw, chosen, (low, high)


# -- the plain reading


class Unreadable(Exception):
    """What no reading may accept."""


def plain(raw):
    """[(first line, cells, its lines)] of every record that is not blank."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("no UTF-8") from error
    if "\0" in text:
        raise Unreadable("NUL")
    lines = re.split("\r\n|\r|\n", text)
    records, at = [], 0
    while at < len(lines):
        if '"' in lines[at]:
            cells, used = _quoted(lines, at)
        else:
            cells, used = [cell.lstrip(" ") for cell in lines[at].split(",")], 1
        if len(cells) > 1 or cells[0].strip(" \t"):
            records.append((at + 1, cells, lines[at : at + used]))
        at += used
    return records


def _quoted(lines, at):
    """(cells, number of lines) of the record that begins there, a character at a time."""
    cells, used, rest = [], 1, lines[at]
    while True:
        rest = rest.lstrip(" ")
        if not rest.startswith('"'):
            cell, comma, rest = rest.partition(",")
        else:
            cell, rest = "", rest[1:]
            while True:
                inside, mark, rest = rest.partition('"')
                cell += inside
                if not mark:
                    if at + used >= len(lines):
                        raise Unreadable("a quotation mark left open")
                    cell, rest, used = cell + "\n", lines[at + used], used + 1
                elif rest.startswith('"'):
                    cell, rest = cell + '"', rest[1:]
                else:
                    break
            comma, rest = rest[:1], rest[1:]
            if comma not in ("", ","):
                raise Unreadable("text after a quotation mark")
        cells.append(cell)
        if not comma:
            return cells, used


def clock(text):
    text = text.strip(" \t")
    date, space, hours = text.partition(" " if " " in text else "T")
    day = re.fullmatch(r"([0-9]{4})([-/])([0-9]{1,2})(?:\2([0-9]{1,2}))?", date)
    at = re.fullmatch(r"([0-9]{2})|([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.([0-9]+))?)?", hours)
    if not day or (space and not (at and day[4])):
        return None
    hour, minute, second, fraction = (at[1] or at[2], at[3], at[4], at[5] or "") if at else (0, 0, 0, "")
    if fraction.rstrip("0")[6:]:
        return None
    whole = [int(part or 0) for part in (day[1], day[3], day[4] or 1, hour, minute, second)]
    try:
        return np.datetime64(datetime(*whole, int(fraction.ljust(6, "0")[:6])), "us")
    except ValueError:
        return None


def number(text):
    text = text.strip(" \t")
    if not text or set(text) - set("0123456789+-.eE"):
        return None
    try:
        return float(text) if math.isfinite(float(text)) else None
    except ValueError:
        return None


def _swallows(records):
    """Whether a cell with line breaks holds what looks like a row."""
    width = len(records[0][1])
    for i, (_, _, lines) in enumerate(records):
        for line in lines[1:]:
            cells = line.split(",")
            if any(re.match(r"[0-9]{4}[-/][0-9]", cell.strip(' \t"')) for cell in cells) or (i and len(cells) >= width):
                return True
    return False


# -- the judgement


def _attempt(call):
    """(result, error, seconds)"""
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return call(), None, time.process_time() - began
    except Exception as error:
        return None, error, time.process_time() - began


def _misread(raw, names, rows):
    """What is wrong with rows, {line: (time, value)}, of an accepted file; -> (complaint or None, {line: cells} of the
    plain reading)."""
    try:
        records = plain(raw)
    except Unreadable as reason:
        return f"accepted: {reason}", {}
    if _swallows(records):
        return "a cell swallowed a row", {}
    header = [name.strip() for name in records[0][1]]
    at = [header.index(re.sub("\r\n|\r|\n", "\n", name)) for name in names]
    found = {
        line: (cells[at[0]], cells[at[1]]) if len(cells) == len(header) else None for line, cells, _ in records[1:]
    }
    for line, (when, value) in rows.items():
        cells = found.get(line)
        if cells is None or clock(cells[0]) != when or number(cells[1]) != value:
            return f"line {line} was read as {when}, {value}, but is {cells}", found
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
        csv_file.check(frame)
        return sets.load(str(path), target=target)

    dataset, error, seconds = _attempt(call)
    if error or seconds > SLOW:
        return bool(error), _undocumented(error, seconds) or _refused_though_sound(error, mutations)
    rows = dict(zip(frame.index, zip(dataset.times.astype("datetime64[us]"), dataset.values, strict=True), strict=True))
    complaint, found = _misread(raw, frame.columns, rows)
    if not complaint and set(rows) != set(found):
        complaint = f"lines {sorted(set(found) - set(rows))[:5]} were lost"
    if not complaint and placeholders in mutations and huge not in mutations:
        passed = set(map(float, PLACEHOLDERS)) & set(dataset.values)
        complaint = f"placeholders passed: {passed}" if passed else None
    return False, complaint


def _judge_cleaned(raw, limits, frame):
    def call():
        cleaned, report = csv_file.clean(frame)
        return cleaned, report, csv_file.check(cleaned)

    result, error, seconds = _attempt(call)
    if error or seconds > SLOW:
        complaint = _undocumented(error, seconds)
        return bool(error), complaint or (f"CLEAN=1 left a fault: {error}" if "CLEAN=1" in str(error) else None)
    frame, report, (times, values, _) = result
    rows = dict(zip(frame.index, zip(times.astype("datetime64[us]"), values, strict=True), strict=True))
    complaint, found = _misread(raw, frame.columns, rows)
    if complaint:
        return False, complaint
    dropped = sum(int(re.match(r"dropped (\d+)", sentence)[1]) for sentence in report if sentence.startswith("dropped"))
    if len(found) != len(rows) + dropped or (np.diff(times) <= np.timedelta64(0)).any():
        return False, f"of {len(found)} rows {len(rows)} were kept, but {dropped} reported as dropped"
    kept = {when for when, _ in rows.values()}
    for line in set(found) - set(rows):
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
                    complaints.append(f"WRONG csvs.case({i}){', CLEAN=1' * clean}, {names}: {complaint!a}")
    return tally, complaints


def attack(short):
    """Outcomes without and with CLEAN=1."""
    count, tally = SHORT if short else LONG, Counter()
    workers = min(2, os.cpu_count() or 1)
    print(f"seed {SEED}, files 0 to {count - 1}; one again: tests.attack.csvs.case(number)", flush=True)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for part, complaints in pool.map(
            _batch, [range(i, min(i + 500, count)) for i in range(0, count, 500)], timeout=3600
        ):
            tally += part
            print("\n".join(complaints), end="\n" * bool(complaints), flush=True)
    for clean, what in enumerate(("mutated CSVs", "mutated CSVs, CLEAN=1")):
        refused, right, wrong = (tally[clean, outcome] for outcome in ("refused", "right", "wrong"))
        yield Outcome("csvs", what, refused + right + wrong, refused, right, wrong, f"seed {SEED}")
