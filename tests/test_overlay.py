"""The driver on the smallest configuration's RTL: right forecasts, every fault with its cause, and the next run right."""

import asyncio
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from qatlib import artifact, overlay, paths, sim_device, zoo
from qatlib.engine import bitstream, hwh, isa
from qatlib.overlay import EngineError, open_engine

CONFIG = "xc7s15"


@pytest.fixture(scope="module")
def patch_model():
    return zoo.load("jfk-weather", "patch-c336-d16-w4a4")


@pytest.fixture(scope="module")
def point_model():
    """Another shape: 12 counts in, 1 out, and a constant anchor."""
    return zoo.load("etth1", "point-w12-d32-h1-w4a4")


@pytest.fixture(scope="module")
def windows():
    return zoo.windows("jfk-weather")[0][:9]


@pytest.fixture
def engine(patch_model):
    """A fresh engine with a model, as after power-up."""
    engine = open_engine(config=CONFIG)
    engine.load(patch_model)
    return engine


@pytest.fixture
def right(engine, patch_model, windows):
    """Asserts that the next run is right."""
    return lambda: np.testing.assert_array_equal(engine.run(windows), patch_model.forward(windows))


@pytest.fixture
def buffers(engine, windows):
    """Input, filled with the windows, and output of the engine."""
    return engine._fill(engine.model, windows)


def elsewhere(buffer, address):
    """A buffer that is said to lie at another address."""
    moved = buffer[:]
    moved.device_address = address
    return moved


def write_raw(engine, name, value):
    engine.write(overlay.OFFSETS[name], value)


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


def test_two_drivers_of_one_engine_each_run_their_own_model(engine, patch_model, point_model, windows, right):
    second = open_engine(config=CONFIG)
    right()
    second.load(point_model)
    right()
    short = windows[:, :12].copy()
    np.testing.assert_array_equal(second.run(short), point_model.forward(short))
    right()


def test_bad_arguments_are_named(engine, windows):
    with pytest.raises(EngineError, match="no configuration 'zedboard'; choose one of xc7s15, pynq-z2, kv260"):
        open_engine(config="zedboard")
    with pytest.raises(ValueError, match="batch is 0"):
        engine.stream(windows, batch=0)


def test_another_model_is_a_reload(engine, patch_model, point_model, windows, right):
    short = windows[:, :12].copy()
    engine.load(point_model)
    np.testing.assert_array_equal(engine.run(short), point_model.forward(short))
    engine.load(patch_model)
    right()


def test_model_may_be_switched_between_batches(engine, patch_model, windows):
    other = zoo.load("jfk-weather", "patch-c336-d16-w2a2")
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


def test_registers_by_name(engine, windows):
    engine.run(windows)
    assert int(engine.register_map.ID) == isa.ID
    assert int(engine.register_map.FINISHED) == len(windows)
    assert "write-only" in repr(engine.register_map)
    assert str(engine.status) == "status: idle"


def test_interrupt(engine, patch_model, windows):
    async def twice():
        return [await engine.run_async(windows, batch=4) for _ in range(2)]

    for forecast in asyncio.run(twice()):
        np.testing.assert_array_equal(forecast, patch_model.forward(windows))
    assert engine.last_run.windows == len(windows)


def test_dropped_interrupt(engine, patch_model, windows, right):
    engine.timeout = 0.3

    async def dropped_then_not():
        engine.device.interrupts.dropped = True
        with pytest.raises(EngineError, match=r"interrupt did not arrive within 0.3 s, though the engine has stopped; status: done"):
            await engine.run_async(windows)
        engine.device.interrupts.dropped = False
        return await engine.run_async(windows)

    np.testing.assert_array_equal(asyncio.run(dropped_then_not()), patch_model.forward(windows))
    right()


def test_interrupt_that_is_not_connected(engine, windows, right):
    engine.irq = None
    with pytest.raises(EngineError, match="not connected"):
        asyncio.run(engine.run_async(windows))
    right()


def test_start_while_busy_leaves_the_run_as_it_is(engine, patch_model, windows, buffers, right):
    engine.start(*buffers, len(windows))
    with pytest.raises(EngineError, match="busy") as caught:
        engine.start(*buffers, len(windows))
    assert caught.value.cause == 1
    with pytest.raises(EngineError, match="busy"):
        engine.load(patch_model)
    engine.wait()
    np.testing.assert_array_equal(buffers[1], patch_model.forward(windows))
    right()


def test_start_behind_the_drivers_back(engine, windows, buffers, right):
    engine.start(*buffers, len(windows))
    write_raw(engine, "CTRL", 1)
    with pytest.raises(EngineError, match=r"start while busy; status: error 1|start while busy; status: idle, error 1") as caught:
        engine.wait()
    assert caught.value.cause == 1
    right()


def test_write_while_busy(engine, windows, buffers, right):
    engine.start(*buffers, len(windows))
    engine.mmio.array[0x80000 // 4] = 0
    with pytest.raises(EngineError, match="written while busy") as caught:
        engine.wait()
    assert caught.value.cause == 8
    right()


@pytest.mark.parametrize("short", [0, 1])
def test_short_buffer(engine, windows, buffers, short, right):
    cut = [buffer[: len(windows) - 1] if i == short else buffer for i, buffer in enumerate(buffers)]
    with pytest.raises(EngineError, match="too short") as caught:
        engine.start(*cut, len(windows))
    assert caught.value.cause == 4 and str(engine.status) == "status: idle"
    right()


@pytest.mark.parametrize("address", [1 << 32, (1 << 32) - 4096, 0x1000_0004])
def test_buffer_that_the_engine_cannot_address(engine, windows, buffers, address, right):
    with pytest.raises(EngineError, match=f"0x{address:X}"):
        engine.start(elsewhere(buffers[0], address), buffers[1], len(windows))
    right()


@pytest.mark.parametrize("which, cause", [(0, 5), (1, 6)], ids=["read", "write"])
def test_bus_error(engine, windows, buffers, which, cause, right):
    engine.start(*[elsewhere(buffer, 0x8000_0000) if i == which else buffer for i, buffer in enumerate(buffers)], len(windows))
    with pytest.raises(EngineError, match=re.escape(isa.CAUSES[cause])) as caught:
        engine.wait()
    assert caught.value.cause == cause
    right()


@pytest.mark.parametrize("bit", [0, 17, 31])
def test_corrupt_program(engine, windows, bit, right):
    address, words = next((a, w) for a, w in engine.program.writes if a >> 16 == isa.REGIONS["program"])
    engine.mmio.array[address // 4] = int(words[0]) ^ 1 << bit
    with pytest.raises(EngineError, match="bad program word") as caught:
        engine.run(windows)
    assert caught.value.cause == 2
    right()


@pytest.mark.parametrize("cycles", [1, 100, 3000])
def test_reset_in_mid_run(engine, windows, buffers, cycles, right):
    engine.start(*buffers, len(windows))
    engine.device.rtl.step(cycles)
    engine.reset()
    with pytest.raises(EngineError, match="the run is lost"):
        engine.wait()
    right()


def test_memory_that_does_not_answer(engine, windows, right):
    engine.timeout = 0.2
    engine.device.rtl.memory(deaf=True)
    with pytest.raises(EngineError, match=r"no window was finished within 0.2 s; status: busy, 0 of 9 .*the reset does not end"):
        engine.run(windows)
    engine.device.rtl.memory()
    right()


def test_slow_run_is_no_fault_as_long_as_windows_are_finished(engine, patch_model, windows, monkeypatch):
    engine.timeout = 1e-9  # every look finds the deadline passed, and has to find another window finished
    monkeypatch.setattr(engine.device, "idle", 2000)
    np.testing.assert_array_equal(engine.run(windows), patch_model.forward(windows))


@pytest.mark.parametrize("name, value, message", [("ID", 0x1234, "identifies no engine"), ("VERSION", 99, "drives 99")])
def test_wrong_bitstream_by_its_registers(engine, monkeypatch, name, value, message):
    monkeypatch.setattr(isa, name, value)
    with pytest.raises(EngineError, match=f"wrong bitstream: .*{message}"):
        engine._identify()


def test_wrong_bitstream_by_its_configuration(engine, monkeypatch):
    monkeypatch.setattr(isa, "CONFIGS", {"other": replace(isa.CONFIGS[CONFIG], rows=99)})
    with pytest.raises(EngineError, match=r"wrong bitstream: configuration 0x[0-9A-F]{8} is none of other"):
        engine._identify()


def test_bitstream_of_another_board(monkeypatch):
    folder = sim_device.write_overlay(isa.CONFIGS[CONFIG])
    monkeypatch.setattr(sim_device, "write_overlay", lambda config: folder)
    with pytest.raises(EngineError, match=r"wrong bitstream: it holds the configuration xc7s15, .* should hold kv260"):
        open_engine(config="kv260")


@pytest.mark.parametrize("name", [bitstream.BIT, bitstream.HWH])
def test_file_that_is_not_the_recorded_one(monkeypatch, tmp_path, name):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    folder = sim_device.write_overlay(isa.CONFIGS[CONFIG])
    (folder / name).write_text((folder / name).read_text() + " ")
    with pytest.raises(EngineError, match=f"wrong bitstream: .*{name} is not the file recorded"):
        open_engine(config=CONFIG)


def test_closed_engine_takes_new_buffers(engine, right):
    right()
    engine.close()
    right()


@pytest.fixture
def board(monkeypatch, tmp_path):
    """As on a PYNQ-Z2, until the overlay is downloaded."""
    monkeypatch.setattr(overlay, "_on_board", lambda: True)
    monkeypatch.setattr(paths, "OVERLAYS", tmp_path)
    monkeypatch.setenv("BOARD", "Pynq-Z2")
    return tmp_path / "pynq-z2"


def test_board_without_a_bitstream(board):
    with pytest.raises(FileNotFoundError, match=r"engine.bit is missing; qatlib ships no bitstream: .*make overlay BOARD=pynq-z2"):
        open_engine()


def test_board_checks_the_pair_before_download(board, monkeypatch):
    board.mkdir()
    hwh.write(board / bitstream.HWH)
    (board / bitstream.BIT).write_text("bits")
    bitstream.record(board)
    (board / bitstream.BIT).write_text("other bits")
    monkeypatch.setattr(overlay, "Overlay", None)
    with pytest.raises(EngineError, match="wrong bitstream"):
        open_engine()


def test_board_without_an_overlay(board, monkeypatch):
    monkeypatch.setenv("BOARD", "ZCU104")
    with pytest.raises(FileNotFoundError, match="no overlay for board 'ZCU104'"):
        open_engine()


def test_driver_and_simulator_need_neither_torch_nor_pandas():
    code = "import sys; sys.modules |= dict.fromkeys(['torch', 'pandas', 'seaborn', 'scipy']); "
    code += "import qatlib.overlay, qatlib.sim_device, qatlib.panel, qatlib.playlist, qatlib.board, qatlib.engine.vivado; "
    code += "import qatlib.versions, qatlib.cost"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
