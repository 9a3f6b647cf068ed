"""`python -m qatlib.make.figures` on small notebooks: what runs, what is left alone, how it fails."""

import ast
import json
import os
import re
import subprocess
import sys
import time

import nbformat
import pytest

from qatlib.data.sources import SOURCES, registry
from qatlib.make import execution, figures, manifest
from qatlib.system import disk, paths
from qatlib.system.console import plain

PARAMETERS = 'profile = "quick"\ndata = "auto"\ntarget = ""\nclean = False\ncontext = 336\nhorizon = 24'
FIGURE = (
    "from qatlib.system import paths\npaths.FIGURES.mkdir(exist_ok=True)\n(paths.FIGURES / "
    '"figure.csv").write_text(f"{profile},{context}")'
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Folder with build, figures and notebooks of its own, and a function that runs one of the notebooks."""
    for name in (*figures.READERS, "qatlib_data_dir"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("QATLIB_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("QATLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("DATA", "jfk-weather")
    return tmp_path


def write(folder, *sources, parameters=PARAMETERS, name="01_trial"):
    cells = [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def carry_out(*notebooks, **variables):
    command = [sys.executable, "-m", "qatlib.make.figures", *notebooks]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120)


def executed(project, name="01_trial"):
    return project / "build" / "notebooks" / f"{name}.ipynb"


def test_until_there_is_something_to_run_the_standard_library_is_enough():
    code = f"import sys; sys.path.append({str(paths.ROOT)!r}); import qatlib.make.figures; print(*sys.modules)"
    bare = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(bare, capture_output=True, text=True, timeout=60, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} <= {*sys.stdlib_module_names, "__main__", "qatlib"}


# Whatever notebook 11 and the runner write under a name of their own.
PAGES = {"manifest.json", "report.html", "README.md"}


def test_the_notebooks_write_what_is_committed_no_more_and_no_less():
    listed = subprocess.run(["git", "-C", paths.ROOT, "ls-files", "paper_figures"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no repository that tells what is committed")
    committed = {name.removeprefix("paper_figures/") for name in listed.stdout.split()}
    cells = [c for p in paths.NOTEBOOKS.glob("[0-9]*.ipynb") for c in json.loads(p.read_text())["cells"]]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert committed - PAGES == {name for call in calls for name in written_by(call)}


def written_by(call):
    """The files of `style.save(ax, "01_x", ..)`, `style.save_table(frame, "x")`, `panel.table("x", ..)`."""
    name = ast.unparse(call.func)
    at = {"style.save": 1, "panel.save": 1, "style.save_table": 1, "panel.table": 0}.get(name)
    if at is None:
        return []
    file = call.args[at].value
    return [f"{file}{end}" for end in (".svg", ".png", ".csv")] if name.endswith(".save") else [f"tables/{file}.csv"]


def test_an_unchanged_notebook_is_left_alone_and_the_manifest_tells_what_was_run(project):
    notebook = write(project, FIGURE)
    figure = project / "figures" / "figure.csv"
    given = {"PROFILE": "full", "CLEAN": "1"}
    assert carry_out(notebook, CONTEXT="48", **given).returncode == 0
    assert figure.read_text() == "full,48"
    os.utime(notebook)
    assert "[1/1 01_trial] unchanged (jfk-weather" in carry_out(notebook, CONTEXT="48", **given).stdout

    figure.unlink()
    assert "done" in carry_out(notebook, CONTEXT="48", **given).stdout
    assert figure.read_text() == "full,48"
    figure.write_text("altered")
    assert "done" in carry_out(notebook, CONTEXT="48", **given).stdout
    assert "done" in carry_out(notebook, CONTEXT="49", **given).stdout
    assert figure.read_text() == "full,49"

    found = json.loads((project / "figures" / "manifest.json").read_text())
    expected = {
        "data": "jfk-weather",
        "sha256": registry()[SOURCES["jfk-weather"].file],
        "seeds": [0, 1, 2, 3, 4],
        "profile": "full",
    }
    expected["parameters"] = {"profile": "full", "data": "jfk-weather", "clean": True, "context": 49}
    assert found | expected == found
    assert set(found) >= {"commit", "dirty", "versions", "threads", "processor"}
    assert set(found["versions"]) == {"python", *manifest.VERSIONS}
    assert set(found["seconds"]) == {"01_trial"}


def test_the_executed_copy_leaves_the_gallery_out(project):
    notebook = write(project, "print(6 * 7)")
    document = nbformat.read(notebook, 4)
    document.cells.append(nbformat.v4.new_markdown_cell("![seen](figure.png)", metadata={"tags": ["gallery"]}))
    nbformat.write(document, notebook)
    assert carry_out(notebook).returncode == 0
    assert "gallery" in notebook.read_text() and "gallery" not in executed(project).read_text()
    assert "42" in executed(project).read_text()


FAILS = "def broken():\n    raise KeyError(target)\n\nif pathlib.Path('broken').exists():\n    broken()"


def test_a_failure_names_notebook_cell_and_traceback_and_undoes_an_earlier_success(project):
    """Control characters in its text are shown, not obeyed."""
    notebook = write(project, "import pathlib\nprint('so far', target)", FAILS)
    (project / "broken").touch()
    done = carry_out(notebook, CONTEXT="48", TARGET="\x1b[2J\x07bell")  # so that papermill puts a cell in
    assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stdout + done.stderr
    assert "starts (data=jfk-weather, target=\\x1b[2J\\x07bell, context=48)" in done.stdout
    assert "[1/1 01_trial] so far \\x1b[2J\\x07bell" in done.stdout
    last_lines = done.stderr.splitlines()[-45:]
    assert any(line.startswith("FAILED in code cell 3: KeyError: ") for line in last_lines)
    assert any("raise KeyError(target)" in line for line in last_lines)
    assert last_lines[-1] == "[1/1 01_trial] not finished"
    assert not executed(project).exists()
    assert executed(project, "01_trial.failed").exists()

    (project / "broken").unlink()
    assert carry_out(notebook, CONTEXT="48").returncode == 0
    assert executed(project).exists()
    assert not executed(project, "01_trial.failed").exists()

    (project / "broken").touch()
    assert carry_out(notebook, CONTEXT="49").returncode == 1
    assert carry_out(notebook, CONTEXT="48").returncode == 1


def test_a_cell_that_takes_too_long_is_stopped(project):
    done = carry_out(write(project, "import time\ntime.sleep(60)"), QATLIB_CELL_TIMEOUT="1")
    assert done.returncode == 1
    assert "FAILED in code cell 2: TimeoutError: the cell took more than 1 s" in done.stderr
    assert "time.sleep(60)" in done.stderr
    assert not executed(project).exists()


def test_a_parameter_that_the_notebook_lacks_is_an_error_before_anything_runs(project):
    done = carry_out(write(project, parameters='profile = "quick"\ndata = "jfk-weather"'), CONTEXT="48")
    assert done.returncode == 1
    assert "no parameter context" in done.stderr


@pytest.mark.parametrize(
    ("variable", "text", "advice"),
    [
        ("PROFILE", "fast", "choose quick or full"),
        ("CLEAN", "yes", "choose 0 or 1"),
        ("TASK", "detcet", "choose one of forecast, classify, detect"),
        ("CONTEXT", "-1", "1 or more"),
        ("HORIZON", "0", "1 or more"),
        ("DATA", "missing.csv", "no such file"),
        ("DATA", "~nobody-of-this-name/x.csv", "no such file"),
        ("DATA", "x" * 300 + ".csv", "no such file"),
        ("DATA", "/dev/zero", "no regular file"),
        ("TARGET", "\udcff", "no UTF-8"),
        ("PROFILE", "\x1b[2J", "choose quick or full"),
    ],
)
def test_bad_parameters_are_refused(variable, text, advice):
    with pytest.raises(execution.PipelineError, match=f"^{variable}={re.escape(plain(text))}: .*{advice}"):
        figures.read_parameters({variable: text})


def test_parameters_are_read(tmp_path, monkeypatch):
    (tmp_path / "own.csv").touch()
    monkeypatch.chdir(tmp_path)
    environ = {"PROFILE": "full", "DATA": "own.csv", "TARGET": "oil temp", "INPUTS": "load", "CLEAN": "0"}
    environ |= {"CONTEXT": "96", "HORIZON": ""}
    expected = {
        "profile": "full",
        "data": str(tmp_path / "own.csv"),
        "target": "oil temp",
        "inputs": "load",
        "clean": False,
        "context": 96,
    }
    assert figures.read_parameters(environ) == expected


def test_a_task_of_the_users_data_has_a_notebook_alone(project):
    """And the manifest says what was classified."""
    csv = project / "pump.csv"
    rows = [f"2021-01-01T{i // 60:02}:{i % 60:02},{i % 7},{'on' if i // 9 % 2 else 'off'}" for i in range(100)]
    csv.write_text("\n".join(["date,a,state", *rows]))
    parameters = 'profile = "quick"\ndata = "auto"\ntarget = ""\ntask = "forecast"'
    notebooks = [write(project, "data", name=name, parameters=parameters) for name in ("12_other", "13_classify")]
    done = carry_out(*notebooks, TASK="classify", DATA=str(csv), TARGET="state")
    assert done.returncode == 0 and "12_other" not in done.stdout, done.stderr
    manifest = json.loads((project / "figures" / "manifest.json").read_text())
    assert manifest["data"] == "pump" and manifest["parameters"]["task"] == "classify"


def test_termination_shuts_the_kernel_down(project):
    alive = project / "alive"
    notebook = write(project, f"import os, time\nopen({str(alive)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")
    process = subprocess.Popen([sys.executable, "-m", "qatlib.make.figures", notebook])
    wait_for(lambda: alive.exists() and alive.read_text())
    process.terminate()
    assert process.wait(30) == 128 + 15
    wait_for(lambda: not os.path.exists(f"/proc/{alive.read_text()}"))
    assert not executed(project).exists()


SLOW = """import pathlib, time
pathlib.Path("begun").touch()
deadline = time.monotonic() + 60
while not pathlib.Path("go").exists() and time.monotonic() < deadline:
    time.sleep(0.05)"""


def test_two_runs_in_one_tree_never_mix(project):
    """The second is refused at once, with the first one's name, from its first notebook to its last; the kernel lets go
    where it dies."""
    notebooks = [write(project, SLOW, FIGURE), write(project, FIGURE, name="02_next")]
    command = [sys.executable, "-m", "qatlib.make.figures", *notebooks]
    first = subprocess.Popen(command, env=os.environ | {"CONTEXT": "48"})
    wait_for(lambda: (project / "begun").exists())
    elsewhere = {"QATLIB_BUILD": str(project / "another build")}
    for second in ({"CONTEXT": "49"}, {"CONTEXT": "48"}, elsewhere):
        done = carry_out(notebooks[1], **second)
        assert (done.returncode, done.stdout) == (1, "")
        folder = project / ("figures" if second is elsewhere else "build")
        said = rf"{folder} is in use by process {first.pid} on \S+ since [\d-]+ [\d:]+, 01_trial; wait for its end"
        assert re.search(said, done.stderr) and done.stderr.endswith("[figures] not finished\n")
    first.kill()
    first.wait()
    left = [disk.scratch(project / place) for place in ("build/notebooks/01_trial.json", "figures/manifest.json")]
    for path in left:
        path.write_text("{")
    (project / "go").touch()
    assert "[2/2 02_next] done" in carry_out(*notebooks, CONTEXT="48").stdout
    assert (project / "figures" / "figure.csv").read_text() == "quick,48"
    assert not any(path.exists() for path in left)


def test_a_full_disk_is_said(project):
    """Files of this process may have 5,000 bytes: the executed copy has more."""
    notebook = write(project, "print('long ' * 3000)")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); sys.argv[0] = 'pipeline'; "
    code = limit + f"from qatlib.make import figures; sys.exit(figures.main([{str(notebook)!r}]))"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"the disk is full, or a quota or limit is reached \(\d+ MB are free in .*make room", done.stderr)
    assert done.stderr.endswith("[1/1 01_trial] not finished\n") and not executed(project).exists()


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
