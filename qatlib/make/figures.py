"""Carries out notebooks for `make figures`, but for those of which everything that they depend on, and all that they
wrote, is as it was.

    python -m qatlib.make.figures notebooks/02_x.ipynb notebooks/03_y.ipynb ..

Their parameters come from the environment: PROFILE, DATA, TARGET, CLEAN, CONTEXT, HORIZON. A notebook leaves an
executed copy, `build/notebooks/03_y.ipynb`, a record of what went in and came out, `03_y.json`, and
`paper_figures/manifest.json`. Contents are compared, never times. One process at a time writes to these folders, from
its first notebook to its last. Only the standard library is imported until there is something to run.
"""

import ast
import errno
import hashlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

from qatlib.make.gallery import without_gallery
from qatlib.system import disk
from qatlib.system.console import Echo, plain
from qatlib.system.paths import BUILD, EMBEDDED, FIGURES, FORECASTERS, ROOT, SYNTHESIS
from qatlib.system.profiles import SEEDS

EXECUTED = BUILD / "notebooks"
MANIFEST = FIGURES / "manifest.json"
CELL_TIMEOUT = int(os.environ.get("QATLIB_CELL_TIMEOUT") or 3600)  # seconds
KERNEL_TIMEOUT = 120  # seconds for the kernel to start, and for its output to arrive
THREADS = (
    1  # of linear algebra: more would change the last digits from machine to machine; the cores are for whole runs
)
VERSIONS = ("qatlib", "numpy", "torch", "pandas", "matplotlib", "seaborn", "papermill")
# From which notebooks each takes results: float models, quantised ones, tables.
SOURCES = {
    "03": ["02"],
    "04": ["02"],
    "05": ["02"],
    "08": ["02"],
    "06": ["04"],
    "07": ["04"],
    "09": ["04"],
    "10": ["04"],
}


SOURCES |= {"11": ["03", "04", "08"]}


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TRACEBACK_LINES = 40  # what a screen holds; the executed copy has the rest


class PipelineError(Exception):
    """What keeps a notebook from being run or finished, in words for the user."""


def _profile(text):
    if text not in SEEDS:
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
    """Notebook parameters from PROFILE, DATA, ...; one that is unset or empty is left to the notebook. PipelineError
    for a bad one."""
    parameters = {}
    for name, read in READERS.items():
        text = environ.get(name.upper())
        try:
            parameters.update({name: read(text)} if text else {})
            (text or "").encode()
        except UnicodeEncodeError:
            raise PipelineError(f"{name.upper()}={plain(text)}: no UTF-8") from None
        except ValueError as error:
            raise PipelineError(f"{name.upper()}={plain(text)}: {plain(str(error))}") from None
    return parameters


def fingerprint(notebook, parameters, sources):
    """SHA-256 over all that decides what the notebook writes: its text, the package, the lock, the data, the notebooks
    before it."""
    package = [
        p
        for p in (ROOT / "qatlib").rglob("*")
        if p.is_file() and p.suffix not in (".pyc", ".md") and not p.name.startswith(".")
    ]
    hardware = [*(ROOT / "overlays").glob("engine/*.sv"), *(ROOT / "overlays").glob("models/*/*")]
    committed = [path for path in (SYNTHESIS, FORECASTERS) if path.is_file()]
    files = [
        notebook,
        ROOT / "requirements.lock",
        *package,
        *hardware,
        *committed,
        *EMBEDDED.glob("*.csv"),
        *_chosen_data(parameters),
    ]
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
    """What a finished notebook left; {} where it never finished, or what is there is no record."""
    try:
        record = json.loads((EXECUTED / f"{name}.json").read_bytes())
        kinds = {"key": str, "outputs": dict, "seconds": float, "about": dict}
        kinds_about = {"data": str, "profile": str}
        whole = all(type(record[field]) is kind for field, kind in kinds.items())
        return (
            record if whole and all(type(record["about"][field]) is kind for field, kind in kinds_about.items()) else {}
        )
    except (FileNotFoundError, ValueError, RecursionError, TypeError, KeyError):
        return {}


def _write(path, content):
    """As JSON."""
    disk.write(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


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
    """Execute the notebook, and record it as finished only if it succeeds. PipelineError names the cell and shows the
    traceback."""
    name = notebook.stem
    running, failed = EXECUTED / f"{name}.running.ipynb", EXECUTED / f"{name}.failed.ipynb"
    for stale in (EXECUTED / f"{name}.json", EXECUTED / f"{name}.ipynb", failed):
        stale.unlink(missing_ok=True)
    before, began = _stamps(), time.monotonic()
    try:
        _execute(notebook, running, parameters, label)
        facts = _facts(notebook, parameters)
        disk.sync(running)
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
    output.write_bytes(without_gallery(notebook))
    try:
        papermill.execute_notebook(
            output,
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
            extra_arguments=[
                "--IPKernelApp.log_level=ERROR"
            ],  # its warning of a local connection without encryption says nothing here
        )
    except papermill.PapermillExecutionError as error:
        raise _failure(output, error.ename, error.evalue, error.traceback) from None
    except CellTimeoutError:
        raise _failure(output, "TimeoutError", f"the cell took more than {CELL_TIMEOUT} s", []) from None
    except DeadKernelError:
        raise _failure(output, "DeadKernelError", "the kernel died; was there too little memory?", []) from None


def _failure(executed, kind, value, traceback):
    """Cells are counted as JupyterLab counts them in the notebook itself: code cells, without the one that papermill
    puts in."""
    cells = [c for c in json.loads(executed.read_text())["cells"] if c["cell_type"] == "code"]
    begun = [c for c in cells if c["metadata"].get("papermill", {}).get("start_time")]
    number = sum("injected-parameters" not in c["metadata"].get("tags", []) for c in begun)
    failed = executed.name.replace(".running.", ".failed.")
    lines = plain("\n".join(traceback or ["".join(begun[-1]["source"])])).splitlines()[-TRACEBACK_LINES:]
    return PipelineError(
        "\n".join(
            [
                *lines,
                f"FAILED in code cell {number}: {kind}: {plain(value)}",
                f"executed copy: {executed.with_name(failed)}",
            ]
        )
    )


def _stamps():
    """What shows that a file was written anew, per file under FIGURES."""
    files = [p for p in FIGURES.rglob("*") if p.is_file() and p != MANIFEST and not p.name.startswith(".")]
    return {str(p.relative_to(FIGURES)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in files}


def _facts(notebook, parameters):
    """Data and seeds that a notebook is about, by its parameters, given and its own."""
    import papermill

    from qatlib import data

    own = {
        name: ast.literal_eval(parameter["default"]) for name, parameter in papermill.inspect_notebook(notebook).items()
    }
    used = own | parameters
    with redirect_stdout(io.StringIO()):  # what there is to say of the file was said by the notebook
        dataset = data.load(used.get("data", "auto"), target=used.get("target") or None, clean=used.get("clean", False))
    return {"data": dataset.name, "sha256": dataset.sha256, "seeds": list(SEEDS[used["profile"]])}


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
        "versions": {
            "python": ".".join(map(str, sys.version_info[:3])),
            **{package: version(package) for package in VERSIONS},
        },
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
    """`about` the last run, and the seconds of every notebook that was run with the same parameters on the same
    data."""
    same = ("parameters", "sha256")
    records = {path.stem: _record(path.stem) for path in sorted(notebook.parent.glob("[0-9]*.ipynb"))}
    seconds = {
        name: r["seconds"] for name, r in records.items() if r and all(r["about"].get(k) == about.get(k) for k in same)
    }
    _write(MANIFEST, {**about, "seconds": seconds})


def main(arguments):
    """Run the notebooks or leave them; -> the exit status."""
    notebooks = [Path(argument).resolve() for argument in arguments]
    if not notebooks or not all(notebook.is_file() for notebook in notebooks):
        print(f"no such notebook\n\n{__doc__}", file=sys.stderr)
        return 2
    label = "[figures]"
    try:
        with alone() as tell:
            for notebook in notebooks:
                siblings = sorted({notebook.stem, *(path.stem for path in notebook.parent.glob("[0-9]*.ipynb"))})
                label = f"[{siblings.index(notebook.stem) + 1}/{len(siblings)} {notebook.stem}]"
                tell(notebook.stem)
                finish(notebook, sources(notebook), label)
    except (PipelineError, OSError) as error:
        print(
            f"\n{_room() if getattr(error, 'errno', 0) in FULL else ''}{error}\n{label} not finished",
            file=sys.stderr,
            flush=True,
        )
        return 1
    return 0


@contextmanager
def alone():
    """Of all processes that run notebooks into these folders, one at a time. -> what tells the others which notebook
    runs.

    PipelineError names the one that is at it."""
    folders = sorted({BUILD, FIGURES})
    with ExitStack() as stack:
        try:
            for folder in (*folders, EXECUTED):
                disk.make(folder)
            locks = [stack.enter_context(disk.locked(folder, wait=0)) for folder in folders]
        except TimeoutError as error:
            raise PipelineError(f"another run of notebooks is going on: {plain(str(error))}") from None
        for folder in (*folders, EXECUTED):
            disk.clear(folder)
        yield lambda doing: [disk.sign(lock, doing) for lock in locks]


def _room():
    free = [
        f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free in {folder}" for folder in sorted({BUILD, FIGURES})
    ]
    return (
        f"the disk is full, or a quota or limit is reached ({', '.join(free)}): make room and start again, "
        f"finished runs are kept\n"
    )


def sources(notebook):
    """The names of the notebooks beside this one that it takes results from."""
    return [
        path.stem
        for number in SOURCES.get(notebook.stem[:2], [])
        for path in sorted(notebook.parent.glob(f"{number}_*.ipynb"))
    ]


def finish(notebook, sources, label):
    """Run the notebook if anything has changed; say so."""
    parameters = read_parameters(os.environ)
    key = fingerprint(notebook, parameters, sources)
    if is_current(notebook.stem, key):
        record = _record(notebook.stem)
        print(f"{label} unchanged ({plain(record['about']['data'])}, {plain(record['about']['profile'])})", flush=True)
        if MANIFEST.is_file():
            return
    else:
        print(f"{label} starts ({plain(', '.join(f'{k}={v}' for k, v in parameters.items()))})", flush=True)
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
