"""`pip install .`: with NumPy beside it and nothing else, the lower half runs what was exported."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from qatlib.device import shipped
from qatlib.system import paths

PARTS = ("qatlib", "overlays", "notebooks")
ALONE = """
import importlib, json, pkgutil, sys  # -S: there is nothing else than the standard library and the folder
from importlib.metadata import distribution
from pathlib import Path
folder, rooms = sys.argv[1], sys.argv[2:]
sys.path.append(folder)
import qatlib
from qatlib.device import shipped
from qatlib.mcu import export_c
for room in rooms:
    for module in pkgutil.iter_modules([str(Path(folder, "qatlib", room))]):
        importlib.import_module(f"qatlib.{room}.{module.name}")
model = shipped.load("jfk-weather", "patch-c336-d16-w4a4")
export_c(model, Path(folder, "c"), "forecaster")
told = {
    "from": qatlib.__file__,
    "version": [qatlib.__version__, distribution("qatlib").version],
    "requires": distribution("qatlib").requires,
    "digest": shipped.digest(model.forward(shipped.reference_windows("jfk-weather", model))),
}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What the package tells of itself where it was installed, from a copy: setuptools leaves things lying about."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    for part in PARTS:
        shutil.copytree(paths.ROOT / part, source / part, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True, timeout=300
    )
    for library in Path(numpy.__file__).parents[1].glob("numpy*"):
        if library.is_dir():
            (target / library.name).symlink_to(library)
    rooms = [room for room in paths.LOWER if room != "board"]  # which needs pynq
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, target, *rooms],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=target,
    )
    assert done.returncode == 0, done.stderr
    return target, json.loads(done.stdout)


def test_the_lower_half_runs_with_numpy_alone(installed):
    target, told = installed
    assert told["from"].startswith(str(target))
    assert told["digest"] == shipped.outputs()["jfk-weather", "patch-c336-d16-w4a4"]


def test_no_more_than_numpy_is_asked_for_and_extras_are_those_that_are_told(installed):
    requires = installed[1]["requires"]
    assert [line for line in requires if "extra ==" not in line] == ["numpy<2"]
    extras = set(re.findall(r'extra == "(\w+)"', " ".join(requires)))
    assert extras == set(re.findall(r"`(\w+)`", (paths.ROOT / "CHANGELOG.md").read_text().partition("extras:")[2]))


def test_everywhere_it_is_of_one_version(installed):
    told = re.search(r"^version: (\S+)$", (paths.ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    first = re.search(r"^## (\S+)$", (paths.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert {*installed[1]["version"], told, first} == {"1.0.0"}
