"""Models of several channels: what is trained is what runs, of each."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qatlib.data import sets
from qatlib.engine import CONFIGS, compile, simulate
from qatlib.float_model import train, transformer
from qatlib.float_model.config import linear_config, patch_config, point_config, skip_config
from qatlib.integer_model import IntegerModel
from qatlib.mcu import compiled
from qatlib.mcu.emulate import Firmware
from qatlib.quantised_model import fused, ptq, qat
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import cached

SHAPES = {
    "patch": patch_config(48, 6, d_model=8, heads=2),
    "linear": linear_config(48, 6, 3, 20),
    "skip": skip_config(48, 6, 3, 20, d_model=8),
    "point": point_config(20, 6, d_model=8),
}
INDEPENDENT = {name: replace(shape, channels=2) for name, shape in SHAPES.items()}
MIXED = {name: replace(SHAPES[name], channels=2, mode="mixed") for name in ("patch", "linear", "skip")}
BOTH = {name: replace(shape, targets=(0, 1)) for name, shape in MIXED.items() if name != "linear"}
ALL = [pytest.param(c, id=f"{c.name}") for c in (*INDEPENDENT.values(), *MIXED.values(), *BOTH.values())]


@pytest.fixture(scope="module")
def recording(sensor_csv):
    return sets.load(str(sensor_csv), target="value,other")


@pytest.fixture(scope="module")
def trained(recording):
    """config -> a model after QAT for one epoch, its test windows."""
    made = {}

    def make(config, width=QuantConfig(4, 4, scheme="asymmetric")):  # noqa: B008
        if (config, width) not in made:
            training, validation, _ = cached.split_batches(config, recording)
            torch.manual_seed(0)
            model = transformer.network(config, cached.sensor_of(recording))
            model.start(training, validation)
            train.fit(model, training, validation, train.TrainConfig(epochs=1, batch=64), seed=0)
            twin = ptq.quantise(model, width, training.inputs[::8])
            fused.fit(twin, model, training, validation, qat.QATConfig(epochs=1, batch=64, averaging=0.5), seed=0)
            made[config, width] = twin, recording.windows("test", config.context, config.horizon)
        return made[config, width]

    return make


@pytest.mark.parametrize("config", ALL)
def test_evaluation_integers_and_c_are_equal(trained, recording, config, tmp_path):
    twin, windows = trained(config)
    exported = qat.export(twin)
    exported.save(tmp_path / "model.safetensors")
    model = IntegerModel.load(tmp_path / "model.safetensors")
    batches = cached.split_batches(config, recording)[2]
    zero_point = model.tensors["head"].zero_point
    np.testing.assert_array_equal(
        model.output_codes(windows.counts) - zero_point, qat.output_codes(twin, batches.inputs)
    )
    forecast = model.forward(windows.counts)
    assert forecast.shape == (len(windows.rows), config.horizon, len(config.forecast)) and forecast.dtype == np.int16
    for packed in (False, True):
        np.testing.assert_array_equal(compiled(model, packed=packed).forward(windows.counts), forecast)


@pytest.mark.parametrize("config", ALL)
def test_the_fast_way_of_training_is_the_model(trained, recording, config):
    twin, _ = trained(config)
    inputs = cached.split_batches(config, recording)[0].inputs[:67]
    twin.train()
    fast, slow = fused.Fused(twin)(inputs), twin(inputs)
    assert fast.shape == slow.shape
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)
    gradients = []
    for network in (fused.Fused(twin), twin):
        twin.zero_grad()
        network(inputs).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in twin.named_parameters() if p.grad is not None})
    for name in ("source.quantizer.log_step_asymmetric", "head.quantizer.log_step_asymmetric"):
        torch.testing.assert_close(gradients[0][name], gradients[1][name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("config", INDEPENDENT.values(), ids=INDEPENDENT)
def test_independent_channels_are_models_of_their_own(trained, config):
    """Each alone, in NumPy and on the engine, forecasts what it does among the others."""
    twin, windows = trained(config)
    model, counts = qat.export(twin), windows.counts[:5]
    forecast = model.forward(counts)
    for i in range(2):
        np.testing.assert_array_equal(model.channel(i).forward(counts[:, :, i]), forecast[:, :, i])
    found, cycles = simulate(model, counts, CONFIGS["pynq-z2"])
    np.testing.assert_array_equal(found, forecast)
    alone = simulate(model.channel(0), counts[:, :, 0], CONFIGS["pynq-z2"])[1]
    assert cycles.interval == 2 * alone.interval


@pytest.mark.parametrize("config", [*MIXED.values(), *BOTH.values()], ids=lambda config: config.name)
def test_mixed_channels_go_through_the_engine_together(trained, config):
    twin, windows = trained(config)
    model, counts = qat.export(twin), windows.counts[:5]
    with pytest.raises(ValueError, match="its channels are mixed"):
        model.channel(0)
    forecast, cycles = simulate(model, counts, CONFIGS["pynq-z2"])
    np.testing.assert_array_equal(forecast, model.forward(counts))
    assert cycles.interval == compile(model, CONFIGS["pynq-z2"]).cycles


@pytest.mark.parametrize("config", [INDEPENDENT["linear"], MIXED["skip"]], ids=["independent", "mixed"])
def test_emulated_firmware_takes_channels_side_by_side(trained, config):
    twin, windows = trained(config)
    model = qat.export(twin)
    outcome = Firmware(model, "rv32imc").run(windows.counts[:3])
    np.testing.assert_array_equal(outcome.forecasts, model.forward(windows.counts[:3]))


def test_sensor_units_of_each_channel(trained, recording):
    twin, windows = trained(INDEPENDENT["patch"])
    model = qat.export(twin)
    values = windows.counts[:3] * recording.resolution
    np.testing.assert_allclose(model.predict(values), model.forward(windows.counts[:3]) * recording.resolution)
    assert model.predict(values[0]).shape == (6, 2)
    values[1, 7, 1] = 40_000 * recording.resolution[1]
    with pytest.raises(ValueError, match="is outside the sensor's range"):
        model.predict(values)
    with pytest.raises(ValueError, match=r"this model takes windows of shape \(48, 2\)"):
        model.predict(values[:, :, 0])


@pytest.mark.parametrize("family", ["point", "decoder"])
def test_what_cannot_mix_channels_says_so(family):
    with pytest.raises(ValueError, match=f"{family}: its channels must be independent"):
        replace(SHAPES["patch"], family=family, channels=2, mode="mixed")
