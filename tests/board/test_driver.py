"""The driver on the smallest configuration's RTL: right forecasts, every fault with its cause, and the next run
right."""

import asyncio
import re
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from pynq import allocate

from qatlib.board import driver, sim_device
from qatlib.board.driver import EngineError, open_engine
from qatlib.device import shipped
from qatlib.engine import bitstream, compile, hwh, isa, simulation
from qatlib.engine.rtl import Rtl
from qatlib.integer_model import artifact
from qatlib.system import paths

CONFIG, OTHER = "xc7s15", "pynq-z2"
PATIENCE = 60  # seconds for what should take none


@pytest.fixture(scope="module")
def patch_model():
    return shipped.load("jfk-weather", "patch-c336-d16-w4a4")


@pytest.fixture(scope="module")
def point_model():
    """Another shape: 12 counts in, 1 out, and a constant anchor."""
    return shipped.load("etth1", "point-w12-d32-h1-w4a4")


@pytest.fixture(scope="module")
def windows():
    return shipped.windows("jfk-weather")[0][:9]


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
    engine.write(driver.OFFSETS[name], value)


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
    with pytest.raises(EngineError, match=r"no configuration \['xc7s15'\]"):
        open_engine(config=[CONFIG])


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
    assert engine.timeout == driver.TIMEOUT


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


@pytest.mark.parametrize("rows", [0, -1, 65536, True, 2.0])
def test_start_of_no_number_of_windows(engine, buffers, rows, right):
    with pytest.raises(EngineError, match=f"{rows!r} windows in one run; the engine takes 1 to 65535"):
        engine.start(*buffers, rows)
    right()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda b: b.astype(np.int16), "not copies"),
        (lambda b: b.astype(np.int16)[:], "not copies"),
        (np.array, "takes buffers of pynq.allocate"),
        (lambda b: None, "takes buffers of pynq.allocate"),
        (lambda b: b.view(np.uint16), r"a buffer of uint16 .* needs contiguous int16 \(9 or more, 336\)"),
        (lambda b: b.reshape(-1), "of another layout"),
        (lambda b: b[:, :-4], "of another layout"),
        (lambda b: b[::-1], "of another layout"),
        (lambda b: allocate((9, 340), np.int16, target=b.device), "of another layout"),
        (lambda b: allocate((8, 336), np.int16, target=b.device), "too short"),
    ],
)
def test_start_on_what_is_no_buffer_of_the_model(engine, windows, buffers, change, message, right):
    with pytest.raises(EngineError, match=message):
        engine.start(change(buffers[0]), buffers[1], len(windows))
    assert str(engine.status) == "status: idle"
    right()


def test_start_on_a_freed_buffer(engine, windows, buffers, right):
    buffer = allocate((9, 336), np.int16, target=engine.device)
    view = buffer[:]
    buffer.freebuffer()
    for freed in (buffer, view):
        with pytest.raises(EngineError, match="nor freed ones"):
            engine.start(freed, buffers[1], len(windows))
    right()


def test_buffers_stay_until_the_run_is_over(engine, patch_model, windows):
    def started():
        inputs, outputs = (allocate((9, n), np.int16, target=engine.device) for n in (336, 24))
        inputs[:] = windows
        engine.start(inputs, outputs, len(windows))
        return outputs

    outputs = started()
    engine.wait()
    np.testing.assert_array_equal(outputs, patch_model.forward(windows))


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


# -- What changes underneath


def test_a_driver_refuses_where_another_configuration_was_downloaded(engine, patch_model, windows, buffers, right):
    open_engine(config=OTHER)
    again = rf"another overlay was downloaded: .*{OTHER}-.*engine.bit, not xc7s15; call open_engine again"
    for call in (
        engine.reset,
        engine.wait,
        partial(engine.run, windows),
        partial(engine.load, patch_model),
        partial(engine.start, *buffers, 9),
    ):
        with pytest.raises(EngineError, match=again):
            call()
    open_engine(config=CONFIG)
    right()


def test_a_driver_refuses_where_another_process_downloaded_another_configuration(engine, patch_model, windows):
    engine.device.rtl = Rtl(isa.CONFIGS[OTHER])
    for call in (engine.reset, engine.wait, partial(engine.run, windows), partial(engine.load, patch_model)):
        with pytest.raises(
            EngineError, match=f"another overlay was downloaded: {OTHER}, not xc7s15; call open_engine again"
        ):
            call()


def test_a_driver_refuses_where_no_engine_is_left(engine, windows, monkeypatch):
    monkeypatch.setattr(isa, "ID", 0x1234)
    with pytest.raises(
        EngineError, match=r"downloaded: wrong bitstream: 0x71A711B0 at address .* call open_engine again"
    ):
        engine.run(windows)


def test_the_model_is_written_again_where_the_configuration_was_downloaded_anew(engine, right):
    engine.overlay.download()
    right()
    open_engine(config=CONFIG)
    right()


def test_the_model_is_written_again_where_another_process_ran_its_own(engine, point_model, windows, right):
    program = compile(point_model, isa.CONFIGS[CONFIG])
    simulation.load(engine.device.rtl, program)
    simulation.run(engine.device.rtl, program, windows[:, :12].copy())
    right()


def test_a_download_in_mid_run(engine, windows, buffers, right):
    engine.start(*buffers, len(windows))
    open_engine(config=CONFIG)
    with pytest.raises(EngineError, match="the run is lost"):
        engine.wait()
    right()


# -- Threads, coroutines, interrupts


def in_threads(*functions):
    """What each returned or raised, on a thread of its own."""
    results = ["the thread did not end"] * len(functions)

    def one(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=one, args=(i,), name=f"worker {i}", daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


def test_threads_share_an_engine_and_a_driver(engine, patch_model, point_model, windows):
    second, windows, short = open_engine(config=CONFIG), windows[:4], windows[:4, :12].copy()
    second.load(point_model)
    work = [(engine, patch_model, windows), (second, point_model, short)] * 2
    for held, _, _ in work:
        held.timeout = PATIENCE

    def runs(driver, model, counts):
        for i in range(4):
            forecast = asyncio.run(driver.run_async(counts, batch=2)) if i % 3 == 0 else driver.run(counts)
            np.testing.assert_array_equal(forecast, model.forward(counts))

    assert in_threads(*(partial(runs, *each) for each in work)) == [None] * len(work)


def test_threads_of_which_one_opens_the_engine_again(engine, patch_model, windows, right):
    def opens():
        for _ in range(2):
            driver = open_engine(config=CONFIG)
            driver.load(patch_model)
            np.testing.assert_array_equal(driver.run(windows), patch_model.forward(windows))

    engine.timeout = PATIENCE
    assert in_threads(opens, *[lambda: [right() for _ in range(4)]] * 2) == [None, [None] * 4, [None] * 4]


def test_a_run_is_of_one_model(engine, patch_model, windows, monkeypatch):
    """Another thread loads another one after the counts were checked, and after the first batch."""
    other = shipped.load("jfk-weather", "patch-c336-d16-w2a2")
    monkeypatch.setattr(driver, "BATCH", 5)
    run_batch = engine._run_batch

    def loads_first(*arguments):
        assert in_threads(lambda: engine.load(other)) == [None]
        return run_batch(*arguments)

    monkeypatch.setattr(engine, "_run_batch", loads_first)
    np.testing.assert_array_equal(engine.run(windows), patch_model.forward(windows))
    engine.load(patch_model)
    values = windows * patch_model.resolution
    np.testing.assert_array_equal(engine.forecast(values), patch_model.predict(values))
    assert engine.model is other


def test_who_does_not_wait_for_its_run_is_named(engine, windows, buffers, right):
    engine.start(*buffers, len(windows))
    engine.timeout = 0.1
    (error,) = in_threads(right)
    assert isinstance(error, EngineError)
    assert re.match(
        (
            r"the engine is held by thread 'MainThread', 9 windows of '.*', which called start and not yet wait; "
            r"waited 0.1 s"
        ),
        str(error),
    )
    engine.wait()
    assert in_threads(right) == [None]


def test_another_thread_may_wait(engine, patch_model, windows, buffers, right):
    engine.start(*buffers, len(windows))
    assert in_threads(engine.wait) == [None]
    np.testing.assert_array_equal(buffers[1], patch_model.forward(windows))
    assert in_threads(lambda: engine.start(*buffers, len(windows))) == [None]  # and then is gone
    right()


def test_coroutines_take_turns(engine, patch_model, windows, right):
    async def together():
        runs = [engine.run_async(windows, batch=batch) for batch in (2, 3, 4)]
        return await asyncio.gather(*runs, asyncio.to_thread(right), asyncio.to_thread(right))

    for forecast in asyncio.run(together())[:3]:
        np.testing.assert_array_equal(forecast, patch_model.forward(windows))


def test_a_run_in_the_thread_of_a_waiting_coroutine_is_refused_at_once(engine, patch_model, windows):
    engine.timeout = PATIENCE

    async def both():
        task = asyncio.create_task(engine.run_async(windows))
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(EngineError, match="which cannot go on while its thread waits: await it first"):
            engine.run(windows)
        assert time.monotonic() - began < PATIENCE / 2
        return await task

    np.testing.assert_array_equal(asyncio.run(both()), patch_model.forward(windows))


def test_interrupts_in_one_event_loop_after_another(engine, patch_model, windows):
    for _ in range(2):
        np.testing.assert_array_equal(asyncio.run(engine.run_async(windows)), patch_model.forward(windows))
    open_engine(config=CONFIG)  # pynq forgets the interrupts of before
    np.testing.assert_array_equal(asyncio.run(engine.run_async(windows)), patch_model.forward(windows))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["_write_program", "_wait", "_finish", "_reset"])
def test_a_run_that_is_broken_off(engine, windows, monkeypatch, where, error, right):
    """Leaves the engine free, for this thread and for others."""
    done = getattr(engine, where)

    def broken_off(*arguments):
        monkeypatch.undo()
        if where == "_finish":
            done(*arguments)
        raise error

    monkeypatch.setattr(engine, where, broken_off)
    if where == "_write_program":
        engine.overlay.download()
    with pytest.raises(error):
        engine.reset() if where == "_reset" else engine.run(windows)
    assert in_threads(right) == [None]
    right()


def test_a_run_whose_reset_is_broken_off_too(engine, windows, buffers, monkeypatch, right):
    def interrupt(*_):
        raise KeyboardInterrupt

    for name in ("_wait", "_reset"):
        monkeypatch.setattr(engine, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.run(windows)
    monkeypatch.undo()
    assert engine.status.busy
    assert in_threads(right) == [None]


def test_a_coroutine_that_is_cancelled(engine, windows, right):
    async def cancel():
        task = asyncio.create_task(engine.run_async(windows))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not engine.status.busy

    asyncio.run(cancel())
    right()


def test_another_model_is_a_reload(engine, patch_model, point_model, windows, right):
    short = windows[:, :12].copy()
    engine.load(point_model)
    np.testing.assert_array_equal(engine.run(short), point_model.forward(short))
    engine.load(patch_model)
    right()


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
        with pytest.raises(
            EngineError, match=r"interrupt did not arrive within 0.3 s, though the engine has stopped; status: done"
        ):
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
    with pytest.raises(
        EngineError, match=r"start while busy; status: error 1|start while busy; status: idle, error 1"
    ) as caught:
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
    engine.start(
        *[elsewhere(buffer, 0x8000_0000) if i == which else buffer for i, buffer in enumerate(buffers)], len(windows)
    )
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
    with pytest.raises(
        EngineError, match=r"no window was finished within 0.2 s; status: busy, 0 of 9 .*the reset does not end"
    ):
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
    monkeypatch.setattr(driver, "_on_board", lambda: True)
    monkeypatch.setattr(paths, "OVERLAYS", tmp_path)
    monkeypatch.setenv("BOARD", "Pynq-Z2")
    return tmp_path / "pynq-z2"


def test_board_without_a_bitstream(board):
    with pytest.raises(
        FileNotFoundError, match=r"engine.bit is missing; qatlib ships no bitstream: .*make overlay BOARD=pynq-z2"
    ):
        open_engine()


def test_board_checks_the_pair_before_download(board, monkeypatch):
    board.mkdir()
    hwh.write(board / bitstream.HWH)
    (board / bitstream.BIT).write_text("bits")
    bitstream.record(board)
    (board / bitstream.BIT).write_text("other bits")
    monkeypatch.setattr(driver, "Overlay", None)
    with pytest.raises(EngineError, match="wrong bitstream"):
        open_engine()


def test_board_without_an_overlay(board, monkeypatch):
    monkeypatch.setenv("BOARD", "ZCU104")
    with pytest.raises(FileNotFoundError, match="no overlay for board 'ZCU104'"):
        open_engine()
