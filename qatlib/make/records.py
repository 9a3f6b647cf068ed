"""What decides whether a notebook has to run: what went into it, and what it wrote, as its record tells."""

import hashlib
import json
import os
from pathlib import Path

from qatlib.system import disk
from qatlib.system.paths import BUILD, EMBEDDED, FIGURES, OVERLAYS, PACKAGE, ROOT

EXECUTED = BUILD / "notebooks"
MANIFEST = FIGURES / "manifest.json"
# From which notebooks each takes results: float models, quantised ones, tables.
SOURCES = {
    **{number: ["02"] for number in ("03", "04", "05", "08", "12")},
    **{number: ["04"] for number in ("06", "07", "09", "10")},
    "11": ["03", "04", "08"],
}


def sources(notebook):
    """The names of the notebooks beside this one that it takes results from."""
    return [
        path.stem
        for number in SOURCES.get(notebook.stem[:2], [])
        for path in sorted(notebook.parent.glob(f"{number}_*.ipynb"))
    ]


def fingerprint(notebook, parameters, sources):
    """SHA-256 over all that decides what the notebook writes: its text, the package, the hardware and the models, the
    measurements beside each, the lock, the data, the notebooks before it."""
    folders = (PACKAGE, OVERLAYS / "engine", OVERLAYS / "models", EMBEDDED)
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in found if path.suffix not in (".pyc", ".md") and not path.name.startswith(".")]
    files = [notebook, ROOT / "requirements.lock", *kept, *_chosen_data(parameters)]
    contents = sorted((path.name, sha256(path)) for path in files)
    keys = [read(name).get("key", "") for name in sources]
    return hashlib.sha256(json.dumps([contents, parameters, keys]).encode()).hexdigest()


def _chosen_data(parameters):
    """The CSV that DATA names, or the file of that name (auto: ETTh1) in QATLIB_DATA_DIR, where there is one."""
    name, folder = parameters.get("data", "auto"), os.environ.get("QATLIB_DATA_DIR")
    if Path(name).is_absolute():
        return [Path(name)]
    wanted = "etth1" if name == "auto" else name
    return [p for p in Path(folder).glob("*.csv") if p.stem.lower() == wanted] if folder else []


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(name):
    """What a finished notebook left; {} where it never finished, or what is there is no record."""
    kinds = {"key": str, "outputs": dict, "seconds": float, "about": dict}
    try:
        record = json.loads((EXECUTED / f"{name}.json").read_bytes())
        whole = all(type(record[field]) is kind for field, kind in kinds.items())
        return record if whole and all(type(record["about"][field]) is str for field in ("data", "profile")) else {}
    except (FileNotFoundError, ValueError, RecursionError, TypeError, KeyError):
        return {}


def write(path, content):
    """As JSON."""
    disk.write(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def is_current(name, key):
    """Whether the notebook was finished from these inputs, and every file it wrote is still what it was."""
    record = read(name)
    written = record.get("outputs", {}).items()
    return (
        record.get("key") == key
        and (EXECUTED / f"{name}.ipynb").is_file()
        and all((FIGURES / file).is_file() and sha256(FIGURES / file) == digest for file, digest in written)
    )


def stamps():
    """What shows that a file was written anew, per file under FIGURES."""
    files = [p for p in FIGURES.rglob("*") if p.is_file() and p != MANIFEST and not p.name.startswith(".")]
    return {str(p.relative_to(FIGURES)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in files}


def disown(name, written):
    """A file that several notebooks write is judged by the last of them alone."""
    for path in EXECUTED.glob("*.json"):
        record = read(path.stem)
        if path.stem < name and record:
            kept = {file: digest for file, digest in record["outputs"].items() if file not in written}
            write(path, record | {"outputs": kept})
