"""`paper_figures/manifest.json`: of what data, code and machine the figures are, and how long each notebook took."""

import ast
import io
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

from qatlib.make import records
from qatlib.system.measurements import processor
from qatlib.system.paths import ROOT
from qatlib.system.profiles import SEEDS

VERSIONS = ("qatlib", "numpy", "torch", "pandas", "matplotlib", "seaborn", "papermill")
# Of linear algebra: more threads would change the last digits from machine to machine; the cores are for whole runs.
THREADS = 1


def facts(notebook, parameters):
    """Data and seeds that a notebook is about, by its parameters, given and its own."""
    import papermill

    from qatlib import data
    from qatlib.data import labelled_sets

    own = {
        name: ast.literal_eval(parameter["default"]) for name, parameter in papermill.inspect_notebook(notebook).items()
    }
    used = own | parameters
    with redirect_stdout(io.StringIO()):  # what there is to say of the file was said by the notebook
        named = {name: used.get(name) or None for name in ("target", "inputs")}
        load = labelled_sets.load if used.get("task") == "classify" else data.load
        dataset = load(used.get("data", "auto"), **named, clean=used.get("clean", False))
    return {"data": dataset.name, "sha256": dataset.sha256, "seeds": list(SEEDS[used["profile"]])}


def about(parameters, facts):
    """What a record and the manifest say of a run: its facts, parameters, code, and the machine."""
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
        "processor": processor(),
    }


def _git(*arguments):
    """Its output, or None outside of a repository."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write(notebook, about):
    """`about` the last run; and of every notebook that was run with the same parameters on the same data, its seconds
    and the commit it was run from."""
    same = ("parameters", "sha256")
    found = {path.stem: records.read(path.stem) for path in sorted(notebook.parent.glob("[0-9]*.ipynb"))}
    alike = {name: r for name, r in found.items() if r and all(r["about"].get(k) == about.get(k) for k in same)}
    seconds = {name: record["seconds"] for name, record in alike.items()}
    commits = {name: record["about"].get("commit") for name, record in alike.items()}
    records.write(records.MANIFEST, {**about, "seconds": seconds, "commits": commits})
