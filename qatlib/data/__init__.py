"""Sensor data: known data sets, a user's CSV, and what sensors do wrong."""

from qatlib.data.cleaning import check, clean
from qatlib.data.csv_file import read
from qatlib.data.recording import Recording
from qatlib.data.series import SPLITS, Dataset, Windows
from qatlib.data.sets import load
from qatlib.data.sources import Unavailable

__all__ = ["SPLITS", "Dataset", "Recording", "Unavailable", "Windows", "check", "clean", "load", "read"]
