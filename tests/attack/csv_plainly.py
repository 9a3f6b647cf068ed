"""A plain reading of a CSV, by code that shares nothing with `qatlib.data`."""

import math
import re
from datetime import datetime

import numpy as np


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


def swallows(records):
    """Whether a cell with line breaks holds what looks like a row."""
    width = len(records[0][1])
    for i, (_, _, lines) in enumerate(records):
        for line in lines[1:]:
            cells = line.split(",")
            if any(re.match(r"[0-9]{4}[-/][0-9]", cell.strip(' \t"')) for cell in cells) or (i and len(cells) >= width):
                return True
    return False
