"""CSVs of two days of hours, one of them spoiled."""

import numpy as np

from qatlib.data import cleaning, csv_file

HOURS = np.datetime64("2020-01-01T00", "s") + np.arange(48) * np.timedelta64(3600, "s")
LINES = ["date,value", *(f"{time},{value}".replace("T", " ") for time, value in zip(HOURS, range(48)))]
FAULTY = 13  # index of the line that the tests spoil: 12:00, line 14 of the file


def write(tmp_path, text):
    path = tmp_path / "sensor.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def spoiled(*replacements):
    """The good file with the line of 12:00 replaced."""
    return "\n".join([*LINES[:FAULTY], *replacements, *LINES[FAULTY + 1 :]])


def check(tmp_path, text, target=None):
    """-> times, values, step"""
    path = write(tmp_path, text)
    times, (values,), step = cleaning.check(csv_file.read(path, target), path)
    return times, values, step
