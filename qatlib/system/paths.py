"""Every folder, once."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
# Else a wheel was installed, on a board: what is made goes to the folder in use.
CHECKOUT = (PACKAGE.parent / "pyproject.toml").is_file()
ROOT = PACKAGE.parent if CHECKOUT else Path.cwd()
BUILD = Path(os.environ.get("QATLIB_BUILD") or ROOT / "build").resolve()  # run cache and executed notebooks
FIGURES = Path(os.environ.get("QATLIB_FIGURES") or ROOT / "paper_figures").resolve()
TABLES = FIGURES / "tables"
STYLE = PACKAGE / "system" / "figures.mplstyle"  # of every figure, on a board too
EMBEDDED = ROOT / "data"  # the data set that ships with the project
OVERLAYS = ROOT / "overlays" if CHECKOUT else PACKAGE / "overlays"
MODELS = OVERLAYS / "models"  # the trained models that ship with it: see `device.shipped`
NOTEBOOKS = ROOT / "notebooks"

# The rooms of this package, in the order of imports: each takes only from those before it; mcu and engine are
# neighbours. The first six need NumPy alone (board: pynq and matplotlib besides), and are what a board gets.
LOWER = ("system", "integer_model", "device", "mcu", "engine", "board")
ROOMS = (*LOWER, "data", "float_model", "quantised_model", "runs", "studies", "live", "make")
