"""What is kept of a run that failed, was damaged, or comes from a worker that made it up."""

import json
import shutil
import subprocess

import pytest

from qatlib.float_model import baselines
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, scale_out, storage
from qatlib.runs.cached import Run
from qatlib.system import disk
from tests.runs.grid import FLOAT, GRID, MODEL, entries, finished


def test_the_error_of_a_failing_run_reaches_the_caller(build, dataset):
    """Runs that were finished before it are kept."""
    bad = Run(MODEL, "ptq-nonsense", 0, FLOAT, QuantConfig())
    with pytest.raises(ValueError, match="unknown PTQ method 'nonsense'"):
        scale_out.collect([bad], dataset)
    assert set(finished(build)) == entries(build) == {storage.folder(bad.parents[0], dataset).name}


def test_a_run_that_fails_leaves_nothing(build, dataset, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no luck")

    monkeypatch.setattr(baselines, "persistence", fail)
    with pytest.raises(RuntimeError, match="no luck"):
        cached.execute(GRID[1], dataset)
    assert not (build / "runs").exists()
    monkeypatch.undo()


def test_what_a_kill_left_half_written_is_not_taken(build, dataset):
    """A scratch folder with a whole row in it is still no finished run, and is cleared away."""
    target = storage.folder(GRID[1], dataset)
    scratch = disk.scratch(target)
    scratch.mkdir(parents=True)
    (scratch / "row.json").write_text('{"mse": 123.0}')
    assert storage.row(GRID[1], dataset) is None
    cached.execute(GRID[1], dataset)
    assert storage.row(GRID[1], dataset)["mse"] != 123.0 and entries(build) == {target.name}


def damage(place, name, content):
    """Other content for a file of a run; None: none."""
    path = place / name
    path.unlink() if content is None else path.write_bytes(content(path.read_bytes()))


def emptied(raw):
    return b""


def cut(raw):
    return raw[:-9]


def flipped(raw):
    return bytes([raw[0] ^ 1]) + raw[1:]


DAMAGES = [(1, name, content) for name in ("row.json", "SHA256SUMS") for content in (None, emptied, cut, flipped)]
DAMAGES += [(1, "row.json", lambda raw, text=text: text) for text in (b"{}", b"null", b"[]", b"7", b"[" * 100_000)]
DAMAGES += [(0, "model.safetensors", cut), (0, "quantised.safetensors", None), (6, "float.safetensors", flipped)]


@pytest.mark.parametrize(("index", "name", "content"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_run_is_made_anew_and_that_is_said(filled, dataset, capsys, index, name, content):
    run = GRID[index]
    place, before = storage.folder(run, dataset), storage.kept(run, dataset)
    damage(place, name, content)
    assert storage.row(run, dataset) is None and not place.exists()
    assert capsys.readouterr().out == f"{run.label}: {place} is damaged, so the run is made anew\n"
    cached.execute(run, dataset)
    made = storage.kept(run, dataset)
    assert made.keys() == before.keys() and all(made[file] == before[file] for file in made if file != "row.json")
    timeless = [{**json.loads(files["row.json"]), "train_seconds": 0} for files in (made, before)]
    assert timeless[0] == timeless[1] and len(finished(filled)) == 7


def test_an_empty_folder_is_no_run(build, dataset, capsys):
    storage.folder(GRID[1], dataset).mkdir(parents=True)
    assert cached.execute(GRID[1], dataset).joinpath("SHA256SUMS").is_file()
    assert "is damaged" in capsys.readouterr().out


def test_the_checksums_are_those_of_sha256sum(filled, dataset):
    for run in (GRID[0], GRID[1]):
        check = subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=storage.folder(run, dataset), capture_output=True, timeout=30
        )
        assert check.returncode == 0 and check.stdout.count(b": OK") == len(storage.names(run))


ROWS = [b"{}", b"null", b"[]", b"7", b"[" * 100_000, b"\xff", b'{"mse": "1"}']


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_a_worker_made_up_is_not_kept(build, dataset, row):
    with pytest.raises(
        ValueError, match=r"patch-c24-d4 persistence seed 0: its worker sent a row\.json that is no row of this run"
    ):
        storage.keep(GRID[1], dataset, {"row.json": row})
    assert not build.exists()


@pytest.mark.parametrize("name", ["../../stolen", "/tmp/stolen", "a/b", "", ".lock", "model.safetensors", "row.json\0"])
def test_a_file_that_a_worker_made_up_is_not_written(filled, dataset, name):
    """Only names that such a run has, and only bytes, so many of them."""
    files = storage.kept(GRID[1], dataset)
    shutil.rmtree(storage.folder(GRID[1], dataset))
    before = sorted(filled.parent.rglob("*"))
    wrong = [
        {**files, name: b"x"},
        {name: files["row.json"]},
        {"row.json": "text"},
        {"row.json": None},
        None,
        [],
        "row.json",
    ]
    for sent in wrong:
        with pytest.raises(ValueError, match="patch-c24-d4 persistence seed 0: its worker sent "):
            storage.keep(GRID[1], dataset, sent)
    assert sorted(filled.parent.rglob("*")) == before
    with pytest.raises(ValueError, match=r"row\.json that is not bytes, or more than 67108864 of them"):
        storage.keep(GRID[1], dataset, {"row.json": bytes(storage.FILE_LIMIT + 1)})
    another = {**files, "row.json": files["row.json"].replace(b'"seed": 0', b'"seed": 1')}
    with pytest.raises(ValueError, match="no row of this run"):
        storage.keep(GRID[1], dataset, another)


def test_two_processes_may_finish_the_same_run(build, dataset, monkeypatch):
    """Another process finishes first: its result stands, and ours is no error."""
    real, calls = baselines.persistence, []

    def persistence(*arguments):
        calls.append(1)
        if len(calls) == 1:
            cached.execute(GRID[1], dataset)  # as the other process would
        return real(*arguments)

    monkeypatch.setattr(baselines, "persistence", persistence)
    cached.execute(GRID[1], dataset)
    assert storage.row(GRID[1], dataset)["mse"] > 0 and len(entries(build)) == 1
