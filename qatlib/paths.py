"""Every folder, once."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("QATLIB_BUILD") or ROOT / "build").resolve()  # run cache and executed notebooks
FIGURES = Path(os.environ.get("QATLIB_FIGURES") or ROOT / "paper_figures").resolve()
TABLES = FIGURES / "tables"
EMBEDDED = ROOT / "data"  # the data set that ships with the project
NOTEBOOKS = ROOT / "notebooks"
