"""Carries out one notebook for `make figures`, unless everything it depends on, and everything it wrote, is as it was.

    python -m qatlib.pipeline notebooks/03_x.ipynb [02_y ...]

The names after the notebook are those it takes results from. Its parameters come from the environment: PROFILE, DATA, TARGET, CLEAN,
CONTEXT, HORIZON. It leaves `build/notebooks/03_x.ipynb` (the executed copy), `03_x.json` (a record of what went in and came out) and
`paper_figures/manifest.json`. Contents are compared, never times. Only the standard library is imported until there is something to run.
"""

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from qatlib.echo import Echo
from qatlib.paths import BUILD, EMBEDDED, FIGURES, FORECASTERS, ROOT, SYNTHESIS

EXECUTED = BUILD / "notebooks"
FACTS = BUILD / "facts.json"  # written by `experiment.Experiment` in the notebook: data, sha256, seeds
MANIFEST = FIGURES / "manifest.json"
CELL_TIMEOUT = int(os.environ.get("QATLIB_CELL_TIMEOUT") or 3600)  # seconds
KERNEL_TIMEOUT = 120  # seconds for the kernel to start, and for its output to arrive
THREADS = 1  # of linear algebra: more would change the last digits from machine to machine; the cores are for whole runs
VERSIONS = ("qatlib", "numpy", "torch", "pandas", "matplotlib", "seaborn", "papermill")
TRACEBACK_LINES = 40  # what a screen holds; the executed copy has the rest


class PipelineError(Exception):
    """What keeps a notebook from being run or finished, in words for the user."""


def _profile(text):
    if text not in ("quick", "full"):
        raise ValueError("choose quick or full")
    return text


def _data(text):
    path = Path(os.path.expanduser(text))  # unlike Path's, it leaves a user that there is not as it is
    if os.path.isfile(path):
        return str(path.absolute())
    if path.suffix or len(path.parts) > 1:
        what = "this is no regular file" if os.path.exists(path) else "there is no such file"
        raise ValueError(f"{what}, seen from {Path.cwd()}")
    return text  # a name, which qatlib.data judges


def _clean(text):
    if text not in ("0", "1"):
        raise ValueError("choose 0 or 1")
    return text == "1"


def _samples(text):
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError("give a number of samples, 1 or more")
    return int(text)


READERS = {"profile": _profile, "data": _data, "target": str, "clean": _clean, "context": _samples, "horizon": _samples}


def read_parameters(environ):
    """Notebook parameters from PROFILE, DATA, ...; one that is unset or empty is left to the notebook. PipelineError for a bad one."""
    parameters = {}
    for name, read in READERS.items():
        text = environ.get(name.upper())
        try:
            parameters.update({name: read(text)} if text else {})
        except ValueError as error:
            raise PipelineError(f"{name.upper()}={text}: {error}") from None
    return parameters


def fingerprint(notebook, parameters, sources):
    """SHA-256 over all that decides what the notebook writes: its text, the package, the lock, the data, the notebooks before it."""
    package = [p for p in (ROOT / "qatlib").rglob("*") if p.is_file() and p.suffix != ".pyc" and not p.name.startswith(".")]
    hardware = [*(ROOT / "overlays").glob("engine/*.sv"), *(ROOT / "overlays").glob("models/*/*")]
    committed = [path for path in (SYNTHESIS, FORECASTERS) if path.is_file()]
    files = [notebook, ROOT / "requirements.lock", *package, *hardware, *committed, *EMBEDDED.glob("*.csv"), *_chosen_data(parameters)]
    contents = sorted((path.name, _sha256(path)) for path in files)
    keys = [_record(name).get("key", "") for name in sources]
    return hashlib.sha256(json.dumps([contents, parameters, keys]).encode()).hexdigest()


def _chosen_data(parameters):
    """The CSV that DATA names, or the file of that name (auto: ETTh1) in QATLIB_DATA_DIR, where there is one."""
    name, folder = parameters.get("data", "auto"), os.environ.get("QATLIB_DATA_DIR")
    if Path(name).is_absolute():
        return [Path(name)]
    wanted = "etth1" if name == "auto" else name
    return [p for p in Path(folder).glob("*.csv") if p.stem.lower() == wanted] if folder else []


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(name):
    try:
        return json.loads((EXECUTED / f"{name}.json").read_text())
    except (FileNotFoundError, ValueError):  # never finished, or cut off while it was written
        return {}


def _write(path, content):
    """As JSON; the file appears whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    scratch.replace(path)


def is_current(name, key):
    """Whether the notebook was finished from these inputs, and every file it wrote is still what it was."""
    record = _record(name)
    written = record.get("outputs", {}).items()
    return (
        record.get("key") == key
        and (EXECUTED / f"{name}.ipynb").is_file()
        and all((FIGURES / file).is_file() and _sha256(FIGURES / file) == digest for file, digest in written)
    )


def run(notebook, parameters, key, label):
    """Execute the notebook, and record it as finished only if it succeeds. PipelineError names the cell and shows the traceback."""
    name = notebook.stem
    running, failed = EXECUTED / f"{name}.running.ipynb", EXECUTED / f"{name}.failed.ipynb"
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for stale in (EXECUTED / f"{name}.json", EXECUTED / f"{name}.ipynb", failed, FACTS):
        stale.unlink(missing_ok=True)
    before, began = _stamps(), time.monotonic()
    try:
        _execute(notebook, running, parameters, label)
        facts = _facts(name)
    except BaseException:
        if running.exists():
            running.replace(failed)
        raise
    written = sorted(file for file, stamp in _stamps().items() if before.get(file) != stamp)
    record = {
        "key": key,
        "outputs": {file: _sha256(FIGURES / file) for file in written},
        "seconds": round(time.monotonic() - began, 1),
        "about": _about(parameters, facts),
    }
    running.replace(EXECUTED / f"{name}.ipynb")
    _disown(name, written)
    _write(EXECUTED / f"{name}.json", record)
    return record


def _execute(notebook, output, parameters, label):
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    unknown = sorted(set(parameters) - set(papermill.inspect_notebook(notebook)))
    if unknown:
        raise PipelineError(f"no parameter {', '.join(unknown)} in the cell tagged 'parameters'")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(THREADS)
    echo = Echo(label, sys.stdout)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=echo,
            stderr_file=echo,
            start_timeout=KERNEL_TIMEOUT,
            execution_timeout=CELL_TIMEOUT,
            iopub_timeout=KERNEL_TIMEOUT,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warning of a local connection without encryption says nothing here
        )
    except papermill.PapermillExecutionError as error:
        raise _failure(output, error.ename, error.evalue, error.traceback) from None
    except CellTimeoutError:
        raise _failure(output, "TimeoutError", f"the cell took more than {CELL_TIMEOUT} s", []) from None
    except DeadKernelError:
        raise _failure(output, "DeadKernelError", "the kernel died; was there too little memory?", []) from None


def _failure(executed, kind, value, traceback):
    """Cells are counted as JupyterLab counts them in the notebook itself: code cells, without the one that papermill puts in."""
    cells = [c for c in json.loads(executed.read_text())["cells"] if c["cell_type"] == "code"]
    begun = [c for c in cells if c["metadata"].get("papermill", {}).get("start_time")]
    number = sum("injected-parameters" not in c["metadata"].get("tags", []) for c in begun)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback or ["".join(begun[-1]["source"])]))
    failed = executed.name.replace(".running.", ".failed.")
    lines = plain.splitlines()[-TRACEBACK_LINES:]
    return PipelineError(
        "\n".join([*lines, f"FAILED in code cell {number}: {kind}: {value}", f"executed copy: {executed.with_name(failed)}"])
    )


def _stamps():
    """What shows that a file was written anew, per file under FIGURES."""
    files = [p for p in FIGURES.rglob("*") if p.is_file() and p != MANIFEST]
    return {str(p.relative_to(FIGURES)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in files}


def _facts(name):
    try:
        return json.loads(FACTS.read_text())
    except FileNotFoundError:
        raise PipelineError(f"{name} made no qatlib.experiment.Experiment, so its data and seeds are unknown") from None


def _disown(name, written):
    """A file that several notebooks write is judged by the last of them alone."""
    for path in EXECUTED.glob("*.json"):
        record = _record(path.stem)
        if path.stem < name and record:
            kept = {file: digest for file, digest in record["outputs"].items() if file not in written}
            _write(path, record | {"outputs": kept})


def _about(parameters, facts):
    from importlib.metadata import version

    changes = _git("status", "--porcelain", "--", ".", ":(exclude)paper_figures")
    shown = dict(parameters, data=Path(parameters["data"]).name) if "data" in parameters else parameters
    return {
        **facts,
        "profile": parameters.get("profile", "the notebook's"),
        "parameters": shown,
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else changes != "",
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), **{package: version(package) for package in VERSIONS}},
        "threads": THREADS,
        "cores": os.cpu_count(),
    }


def _git(*arguments):
    """Its output, or None outside of a repository."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write_manifest(notebook, about):
    """`about` the last run, and the seconds of every notebook that was run with the same parameters on the same data."""
    same = ("parameters", "sha256")
    records = {path.stem: _record(path.stem) for path in sorted(notebook.parent.glob("[0-9]*.ipynb"))}
    seconds = {name: r["seconds"] for name, r in records.items() if r and all(r["about"].get(k) == about.get(k) for k in same)}
    FIGURES.mkdir(parents=True, exist_ok=True)
    _write(MANIFEST, {**about, "seconds": seconds})


def main(arguments):
    """Run the notebook or leave it; -> the exit status."""
    if not arguments or not Path(arguments[0]).is_file():
        print(f"no such notebook\n\n{__doc__}", file=sys.stderr)
        return 2
    notebook, sources = Path(arguments[0]).resolve(), arguments[1:]
    siblings = sorted({notebook.stem, *(path.stem for path in notebook.parent.glob("[0-9]*.ipynb"))})
    label = f"[{siblings.index(notebook.stem) + 1}/{len(siblings)} {notebook.stem}]"
    try:
        finish(notebook, sources, label)
    except PipelineError as error:
        print(f"\n{error}\n{label} not finished", file=sys.stderr, flush=True)
        return 1
    return 0


def finish(notebook, sources, label):
    """Run the notebook if anything has changed; say so."""
    parameters = read_parameters(os.environ)
    key = fingerprint(notebook, parameters, sources)
    if is_current(notebook.stem, key):
        record = _record(notebook.stem)
        print(f"{label} unchanged ({record['about']['data']}, {record['about']['profile']})", flush=True)
        if MANIFEST.is_file():
            return
    else:
        print(f"{label} starts ({', '.join(f'{k}={v}' for k, v in parameters.items())})", flush=True)
        record = run(notebook, parameters, key, label)
        print(f"{label} done in {record['seconds']:.0f} s", flush=True)
    write_manifest(notebook, record["about"])


def _terminated(number, frame):
    """Unlike the default it unwinds, so that the kernel is shut down too."""
    logging.getLogger("asyncio").disabled = True  # it would tell at length that the cell was cut off
    print("\ninterrupted; finished runs are kept, and the next time goes on from them", file=sys.stderr, flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _terminated)
    sys.exit(main(sys.argv[1:]))
