"""The exported C against NumPy, on this computer and on emulated microcontrollers; what it says of itself; what is
refused."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.mcu import compiled, emulate, export, export_c
from qatlib.system import toolchain
from tests import several_channels

STRICT = (
    "-std=c99 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wcast-qual -Wstrict-prototypes "
    "-Wmissing-prototypes -Werror"
)
READER = """#include <stdio.h>
#include <stdlib.h>
#include "model.h"
enum { WINDOW = MODEL_CONTEXT * MODEL_CHANNELS, FORECAST = MODEL_HORIZON * MODEL_TARGETS };
int main(void) {
    int16_t *counts = malloc(sizeof(int16_t) * WINDOW), *forecast = malloc(sizeof(int16_t) * FORECAST);
    void *memory = malloc(MODEL_WORKSPACE);
    while (fread(counts, sizeof(int16_t), WINDOW, stdin) == WINDOW) {
        model_forecast(counts, forecast, memory);
        fwrite(forecast, sizeof(int16_t), FORECAST, stdout);
    }
    free(counts), free(forecast), free(memory);
    return 0;
}
"""
SHIPPED = "jfk-weather"


def carried_out(model, counts, folder):
    """Forecasts of the exported C under the sanitizers, every buffer exactly as large as it says."""
    source, header = export_c(model, folder, "model")
    assert "model_guard" not in header.read_text()  # none was asked for
    (folder / "main.c").write_text(READER)
    compiler = toolchain.compiler(".c")
    sanitizers = "undefined" if "ziglang" in compiler else "address,undefined"  # ziglang has no address sanitizer
    options = (*STRICT.split(), f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    toolchain.run([*compiler, *options, str(source), str(folder / "main.c"), "-o", str(folder / "main")])
    done = subprocess.run([folder / "main"], input=counts.astype("<i2").tobytes(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, "<i2").reshape(len(counts), *model.forecast_shape)


@pytest.mark.parametrize("seed", range(8))
def test_clean_c_of_random_models_equals_numpy(tmp_path, seed):
    """Odd widths, rows and columns; every family; multipliers of every shift; windows that go to the edges."""
    model = random_model(seed)
    counts = extreme_windows(model, seed, 12)
    np.testing.assert_array_equal(carried_out(model, counts, tmp_path), model.forward(counts))


@pytest.mark.parametrize("name", several_channels.MODELS)
def test_models_of_several_channels(tmp_path, name):
    """Independent and mixed, anchored and not, side by side at every sample."""
    model = several_channels.MODELS[name]
    counts = several_channels.windows(model, 1, 12)
    expected = model.forward(counts)
    np.testing.assert_array_equal(carried_out(model, counts, tmp_path), expected)
    np.testing.assert_array_equal(compiled(model).forward(counts), expected)
    assert len(np.unique(expected)) > 5  # they say something


@pytest.mark.parametrize("name", shipped.names(SHIPPED))
def test_shipped_models_on_this_computer(tmp_path, name):
    model, counts = shipped.load(SHIPPED, name), shipped.windows(SHIPPED)[0]
    counts = np.ascontiguousarray(counts[:200, -model.context :])
    expected = model.forward(counts)
    np.testing.assert_array_equal(compiled(model).forward(counts), expected)
    np.testing.assert_array_equal(carried_out(model, counts[:20], tmp_path), expected[:20])


@pytest.mark.parametrize("seed", range(20, 28))
def test_the_fast_way_on_random_models(seed):
    model = random_model(seed)
    counts = extreme_windows(model, seed, 12)
    np.testing.assert_array_equal(compiled(model).forward(counts), model.forward(counts))


def test_blank_lines_in_the_functions_change_nothing(tmp_path, monkeypatch):
    model = random_model(1)
    texts = [export_c(model, tmp_path, "model", kernels="host")[0].read_text()]
    for name in ("kernels", "host"):
        (tmp_path / name).write_text(export.SOURCES[name].read_text().replace(";\n", ";\n\n"))
        monkeypatch.setitem(export.SOURCES, name, tmp_path / name)
    texts.append(export_c(model, tmp_path, "model", kernels="host")[0].read_text())
    lines = [[line for line in text.splitlines() if line] for text in texts]
    assert texts[0] != texts[1] and lines[0] == lines[1]


@pytest.mark.parametrize("target", emulate.TARGETS)
@pytest.mark.parametrize("seed", [1, 3, 6])
def test_random_models_on_microcontrollers(target, seed):
    model = random_model(seed)
    counts = extreme_windows(model, seed, 4)
    outcome = emulate.Firmware(model, target).run(counts)
    np.testing.assert_array_equal(outcome.forecasts, model.forward(counts))
    assert outcome.flash > model.size_bytes and outcome.ram > model.context


@pytest.mark.parametrize("target", emulate.TARGETS)
def test_instructions_are_counted_one_by_one(target):
    """The count by blocks is that of a hook on every instruction, and the same whenever it is taken. The hook leaves
    out what a condition skips on a Cortex-M4, which takes its time there all the same."""
    import unicorn

    model = random_model(3)
    firmware, counts = emulate.Firmware(model, target), extreme_windows(model, 3, 2)
    machine, singly = emulate._MACHINES[target](firmware), [0]
    machine.engine.hook_add(unicorn.UC_HOOK_CODE, lambda *_: singly.__setitem__(0, singly[0] + 1))
    _, by_blocks, _ = machine.forecast(counts[0])
    skipped = 0 if target == "rv32imc" else 0.06 * by_blocks
    assert by_blocks - skipped <= singly[0] <= by_blocks and singly[0] > emulate.multiply_accumulates(model)
    np.testing.assert_array_equal(firmware.run(counts).instructions, firmware.run(counts).instructions)


def test_a_forecast_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr(emulate, "LIMIT", 100_000)  # microseconds
    model = random_model(3)
    firmware = emulate.Firmware(model, "rv32imc")
    (name,) = (n for n, (start, code) in firmware.sections.items() if start <= firmware.entry < start + len(code))
    start, code = firmware.sections[name]
    at = firmware.entry - start
    jump_to_itself = 0x6F.to_bytes(4, "little")
    firmware.sections[name] = start, code[:at] + jump_to_itself + code[at + 4 :]
    with pytest.raises(emulate.EmulationError, match="still at"):
        firmware.run(extreme_windows(model, 3, 1))


def test_multiply_accumulates_of_the_default_shape():
    model = shipped.load(SHIPPED, "patch-c336-d16-w4a4")
    tokens, d, attention = 14, 16, 2 * 14 * 14 * 16
    assert (
        emulate.multiply_accumulates(model) == tokens * (24 * d + 4 * d * d + 8 * d * d) + attention + tokens * d * 24
    )
    several = several_channels.MODELS["seven independent"]
    assert emulate.multiply_accumulates(several) == 7 * emulate.multiply_accumulates(several.channel(0))


def test_low_bits_stay_packed(tmp_path):
    """Weights take their bits in the file and no more."""
    sizes = {}
    for bits in ("w8a8", "w4a4", "w2a2"):
        source, _ = export_c(shipped.load(SHIPPED, f"patch-c336-d16-{bits}"), tmp_path, bits)
        line = [line for line in source.read_text().splitlines() if "_weight[" in line][-1]  # the head's
        sizes[bits] = int(line.split("[")[1].split("]")[0])
    assert sizes == {"w8a8": 224 * 24, "w4a4": 224 * 24 // 2, "w2a2": 224 * 24 // 4}


def test_what_is_read_as_vectors_is_as_long(tmp_path):
    """A decoder's head has one output, and host.c loads its bias with the lanes beside it."""
    source, _ = export_c(shipped.load("etth1", "decoder-c336-d16-mixed"), tmp_path, kernels="host")
    sizes = [
        int(line.split("_bias[")[1].split("]")[0])
        for line in source.read_text().splitlines()
        if "int32_t linear_" in line and "_bias[" in line
    ]
    assert len(sizes) > 10 and all(size % 16 == 0 for size in sizes)


@pytest.mark.parametrize("name", ["2nd", "", "a b", "a/b", "../a", "_STDINT", "a" * 64, "ä", "a;b", "a\n"])
def test_names_that_are_none_in_c(tmp_path, name):
    with pytest.raises(ValueError, match="is no name in C"):
        export_c(random_model(3), tmp_path, name)
    assert not any(tmp_path.iterdir())


def test_nothing_of_a_models_text_gets_into_c(tmp_path):
    """Neither its name nor a path, which a file's author chooses; names that differ only by a dot stay apart."""
    model = random_model(3)
    chosen = {o.path: f"chosen{'.' if i % 2 else '_'}{i // 2}" for i, o in enumerate(model.operations[:-1])}
    again = renamed(replace(model, name="chosen"), chosen)
    for file in export_c(again, tmp_path):
        assert "chosen" not in file.read_text()
    counts = extreme_windows(model, 3, 12)
    np.testing.assert_array_equal(compiled(again).forward(counts), model.forward(counts))


def renamed(model, names):
    """The model with other paths: {path: new one}."""

    def new(name):
        return names.get(name, name)

    operations = tuple(
        replace(o, path=new(o.path), output=new(o.output), inputs=tuple(map(new, o.inputs))) for o in model.operations
    )
    arrays = {
        ".".join((new(path), name)): a
        for (path, _, name), a in ((key.rpartition("."), a) for key, a in model.arrays.items())
    }
    return replace(model, operations=operations, tensors={new(n): t for n, t in model.tensors.items()}, arrays=arrays)


def test_compiled_takes_what_numpy_takes(monkeypatch):
    model = random_model(5)
    counts = extreme_windows(model, 5, 6)
    fast = compiled(model)
    for windows in (
        counts[::2],
        np.asfortranarray(counts),
        counts[:0],
        counts.tolist(),
        counts.astype(np.int32),
        counts[:, 1:],
        counts[0],
    ):
        outcomes = []
        for way in (model, fast):
            try:
                outcomes.append(way.forward(windows).tolist())
            except (TypeError, ValueError) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    def missing(suffix):
        raise toolchain.BuildError("no compiler")

    monkeypatch.setattr(toolchain, "compiler", missing)
    with pytest.raises(toolchain.BuildError, match="no compiler"):
        compiled(model)


DECISIONS = several_channels.CLASSIFIERS | several_channels.DETECTORS


@pytest.mark.parametrize("target", emulate.TARGETS)
@pytest.mark.parametrize("name", DECISIONS)
def test_emulated_cores_decide_alike(name, target):
    model = DECISIONS[name]
    windows = several_channels.windows(model, 5, 3)
    rows = windows.reshape(-1, *model.window_shape[1:])
    given, expected = (rows, model.detect(rows)) if model.task == "detect" else (windows, model.classify(windows))
    outcome = emulate.Firmware(model, target).run(given)
    for mine, its in zip(expected, outcome.decided, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert len(outcome.instructions) == len(expected[0])
