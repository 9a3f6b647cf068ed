"""Random models on extreme windows, and the shipped ones that notebook 09 does not run, compiled for emulated cores,
each with its own kernels: every output is NumPy's."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from qatlib.device import shipped
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.mcu import emulate
from tests.attack.outcome import Outcome

SEED, PROCESSES, WINDOWS = 6_000_000, 2, 3
TARGETS = ("cortex-m4", "rv32imc")  # an M33 has the kernels of the first, an M0+ those of the second
SHIPPED = [(data, name) for data in ("jfk-weather", "jfk-weather-faults", "occupancy") for name in shipped.names(data)]


def attack(short):
    wanted = 8 if short else 300
    seeds = range(SEED, SEED + wanted)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        for target in TARGETS:
            wrong = wanted - sum(pool.map(right, seeds, [target] * wanted))
            note = f"seeds {seeds[0]} to {seeds[-1]}, {WINDOWS} windows each; unicorn, ziglang's clang"
            yield Outcome("cores", f"random models, {target} = NumPy", wanted, 0, wanted - wrong, wrong, note)
        for target in emulate.TARGETS:
            windows = 4 if short else 50
            wrong = len(SHIPPED) - sum(
                pool.map(shipped_right, SHIPPED, [target] * len(SHIPPED), [windows] * len(SHIPPED))
            )
            what, note = f"shipped models, {target} = NumPy", f"{windows} windows each; unicorn, ziglang's clang"
            yield Outcome("cores", what, len(SHIPPED), 0, len(SHIPPED) - wrong, wrong, note)


def right(seed, target):
    model = random_model(seed)
    return judged(model, extreme_windows(model, seed, WINDOWS), target, f"random_model({seed})")


def shipped_right(model, target, windows):
    data, name = model
    model = shipped.load(data, name)
    if model.task == "detect":
        return judged(model, shipped.recording(data)[0][: windows + model.context], target, name)
    return judged(model, shipped.reference_windows(data, model)[:windows], target, name)


def judged(model, counts, target, what):
    try:
        found = emulate.Firmware(model, target).run(counts)
        if model.task == "forecast":
            equal = np.array_equal(found.forecasts, model.forward(counts))
        else:
            equal = all(
                np.array_equal(a, b) for a, b in zip(found.decided, getattr(model, model.task)(counts), strict=True)
            )
    except emulate.EmulationError as error:
        print(f"WRONG: {what}, {target}: {error}", flush=True)
        return False
    if not equal:
        print(f"WRONG: {what}, {target}", flush=True)
    return equal
