"""Random models on extreme windows, compiled for emulated cores, each with its own kernels: every output is NumPy's."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.mcu import emulate
from tests.attack.outcome import Outcome

SEED, PROCESSES, WINDOWS = 6_000_000, 2, 3
TARGETS = ("cortex-m4", "rv32imc")  # an M33 has the kernels of the first, an M0+ those of the second


def attack(short):
    wanted = 8 if short else 300
    seeds = range(SEED, SEED + wanted)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for target in TARGETS:
            wrong = wanted - sum(pool.map(right, seeds, [target] * wanted))
            note = f"seeds {seeds[0]} to {seeds[-1]}, {WINDOWS} windows each; unicorn, ziglang's clang"
            yield Outcome("cores", f"random models, {target} = NumPy", wanted, 0, wanted - wrong, wrong, note)


def right(seed, target):
    model = random_model(seed)
    counts = extreme_windows(model, seed, WINDOWS)
    try:
        equal = np.array_equal(emulate.Firmware(model, target).run(counts).forecasts, model.forward(counts))
    except emulate.EmulationError as error:
        print(f"WRONG: random_model({seed}), {target}: {error}", flush=True)
        return False
    if not equal:
        print(f"WRONG: random_model({seed}), {target}", flush=True)
    return equal
