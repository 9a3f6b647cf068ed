"""Small things that many tests need: data without a network, tiny models, the comparison of training's evaluation with
the integers."""

import os
from functools import lru_cache

import numpy as np
import pytest
import torch

from qatlib.data import sets, sources
from qatlib.float_model import train, transformer
from qatlib.float_model.config import FAMILIES, RIVALS, ModelConfig, Sensor
from qatlib.quantised_model import ptq, qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached, experiment, scale_out
from qatlib.system import paths

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))

SHAPES = {
    "patch": dict(context=48, horizon=6, patch=8),
    "point": dict(context=20, horizon=6, patch=1),
    "decoder": dict(context=24, horizon=6, patch=8, label=10),
    "linear": dict(context=24, horizon=6, patch=24, rank=3, reach=20),
    "skip": dict(context=48, horizon=6, patch=8, rank=3, reach=19),
}
EIGHT_BITS = QuantConfig()


@pytest.fixture
def build(tmp_path, monkeypatch):
    """An empty build folder."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    return tmp_path / "build"


@pytest.fixture(scope="module")
def in_process():
    """Runs are computed in this process: no worker has to start, and to import torch, for small ones."""

    def compute(missing, dataset, name):
        for run in missing:
            cached.execute(run, dataset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale_out, "_compute", compute)
        yield


@pytest.fixture(scope="session")
def etth1():
    """ETTh1, where it can be had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "TIMEOUT", 3)
        try:
            return sets.load("etth1")
        except sources.Unavailable as reason:
            pytest.skip(str(reason))


@pytest.fixture(scope="session")
def sensor_csv(tmp_path_factory):
    """A CSV of 900 hours: `value` has a daily wave and a random walk around 20, `other` another one around -3."""
    rng, hours = np.random.default_rng(7), np.arange(900)
    value = 20 + 2 * np.sin(hours / 24 * 2 * np.pi) + rng.normal(0, 0.2, 900).cumsum() * 0.3
    other = -3 + np.cos(hours / 12 * 2 * np.pi) + rng.normal(0, 0.3, 900)
    times = np.datetime64("2021-01-01", "s") + hours * np.timedelta64(3600, "s")
    path = tmp_path_factory.mktemp("data") / "sensor.csv"
    path.write_text(
        "\n".join(["date,value,other", *(f"{t},{v:.3f},{o:.3f}" for t, v, o in zip(times, value, other, strict=True))])
    )
    return path


@pytest.fixture(scope="session")
def dataset(sensor_csv):
    return sets.load(str(sensor_csv), target="value")


@pytest.fixture(scope="session")
def sensor(dataset):
    return Sensor(dataset.resolution, dataset.mean, dataset.std)


@pytest.fixture(scope="session")
def batches(dataset, sensor):
    """config -> (train, validation) batches."""

    @lru_cache
    def make(config):
        windows = (dataset.windows(split, config.context, config.horizon) for split in ("train", "validation"))
        return tuple(train.batches(w, sensor, subtract_last=config.subtract_last) for w in windows)

    return make


@pytest.fixture(scope="session")
def float_model(sensor, batches):
    """(family, layers=, heads=, d_model=, ..) -> a float model after a few epochs. Copies are made of it, it is not to
    be changed."""

    @lru_cache
    def make(family, *, layers=1, heads=2, d_model=8, **shape):
        config = ModelConfig(
            family, **{**SHAPES[family], **shape}, d_model=d_model, heads=heads, layers=layers, dropout=0.1
        )
        torch.manual_seed(layers * 10 + heads)
        model = transformer.network(config, sensor)
        train.fit(model, *batches(config), train.TrainConfig(epochs=4, batch=32, averaging=0.5), seed=0)
        return model

    return make


@pytest.fixture(scope="session")
def quantised(batches):
    """(float model, QuantConfig) -> its quantised model on MSE steps."""

    def make(model, config=EIGHT_BITS, method="mse", **more):
        return ptq.quantise(model, config, batches(model.config)[0].inputs[::8], method, **more)

    return make


@pytest.fixture(scope="session")
def extreme_counts(dataset):
    """context -> int16 windows: real ones, random ones over the whole range, constants, alternations, ramps, single
    spikes."""

    def make(context, real=12):
        rng, low, high = np.random.default_rng(context), -(1 << 15), (1 << 15) - 1
        odd = np.arange(context) % 2 == 1
        spike = np.arange(context) == context // 2
        shaped = [np.full(context, v) for v in (low, -1, 0, 1, high)]
        shaped += [np.where(odd, low, high), np.where(odd, high, low), np.where(odd, 20000, 20001)]
        shaped += [
            np.linspace(low, high, context),
            np.linspace(high, low, context),
            np.where(spike, high, 20000),
            np.where(spike, low, 0),
        ]
        windows = [
            dataset.windows("test", context, 6).counts[:real],
            rng.integers(low, high + 1, (8, context)),
            np.array(shaped),
        ]
        windows.append(20000 + rng.integers(-300, 300, (8, context)).cumsum(1) // 4)
        return np.concatenate(windows).astype(np.int16)

    return make


@pytest.fixture(scope="session")
def both_codes():
    """(quantised model, counts) -> output codes of its evaluation and of its integers, zero point taken out of both."""

    def codes(model, counts):
        integers, wide = qat.export(model), counts.astype(np.int64)
        anchor = np.where(model.config.subtract_last, wide[:, -1:], model.sensor.offset)
        return qat.output_codes(model, wide - anchor), integers.output_codes(counts) - integers.tensors[
            "head"
        ].zero_point

    return codes


@pytest.fixture(scope="session")
def small_home(tmp_path_factory):
    """The folders of `small`: what one module has computed, the next one finds."""
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def small(sensor_csv, small_home):
    """A quick experiment in folders of its own, one epoch for everything."""
    fast = dict(epochs=1, batch=128, averaging=0.5)
    recipes = train.TrainConfig(**fast), qat.QATConfig(**fast, distil=1.0)
    figures = small_home / "figures"
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("BUILD", small_home / "build"), ("FIGURES", figures), ("TABLES", figures / "tables")):
            patch.setattr(paths, name, folder)
        patch.setattr(experiment, "RECIPES", dict.fromkeys(FAMILIES + RIVALS, recipes))
        yield experiment.Experiment("quick", str(sensor_csv), "value", context=48, horizon=6)


@pytest.fixture(scope="module")
def accuracy(small, in_process):
    """Table of the default model's baselines, float, one PTQ and two QAT runs."""
    grid = [r for r in small.all_runs() if r.model == small.default_model]
    methods = ("ptq-mse", "qat-asymmetric")
    return small.table(
        r for r in grid if not r.quantization or (r.quantization.weight_bits == 4 and r.method in methods)
    )


@pytest.fixture
def four_bit_run(small, accuracy):
    return small.quantised_run(weight_bits=4, activation_bits=4)
