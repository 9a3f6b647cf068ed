"""The driver under attack: threads and coroutines that share one simulated engine, and faults in the midst of runs.

Every run has to be NumPy's; after a fault it may be a named EngineError instead, in time, and the next run has to be
right.
"""

import asyncio
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress

import numpy as np
from pynq import allocate

from qatlib.board import driver
from qatlib.board.driver import EngineError, open_engine
from qatlib.engine import DoesNotFit, compile, isa, simulation
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.rtl import Rtl
from tests.attack.outcome import Outcome

CONFIG, OTHER = "xc7s15", "pynq-z2"
SEED, STEP = 20_260_000, 10_000  # of random models; to the next one where one does not fit
PATIENCE = 60.0  # seconds for anything to end, whatever else this machine does
TIMEOUT = 0.15  # of the engine, where it is to run out
BATCH = 4  # windows, so that every run has batches
SHAPES = (
    Shape("patch", 6, 7, horizon=9, d_model=8, heads=2, factor=1),
    Shape("point", 13, 1, horizon=3, d_model=6, heads=2, factor=2),
    Shape("decoder", 4, 5, horizon=6, d_model=5, factor=1, label=3),
)


def attack(short):
    driver.BATCH = BATCH
    yield sharing(runs=150 if short else 1000)
    yield from faults(each=4 if short else 40)


def fitting(seed, shape):
    """The first random model of these seeds that the engine holds."""
    for attempt in range(seed, seed + 1000 * STEP, STEP):
        model = random_model(attempt, shape)
        with suppress(DoesNotFit):
            compile(model, isa.CONFIGS[CONFIG])
            return model
    raise AssertionError(f"no model of {shape} fits")


class Case:
    """A model, windows, and what NumPy makes of them."""

    def __init__(self, seed, shape):
        self.model = fitting(seed, shape)
        self.counts = extreme_windows(self.model, 0, 10)
        self.expected = self.model.forward(self.counts)


def found_wrong(what, seed):
    print(f"WRONG, seed {seed}: {what}", flush=True)


# -- Sharing


class Desk:
    """A driver and two models of one shape, either of which any of its threads may have loaded last."""

    def __init__(self, number):
        self.cases = [Case(SEED + 2 * number + i, SHAPES[number % len(SHAPES)]) for i in range(2)]
        for case in self.cases[1:]:
            case.counts = self.cases[0].counts
            case.expected = case.model.forward(case.counts)
        self.counts = self.cases[0].counts
        self.driver = open_engine(config=CONFIG)
        self.driver.timeout = PATIENCE
        self.driver.load(self.cases[0].model)

    def is_right(self, forecast, rows=slice(None)):
        """Every window by the same one of the two models."""
        return any(np.array_equal(forecast, case.expected[rows]) for case in self.cases)


def sharing(runs):
    """Two to eight threads a round, on one to three drivers of one engine, whose memory pauses."""
    kinds, wrong, round_ = Counter(), 0, 0
    desks = [Desk(number) for number in range(3)]
    while kinds.total() < runs:
        rng, seed = np.random.default_rng([SEED, round_]), (SEED, round_)
        pause = {"latency": int(rng.integers(40)), "stall": int(rng.choice([0, 60, 200]))}
        desks[0].driver.device.rtl.memory(**pause)
        share = desks[: int(rng.integers(1, 4))]
        tasks = [(share[i % len(share)], rng.choice(list(KINDS), 6), pause) for i in range(rng.integers(2, 9))]
        for results in in_threads(work, tasks):
            kinds.update(kind for kind, _ in results)
            for kind, what in results:
                if what:
                    wrong += 1
                    found_wrong(f"{kind}: {what}", seed)
        round_ += 1
    total, note = kinds.total(), ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    return Outcome(
        "driver", "runs of 2 to 8 threads on one engine", total, 0, total - wrong, wrong, f"seed {SEED}; {note}"
    )


def in_threads(function, tasks):
    """Results of function(*task), each on a thread of its own; one that does not end is a result too."""
    results = [[("ended", "the thread did not end")] for _ in tasks]

    def one(i):
        results[i] = function(*tasks[i])

    threads = [threading.Thread(target=one, args=(i,), name=f"sharer {i}", daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


def work(desk, kinds, pause):
    """-> [(kind, what went wrong, if anything)] of a thread's runs."""
    found = []
    for kind in kinds:
        try:
            found.append((kind, KINDS[kind](desk, pause)))
        except Exception as error:
            found.append((kind, f"{type(error).__name__}: {error}"))
    return found


def checked(desk, forecast):
    return None if desk.is_right(forecast) else "the forecasts differ from NumPy's"


def run(desk, _):
    return checked(desk, desk.driver.run(desk.counts))


def loaded_run(desk, _):
    desk.driver.load(desk.cases[threading.get_ident() % 2].model)
    return checked(desk, desk.driver.run(desk.counts))


def forecast(desk, _):
    resolution = desk.cases[0].model.resolution
    return checked(desk, desk.driver.forecast(desk.counts * resolution) / resolution)


def stream(desk, _):
    """Another thread may load the other model between two batches, not within one."""
    for i, part in enumerate(desk.driver.stream(desk.counts, batch=3)):
        if not desk.is_right(part, slice(3 * i, 3 * i + 3)):
            return f"batch {i} differs from NumPy's"
    return None


def run_async(desk, _):
    return checked(desk, asyncio.run(desk.driver.run_async(desk.counts, batch=5)))


def two_coroutines(desk, _):
    async def both():
        return await asyncio.gather(*(desk.driver.run_async(desk.counts, batch=batch) for batch in (3, 5)))

    return next(filter(None, (checked(desk, f) for f in asyncio.run(both()))), None)


def by_hand(desk, _):
    model, n = desk.cases[0].model, len(desk.counts)
    inputs, outputs = (
        allocate((n, -(-k // 4) * 4), np.int16, target=desk.driver.device) for k in (model.context, model.horizon)
    )
    inputs[:, : model.context] = desk.counts
    desk.driver.start(inputs, outputs, n)
    desk.driver.wait()
    return checked(desk, np.array(outputs[:, : model.horizon]))


def reset_and_run(desk, _):
    desk.driver.reset()
    return run(desk, _)


def closed_and_run(desk, _):
    desk.driver.close()
    return run(desk, _)


def downloaded_anew(desk, pause):
    """The same configuration, in the midst of what the others do: theirs must write their models again."""
    driver = open_engine(config=CONFIG)
    driver.device.rtl.memory(**pause)
    driver.timeout = PATIENCE
    driver.load(desk.cases[1].model)
    return (
        None
        if np.array_equal(driver.run(desk.counts), desk.cases[1].expected)
        else "the new driver's forecasts differ from NumPy's"
    )


KINDS = {f.__name__: f for f in (run, loaded_run, forecast, stream, run_async, two_coroutines, by_hand)}
KINDS |= {f.__name__: f for f in (reset_and_run, closed_and_run, downloaded_anew)}


# -- Faults


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
        buffers = self.driver._fill(self.case.model, self.case.counts)
        self.driver.start(*buffers, len(self.case.counts))
        self.rtl.step(int(self.rng.integers(1, 4000)))
        return lambda: (self.driver.wait(), np.array(buffers[1][:, : self.case.model.horizon]))[1]

    def buffer(self, which):
        """An address in the input (0) or output (1) buffer that a run uses."""
        first = self.driver._buffers[which].device_address
        return first + 8 * int(self.rng.integers(BATCH * self.driver._buffers[which].shape[1] // 4))


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
    victim.driver.write(driver.OFFSETS["CTRL"], 2)
    return victim.judged(wait)


def start_behind_its_back(victim):
    wait = victim.started()
    victim.driver.write(driver.OFFSETS["CTRL"], 1)
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
