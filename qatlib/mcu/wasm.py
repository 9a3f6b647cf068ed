"""An exported model as WebAssembly: the microcontroller's C, for browsers and Node."""

import math
import sys
import tempfile
from pathlib import Path

from qatlib.integer_model import detection
from qatlib.mcu.export import export_c, program_of
from qatlib.system import paths, toolchain

TEMPLATE = paths.PACKAGE / "mcu" / "wasm.js"
STACK = 4096  # bytes; the linker puts it below everything else, so that one too deep is a trap
OPTIONS = (
    *"-target wasm32-freestanding -std=c99 -Oz -s -ffreestanding -fno-builtin -fno-sanitize=undefined".split(),
    *"-Wall -Wextra -Werror -nostdlib -Wl,--no-entry -Wl,--gc-sections".split(),
    f"-Wl,-z,stack-size={STACK}",
)
CALLS = {
    "forecast": "",
    "classify": "int classify(void) {{ return {name}_classify(counts, forecast, workspace); }}",
    "detect": "int64_t state;\nint detect(void) {{ return {name}_detect(counts, &state, forecast, workspace); }}",
}
EXPORTS = {"forecast": (), "classify": ("classify",), "detect": ("detect", "state")}


def export_wasm(model, folder, name="forecaster"):
    """Write `name`.wasm and `name`.js, the ES module that loads it, into a folder, which is made; -> their paths. Of a
    model's names none gets into them.

    ValueError where the name is none for a C library, toolchain.BuildError where ziglang is missing or fails.
    """
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as scratch:
        export_c(model, scratch, name)
        source = Path(scratch) / "wasm.c"
        source.write_text(_source(model, name))
        folder.mkdir(parents=True, exist_ok=True)
        wasm, script = folder / f"{name}.wasm", folder / f"{name}.js"
        names = ("run", "counts", "forecast", *EXPORTS[model.task])
        exports = [f"-Wl,--export={exported}" for exported in names]
        toolchain.run([sys.executable, "-m", "ziglang", "cc", *OPTIONS, *exports, str(source), "-o", str(wasm)])
    script.write_text(_script(model))
    return wasm, script


def _rows(model):
    """That a call takes at most: a detector's forecast is judged by rows after its window."""
    return detection.length(model) if model.task == "detect" else model.context


def _source(model, name):
    """The library, and functions without arguments on buffers whose addresses are exported."""
    counts, forecast = _rows(model) * len(model.channels), math.prod(model.forecast_shape)
    return f"""#include "{name}.c"
int16_t counts[{counts}], forecast[{forecast}];
static int32_t workspace[{program_of(model).workspace // 4 + 1}];
void run(void) {{ {name}_forecast(counts, forecast, workspace); }}
{CALLS[model.task].format(name=name)}
"""


def _script(model):
    """The text of every model's module, with this one's numbers."""
    numbers = {
        "CONTEXT": model.context,
        "CHANNELS": len(model.channels),
        "HORIZON": model.horizon,
        "TARGETS": math.prod(model.forecast_shape) // model.horizon,
        "ROWS": _rows(model),
        "SMOOTHING": model.operations[-1].attributes.get("smoothing", 0),
    }
    text = TEMPLATE.read_text()
    for key, number in numbers.items():
        text = text.replace(f"{key} = 0;", f"{key} = {number:d};")
    return text
