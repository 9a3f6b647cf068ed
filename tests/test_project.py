"""The project's own files agree with each other."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from qatlib.make import kept_output
from qatlib.system.paths import NOTEBOOKS, ROOT

NOTEBOOK_FILES = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
NAMED = {"jupyterlab", "torch", "numpy", "pandas", "seaborn", "papermill", "pynq", "pytest"}


def pins(text):
    return {name.lower(): version for name, version in re.findall(r"^(?:\s+- )?([\w.-]+)==(\S+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def lock():
    return pins((ROOT / "requirements.lock").read_text())


@pytest.fixture(scope="module")
def environment():
    return pins((ROOT / "environment.yml").read_text())


def direct_dependencies():
    """Names in `dependencies` and in every extra of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()  # tomllib is not in Python 3.10
    arrays = re.findall(
        r"^(?:dependencies|train|board|serial|site|engine|mcu|dev) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL
    )
    return {re.match(r"[\w.-]+", entry)[0].lower() for array in arrays for entry in re.findall(r'"(.*?)"', array)}


def test_every_line_of_the_lock_is_a_pin(lock):
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(lines) == len(lock)


def test_environment_names_the_direct_dependencies_at_the_versions_of_the_lock(lock, environment):
    assert direct_dependencies() == set(environment)
    assert environment == {name: lock[name] for name in environment}
    assert set(environment) >= NAMED


def notebook_cells():
    assert NOTEBOOK_FILES
    for path in NOTEBOOK_FILES:
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            yield f"{path.name} cell {number}", cell


def test_notebooks_are_committed_without_outputs():
    """But for the live model, in which whoever reads a notebook where none is run has something to try."""
    kept = {place: cell["outputs"] for place, cell in notebook_cells() if kept_output.kept(cell)}
    assert list(kept.values()) == [[kept_output.output()]], "python -m qatlib.make.kept_output"
    for place, cell in notebook_cells():
        assert place in kept or not cell.get("outputs"), place
        assert cell.get("execution_count") is None, place


def test_notebook_cells_are_short():
    for place, cell in notebook_cells():
        lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
        assert cell["cell_type"] != "code" or len(lines) <= 15, place


def test_notebooks_share_kernel_and_parameters():
    kernels = {json.loads(path.read_text())["metadata"]["kernelspec"]["name"] for path in NOTEBOOK_FILES}
    assert kernels == {"python3"}
    tagged = [
        "".join(cell["source"]) for _, cell in notebook_cells() if "parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(tagged) == len(NOTEBOOK_FILES)
    assert len(set(tagged)) == 1


def test_every_committed_figure_is_in_the_gallery_of_its_notebook():
    """With words for whoever cannot see it; each gallery is its notebook's last cell."""
    shown = []
    for path in NOTEBOOK_FILES:
        *others, gallery = json.loads(path.read_text())["cells"]
        assert gallery["metadata"].get("tags") == ["gallery"] and gallery["cell_type"] == "markdown", path.name
        assert not any("gallery" in cell["metadata"].get("tags", []) for cell in others), path.name
        images = re.findall(r"!\[(.*?)\]\((.*?)\)", "".join(gallery["source"]))
        assert images and all(len(text.split()) > 5 for text, _ in images), path.name
        assert all(name.startswith(f"../paper_figures/{path.name[:3]}") for _, name in images), path.name
        shown += [(NOTEBOOKS / name).resolve() for _, name in images]
    assert sorted(shown) == sorted((ROOT / "paper_figures").glob("[0-9][0-9]_*.png"))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_finds_nothing(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, ROOT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def make(*arguments, folder=ROOT):
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_make_help_names_every_target_and_variable():
    described = set(re.findall(r"^(?:make |  )([\w-]+)", make().stdout, re.MULTILINE))
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()) - {"help"}
    assert described == targets | set(re.findall(r"^([A-Z_]+) =", text, re.MULTILINE))


def test_make_refuses_an_unknown_variable():
    done = make("figures", "PROFIL=quick")
    assert done.returncode == 2
    assert "unknown variable PROFIL" in done.stderr


@pytest.fixture
def bare(tmp_path):
    """The files that .venv is made from, in a folder with a blank in its name."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_make_names_the_python_it_needs(bare):
    done = make("test", "PYTHON=false", folder=bare)
    assert done.returncode == 2
    assert "false is not Python 3.11 or 3.12" in done.stderr
    assert not (bare / ".venv").exists()


def test_venv_is_stale_when_the_lock_has_changed_not_when_it_was_touched(bare):
    made = re.search(r"\.venv/made-from-\S+", make("test", "--dry-run", folder=bare).stdout)[0]
    (bare / ".venv").mkdir()
    (bare / made).touch()
    (bare / "requirements.lock").touch()
    assert "-m venv" not in make("test", "--dry-run", folder=bare).stdout
    (bare / "requirements.lock").write_text("numpy==1.26.4\n")
    assert "-m venv" in make("test", "--dry-run", folder=bare).stdout
