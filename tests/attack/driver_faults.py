"""Faults in the midst of runs: these may end in a named EngineError, in time, and the next run has to be right."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np

from qatlib.board import open_engine
from qatlib.engine import EngineError, compile, isa, simulation
from qatlib.engine.registers import OFFSETS
from qatlib.engine.rtl import Rtl
from tests.attack.driver_cases import BATCH, CONFIG, PATIENCE, SEED, SHAPES, Case, found_wrong, in_threads
from tests.attack.outcome import Outcome

OTHER = "pynq-z2"
TIMEOUT = 0.15  # of the engine, where it is to run out


class Victim:
    """A driver of its own, and its model with windows."""

    def __init__(self, seed):
        self.rng = np.random.default_rng([SEED, seed])
        self.case = Case(SEED + seed, SHAPES[seed % len(SHAPES)])
        self.driver = open_engine(config=CONFIG)
        self.driver.timeout = TIMEOUT
        self.driver.load(self.case.model)
        self.rtl = self.driver.device.rtl
        self.run()

    def run(self):
        """None for NumPy's forecasts, "refused" for an EngineError; else what is wrong."""
        return self.judged(lambda: self.driver.run(self.case.counts))

    def judged(self, function):
        began = time.monotonic()
        try:
            forecast = function()
        except (EngineError, KeyboardInterrupt, asyncio.CancelledError):
            late = time.monotonic() - began > PATIENCE
            return "the error came late" if late else "refused"
        return None if np.array_equal(forecast, self.case.expected) else "the forecasts differ from NumPy's"

    def started(self):
        """By hand, in mid-run."""
        buffers = self.driver._buffers.filled(self.driver.program, self.case.counts)
        self.driver.start(*buffers, len(self.case.counts))
        self.rtl.step(int(self.rng.integers(1, 4000)))
        return lambda: (self.driver.wait(), np.array(buffers[1][:, : self.driver.program.outputs]))[1]

    def buffer(self, which):
        """An address in the input (0) or output (1) buffer that a run uses."""
        buffer = self.driver._buffers.pair[which]
        return buffer.device_address + 8 * int(self.rng.integers(BATCH * buffer.shape[1] // 4))


@contextmanager
def memory(victim, **how):
    victim.rtl.memory(**how)
    yield
    victim.rtl.memory()


def read_error(victim):
    with memory(victim, bad_read=victim.buffer(0)):
        return victim.run()


def write_error(victim):
    with memory(victim, bad_write=victim.buffer(1)):
        return victim.run()


def deaf_memory(victim):
    with memory(victim, deaf=True):
        return victim.run()


def deaf_in_mid_run(victim):
    wait = victim.started()
    with memory(victim, deaf=True):
        return victim.judged(wait)


def slow_memory(victim):
    with memory(victim, latency=int(victim.rng.integers(400)), stall=int(victim.rng.integers(255))):
        return victim.run()


def reset_in_mid_run(victim):
    wait = victim.started()
    victim.driver.reset()
    return victim.judged(wait)


def reset_behind_its_back(victim):
    wait = victim.started()
    victim.driver.write(OFFSETS["CTRL"], 2)
    return victim.judged(wait)


def start_behind_its_back(victim):
    wait = victim.started()
    victim.driver.write(OFFSETS["CTRL"], 1)
    return victim.judged(wait)


def written_while_busy(victim):
    wait = victim.started()
    victim.driver.mmio.array[int(victim.rng.integers(1, 8)) << 14] = 0
    return victim.judged(wait)


def damaged_program(victim):
    words = [a for a, w in victim.driver.program.writes if a >> 16 == isa.REGIONS["program"]]
    victim.driver.mmio.array[words[0] // 4 + int(victim.rng.integers(isa.WORDS))] = int(victim.rng.integers(1 << 32))
    return victim.run()


def other_configuration(victim):
    """Downloaded over this one: it must refuse, and the way back is to open the first again."""
    open_engine(config=OTHER)
    found = victim.run()
    if found == "refused":
        victim.driver = open_engine(config=CONFIG)
        victim.driver.timeout = TIMEOUT
        victim.driver.load(victim.case.model)
        victim.rtl = victim.driver.device.rtl
    return found


def other_configuration_in_mid_run(victim):
    wait = victim.started()
    device = victim.driver.device
    device.rtl, ours = Rtl(isa.CONFIGS[OTHER]), device.rtl
    found = victim.judged(wait)
    device.rtl = ours
    return found


def another_process(victim):
    """It downloads the same configuration, and runs another model."""
    other = Case(SEED + 1_000_000 + int(victim.rng.integers(1000)), SHAPES[0])
    victim.driver.device.rtl = victim.rtl = rtl = Rtl(isa.CONFIGS[CONFIG])
    program = compile(other.model, isa.CONFIGS[CONFIG])
    simulation.load(rtl, program)
    simulation.run(rtl, program, other.counts)
    for address, (seen, _) in victim.driver.device._memory.items():
        rtl.map(address, seen)
    return victim.run()


def dropped_interrupt(victim):
    victim.driver.device.interrupts.dropped = True
    found = victim.judged(lambda: asyncio.run(victim.driver.run_async(victim.case.counts)))
    victim.driver.device.interrupts.dropped = False
    return found


def interrupted(function, seconds):
    """function(), with a KeyboardInterrupt somewhere in it, or nowhere."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def keyboard_interrupt(victim):
    """Then another thread must find the engine free."""
    duration = timed(victim.run)
    found = victim.judged(
        lambda: interrupted(lambda: victim.driver.run(victim.case.counts), victim.rng.uniform(1e-5, duration))
    )
    (after,) = in_threads(lambda v: v.run(), [(victim,)])
    return f"another thread's run after it: {after}" if after else found


def keyboard_interrupt_of_a_coroutine(victim):
    victim.driver.timeout = PATIENCE  # nothing is to run out here, on a busy machine either

    def function():
        return asyncio.run(victim.driver.run_async(victim.case.counts))

    duration = timed(function)
    return victim.judged(lambda: interrupted(function, victim.rng.uniform(1e-5, duration)))


def timed(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def cancelled(victim):
    async def cancel():
        task = asyncio.create_task(victim.driver.run_async(victim.case.counts, batch=2))
        for _ in range(int(victim.rng.integers(1, 60))):
            await asyncio.sleep(0)
        task.cancel()
        return await task

    return victim.judged(lambda: asyncio.run(cancel()))


def thread_that_died(victim):
    """It started a run, and nobody will wait for it."""
    in_threads(lambda v: v.started(), [(victim,)])
    return victim.run()


def blocked_by_its_own_coroutine(victim):
    victim.driver.timeout = PATIENCE  # refused at once, not when that runs out

    async def both():
        task = asyncio.create_task(victim.driver.run_async(victim.case.counts))
        await asyncio.sleep(0)
        found = victim.run()
        await task
        return found

    return asyncio.run(both())


FAULTS = (
    read_error,
    write_error,
    deaf_memory,
    deaf_in_mid_run,
    slow_memory,
    reset_in_mid_run,
    reset_behind_its_back,
    start_behind_its_back,
    written_while_busy,
    damaged_program,
    other_configuration,
    other_configuration_in_mid_run,
    another_process,
    dropped_interrupt,
    keyboard_interrupt,
    keyboard_interrupt_of_a_coroutine,
    cancelled,
    thread_that_died,
    blocked_by_its_own_coroutine,
)


def faults(each):
    for fault in FAULTS:
        found = Counter(injected(fault, seed) for seed in range(each))
        what = fault.__name__.replace("_", " ")
        yield Outcome(
            "driver",
            what,
            each,
            found["refused"],
            found[None],
            each - found["refused"] - found[None],
            f"seeds {SEED} on",
        )


def injected(fault, seed):
    """A fault, then a run, which must be right."""
    victim = Victim(seed)
    try:
        found = fault(victim)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if found in (None, "refused") and (after := victim.run()):
        found = f"the run after it: {after}"
    if found not in (None, "refused"):
        found_wrong(f"{fault.__name__}: {found}", SEED + seed)
    victim.driver.close()
    return found if found in (None, "refused") else "wrong"
