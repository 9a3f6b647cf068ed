"""What the cells of a CSV say: times, numbers, or neither; and how a text of a file is shown.

Times are year first (ISO 8601), because 01/02/2016 may be either month, to the microsecond, and carry no time zone;
numbers are decimal, in ASCII. Texts of a file are shown without what steers a terminal.
"""

import re
from itertools import islice

import numpy as np
import pandas as pd

CHUNK = 1 << 16  # cells that are parsed at a time
EXAMPLE = "2016-07-01 14:00:00"
CLOCK = r"\d{4}[-/]\d\d?(?:[-/]\d\d?(?:[T ]\d\d?(?::\d\d?(?::\d\d?(\.\d{1,6})?)?)?)?)?"
TIME = re.compile(rf"[ \t]*({CLOCK})(?(2)0*)[ \t]*", re.ASCII)
ZONE = r"(?:Z|(?:UTC|GMT)?[+\-\u2212]\d\d?(?::?\d\d){0,2}|UTC|GMT)"
ZONED = re.compile(rf"[ \t]*{CLOCK}\d*[ \t]*{ZONE}[ \t]*", re.ASCII | re.IGNORECASE)
NUMBER = re.compile(r"[ \t]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?[ \t]*", re.ASCII | re.IGNORECASE)


def printable(text):
    """A text with every character that does not print, or turns the writing direction, as an escape such as \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(cell):
    return f"{cell[:60]!r}{'..' * (len(cell) > 60)}" if isinstance(cell, str) else repr(cell)


def parse_times(cells):
    """Texts -> datetime64[us] (rows,), NaT for what is no time or carries a zone."""
    found = (TIME.fullmatch(cell) if isinstance(cell, str) else None for cell in cells)
    texts = iter(lambda: [match and match[1] for match in islice(found, CHUNK)], [])
    parsed = [pd.to_datetime(part, format="ISO8601", errors="coerce", cache=False).to_numpy() for part in texts]
    return np.concatenate([np.zeros(0, "datetime64[us]"), *parsed]).astype("datetime64[us]")


def is_time(cell):
    """Whether it looks like one, even with a zone, which is for `check` to refuse."""
    return isinstance(cell, str) and bool(TIME.fullmatch(cell) or ZONED.fullmatch(cell))


def parse_numbers(cells):
    """Texts -> float64 (rows,), the nearest to what is written; NaN for what is no number."""
    return np.array(
        [float(cell) if isinstance(cell, str) and NUMBER.fullmatch(cell) else np.nan for cell in cells],
        dtype=np.float64,
    )
