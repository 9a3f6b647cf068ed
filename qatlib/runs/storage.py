"""The files of finished runs on the disk.

A finished run is a folder `build/runs/<key>` with its table row, its float weights or its integer model, and their
checksums; it appears whole or not at all, so a killed grid, or a power cut, loses at most the runs in progress. One
that is damaged later is removed, which is said, and made anew.
"""

import hashlib
import json
import re
import shutil

from qatlib.system import disk, paths

COLUMNS = (
    "dataset, model, method, granularity, weight_bits, activation_bits, residual_bits, edge_bits, seed, "
    "n_params, size_bytes, "
    "mse_validation, mse, mae, mse_integer, mae_integer, equal_outputs, max_step_difference, train_seconds"
).split(", ")
MEASURE = re.compile(r"(loss|f1|accuracy)_[a-z0-9-]{1,40}")  # of a classifier, on a split
ROW, SUMS = "row.json", "SHA256SUMS"  # the latter for `sha256sum -c`
FILE_LIMIT = 1 << 26  # bytes; no run writes more than 64 MiB


def folder(run, dataset):
    return paths.BUILD / "runs" / run.key(dataset)


def names(run):
    """The files that a run makes."""
    if run.quantization:
        return {ROW, "quantised.safetensors", "model.safetensors"}
    return {ROW, "float.safetensors"} if run.recipe else {ROW}


def row(run, dataset):
    """The finished run's table row, or None."""
    files = kept(run, dataset)
    return files and json.loads(files[ROW])


def kept(run, dataset):
    """The files of a finished run: {name: bytes}; or None. A damaged one is removed."""
    place = folder(run, dataset)
    if (files := _sound(run, place)) is None and place.is_dir():
        with disk.locked(place.parent):
            if (files := _sound(run, place)) is None and place.is_dir():  # still, and no other process has made it anew
                print(f"{run.label}: {place} is damaged, so the run is made anew", flush=True)
                shutil.rmtree(place)
    return files


def _sound(run, place):
    """The files of a run's folder if they are those that were written, else None."""
    try:
        files = {name: (place / name).read_bytes() for name in names(run)}
        return files if (place / SUMS).read_bytes() == _sums(files) else None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _sums(files):
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode()


def keep(run, dataset, files):
    """Put the files of a run into their folder, unless it is there already. -> the folder

    ValueError where they are not what such a run makes: they may come from another machine."""
    _check(run, files)
    place = folder(run, dataset)
    disk.make(place.parent)
    if kept(run, dataset) is None:
        with disk.locked(place.parent):
            disk.clear(place.parent)
            if not place.is_dir():  # else another process finished the same run meanwhile
                disk.put(place, {**files, SUMS: _sums(files)})
    return place


def _check(run, files):
    if not isinstance(files, dict) or files.keys() != names(run):
        raise ValueError(f"{run.label}: its worker sent other files than {', '.join(sorted(names(run)))}")
    for name in names(run):
        if not isinstance(files[name], bytes) or len(files[name]) > FILE_LIMIT:
            raise ValueError(
                f"{run.label}: its worker sent a {name} that is not bytes, or more than {FILE_LIMIT} of them"
            )
    try:
        found = json.loads(files[ROW])
        own = {"model": run.model.name, "method": run.method, "seed": run.seed}
        known = all(key in COLUMNS or MEASURE.fullmatch(key) for key in found)
        right = known and found | own == found and type(found.get("mse", found.get("f1_validation"))) is float
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        right = False
    if not right:
        raise ValueError(f"{run.label}: its worker sent a {ROW} that is no row of this run")
