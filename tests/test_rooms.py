"""The one-way rule of the house: who may import whom, and what the lower half may need."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter

import pytest

from qatlib.system import paths

MODULES = {
    ".".join(path.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in paths.PACKAGE.rglob("*.py")
}
NEIGHBOURS = {("mcu", "engine"), ("engine", "mcu")}


def imported(path):
    """Names of everything that a module imports, at its top or inside of a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in whole)


def own(path):
    return {name for name in imported(path) if name.partition(".")[0] == "qatlib"}


def room(module):
    return module.split(".")[1] if "." in module else ""


def test_every_folder_is_a_room():
    assert {path.name for path in paths.PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(
        paths.ROOMS
    )
    assert [path.name for path in paths.PACKAGE.iterdir() if path.is_file()] == ["__init__.py"]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    order = ["", *paths.ROOMS]
    for other in own(MODULES[module]):
        assert order.index(room(other)) <= order.index(room(module)), f"{module} imports {other}"
        assert (room(module), room(other)) not in NEIGHBOURS, f"{module} imports {other}"


def test_no_module_imports_itself_by_way_of_others():
    """The packages' own __init__ hand names on; circles are looked for among the modules behind them."""
    inner = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}
    TopologicalSorter({name: own(path) & inner.keys() for name, path in inner.items()}).prepare()


def test_an_init_hands_names_on_and_does_nothing_else():
    for path in paths.PACKAGE.glob("*/__init__.py"):
        kinds = {type(node) for node in ast.parse(path.read_text()).body}
        assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, path


def test_files_and_functions_are_short():
    """300 lines a file, 40 a function: what is longer holds more than one concern."""
    python = [*paths.PACKAGE.rglob("*.py"), *(paths.ROOT / "tests").rglob("*.py")]
    files = [*python, *(paths.OVERLAYS / "engine").glob("*.sv")]
    assert len(python) < len(files)
    lengths = {str(path): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}
    nodes = [(path, node) for path in python for node in ast.walk(ast.parse(path.read_text()))]
    functions = [(path, node) for path, node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{path}: {node.name}": node.end_lineno - node.lineno + 1 for path, node in functions}
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}


def test_the_lower_half_imports_with_numpy_alone():
    """Every module of it, in a process that finds the standard library, NumPy and this package only; a board's also
    pynq and matplotlib."""
    lower = [name for name in MODULES if room(name) in paths.LOWER]
    script = f"""
import sys

class Bare:
    allowed = {{*sys.stdlib_module_names, "numpy", "qatlib"}}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"there is no {{name}} here", name=name)

sys.meta_path.insert(0, Bare())
for name in {[name for name in lower if room(name) != "board"]}:
    __import__(name)
for name in ("torch", "pandas", "seaborn", "scipy"):
    sys.modules[name] = None
sys.meta_path.pop(0)
for name in {[name for name in lower if room(name) == "board"]}:
    __import__(name)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, cwd=paths.ROOT)
