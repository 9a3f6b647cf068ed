"""Mutated CSVs, each of its number alone: `case(number)`."""

import math
import random
from datetime import datetime, timedelta

import numpy as np

SEED = 2026
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
