"""Sensor data: known data sets, a user's CSV, and what sensors do wrong."""

from qatlib.data.cleaning import check, clean
from qatlib.data.csv_file import read
from qatlib.data.sets import SPLITS, Dataset, Windows, load
from qatlib.data.sources import Unavailable

__all__ = ["SPLITS", "Dataset", "Unavailable", "Windows", "check", "clean", "load", "read"]
