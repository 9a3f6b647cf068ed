"""The driver on the smallest configuration's RTL: right forecasts, bad arguments refused, times of its runs."""

import asyncio
import re
import time

import numpy as np
import pytest

from qatlib.board import open_engine
from qatlib.board.control import TIMEOUT
from qatlib.device import shipped
from qatlib.engine import EngineError
from qatlib.integer_model import artifact
from tests import several_channels
from tests.board.conftest import CONFIG


def test_run_stream_and_forecast_are_numpys(engine, patch_model, windows):
    expected = patch_model.forward(windows)
    np.testing.assert_array_equal(engine.run(windows), expected)
    parts = list(engine.stream(windows, batch=4))
    assert [part.shape for part in parts] == [(4, 24), (4, 24), (1, 24)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)
    values = windows * patch_model.resolution
    np.testing.assert_array_equal(engine.forecast(values), patch_model.predict(values))
    np.testing.assert_array_equal(engine.forecast(values[0]), patch_model.predict(values[0]))
    assert engine.run(windows[:0]).shape == (0, 24)


@pytest.mark.parametrize("batch", [0, -3, 65536, True, 2.0, "4", None])
def test_a_batch_is_a_number_of_windows(engine, windows, batch, right):
    with pytest.raises(ValueError, match=re.escape(f"batch is {batch!r}; it must be from 1 to 65535 windows")):
        engine.stream(windows, batch=batch)
    with pytest.raises(ValueError, match="batch is"):
        asyncio.run(engine.run_async(windows, batch=batch))
    right()


@pytest.mark.parametrize("seconds", [0, -1, np.nan, np.inf, 1e9, True, "5", None])
def test_a_timeout_is_seconds(engine, seconds):
    with pytest.raises(ValueError, match=r"timeout is .*; it must be seconds, more than 0 and at most 86400"):
        engine.timeout = seconds
    assert engine.timeout == TIMEOUT


@pytest.mark.parametrize("model", [None, 5, b"model.safetensors", ["model.safetensors"], np.zeros(3)])
def test_what_is_no_model_is_not_loaded(engine, model, right):
    with pytest.raises(
        EngineError, match=f"load takes an IntegerModel or the path of its file, not {type(model).__name__}"
    ):
        engine.load(model)
    right()


def test_counts_of_any_strides_and_none_that_change_meanwhile(engine, patch_model, windows):
    np.testing.assert_array_equal(engine.run(windows[::-2]), patch_model.forward(windows[::-2]))
    np.testing.assert_array_equal(engine.run(np.asfortranarray(windows)), patch_model.forward(windows))
    counts = windows.copy()
    stream = engine.stream(counts, batch=4)
    parts = [next(stream)]
    counts[:] = 0
    np.testing.assert_array_equal(np.concatenate([*parts, *stream]), patch_model.forward(windows))
    with pytest.raises(TypeError, match="counts are >i2, not int16"):
        engine.run(windows.astype(">i2"))


def test_run_by_hand_has_times_of_its_own(engine, windows, buffers):
    engine.run(windows)
    earlier, cycles = engine.last_run, engine.last_run.cycles
    engine.start(*buffers, len(windows))
    engine.wait()
    assert (earlier.windows, earlier.cycles) == (9, cycles)
    assert engine.last_run.windows == 9 and engine.last_run.cycles > 0


def test_times_are_of_one_run(engine, windows):
    """Of two whose batches take turns."""
    first = engine.stream(windows, batch=3)
    times = [engine.last_run]
    second = engine.stream(windows[:4], batch=2)
    times.append(engine.last_run)
    for _ in range(2):
        next(first), next(second)
    next(first)
    assert [t.windows for t in times] == [9, 4]
    assert (
        times[0].engine == pytest.approx(times[0].engine_cycles / 100e6)
        and times[0].engine_cycles > 2 * times[1].engine_cycles
    )


def test_another_model_is_a_reload(engine, patch_model, point_model, windows, right):
    short = windows[:, :12].copy()
    engine.load(point_model)
    np.testing.assert_array_equal(engine.run(short), point_model.forward(short))
    engine.load(patch_model)
    right()


@pytest.mark.parametrize("name", ["two independent", "two mixed, both forecast"])
def test_several_channels(engine, name, right, patch_model):
    model = several_channels.MODELS[name]
    counts = several_channels.windows(model, 0, 5)
    expected = model.forward(counts)
    engine.load(model)
    np.testing.assert_array_equal(engine.run(counts), expected)
    np.testing.assert_array_equal(np.concatenate(list(engine.stream(counts, batch=2))), expected)
    np.testing.assert_array_equal(asyncio.run(engine.run_async(counts, batch=4)), expected)
    values = counts * model.resolution
    np.testing.assert_array_equal(engine.forecast(values[0]), model.predict(values[0]))
    assert engine.run(counts[:0]).shape == (0, *model.forecast_shape)
    with pytest.raises(ValueError, match=rf"this model takes \(windows, {model.context}, 2\)"):
        engine.run(counts[:, :, 0])
    engine.load(patch_model)
    right()


@pytest.mark.parametrize("model", several_channels.CLASSIFIERS.values(), ids=several_channels.CLASSIFIERS.keys())
def test_a_classifier(engine, model, right, patch_model):
    counts = several_channels.windows(model, 0, 9)
    engine.load(model)
    for found, expected in zip(engine.classify(counts), model.classify(counts), strict=True):
        np.testing.assert_array_equal(found, expected)
    values = counts * model.resolution
    for found, expected in zip(engine.forecast(values), model.predict(values), strict=True):
        np.testing.assert_array_equal(found, expected)
    engine.load(patch_model)
    with pytest.raises(ValueError, match="does not classify"):
        engine.classify(counts)
    right()


@pytest.mark.parametrize("model", several_channels.DETECTORS.values(), ids=several_channels.DETECTORS.keys())
def test_a_detector(engine, model, right, patch_model):
    rows = several_channels.windows(model, 0, 4).reshape(-1, *model.window_shape[1:])
    engine.load(model)
    for found, expected in zip(engine.detect(rows), model.detect(rows), strict=True):
        np.testing.assert_array_equal(found, expected)
    engine.load(patch_model)
    with pytest.raises(ValueError, match="does not detect"):
        engine.detect(rows)
    right()


def test_independent_channels_take_turns(engine, buffers):
    model = several_channels.MODELS["two independent"]
    counts = several_channels.windows(model, 0, 5)
    engine.load(model)
    engine.run(counts)
    both = engine.last_run
    with pytest.raises(EngineError, match=r"has 2 channels, which take turns in the engine: use run, or load model"):
        engine.start(*buffers, 5)
    engine.load(model.channel(0))
    engine.run(counts[:, :, 0])
    one = engine.last_run
    assert both.windows == one.windows == 5 and both.engine_cycles == 2 * one.engine_cycles


def test_of_the_next_channels_program_only_the_memories_that_differ_are_written(engine, windows, patch_model):
    model = several_channels.MODELS["seven independent"]
    counts = several_channels.windows(model, 0, 1)
    engine.load(patch_model)
    engine.run(windows)
    engine.load(model)
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    words = sum(len(words) for _, words in engine.program.writes)
    assert engine.last_run.bus * 100e6 < 6 * words  # clock cycles: fewer than one a word of the six that follow
    engine.load(patch_model)
    np.testing.assert_array_equal(engine.run(windows), patch_model.forward(windows))


def test_a_stream_counts_its_windows_whatever_is_loaded_meanwhile(engine):
    independent, mixed = (several_channels.MODELS[name] for name in ("two independent", "two mixed, both forecast"))
    short = min(independent.context, mixed.context)
    assert independent.context != short  # so that the second batch is refused, and not counted
    engine.load(independent)
    stream = engine.stream(several_channels.windows(independent, 0, 4), batch=3)
    next(stream)
    engine.load(mixed)
    with pytest.raises(ValueError, match="this model takes"):
        next(stream)
    assert engine.last_run.windows == 3


def test_model_may_be_switched_between_batches(engine, patch_model, windows):
    other = shipped.load("jfk-weather", "patch-c336-d16-w2a2")
    stream = engine.stream(windows, batch=5)
    np.testing.assert_array_equal(next(stream), patch_model.forward(windows[:5]))
    engine.load(other)
    np.testing.assert_array_equal(next(stream), other.forward(windows[5:]))


def test_model_from_a_file(engine, point_model, windows, tmp_path, right):
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    with pytest.raises(artifact.ArtifactError):
        engine.load(tmp_path / "broken.safetensors")
    right()
    point_model.save(tmp_path / "model.safetensors")
    engine.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(engine.run(windows[:, :12].copy()), point_model.forward(windows[:, :12].copy()))


@pytest.mark.parametrize("value, message", [(np.nan, "NaN"), (1e6, "outside the sensor's range")])
def test_forecast_refuses_bad_values(engine, patch_model, windows, value, message):
    values = windows[0] * patch_model.resolution
    values[5] = value
    with pytest.raises(ValueError, match=message):
        engine.forecast(values)


def test_run_refuses_what_is_not_counts_of_the_models_window(engine, windows):
    with pytest.raises(TypeError, match="not int16"):
        engine.run(windows.astype(float))
    with pytest.raises(ValueError, match="takes \\(windows, 336\\)"):
        engine.run(windows[:, :100])


def test_no_model():
    with pytest.raises(EngineError, match="call load"):
        open_engine(config=CONFIG).forecast(np.zeros(336))


def test_times_of_a_run(engine, windows):
    began = time.perf_counter()
    engine.run(windows)
    times = engine.last_run
    assert (times.windows, times.simulated, times.clock_mhz) == (9, True, 100)
    assert times.engine == pytest.approx(times.engine_cycles / 100e6)
    assert engine.program.cycles * 8 < times.engine_cycles <= times.cycles
    assert times.cycles - times.engine_cycles < (times.engine + times.bus) * 100e6 < times.cycles + 2000
    assert times.bus > 0 and 0 < times.python < (time.perf_counter() - began) / 2  # most of it went into the simulation
    assert "at 100 MHz, simulated" in str(times)
    assert engine.note == "simulated RTL xc7s15 at 100 MHz"
