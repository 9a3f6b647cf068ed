"""The models that ship with the project: they are there, they load, they are what their table says; and how they are made."""

import numpy as np
import pandas as pd
import pytest

from qatlib import data, experiment, fill_zoo, models, paths, runs, zoo
from qatlib.experiment import Experiment
from qatlib.mcu import compiled
from qatlib.qat import QATConfig
from qatlib.train import TrainConfig

FAST = TrainConfig(epochs=1, batch=128, averaging=0.5)
DATASETS = ("etth1", "jfk-weather")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(paths.ROOT / "paper_figures" / "tables" / "models.csv")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_model_of_the_table_loads(table, dataset):
    rows = table[table["dataset"] == dataset].set_index("name")
    assert sorted(rows.index) == zoo.names(dataset)
    for name in zoo.names(dataset):
        model = zoo.load(dataset, name)
        assert name.startswith(model.name) and model.size_bytes == rows.loc[name, "size_bytes"]
        assert model.forward(np.zeros((2, model.context), np.int16)).shape == (2, model.horizon)
    assert (rows["equal_outputs"] == 1).all()


@pytest.mark.parametrize("shape", ["patch-c336-d16", "point-w12-d32-h1", "point-w24-d16-h24", "point-w96-d16-h24", "decoder-c336-d16"])
def test_every_shape_is_there_at_every_width(shape):
    assert {f"{shape}-{width}" for width in ("w8a8", "w4a4", "w2a2", "mixed")} <= set(zoo.names("etth1"))
    widths = {o.attributes["weight_bits"] for o in zoo.load("etth1", f"{shape}-mixed").operations if o.kind == "linear"}
    assert widths == {8, 6, 4, 2}


def test_windows_follow_each_other_and_give_the_error_of_the_table():
    counts, truth = zoo.windows("jfk-weather")
    assert counts.dtype == truth.dtype == np.int16 and len(counts) == len(truth) == fill_zoo.WINDOWS
    series = np.concatenate([counts, truth], axis=1)
    assert (series[1:, :-1] == series[:-1, 1:]).all()
    dataset = data.load("jfk-weather")
    forecast, windows = zoo.load("jfk-weather", "patch-c336-d16-w4a4").forward(counts), dataset.windows("test", 336, 24)
    error = np.square((forecast - truth.astype(float)) * dataset.resolution / dataset.std).mean()
    kept = np.square(dataset.standardise(forecast * dataset.resolution) - windows.truth[-len(counts) :]).mean()
    assert error == pytest.approx(kept, rel=1e-3)


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_the_models_forecast_is_the_same_on_every_machine(dataset):
    """By NumPy and by C; `make verify` holds the simulated engine to it."""
    expected = {name: digest for (of, name), digest in zoo.outputs().items() if of == dataset}
    assert sorted(expected) == zoo.names(dataset)
    for name, digest in expected.items():
        model = zoo.load(dataset, name)
        counts = zoo.reference_windows(dataset, model)
        assert len(counts) == zoo.WALKS
        for forward in (model.forward, compiled(model).forward):
            assert zoo.digest(forward(counts)) == digest, name


def test_no_windows_of_data_that_may_not_be_passed_on():
    with pytest.raises(FileNotFoundError):
        zoo.windows("etth1")


def test_a_model_that_is_not_there():
    with pytest.raises(KeyError, match=r"no model 'patch' trained on 'etth1'; there are .*patch-c336-d16-w4a4"):
        zoo.load("etth1", "patch")
    with pytest.raises(KeyError, match="there are none"):
        zoo.load("mars", "patch")


def test_filling(sensor_csv, tmp_path, monkeypatch):
    """What is written is the export of the run; mixed widths are called mixed; the last windows are kept."""
    for name in ("BUILD", "MODELS", "TABLES"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    monkeypatch.setattr(experiment, "RECIPES", dict.fromkeys(models.FAMILIES, (FAST, QATConfig(**vars(FAST), distil=1.0))))
    small = Experiment("quick", str(sensor_csv), "value", context=48, horizon=6)
    named = {n: r for n, r in small.engine_runs().items() if n in ("patch-c48-d16-w2a2", "patch-c48-d16-mixed")}
    for run in named.values():
        runs.execute(run, small.dataset)
    table = fill_zoo.fill(small, named)
    assert table["name"].tolist() == list(named) and sorted(named) == zoo.names("sensor")
    assert table[["weight_bits", "activation_bits"]].to_numpy().tolist() == [[2, 2], ["mixed", "mixed"]]
    fill_zoo.write_windows(small)
    counts, truth = zoo.windows("sensor")
    windows = small.windows("test")
    assert np.array_equal(counts, windows.counts[-fill_zoo.WINDOWS :]) and truth.shape == (len(counts), 6)
    for name, run in named.items():
        assert np.array_equal(zoo.load("sensor", name).forward(counts), runs.integer_model(run, small.dataset).forward(counts))
