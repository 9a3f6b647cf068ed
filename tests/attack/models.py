"""Mutated model files: each is refused with an ArtifactError, or NumPy, C and the engine forecast the same from it.

A file is mutated as bytes, in its table of arrays, in its arrays, in its document, or rewired so that it may well be a
program again; but for the first kind its checksum is made anew. Loading and forecasting may take a second of the
processor and 200 MB beside four times the file. NumPy runs every survivor, C one of each program that differs in more
than its arrays, and more; the engine some.
"""

import hashlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from qatlib.engine import CONFIGS, DoesNotFit, simulate
from qatlib.engine.memory import Unsupported
from qatlib.engine.rtl import Rtl, build
from qatlib.integer_model import detection
from qatlib.integer_model.artifact import ArtifactError
from qatlib.integer_model.model import IntegerModel
from qatlib.mcu import compiled
from qatlib.system import toolchain
from tests.attack.exported import exported
from tests.attack.model_mutations import MUTATIONS, SEED, mutated
from tests.attack.outcome import Outcome
from tests.several_channels import windows

FILES, IN_C, ON_ENGINE = {False: 300_000, True: 3_000}, {False: 2_000, True: 60}, {False: 1_000, True: 60}
PART = 500  # files of a task
SECONDS, MEMORY = 1.0, 200 << 20
WINDOWS = 6


@dataclass
class Tally:
    """Of a mutation or a back end. survivors: {digest of what differs in more than arrays: seed of the first}."""

    tried: int = 0
    refused: int = 0
    right: int = 0
    wrong: int = 0
    survivors: list = field(default_factory=list)


def _too_long(number, frame):
    raise TimeoutError("it took too long")


def address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Limited:
    """A second of the processor, and so much memory more than now; what takes more raises an error that nothing
    documents."""

    def __init__(self, size):
        self.most = address_space() + MEMORY + 4 * size

    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_AS, (self.most, resource.RLIM_INFINITY))
        signal.signal(signal.SIGVTALRM, _too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def program_of(model):
    """Digest of what the model says, but for its name, its channels' names and resolutions, and its arrays."""
    told = repr(
        (
            model.context,
            model.horizon,
            model.mode,
            model.targets,
            [channel.anchor for channel in model.channels],
            model.operations,
            sorted(model.tensors.items()),
        )
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def try_files(seeds):
    """-> {mutation: Tally}; survivors as (program, seed)."""
    tallies = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.safetensors"
        for seed in seeds:
            name, raw = mutated(seed)
            tally = tallies.setdefault(name, Tally())
            tally.tried += 1
            path.write_bytes(raw)
            try:
                with Limited(len(raw)):
                    model = IntegerModel.load(path)
                    model.forward(windows(model, seed, WINDOWS))
            except ArtifactError:
                tally.refused += 1
                continue
            except BaseException:
                tally.wrong += 1
                print(f"WRONG: {name}, seed {seed}: {traceback.format_exc(limit=-3)}", file=sys.stderr, flush=True)
                continue
            tally.right += 1
            tally.survivors.append((program_of(model), seed))
    return tallies


def survivor(seed):
    """-> (IntegerModel, windows, what NumPy forecasts)"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.safetensors"
        path.write_bytes(mutated(seed)[1])
        model = IntegerModel.load(path)
    counts = windows(model, seed, WINDOWS)
    return model, counts, model.forward(counts)


def judge(function, seeds):
    """Tally of survivors by function(model, counts) -> forecasts, which must be NumPy's, or None where it refuses."""
    tally = Tally()
    for seed in seeds:
        tally.tried += 1
        model, counts, expected = survivor(seed)
        try:
            found = function(model, counts)
        except BaseException:
            print(
                f"WRONG: {function.__name__}, seed {seed}: {traceback.format_exc(limit=-3)}",
                file=sys.stderr,
                flush=True,
            )
            tally.wrong += 1
            continue
        if found is None:
            tally.refused += 1
        elif np.array_equal(found, expected):
            tally.right += 1
        else:
            print(f"WRONG: {function.__name__}, seed {seed}: unequal", file=sys.stderr, flush=True)
            tally.wrong += 1
    return tally


def by_c(model, counts, kernels="generic"):
    return exported(model, counts, kernels)


def by_c_of_vectors(model, counts):
    return by_c(model, counts, "host")


def by_decision(model, counts):
    """Labels and flags of C; None where the model forecasts."""
    if model.task == "forecast":
        return None
    its = compiled(model)
    if model.task == "classify":
        pairs = zip(model.classify(counts), its.classify(counts), strict=True)
    else:
        rows = np.resize(counts, (detection.length(model) + 8, *model.window_shape[1:]))
        pairs = zip(model.detect(rows), its.detect(rows), strict=True)
    for mine, found in pairs:
        np.testing.assert_array_equal(mine, found)
    return model.forward(counts)


@lru_cache
def rtl(name):
    return Rtl(CONFIGS[name])


def by_engine(model, counts):
    """On the first configuration that takes it; None where it is too large for all, or of a structure that the engine
    does not have."""
    for name in CONFIGS:
        try:
            return simulate(model, counts, CONFIGS[name], rtl=rtl(name))[0]
        except DoesNotFit:
            continue
        except Unsupported:
            break
    return None


def attack(short):
    """Yields Outcomes: one a mutation, then C and the engine on what survived."""
    files, seeds = FILES[short], range(SEED, SEED + FILES[short])
    print(f"{files} files of seeds {seeds.start} to {seeds.stop - 1}, compiler {toolchain.described('.c')}", flush=True)
    build(CONFIGS["xc7s15"])
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(try_files, [seeds[i : i + PART] for i in range(0, files, PART)]))
        found = {}
        for name in (m.__name__ for m in MUTATIONS):
            tallies = [part[name] for part in parts if name in part]
            numbers = [sum(getattr(t, n) for t in tallies) for n in ("tried", "refused", "right", "wrong")]
            yield Outcome("models", f"files, mutated {name.replace('_', ' ')}", *numbers, f"seeds from {SEED}")
            found |= {seed: program for t in tallies for program, seed in t.survivors}
        print(f"files: {time.monotonic() - began:.0f} s", flush=True)
        yield from _back_ends(pool, found, short)


def _back_ends(pool, found, short):
    """found: {seed: program} of the survivors."""
    first = {program: seed for seed, program in sorted(found.items(), reverse=True)}
    distinct = sorted(first.values())
    rest = sorted(found.keys() - set(distinct))
    more = distinct + rest[:: max(1, len(rest) // IN_C[short])][: IN_C[short]]
    if short:
        more = more[: IN_C[short]]
    step = max(1, len(distinct) // ON_ENGINE[short])
    for what, function, chosen in (
        ("C = NumPy: one of each distinct program, and more", by_c, more),
        ("C for vectors = NumPy", by_c_of_vectors, more[:: max(1, len(more) // (IN_C[short] // 4))]),
        ("labels and flags, C = NumPy; forecasters refused", by_decision, more[:: max(1, len(more) // IN_C[short])]),
        ("engine = NumPy", by_engine, distinct[::step][: ON_ENGINE[short]]),
    ):
        tallies = list(pool.map(judge, *zip(*((function, chosen[i::16]) for i in range(16)), strict=True)))
        numbers = [sum(getattr(t, n) for t in tallies) for n in ("tried", "refused", "right", "wrong")]
        yield Outcome("models", f"survivors, {what}", *numbers, f"{len(found)} survivors, {len(distinct)} distinct")
