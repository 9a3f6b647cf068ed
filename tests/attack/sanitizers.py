"""The exported C and the training step under the sanitizers of every compiler here: the same numbers, and no report."""

import ctypes
import functools
import importlib.util
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from qatlib.device import shipped
from qatlib.device.guard import Guard, Limits
from qatlib.engine import CONFIGS, simulate
from qatlib.engine.random_models import extreme_windows
from qatlib.float_model import transformer
from qatlib.float_model.config import FAMILIES, ModelConfig, Sensor
from qatlib.integer_model import detection
from qatlib.mcu import export_c
from qatlib.quantised_model import fused, ptq
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.system import paths, toolchain
from tests import several_channels
from tests.attack.outcome import Outcome
from tests.conftest import SHAPES

SEED = 0
COMPILERS = {"gcc": ("gcc", "g++"), "clang": ("clang", "clang++"), "ziglang": ("ziglang cc", "ziglang c++")}
SANITIZERS = {
    "gcc": ("address,undefined", "-fno-sanitize-recover=all"),
    "clang": ("address,undefined", "-fno-sanitize-recover=all"),
    "ziglang": ("undefined", "-fsanitize-trap=undefined"),  # it has no address sanitizer
}
TARGETS = ("native", "x86-64-v3", "x86-64")
TIMEOUT = 300  # seconds
FORECASTER = Path(__file__).with_name("forecaster.c")

DECISIONS = {  # once more, by the function that decides: of a detector the window's own rows, and zeros after them
    "forecast": "",
    "classify": "model_classify(counts, forecast, memory);",
    "detect": """int64_t state = -1;
        int16_t *rows = (int16_t *)calloc(ROWS * MODEL_CHANNELS + 1, sizeof(int16_t)) + 1;
        memcpy(rows, counts, sizeof mended);
        model_detect(rows, &state, forecast, memory);
        free(rows - 1);
        model_forecast(counts, forecast, memory);""",
}

# A plan and its data from stdin, as `Recorded` writes them; to stdout forecasts and gradients.
TRAINER = """#include "{source}"
#include <cstdio>
#include <cstdlib>
long number() {
    long n;
    if (std::fread(&n, sizeof n, 1, stdin) != 1) std::exit(2);
    return n;
}
template <class T> T* read(long& n) {
    n = number();
    T* values = static_cast<T*>(std::malloc(n * sizeof(T)));
    if (std::fread(values, sizeof(T), n, stdin) != static_cast<size_t>(n)) std::exit(2);
    return values;
}
int main() {
    long n, tensors, parameters;
    long *sizes = read<long>(tensors), *wide = read<long>(parameters);
    Plan* made = plan(sizes, tensors, wide, parameters);
    for (long left = number(); left > 0; left--) {
        char* kind = read<char>(n);
        long* indices = read<long>(n);
        if (!operation(made, kind, indices, read<double>(n))) return 3;
    }
    std::vector<float*> values;
    long all = 0;
    for (long i = 0; i < parameters; i++) values.push_back(read<float>(n)), all += n;
    for (long left = number(); left > 0; left--) {
        long outputs;
        float* input = read<float>(n);
        long windows = number();
        float* g = read<float>(outputs);
        float* forecast = static_cast<float*>(std::malloc(outputs * sizeof(float)));
        float* grads = static_cast<float*>(std::malloc(all * sizeof(float)));
        forward(made, values.data(), input, windows, forecast);
        backward(made, g, grads);
        std::fwrite(forecast, sizeof(float), outputs, stdout);
        std::fwrite(grads, sizeof(float), all, stdout);
    }
    free_plan(made);
    return std::fflush(stdout);
}
"""


def attack(short):
    for name, commands in COMPILERS.items():
        if not installed(name):
            yield Outcome("sanitizers", f"{name}: not installed, nothing tried", 0, 0, 0, 0)
            continue
        with compiled_by(commands):
            by = toolchain.version(*toolchain.compiler()).splitlines()[0]
            yield from forecasts(name, by, short)
            yield training(name, by, short)
            if not short or name == "gcc":
                yield engine(name, by)


def installed(name):
    return importlib.util.find_spec(name) if name == "ziglang" else all(map(shutil.which, COMPILERS[name]))


def compiled_by(commands):
    c, cpp = (f"{sys.executable} -m {command}" if command.startswith("ziglang") else command for command in commands)
    return mock.patch.dict(os.environ, {"CC": c, "CXX": cpp})


def targets(short):
    """Of those that this processor can carry out, each with other vectors in `host.c` and `fused.cpp`."""
    if platform.machine() != "x86_64":
        return TARGETS[:1]
    avx2 = {"avx2", "fma", "bmi2"} <= set(Path("/proc/cpuinfo").read_text().split())
    return TARGETS[: 1 if short else 3] if avx2 else (TARGETS[0], TARGETS[2])


def carried_out(compiler, folder, source, *others, given, options=()):
    """Standard output of a program under the sanitizers. BuildError where it does not compile; a report, or a trap, is
    a RuntimeError."""
    checks, how = SANITIZERS[compiler]
    command = [
        *toolchain.compiler(source.suffix),
        toolchain.target(source.suffix),
        "-O1",
        "-g",
        f"-fsanitize={checks}",
        how,
        *options,
    ]
    toolchain.run([*command, str(source), *map(str, others), "-o", str(folder / "main")])
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the program frees nothing
    done = subprocess.run([folder / "main"], input=given, capture_output=True, timeout=TIMEOUT, env=environment)
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr.decode(errors='replace')[:2000]}")
    return done.stdout


def judged(what, check):
    """Whether a check held; what did not is printed."""
    try:
        check()
    except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"sanitizers: {what}: {error}", flush=True)
        return False
    return True


def forecasts(compiler, by, short):
    """Every shipped model, and some of several channels, as for a microcontroller and as for each kind of vectors, with
    a guard."""
    folders = sorted(p.name for p in paths.MODELS.iterdir() if p.is_dir())
    models = [shipped.load(data, name) for data in folders for name in shipped.names(data)]
    several = several_channels.MODELS | several_channels.CLASSIFIERS | several_channels.DETECTORS
    models = [*models[:: 12 if short else 1], *list(several.values())[:: 3 if short else 1]]
    variants = [("generic", "native"), ("rv32", "native")]
    variants += [("host", target) for target in targets(short)]
    variants += [("batch", target) for target in targets(short)[: 1 if short else None]]
    for kernels, target in variants:
        right, tried = 0, len(models)
        for model in models:
            with mock.patch.dict(os.environ, {"QATLIB_MARCH": target}):
                what = f"{compiler}, {target}, {model.describe().splitlines()[0]}, {kernels}"
                right += judged(f"{what}, seed {SEED}", functools.partial(forecast, compiler, model, kernels))
        what = f"models in C, {kernels}, {target}"
        yield Outcome(
            "sanitizers", what, tried, 0, right, tried - right, f"{by}: {SANITIZERS[compiler][0]}; seed {SEED}"
        )


def forecast(compiler, model, kernels):
    counts = several_channels.windows(model, SEED, 24)
    limits = Limits(low=-1000, high=1000, jump=100, spike=40, stuck=5, drift=300, noise=600)
    guard = Guard(model.context, min(4, model.context // 2), (limits,) * len(model.channels))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        source, _ = export_c(model, folder, "model", guard=guard, kernels=kernels)
        decide = DECISIONS[model.task]
        if model.task == "detect":
            decide = decide.replace("ROWS", str(detection.length(model)))
        (folder / "main.c").write_text(FORECASTER.read_text().replace("DECIDE", decide))
        out = carried_out(
            compiler, folder, folder / "main.c", source, given=counts.astype("<i2").tobytes(), options=["-std=c99"]
        )
    mended, flags = guard.check(counts)
    parts = (model.forward(counts).astype("<i2"), mended.astype("<i2"), flags)
    expected = np.concatenate([np.frombuffer(p.tobytes(), np.uint8).reshape(len(counts), -1) for p in parts], axis=1)
    found = np.frombuffer(out, np.uint8).reshape(len(counts), -1)
    np.testing.assert_array_equal(found, expected)


class Recorded:
    """The library of `fused.cpp`, and all that it was told, as `TRAINER` reads it."""

    def __init__(self, library):
        self.library, self.operations, self.steps = library, [], []

    def __getattr__(self, name):
        return getattr(self.library, name)

    def plan(self, tensors, n_tensors, parameters, n_parameters):
        self.sizes = bytes_of(tensors) + bytes_of(parameters)
        return self.library.plan(tensors, n_tensors, parameters, n_parameters)

    def operation(self, address, kind, indices, numbers):
        self.operations.append(
            bytes_of((ctypes.c_char * (len(kind) + 1))(*kind)) + bytes_of(indices) + bytes_of(numbers)
        )
        return self.library.operation(address, kind, indices, numbers)


def bytes_of(values):
    """How many, and they themselves."""
    return struct.pack("l", len(values)) + bytes(values)


def floats(tensor):
    return bytes_of((ctypes.c_float * tensor.numel())(*tensor.detach().flatten().tolist()))


def training(compiler, by, short):
    """A step of each family and scheme, then one of fewer windows."""
    cases = [(f, s, g) for f in FAMILIES for s, g in (("symmetric", "channel"), ("asymmetric", "tensor"))]
    cases = cases[:: 3 if short else 1]
    right, chosen = 0, targets(short)
    for target in chosen:
        with mock.patch.dict(os.environ, {"QATLIB_MARCH": target}):
            for case in cases:
                right += judged(
                    f"{compiler}, {target}, a step of {case}, seed {SEED}", functools.partial(trained, compiler, *case)
                )
    tried = len(cases) * len(chosen)
    note = f"{by}: {SANITIZERS[compiler][0]}; {', '.join(chosen)}; seed {SEED}"
    return Outcome("sanitizers", "training steps", tried, 0, right, tried - right, note)


def trained(compiler, family, scheme, granularity):
    torch.manual_seed(SEED)
    config = ModelConfig(family, d_model=12, heads=2, layers=2, dropout=0.0, **SHAPES[family])
    inputs = torch.randint(-3000, 3000, (35, config.context)).float()
    model = transformer.network(config, Sensor(0.01, 20.0, 3.0))
    twin = ptq.quantise(model, QuantConfig(4, 3, 8, 8, scheme=scheme, granularity=granularity), inputs)
    fused._library.cache_clear()  # it may be another compiler's, or for another target
    library = Recorded(fused._library())
    with mock.patch.object(fused, "_library", lambda: library):
        network = fused.Fused(twin).train()
        expected, steps = [], []
        for windows in (inputs, inputs[:9]):
            twin.zero_grad()
            forecast = network(windows)
            g = torch.randn_like(forecast)
            forecast.backward(g)
            gradients = [p.grad.flatten() for p in network.plan.parameters]
            expected += [forecast.detach().flatten(), *gradients]
            steps.append(floats(windows) + struct.pack("l", len(windows)) + floats(g))
    told = [library.sizes, struct.pack("l", len(library.operations)), *library.operations]
    told += [*map(floats, network.plan.parameters), struct.pack("l", len(steps)), *steps]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "main.cpp"
        source.write_text(TRAINER.replace("{source}", str(paths.PACKAGE / "quantised_model" / "fused.cpp")))
        out = carried_out(compiler, Path(folder), source, given=b"".join(told), options=fused.OPTIONS)
    found = np.frombuffer(out, np.float32)
    np.testing.assert_array_equal(found, torch.cat(expected).numpy())


def engine(compiler, by):
    """It loads as this compiler links it, and forecasts."""
    model = shipped.load("jfk-weather", "patch-c336-d16-w4a4")
    counts = extreme_windows(model, SEED, 6)

    def check():
        np.testing.assert_array_equal(simulate(model, counts, CONFIGS["xc7s15"])[0], model.forward(counts))

    right = judged(f"{compiler}: the simulated engine", check)
    return Outcome("sanitizers", "the simulated engine, as linked", 1, 0, int(right), 1 - right, f"{by}; seed {SEED}")
