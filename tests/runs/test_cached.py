"""The run cache: what is computed once, what makes a run another one, and what a kill leaves behind."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file

from qatlib.data import sets
from qatlib.float_model import baselines, transformer
from qatlib.float_model.config import linear_config
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, scale_out, storage
from qatlib.runs.cached import Run
from qatlib.studies import techniques
from qatlib.system import paths
from tests.runs.grid import FLOAT, GRID, MODEL, QAT, finished


def test_a_row_for_each_run_in_order(collected):
    table = collected[0]
    assert list(table.columns) == storage.COLUMNS and len(table) == len(GRID)
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
    n_params = sum(p.numel() for p in transformer.network(MODEL, cached.sensor_of(dataset)).parameters())
    assert (table.loc[[0, 2, 3, 6], "n_params"] == n_params).all() and table.loc[2, "size_bytes"] == 4 * n_params
    assert (quantised["size_bytes"] < 4 * n_params).all() and (table.loc[[0, 2, 3, 6], "train_seconds"] > 0).all()


def test_the_integers_of_a_row(filled, dataset):
    """Errors of a row are those of its stored integer model, and its stored quantised model gives the same outputs."""
    run = GRID[0]
    model, integers = cached.quantised_model(run, dataset), cached.integer_model(run, dataset)
    windows = dataset.windows("test", 24, 4)
    forecast = dataset.standardise(integers.forward(windows.counts) * dataset.resolution)
    row = storage.row(run, dataset)
    assert row["mse_integer"] == baselines.mse(forecast, windows.truth) and row["size_bytes"] == integers.size_bytes
    differences = windows.counts.astype(np.int64) - windows.counts[:, -1:]
    codes = integers.output_codes(windows.counts) - integers.tensors["head"].zero_point
    np.testing.assert_array_equal(qat.output_codes(model, differences), codes)


def test_the_float_parent_is_shared(filled, dataset):
    """The float run of seed 0 was computed once, and is what the quantised run started from."""
    assert len(finished(filled)) == len(set(GRID)) == 7
    stored = load_file(storage.folder(GRID[6], dataset) / "float.safetensors")
    model = cached.float_model(GRID[0], dataset)
    assert GRID[0].parents == [GRID[6]] and all(
        (stored[name] == value).all() for name, value in model.state_dict().items()
    )


# -- the cache


def test_a_finished_run_is_read_not_computed(filled, dataset, monkeypatch):
    """Collected again, nothing is started, and what the stored row says is what the table says."""
    monkeypatch.setattr(scale_out, "_compute", None)
    files = storage.kept(GRID[4], dataset)
    shutil.rmtree(storage.folder(GRID[4], dataset))
    storage.keep(GRID[4], dataset, {"row.json": json.dumps({**json.loads(files["row.json"]), "mse": 123.0}).encode()})
    table = scale_out.collect(GRID, dataset)
    assert table.loc[4, "mse"] == 123.0 and table.loc[1, "mse"] != 123.0


def test_finished_children_need_no_parent(filled, dataset, monkeypatch):
    monkeypatch.setattr(scale_out, "_compute", None)
    shutil.rmtree(storage.folder(GRID[6], dataset))
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
    assert storage.folder(replace(GRID[0], **change), dataset) != storage.folder(GRID[0], dataset)


def test_an_equal_config_is_the_same_run(dataset):
    again = Run(replace(MODEL), "qat-adaptive", 0, replace(FLOAT), QuantConfig(4, 4, scheme="adaptive"), replace(QAT))
    assert storage.folder(again, dataset) == storage.folder(GRID[0], dataset)


def test_other_data_are_another_run(sensor_csv, tmp_path, dataset):
    """One changed value, in the last row; a change in a column that is not used is none."""
    lines = sensor_csv.read_text().splitlines()
    time, value, other = lines[-1].split(",")
    folders = []
    for last in (f"{time},{float(value) + 0.001:.3f},{other}", f"{time},{value},0"):
        (tmp_path / "sensor.csv").write_text("\n".join([*lines[:-1], last]))
        folders.append(storage.folder(GRID[1], sets.load(str(tmp_path / "sensor.csv"), target="value")))
    assert folders[0] != storage.folder(GRID[1], dataset) == folders[1]


def test_another_column_of_the_same_file_is_another_run(sensor_csv, dataset):
    assert storage.folder(GRID[1], sets.load(str(sensor_csv), target="other")) != storage.folder(GRID[1], dataset)


def test_a_gap_makes_another_run(sensor_csv, tmp_path, dataset):
    lines = sensor_csv.read_text().splitlines()
    (tmp_path / "sensor.csv").write_text("\n".join(lines[:300] + lines[302:]))
    assert storage.folder(GRID[1], sets.load(str(tmp_path / "sensor.csv"), target="value")) != storage.folder(
        GRID[1], dataset
    )


def test_source_code_is_part_of_the_key(dataset, monkeypatch):
    """A quantised run depends on the quantisers' source, a float run does not."""
    before = [storage.folder(run, dataset) for run in (GRID[0], GRID[2])]
    real = cached.source_hash
    monkeypatch.setattr(
        cached, "source_hash", lambda *places: real(*places) + ("changed" if "quantised_model" in places else "")
    )
    after = [storage.folder(run, dataset) for run in (GRID[0], GRID[2])]
    assert before[0] != after[0] and before[1] == after[1]
    assert real("integer_model/kernels.py") != real("integer_model") and {"data", "float_model"} <= set(
        cached.FLOAT_SOURCES
    )
    assert {"quantised_model", "integer_model"} <= set(cached.QUANT_SOURCES)


def test_every_column_has_a_name_of_its_own_in_a_models_file():
    assert cached.artifact_names(["a_-2", "a°", "a%", "a", "°C"]) == ("a_-2", "a_", "a_-3", "a", "c_C")


def test_of_channels_that_are_read_alone_no_error_is_counted(sensor_csv):
    recording = sets.load(str(sensor_csv), target="value", inputs="other")
    mixed = replace(linear_config(48, 6, 3, 20), channels=2, mode="mixed", targets=(0,))
    for targets in ((0,), (1,), (0, 1)):
        run = replace(GRID[3], model=replace(mixed, targets=targets))
        files = cached.compute(run, recording, [cached.compute(run.parents[0], recording, [])])
        row = json.loads(files["row.json"])
        assert row["mse_integer"] == pytest.approx(row["mse"], rel=0.02)


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
