"""Measurements: tables that no notebook has the time to make, kept beside what was measured, each with a stamp.

`engine.csv` has its stamp in `engine.json`: the SHA-256 of each part that it was taken of, the versions of the tools,
and the processor. A notebook reads the table whatever its stamp; whether the parts are still those is asked here.
"""

import hashlib
import json
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from qatlib.system import disk, paths

RTL = {"the RTL": ("overlays/engine/*.sv",)}
FORECASTERS = ("overlays/models/etth1/*.safetensors", "overlays/models/jfk-weather/*.safetensors")
DEFAULT = ("overlays/models/etth1/patch-c336-d16-w[48]*.safetensors",)
DECISIONS = ("overlays/models/occupancy/*.safetensors", "overlays/models/jfk-weather-faults/*.safetensors")
TRAINING = {
    "the training code": ("qatlib/float_model/*.py", "qatlib/quantised_model/*.py", "qatlib/quantised_model/*.cpp")
}
LINE = {
    "the serial line": ("overlays/serial/*.sv", "overlays/small/*.sv", "qatlib/engine/serial_line.py"),
    "the bitstreams": ("overlays/*/engine.json",),
}
FIRMWARE = {"the C": ("qatlib/mcu/*.py", "qatlib/mcu/*.c")}


@dataclass(frozen=True)
class Measurement:
    """Where its table is, the parts that it is taken of ({what they are called: patterns of files}), and the command
    that takes it. Paths are those under ROOT."""

    table: str
    of: dict
    command: str

    @property
    def path(self):
        return paths.ROOT / self.table

    @property
    def stamp(self):
        """What was kept beside the table; {} where there is nothing."""
        place = self.path.with_suffix(".json")
        return json.loads(place.read_bytes()) if place.is_file() else {}

    def keep(self, table, packages, **tools):
        """Write the table (CSV, as text) and its stamp. packages: of Python, whose versions matter; tools: other
        ones."""
        stamp = {
            "of": {part: state(patterns) for part, patterns in self.of.items()},
            "tools": {package: version(package) for package in packages} | tools,
            "processor": processor(),
        }
        disk.make(self.path.parent)
        disk.write(self.path, table.encode())
        disk.write(self.path.with_suffix(".json"), (json.dumps(stamp, indent=1) + "\n").encode())

    def changed(self):
        """The parts that are not as they were when the table was taken."""
        taken = self.stamp.get("of", {})
        return [part for part, patterns in self.of.items() if taken.get(part) != state(patterns)]


MEASUREMENTS = {
    "engine": Measurement(
        "overlays/engine/measured/engine.csv", RTL | {"the ETTh1 models": FORECASTERS[:1]}, "make verify"
    ),
    "engine_checks": Measurement(
        "overlays/engine/measured/engine_checks.csv", RTL | {"the shipped models": FORECASTERS + DECISIONS},
        "make verify",
    ),
    "open_boards": Measurement(
        "overlays/serial/measured/open_boards.csv",
        RTL | LINE | {"the shipped models": FORECASTERS + DECISIONS}, "make verify-boards",
    ),
    "models": Measurement(
        "overlays/models/models.csv", {"the shipped models": FORECASTERS},
        "python -m qatlib.make.shipped_models forecasts",
    ),
    "decisions": Measurement(
        "overlays/models/decisions.csv", {"the shipped models": DECISIONS},
        "python -m qatlib.make.shipped_models decisions",
    ),
    "peers": Measurement("qatlib/quantised_model/measured/peers.csv", TRAINING, "make bench-peers"),
    "forecasters": Measurement("qatlib/mcu/measured/forecasters.csv", FIRMWARE, "make bench-peers"),
    "kernels": Measurement(
        "qatlib/mcu/measured/kernels.csv", FIRMWARE | {"the default models": DEFAULT},
        "make bench-kernels CMSIS_NN=<folder> MURISCV_NN=<folder>",
    ),
}  # fmt: skip


def state(patterns):
    """SHA-256 over names and contents of the files under ROOT that the patterns find."""
    files = sorted(path for pattern in patterns for path in paths.ROOT.glob(pattern))
    named = [f"{path.relative_to(paths.ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def note(name):
    """What a figure of this measurement has to say of it: nothing where all parts are as they were."""
    changed = MEASUREMENTS[name].changed()
    return f"{name}: measured of an earlier state of {' and '.join(changed)}" if changed else ""


def processor():
    """The processor's name, as Linux has it."""
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
