"""The models that ship with the project: they are there, they load, they are what their table says; and how they are
made."""

import numpy as np
import pandas as pd
import pytest

from qatlib.data import sets
from qatlib.device import shipped
from qatlib.float_model.config import FAMILIES
from qatlib.float_model.train import TrainConfig
from qatlib.make import shipped_models
from qatlib.mcu import compiled
from qatlib.quantised_model.qat import QATConfig
from qatlib.runs import cached, experiment
from qatlib.runs.experiment import Experiment
from qatlib.system import paths

FAST = TrainConfig(epochs=1, batch=128, averaging=0.5)
DATASETS = ("etth1", "jfk-weather")
DECISIONS = ("occupancy", "jfk-weather-faults")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(paths.MODELS / "models.csv")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_model_of_the_table_loads(table, dataset):
    rows = table[table["dataset"] == dataset].set_index("name")
    assert sorted(rows.index) == shipped.names(dataset)
    for name in shipped.names(dataset):
        model = shipped.load(dataset, name)
        assert name.startswith(model.name) and model.size_bytes == rows.loc[name, "size_bytes"]
        assert model.forward(np.zeros((2, model.context), np.int16)).shape == (2, model.horizon)
    assert (rows["equal_outputs"] == 1).all()


@pytest.mark.parametrize(("dataset", "task"), list(zip(DECISIONS, ("classify", "detect"), strict=True)))
def test_a_decision_of_every_kind_ships_with_its_recording(dataset, task):
    (name,) = shipped.names(dataset)
    row = pd.read_csv(paths.MODELS / "decisions.csv").set_index("dataset").loc[dataset]
    model = shipped.load(dataset, name)
    assert tuple(row[["task", "name", "size_bytes"]]) == (task, name, model.size_bytes) and model.task == task
    counts, truth = shipped.windows(dataset)
    assert counts.shape == (shipped_models.WINDOWS, *model.window_shape) and counts.dtype == np.int16
    rows, labels = shipped.recording(dataset)
    if task == "classify":
        told = model.classify(counts)[0]
    else:
        flags = model.detect(rows)[1]
        told, truth = flags, labels[-len(flags) :]
    assert np.mean(told == truth) > 0.6 and 0 < truth.mean() < 1


@pytest.mark.parametrize(
    "shape", ["patch-c336-d16", "point-w12-d32-h1", "point-w24-d16-h24", "point-w96-d16-h24", "decoder-c336-d16"]
)
def test_every_shape_is_there_at_every_width(shape):
    assert {f"{shape}-{width}" for width in ("w8a8", "w4a4", "w2a2", "mixed")} <= set(shipped.names("etth1"))
    widths = {
        o.attributes["weight_bits"] for o in shipped.load("etth1", f"{shape}-mixed").operations if o.kind == "linear"
    }
    assert widths == {8, 6, 4, 2}


def test_windows_follow_each_other_and_give_the_error_of_the_table():
    counts, truth = shipped.windows("jfk-weather")
    assert counts.dtype == truth.dtype == np.int16 and len(counts) == len(truth) == shipped_models.WINDOWS
    series = np.concatenate([counts, truth], axis=1)
    assert (series[1:, :-1] == series[:-1, 1:]).all()
    dataset = sets.load("jfk-weather")
    forecast, windows = (
        shipped.load("jfk-weather", "patch-c336-d16-w4a4").forward(counts),
        dataset.windows("test", 336, 24),
    )
    error = np.square((forecast - truth.astype(float)) * dataset.resolution / dataset.std).mean()
    kept = np.square(dataset.standardise(forecast * dataset.resolution) - windows.truth[-len(counts) :]).mean()
    assert error == pytest.approx(kept, rel=1e-3)


@pytest.mark.parametrize("dataset", DATASETS + DECISIONS)
def test_what_the_models_forecast_is_the_same_on_every_machine(dataset):
    """By NumPy and by C; `make verify` holds the simulated engine to it."""
    expected = {name: digest for (of, name), digest in shipped.outputs().items() if of == dataset}
    assert sorted(expected) == shipped.names(dataset)
    for name, digest in expected.items():
        model = shipped.load(dataset, name)
        counts = shipped.reference_windows(dataset, model)
        assert len(counts) == shipped.WALKS
        for forward in (model.forward, compiled(model).forward):
            assert shipped.digest(forward(counts)) == digest, name


def test_no_windows_of_data_that_may_not_be_passed_on():
    with pytest.raises(FileNotFoundError):
        shipped.windows("etth1")


def test_a_model_that_is_not_there():
    with pytest.raises(KeyError, match=r"no model 'patch' trained on 'etth1'; there are .*patch-c336-d16-w4a4"):
        shipped.load("etth1", "patch")
    with pytest.raises(KeyError, match="there are none"):
        shipped.load("mars", "patch")


def test_filling(sensor_csv, tmp_path, monkeypatch):
    """What is written is the export of the run; mixed widths are called mixed; the last windows are kept."""
    for name in ("BUILD", "MODELS", "TABLES"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    monkeypatch.setattr(experiment, "RECIPES", dict.fromkeys(FAMILIES, (FAST, QATConfig(**vars(FAST), distil=1.0))))
    small = Experiment("quick", str(sensor_csv), "value", context=48, horizon=6)
    named = {n: r for n, r in small.engine_runs().items() if n in ("patch-c48-d16-w2a2", "patch-c48-d16-mixed")}
    for run in named.values():
        cached.execute(run, small.dataset)
    table = shipped_models.fill(small, named)
    assert table["name"].tolist() == list(named) and sorted(named) == shipped.names("sensor")
    assert table[["weight_bits", "activation_bits"]].to_numpy().tolist() == [[2, 2], ["mixed", "mixed"]]
    shipped_models.write_recording(small)
    counts, truth = shipped.windows("sensor")
    windows = small.windows("test")
    assert np.array_equal(counts, windows.counts[-shipped_models.WINDOWS :]) and truth.shape == (len(counts), 6)
    for name, run in named.items():
        assert np.array_equal(
            shipped.load("sensor", name).forward(counts), cached.integer_model(run, small.dataset).forward(counts)
        )
