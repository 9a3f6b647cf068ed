"""What goes to a board. `make test-board` installs and runs it."""

import json
import subprocess
import sys
import tarfile
import zipfile

import pytest

from qatlib.make import packaging
from qatlib.system import paths


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packaging, "BUILD", tmp_path_factory.mktemp("build"))
        return packaging.archive()


@pytest.fixture(scope="module")
def wheel(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    (path,) = (folder / "qatlib-board").glob("qatlib-*.whl")
    return zipfile.ZipFile(path)


def test_archive_holds_wheel_and_script(archive):
    with tarfile.open(archive) as tar:
        names = sorted(name for name in tar.getnames() if "/" in name)
    assert len(names) == 2 and names[0].endswith("/install.sh") and names[1].endswith(".whl")


def test_wheel_holds_notebook_models_and_design(wheel):
    names = set(wheel.namelist())
    wanted = {
        "notebooks/07_pynq_overlay.ipynb",
        "overlays/engine/engine.sv",
        "overlays/models/jfk-weather/recording.npy",
        "overlays/models/occupancy/labels.npy",
        "engine/shim.cpp",
    }
    assert {f"qatlib/{name}" for name in wanted} <= names
    assert not [
        name for name in names if "etth1" in name or name.endswith(".csv") or "/0" in name.replace("/07_pynq", "")
    ]


def test_notebook_on_the_board_names_no_committed_figure(wheel):
    assert b"../paper_figures/" in (paths.NOTEBOOKS / packaging.NOTEBOOK).read_bytes()
    assert b"paper_figures" not in wheel.read(f"qatlib/notebooks/{packaging.NOTEBOOK}")


def test_wheel_holds_the_lower_half_and_nothing_else(wheel):
    rooms = {name.split("/")[1] for name in wheel.namelist() if name.startswith("qatlib/")}
    assert rooms == {"__init__.py", *paths.LOWER, "notebooks", "overlays"}


def test_pynq_finds_notebook_and_overlays(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(name).decode()
    assert "[pynq.notebooks]\nqatlib = qatlib.notebooks" in text and "[pynq.overlays]\nqatlib = qatlib.overlays" in text


def test_install_script_is_sound_and_names_what_it_misses(archive, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path)
    script = tmp_path / "qatlib-board" / "install.sh"
    subprocess.run(["sh", "-n", script], check=True)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        ["sh", script], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=60
    )
    assert done.returncode == 1 and "lacks numpy, matplotlib or pynq" in done.stderr


@pytest.fixture
def home(tmp_path):
    """What a rehearsal that went well leaves."""
    tables = tmp_path / "qatlib" / "paper_figures" / "tables"
    tables.mkdir(parents=True)
    (tables / "07_pynq_overlay.csv").write_text("width,equal_to_numpy\nW8A8,True\n")
    for name in ("07_times.svg", "07_forecast.png"):
        (tables.parent / name).touch()
    output = {"text": "jfk-weather ['W8A8', 'W4A4', 'W2A2'] simulated RTL pynq-z2"}
    (tmp_path / "executed.ipynb").write_text(json.dumps({"cells": [{"outputs": [output]}, {}]}))
    return tmp_path


def test_rehearsal_that_went_well(home):
    packaging._look_at(home)


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("executed.ipynb", "simulated RTL", "", "does not say 'simulated RTL'"),
        ("executed.ipynb", "jfk-weather", "etth1", "not those that ship"),
        ("qatlib/paper_figures/tables/07_pynq_overlay.csv", "True", "False", "differs from NumPy"),
    ],
)
def test_rehearsal_that_went_wrong(home, name, old, new, message):
    (home / name).write_text((home / name).read_text().replace(old, new))
    with pytest.raises(packaging.BoardError, match=message):
        packaging._look_at(home)


def test_failed_step_shows_its_end():
    with pytest.raises(packaging.BoardError, match="no such thing"):
        packaging._run([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize("arguments", [[], ["rehearse"], ["rehearse", "2.7"]])
def test_usage(arguments, capsys):
    assert packaging.main(arguments) == 2
    assert "3.1.2, 4.0.0" in capsys.readouterr().err


def test_python_that_is_missing(monkeypatch):
    with pytest.raises(packaging.BoardError, match=r"python9\.9 is missing"):
        packaging._python("9.9")
