"""The run cache: what is computed once, what makes a run another one, and what a kill leaves behind."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from qatlib.data import sets
from qatlib.float_model import baselines, transformer
from qatlib.float_model.config import ModelConfig
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model import qat
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, scale_out
from qatlib.runs.cached import Run
from qatlib.studies import techniques
from qatlib.system import disk, paths

MODEL = ModelConfig("patch", context=24, horizon=4, patch=8, d_model=4, heads=2, dropout=0.0)
FLOAT = TrainConfig(epochs=1, batch=64, averaging=0.5)
QAT = QATConfig(epochs=1, batch=64, averaging=0.5)
GRID = [
    Run(MODEL, "qat-adaptive", 0, FLOAT, QuantConfig(4, 4, scheme="adaptive"), QAT),
    Run(MODEL, "persistence"),
    Run(MODEL, "float", 1, FLOAT),
    Run(MODEL, "ptq-minmax", 1, FLOAT, QuantConfig(8, 8, granularity="tensor")),
    Run(MODEL, "ridge"),
    Run(MODEL, "seasonal"),
    Run(MODEL, "float", 0, FLOAT),
    Run(MODEL, "qat-adaptive", 0, FLOAT, QuantConfig(4, 4, scheme="adaptive"), QAT),
]


@pytest.fixture(scope="module")
def collected(dataset, tmp_path_factory, in_process):
    """(table of the grid, the build folder it left)"""
    build = tmp_path_factory.mktemp("collected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", build)
        table = scale_out.collect(GRID, dataset, name="grid")
    return table, build


@pytest.fixture
def filled(build, collected):
    """The build folder with the grid already in it."""
    shutil.copytree(collected[1], build)
    return build


def finished(build):
    """{key: bytes of its row}, of all that counts as finished."""
    return {path.parent.name: path.read_bytes() for path in (build / "runs").glob("[!.]*/row.json")}


def entries(build):
    """All that lies beside the lock: runs, and scratch if any were left."""
    return {path.name for path in (build / "runs").iterdir()} - {disk.LOCK}


# -- the table


def test_a_row_for_each_run_in_order(collected):
    table = collected[0]
    assert list(table.columns) == cached.COLUMNS and len(table) == len(GRID)
    assert table["method"].tolist() == [run.method for run in GRID] and table["seed"].tolist() == [
        run.seed for run in GRID
    ]
    assert (table["dataset"] == "sensor").all() and (table["model"] == "patch-c24-d4").all()
    assert table.loc[0].equals(table.loc[7])
    assert table.loc[3, ["granularity", "weight_bits", "edge_bits"]].tolist() == ["tensor", 8, 8]
    assert table.loc[[1, 2, 4, 5, 6], ["weight_bits", "mse_integer", "equal_outputs"]].isna().all(axis=None)


def test_what_a_row_says(collected, dataset):
    table = collected[0]
    assert (table[["mse", "mae", "mse_validation"]] > 0).all(axis=None)
    windows = dataset.windows("test", 24, 4)
    assert table.loc[1, "mse"] == baselines.mse(baselines.persistence(windows, dataset), windows.truth)
    quantised = table.loc[[0, 3]]
    assert (quantised["equal_outputs"] == 1).all() and (quantised["max_step_difference"] == 0).all()
    np.testing.assert_allclose(quantised["mse_integer"], quantised["mse"], rtol=1e-2)
    n_params = sum(p.numel() for p in transformer.Forecaster(MODEL, cached.sensor_of(dataset)).parameters())
    assert (table.loc[[0, 2, 3, 6], "n_params"] == n_params).all() and table.loc[2, "size_bytes"] == 4 * n_params
    assert (quantised["size_bytes"] < 4 * n_params).all() and (table.loc[[0, 2, 3, 6], "train_seconds"] > 0).all()


def test_the_integers_of_a_row(filled, dataset):
    """Errors of a row are those of its stored integer model, and its stored quantised model gives the same outputs."""
    run = GRID[0]
    model, integers = cached.quantised_model(run, dataset), cached.integer_model(run, dataset)
    windows = dataset.windows("test", 24, 4)
    forecast = dataset.standardise(integers.forward(windows.counts) * dataset.resolution)
    row = cached.row(run, dataset)
    assert row["mse_integer"] == baselines.mse(forecast, windows.truth) and row["size_bytes"] == integers.size_bytes
    differences = windows.counts.astype(np.int64) - windows.counts[:, -1:]
    codes = integers.output_codes(windows.counts) - integers.tensors["head"].zero_point
    np.testing.assert_array_equal(qat.output_codes(model, differences), codes)


def test_the_float_parent_is_shared(filled, dataset):
    """The float run of seed 0 was computed once, and is what the quantised run started from."""
    assert len(finished(filled)) == len(set(GRID)) == 7
    stored = load_file(cached.folder(GRID[6], dataset) / "float.safetensors")
    model = cached.float_model(GRID[0], dataset)
    assert GRID[0].parents == [GRID[6]] and all(
        (stored[name] == value).all() for name, value in model.state_dict().items()
    )


# -- the cache


def test_a_finished_run_is_read_not_computed(filled, dataset, monkeypatch):
    """Collected again, nothing is started, and what the stored row says is what the table says."""
    monkeypatch.setattr(scale_out, "_compute", None)
    files = cached.kept(GRID[4], dataset)
    shutil.rmtree(cached.folder(GRID[4], dataset))
    cached.keep(GRID[4], dataset, {"row.json": json.dumps({**json.loads(files["row.json"]), "mse": 123.0}).encode()})
    table = scale_out.collect(GRID, dataset)
    assert table.loc[4, "mse"] == 123.0 and table.loc[1, "mse"] != 123.0


def test_finished_children_need_no_parent(filled, dataset, monkeypatch):
    monkeypatch.setattr(scale_out, "_compute", None)
    shutil.rmtree(cached.folder(GRID[6], dataset))
    assert len(scale_out.collect(GRID[:1], dataset)) == 1


CHANGES = [
    {"seed": 7},
    {"method": "qat-symmetric"},
    {"model": replace(MODEL, layers=2)},
    {"model": replace(MODEL, dropout=0.3)},
    {"recipe": replace(FLOAT, epochs=2)},
    {"qat_recipe": replace(QAT, learning_rate=1e-4)},
    {"qat_recipe": None},
    {"quantization": QuantConfig(4, 4, scheme="symmetric")},
    {"quantization": QuantConfig(4, 3, scheme="adaptive")},
    {"exceptions": (("head", QuantConfig(8, 8)),)},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(*change))
def test_another_config_is_another_run(dataset, change):
    assert cached.folder(replace(GRID[0], **change), dataset) != cached.folder(GRID[0], dataset)


def test_an_equal_config_is_the_same_run(dataset):
    again = Run(replace(MODEL), "qat-adaptive", 0, replace(FLOAT), QuantConfig(4, 4, scheme="adaptive"), replace(QAT))
    assert cached.folder(again, dataset) == cached.folder(GRID[0], dataset)


def test_other_data_are_another_run(sensor_csv, tmp_path, dataset):
    """One changed value, in the last row; a change in a column that is not used is none."""
    lines = sensor_csv.read_text().splitlines()
    time, value, other = lines[-1].split(",")
    folders = []
    for last in (f"{time},{float(value) + 0.001:.3f},{other}", f"{time},{value},0"):
        (tmp_path / "sensor.csv").write_text("\n".join([*lines[:-1], last]))
        folders.append(cached.folder(GRID[1], sets.load(str(tmp_path / "sensor.csv"), target="value")))
    assert folders[0] != cached.folder(GRID[1], dataset) == folders[1]


def test_another_column_of_the_same_file_is_another_run(sensor_csv, dataset):
    assert cached.folder(GRID[1], sets.load(str(sensor_csv), target="other")) != cached.folder(GRID[1], dataset)


def test_a_gap_makes_another_run(sensor_csv, tmp_path, dataset):
    lines = sensor_csv.read_text().splitlines()
    (tmp_path / "sensor.csv").write_text("\n".join(lines[:300] + lines[302:]))
    assert cached.folder(GRID[1], sets.load(str(tmp_path / "sensor.csv"), target="value")) != cached.folder(
        GRID[1], dataset
    )


def test_source_code_is_part_of_the_key(dataset, monkeypatch):
    """A quantised run depends on the quantisers' source, a float run does not."""
    before = [cached.folder(run, dataset) for run in (GRID[0], GRID[2])]
    real = cached.source_hash
    monkeypatch.setattr(
        cached, "source_hash", lambda *places: real(*places) + ("changed" if "quantised_model" in places else "")
    )
    after = [cached.folder(run, dataset) for run in (GRID[0], GRID[2])]
    assert before[0] != after[0] and before[1] == after[1]
    assert real("integer_model/kernels.py") != real("integer_model") and {"data", "float_model"} <= set(
        cached.FLOAT_SOURCES
    )
    assert {"quantised_model", "integer_model"} <= set(cached.QUANT_SOURCES)


def test_any_file_of_a_folder_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    (tmp_path / "room" / "inner").mkdir(parents=True)
    hashes = [cached.source_hash.__wrapped__("room")]
    for name, text in (("a.py", "1"), ("a.py", "2"), ("inner/b.cpp", "1"), ("c.c", "1"), ("notes.txt", "1")):
        (tmp_path / "room" / name).write_text(text)
        hashes.append(cached.source_hash.__wrapped__("room"))
    assert len(set(hashes)) == 5 and hashes[-1] == hashes[-2]


def test_the_code_of_a_technique_is_part_of_the_key(dataset, monkeypatch):
    run = replace(GRID[0], qat_recipe=replace(QAT, techniques=(techniques.Freezing(),)))
    before = run.key(dataset), GRID[0].key(dataset)
    monkeypatch.setattr(cached.inspect, "getsource", lambda module: module.__name__)
    assert (run.key(dataset) != before[0], GRID[0].key(dataset)) == (True, before[1])


# -- what goes wrong


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
    target = cached.folder(GRID[1], dataset)
    scratch = disk.scratch(target)
    scratch.mkdir(parents=True)
    (scratch / "row.json").write_text('{"mse": 123.0}')
    assert cached.row(GRID[1], dataset) is None
    cached.execute(GRID[1], dataset)
    assert cached.row(GRID[1], dataset)["mse"] != 123.0 and entries(build) == {target.name}


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
    place, before = cached.folder(run, dataset), cached.kept(run, dataset)
    damage(place, name, content)
    assert cached.row(run, dataset) is None and not place.exists()
    assert capsys.readouterr().out == f"{run.label}: {place} is damaged, so the run is made anew\n"
    cached.execute(run, dataset)
    made = cached.kept(run, dataset)
    assert made.keys() == before.keys() and all(made[file] == before[file] for file in made if file != "row.json")
    timeless = [{**json.loads(files["row.json"]), "train_seconds": 0} for files in (made, before)]
    assert timeless[0] == timeless[1] and len(finished(filled)) == 7


def test_an_empty_folder_is_no_run(build, dataset, capsys):
    cached.folder(GRID[1], dataset).mkdir(parents=True)
    assert cached.execute(GRID[1], dataset).joinpath("SHA256SUMS").is_file()
    assert "is damaged" in capsys.readouterr().out


def test_the_checksums_are_those_of_sha256sum(filled, dataset):
    for run in (GRID[0], GRID[1]):
        check = subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=cached.folder(run, dataset), capture_output=True, timeout=30
        )
        assert check.returncode == 0 and check.stdout.count(b": OK") == len(cached.names(run))


ROWS = [b"{}", b"null", b"[]", b"7", b"[" * 100_000, b"\xff", b'{"mse": "1"}']


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_a_worker_made_up_is_not_kept(build, dataset, row):
    with pytest.raises(
        ValueError, match=r"patch-c24-d4 persistence seed 0: its worker sent a row\.json that is no row of this run"
    ):
        cached.keep(GRID[1], dataset, {"row.json": row})
    assert not build.exists()


@pytest.mark.parametrize("name", ["../../stolen", "/tmp/stolen", "a/b", "", ".lock", "model.safetensors", "row.json\0"])
def test_a_file_that_a_worker_made_up_is_not_written(filled, dataset, name):
    """Only names that such a run has, and only bytes, so many of them."""
    files = cached.kept(GRID[1], dataset)
    shutil.rmtree(cached.folder(GRID[1], dataset))
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
            cached.keep(GRID[1], dataset, sent)
    assert sorted(filled.parent.rglob("*")) == before
    with pytest.raises(ValueError, match=r"row\.json that is not bytes, or more than 67108864 of them"):
        cached.keep(GRID[1], dataset, {"row.json": bytes(cached.FILE_LIMIT + 1)})
    another = {**files, "row.json": files["row.json"].replace(b'"seed": 0', b'"seed": 1')}
    with pytest.raises(ValueError, match="no row of this run"):
        cached.keep(GRID[1], dataset, another)


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
    assert cached.row(GRID[1], dataset)["mse"] > 0 and len(entries(build)) == 1
