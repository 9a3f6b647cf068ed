"""Threads, coroutines and drivers share an engine, and give it back when they are broken off."""

import asyncio
import re
import time
from functools import partial

import numpy as np
import pytest

from qatlib.board import driver, open_engine
from qatlib.device import shipped
from qatlib.engine import EngineError
from tests.board.conftest import CONFIG, PATIENCE, in_threads


def test_two_drivers_of_one_engine_each_run_their_own_model(engine, patch_model, point_model, windows, right):
    second = open_engine(config=CONFIG)
    right()
    second.load(point_model)
    right()
    short = windows[:, :12].copy()
    np.testing.assert_array_equal(second.run(short), point_model.forward(short))
    right()


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
