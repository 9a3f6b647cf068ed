"""Turns on a device: in order, given back whatever happens, and never waited for in vain."""

import asyncio
import threading
import time

import pytest

from qatlib.board.turns import Turns
from qatlib.engine.registers import EngineError

PATIENCE = 30  # seconds for what should take none


@pytest.fixture
def turns():
    return Turns()


def in_thread(function, name="other"):
    """Start it; -> the thread."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_in_the_order_they_came(turns):
    order = []

    def worker(i):
        with turns.taken(f"worker {i}", PATIENCE):
            order.append(i)

    with turns.taken("first", PATIENCE):
        threads = []
        for i in range(5):
            threads.append(in_thread(lambda i=i: worker(i)))
            until(lambda: len(turns._queue) == 2 + i)  # noqa: B023  called at once
        assert order == []
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2, 3, 4] and not turns._queue


def test_error_names_who_has_it_and_the_next_may_go_on(turns):
    taken, give_back = threading.Event(), threading.Event()

    def holder():
        with turns.taken("64 windows of 'model'", 0.01):
            taken.set()
            give_back.wait(PATIENCE)

    thread = in_thread(holder, "sampler")
    taken.wait(PATIENCE)
    with pytest.raises(EngineError, match=r"held by thread 'sampler', 64 windows of 'model'; waited 0.05 s"):
        with turns.taken("mine", 0.05):
            pass
    give_back.set()
    thread.join(PATIENCE)
    with turns.taken("mine", 0.05):
        pass


def test_who_promises_is_waited_for(turns):
    taken = threading.Event()

    def holder():
        with turns.taken("long run", PATIENCE):
            taken.set()
            for _ in range(10):
                turns.promise(PATIENCE)
                time.sleep(0.02)

    thread = in_thread(holder)
    taken.wait(PATIENCE)
    with turns.taken("mine", 0.05):
        assert turns._queue[0].thread is not thread
    thread.join(PATIENCE)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_given_back_after_an_error(turns, error):
    with pytest.raises(error):
        with turns.taken("mine", 1):
            raise error
    assert not turns._queue


def test_a_thread_that_died_gives_way(turns):
    in_thread(lambda: turns.taken("mine", 1).__enter__()).join(PATIENCE)
    with turns.taken("mine", 0.1):
        pass


def test_a_thread_that_was_interrupted_before_it_could_leave(turns):
    turns.taken("mine", 1).__enter__()
    with turns.taken("mine again", 0.1):
        pass
    assert not turns._queue


def test_kept_for_the_one_who_resumes_it(turns):
    driver = object()
    with turns.taken("start", 0.1) as turn:
        turn.kept = driver
    refused = []

    def other():
        with pytest.raises(
            EngineError, match="held by thread 'MainThread', start, which called start and not yet wait"
        ):
            with turns.taken("run", 0.1):
                pass
        refused.append(True)
        with turns.taken("wait", 0.1, resumes=driver) as turn:
            turn.kept = None

    in_thread(other).join(PATIENCE)
    assert refused and not turns._queue


def test_coroutines_and_threads(turns):
    """One at a time, though the coroutines give way to each other while they have it."""
    inside, most, runs = 0, 0, 0

    def enter():
        nonlocal inside, most, runs
        inside, runs = inside + 1, runs + 1
        most = max(most, inside)

    async def coroutine():
        nonlocal inside
        for _ in range(5):
            async with turns.taken_async("coroutine", PATIENCE):
                enter()
                await asyncio.sleep(0.001)
                inside -= 1

    def thread():
        nonlocal inside
        for _ in range(5):
            with turns.taken("thread", PATIENCE):
                enter()
                time.sleep(0.001)
                inside -= 1

    async def coroutines():
        await asyncio.gather(*(coroutine() for _ in range(3)))

    threads = [in_thread(thread), in_thread(thread), in_thread(lambda: asyncio.run(coroutines()))]
    asyncio.run(coroutines())
    for each in threads:
        each.join(PATIENCE)
    assert (most, runs, inside) == (1, 40, 0) and not turns._queue


def test_a_coroutine_is_not_waited_for_on_its_own_thread(turns):
    async def both():
        async with turns.taken_async("coroutine", PATIENCE):
            with pytest.raises(
                EngineError,
                match=r"task 'Task-\d+', coroutine, which cannot go on while its thread waits: await it first",
            ):
                with turns.taken("thread", PATIENCE):
                    pass
        with turns.taken("thread", PATIENCE):
            pass

    asyncio.run(both())


def test_a_thread_goes_before_its_own_waiting_coroutines(turns):
    """They could not take their turn while it waits."""
    held, order = threading.Event(), []

    def holder():
        with turns.taken("other", PATIENCE):
            held.set()
            until(lambda: len(turns._queue) == 3)

    async def waiting():
        async with turns.taken_async("coroutine", PATIENCE):
            order.append("coroutine")

    async def both():
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0)
        with turns.taken("thread", PATIENCE):
            order.append("thread")
        await task

    thread = in_thread(holder)
    held.wait(PATIENCE)
    asyncio.run(both())
    thread.join(PATIENCE)
    assert order == ["thread", "coroutine"]
