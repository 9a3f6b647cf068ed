"""Random models on extreme windows: engine = NumPy = C, on every configuration that holds the model.

The engine's cycles have to be the predicted ones, too. C is that of any microcontroller, that of one with 32-bit
multiplications, and both of vector units.
"""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import count
from multiprocessing import get_context

import numpy as np

from qatlib.board import open_engine
from qatlib.board.sim_serial import SimLine
from qatlib.engine import CONFIGS, DoesNotFit, compile, isa, parts
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.engine.rtl import build
from qatlib.make import verify
from qatlib.system import toolchain
from tests.attack.exported import exported
from tests.attack.outcome import Outcome
from tests.attack.serial_line import FAST

SMALL = FAST["icebreaker"]
ENGINES = (*CONFIGS, SMALL.config)
SEED, PROCESSES, WINDOWS = 5_000_000, 2, 6
CODES = {
    "C, packed": ("generic", "-O1"),
    "C, words of two": ("rv32", "-O1"),
    "C, vectors": ("host", "-O0"),
    "C, batches": ("batch", "-O0"),
}


def attack(short):
    wanted = 30 if short else 1000
    for config in CONFIGS.values():
        build(config)  # once, before two processes want it
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        shares = list(pool.map(share, range(SEED, SEED + PROCESSES), [wanted // PROCESSES] * PROCESSES))
    for name in (*ENGINES, *CODES):
        tally = sum((found[name] for found, _ in shares), Counter())
        tried, wrong = tally["tried"], tally["wrong"]
        note = (
            f"{WINDOWS} windows each; {tally['does not fit']} more do not fit"
            if name in ENGINES
            else toolchain.described(".c")
        )
        note = f"seeds {SEED} to {max(last for _, last in shares)}, {note}"
        yield Outcome("engines", f"random models, {name} = NumPy", tried, 0, tried - wrong, wrong, note)


def share(first, wanted):
    """Models of every PROCESSES-th seed, until each configuration has held `wanted`. -> {configuration or code:
    Counter}, the last seed."""
    found = {name: Counter() for name in (*ENGINES, *CODES)}
    for seed in count(first, PROCESSES):
        model = random_model(seed)
        counts = extreme_windows(model, seed, WINDOWS)
        held = [on_engine(name, model, counts, seed, found[name]) for name in ENGINES if found[name]["tried"] < wanted]
        for name in CODES if any(held) else ():
            found[name]["tried"] += 1
            if not np.array_equal(exported(model, counts, *CODES[name]), model.forward(counts)):
                found[name]["wrong"] += told(seed, name)
        if all(found[name]["tried"] >= wanted for name in ENGINES):
            return found, seed


def on_engine(config, model, counts, seed, tally):
    """-> whether the configuration holds the model."""
    try:
        outcome = small(model, counts) if config == SMALL.config else verify.check(config, model, counts)
    except DoesNotFit:
        tally["does not fit"] += 1
        return False
    tally["tried"] += 1
    if outcome.mismatches or outcome.wrong_cycles:
        tally["wrong"] += told(seed, f"{config}, {outcome}")
    return True


@lru_cache(maxsize=1)
def behind_the_line():
    return open_engine(port=SimLine(SMALL))


def small(model, counts):
    """The engine of the iCE40UP5K, behind its line: as `verify.check`."""
    engine, cycles = behind_the_line(), sum(compile(part, isa.UP5K).cycles for part in parts(model))
    engine.load(model)
    wrong = (engine.run(counts) != model.forward(counts)).reshape(len(counts), -1).any(axis=1)
    return verify.Outcome(len(counts), int(wrong.sum()), int(engine.last_run.engine_cycles != cycles * len(counts)))


def told(seed, what):
    print(f"WRONG: random_model({seed}), {what}", flush=True)
    return 1
