"""A run through the registers: every fault with its cause, with and without interrupts, and the next run right."""

import asyncio

import numpy as np
import pytest

from qatlib.board import open_engine
from qatlib.engine import EngineError, isa
from qatlib.engine.registers import OFFSETS
from tests.board.conftest import CONFIG


def write_raw(engine, name, value):
    engine.write(OFFSETS[name], value)


def test_registers_by_name(engine, windows):
    engine.run(windows)
    assert int(engine.register_map.ID) == isa.ID
    assert int(engine.register_map.FINISHED) == len(windows)
    assert "write-only" in repr(engine.register_map)
    assert str(engine.status) == "status: idle"


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


def test_interrupts_in_one_event_loop_after_another(engine, patch_model, windows):
    for _ in range(2):
        np.testing.assert_array_equal(asyncio.run(engine.run_async(windows)), patch_model.forward(windows))
    open_engine(config=CONFIG)  # pynq forgets the interrupts of before
    np.testing.assert_array_equal(asyncio.run(engine.run_async(windows)), patch_model.forward(windows))
