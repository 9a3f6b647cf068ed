"""Threads and coroutines that share one simulated engine: every run has to be NumPy's."""

import asyncio
import threading
from collections import Counter

import numpy as np
from pynq import allocate

from qatlib.board import open_engine
from tests.attack.driver_cases import CONFIG, PATIENCE, SEED, SHAPES, Case, found_wrong, in_threads
from tests.attack.outcome import Outcome


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
