"""What goes to a board, and a rehearsal of it here.

    python -m qatlib.make.packaging archive           build/qatlib-board.tar.gz: wheel, install script
    python -m qatlib.make.packaging rehearse 3.1.2    install that beside this pynq, without torch, and run the notebook

Needs the standard library alone.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from qatlib.make.gallery import without_gallery
from qatlib.system.paths import BUILD, LOWER, NOTEBOOKS, OVERLAYS, PACKAGE, ROOMS, ROOT

NOTEBOOK = "07_pynq_overlay.ipynb"
PYTHONS = {"3.1.2": "3.10", "4.0.0": "3.12"}  # pynq: the Python of its image
TIMEOUT = 1200  # seconds for any step


class BoardError(RuntimeError):
    """A step that failed, with the end of its output."""


def archive():
    """Build the wheel and pack it with the install script. -> the archive."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "qatlib-board"
        _stage(source)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
        _run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", target, source])
        shutil.copy(OVERLAYS / "install.sh", target)
        BUILD.mkdir(parents=True, exist_ok=True)
        packed = BUILD / "qatlib-board.tar.gz"
        with tarfile.open(packed, "w:gz") as tar:
            tar.add(target, target.name)
    boards = sorted(path.parent.name for path in OVERLAYS.glob("*/engine.bit"))
    held = (
        f"bitstreams: {', '.join(boards)}"
        if boards
        else "no bitstream, which a board needs (make overlay BOARD=.. makes one)"
    )
    print(f"{packed}: {packed.stat().st_size / 1e6:.1f} MB; {held}")
    return packed


def _stage(folder):
    """Copy what the wheel is made of, the lower half of the package: not from the working tree itself, since setuptools
    leaves things lying about and finds old ones."""
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*(f"qatlib/{room}" for room in LOWER), "overlays"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    (folder / NOTEBOOKS.name).mkdir()
    for path in (
        PACKAGE / "__init__.py",
        NOTEBOOKS / "__init__.py",
        ROOT / "README.md",
        ROOT / "LICENSE",
    ):
        shutil.copy(path, folder / path.relative_to(ROOT))
    (folder / NOTEBOOKS.name / NOTEBOOK).write_bytes(without_gallery(NOTEBOOKS / NOTEBOOK))
    upper = "|".join(room for room in ROOMS if room not in LOWER)
    described = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(re.sub(rf'^ *"qatlib\.({upper})".*\n', "", described, flags=re.MULTILINE))


def rehearse(pynq):
    """In an environment like that of a board with this version of pynq: install the archive, run the notebook, look at
    what it left."""
    bin_folder = _environment(pynq)
    home = bin_folder.parent / "home"
    shutil.rmtree(home, ignore_errors=True)
    with tarfile.open(archive()) as tar:
        tar.extractall(home)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("QATLIB_", "PYTHON", "VIRTUAL_ENV"))
    }
    clean["QATLIB_BUILD"] = str(BUILD)  # so that the RTL is compiled once
    clean["PATH"] = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    _run(["sh", home / "qatlib-board" / "install.sh", home], cwd=home, env=clean)
    delivered = home / "qatlib" / NOTEBOOK
    options = ["--cwd", delivered.parent, "--kernel", "python3", "--execution-timeout", "900", "--no-progress-bar"]
    _run([bin_folder / "python", "-m", "papermill", *options, delivered, home / "executed.ipynb"], cwd=home, env=clean)
    _look_at(home)
    print(f"pynq {pynq}: {NOTEBOOK} ran from end to end, without torch; {home / 'executed.ipynb'}")


def _environment(pynq):
    """The virtual environment of that pynq, made anew when its list of packages has changed. -> its bin/."""
    packages = ROOT / "tests" / "board" / f"pynq-{pynq}.txt"
    folder = BUILD / f"board-{pynq}"
    stamp = folder / f"made-from-{hashlib.sha256(packages.read_bytes()).hexdigest()[:16]}"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([*_python(PYTHONS[pynq]), "-m", "venv", folder])
        _run(
            [
                folder / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "-r",
                packages,
            ]
        )
        stamp.touch()
    return folder / "bin"


def _python(version):
    """The command of a Python, by way of pyenv too."""
    command = ["env", f"PYENV_VERSION={version}", f"python{version}"]
    if subprocess.run([*command, "-c", "import ensurepip, venv"], capture_output=True, timeout=60).returncode:
        raise BoardError(f"python{version} is missing: the board's image has it, so the rehearsal needs it")
    return command


def _look_at(home):
    """BoardError unless the executed notebook says that it was simulated, agrees with NumPy, had no torch, and left its
    files."""
    cells = json.loads((home / "executed.ipynb").read_text())["cells"]
    text = "".join(json.dumps(cell.get("outputs", "")) for cell in cells)
    found = home / "qatlib" / "paper_figures" / "tables" / "07_pynq_overlay.csv"
    wrong = [
        *(["it does not say 'simulated RTL'"] if "simulated RTL" not in text else []),
        *(["its models are not those that ship"] if "jfk-weather ['W8A8', 'W4A4', 'W2A2']" not in text else []),
        *(
            ["an output differs from NumPy's"]
            if not found.is_file() or re.search("false", found.read_text(), re.IGNORECASE)
            else []
        ),
        *(
            f"{name} is missing"
            for name in ("07_times.svg", "07_forecast.png")
            if not (found.parent.parent / name).is_file()
        ),
    ]
    if wrong:
        raise BoardError(f"{home / 'executed.ipynb'}: {'; '.join(wrong)}")


def _run(command, **options):
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )
    if done.returncode:
        raise BoardError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")


def main(arguments):
    """-> the exit status."""
    try:
        if arguments == ["archive"]:
            archive()
        elif len(arguments) == 2 and arguments[0] == "rehearse" and arguments[1] in PYTHONS:
            rehearse(arguments[1])
        else:
            print(f"archive, or rehearse with one of {', '.join(PYTHONS)}\n\n{__doc__}", file=sys.stderr)
            return 2
    except BoardError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
