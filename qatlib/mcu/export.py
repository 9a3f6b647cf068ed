"""IntegerModel -> one .c and one .h: its program, and the functions of `kernels.c` that it calls."""

import math
import re
from pathlib import Path

from qatlib.device.guard import FLAGS, LONGEST_GAP, REPAIRED
from qatlib.integer_model import detection
from qatlib.mcu.batch_program import BatchProgram
from qatlib.mcu.cortex_m4 import CortexM4
from qatlib.mcu.host_program import HostProgram
from qatlib.mcu.program import Program
from qatlib.mcu.rv32 import Rv32
from qatlib.system import paths

SOURCES = {
    name: paths.PACKAGE / "mcu" / f"{name}.c"
    for name in ("kernels", "cortex_m4", "rv32", "host", "batch", "guard", "detect")
}
# Sets of functions: for any processor; for Arm's DSP extension; for one multiplication of 32 bits, RV32IM's by hand;
# for a computer's vectors, window by window or many windows at a time
KERNELS = {"generic": Program, "cortex-m4": CortexM4, "rv32": Rv32, "host": HostProgram, "batch": BatchProgram}
BLOCK = re.compile(r"^/\* block: (.*) \*/\n", re.MULTILINE)  # before functions that go together, with their names
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def export_c(model, folder, name="forecaster", *, guard=None, kernels="generic"):
    """Write `name`.c and `name`.h into a folder, which is made; -> their paths. Of a model's names none gets into them.

    guard: a `qatlib.device.guard.Guard`, which becomes a function of the library. kernels: one of KERNELS; `generic`
    runs everywhere.

    ValueError where the name is none for a C library, there are no such kernels, or the guard is for other windows.
    """
    if not re.fullmatch(r"[A-Za-z]\w{0,62}", name, re.ASCII):
        what = "one of letters, digits and underscores that begins with a letter"
        raise ValueError(f"{name!r} is no name in C; give {what}")
    if guard:
        guard.require(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source, header = folder / f"{name}.c", folder / f"{name}.h"
    program = program_of(model, kernels)
    source.write_text(_source(program, name) + (_guard(name, guard) if guard else ""))
    header.write_text(_header(program, name, guard))
    return source, header


def program_of(model, kernels="generic"):
    """The model's program in C by one of KERNELS. ValueError where there is no such one."""
    if kernels not in KERNELS:
        raise ValueError(f"no kernels {kernels!r}; choose one of {', '.join(KERNELS)}")
    return KERNELS[kernels](model)


def _source(program, name):
    model = program.model
    return "\n".join(
        [
            f'#include "{name}.h"',
            "",
            "#if defined(__ARM_FEATURE_DSP)",
            "#include <arm_acle.h>",
            "#endif",
            "",
            f"#define SHIFTS {program.shifts}",
            f"#define ELEMENT {program.element}",
            "",
            _kernels(program),
            "",
            *program.constants,
            "",
            *(program.functions(name) or _one_by_one(program, name)),
            *TASKS[model.task](name, model),
        ]
    )


def _one_by_one(program, name):
    window, forecast = (math.prod(shape) for shape in (program.model.window_shape, program.model.forecast_shape))
    return [
        f"void {name}_forecast(const int16_t *counts, int16_t *forecast, void *memory) {{",
        f"    {program.element} *workspace = ({program.element} *)memory;",
        *_body(program),
        "}",
        "",
        f"void {name}_forecasts(const int16_t *counts, int64_t windows, int16_t *forecasts, void *memory) {{",
        f"    for (int64_t i = 0; i < windows; i++, counts += {window}, forecasts += {forecast})",
        f"        {name}_forecast(counts, forecasts, memory);",
        "}",
        "",
    ]


def _body(program):
    """The calls: of a single channel with its anchor, of independent ones in a loop over them."""
    channels = program.model.channels
    if len(channels) == 1:
        anchor = f"counts[{program.model.context - 1}]" if channels[0].anchor is None else str(channels[0].anchor)
        return [f"    int32_t anchor = {anchor};", *program.calls]
    if program.model.mode == "mixed":
        return program.calls
    fixed = ", ".join(
        "INT32_MIN" if c.anchor is None else str(c.anchor) for c in channels
    )  # as Program.anchor reads it
    some = any(c.anchor is not None for c in channels)
    anchors = [f"    static const int32_t anchors[{len(channels)}] = {{{fixed}}};"] if some else []
    return [
        *anchors,
        f"    for (int c = 0; c < {len(channels)}; c++) {{",
        *(f"    {c}" for c in program.calls),
        "    }",
    ]


def _classify(name, model):
    return [
        f"int {name}_classify(const int16_t *counts, int16_t *scores, void *memory) {{",
        "    int best = 0;",
        f"    {name}_forecast(counts, scores, memory);",
        f"    for (int i = 1; i < {model.horizon}; i++)",
        "        if (scores[i] > scores[best]) best = i;",
        "    return best;",
        "}",
        "",
    ]


def _detect(name, model):
    last, channels = model.operations[-1], len(model.channels)
    first = (model.context + model.horizon * (last.attributes["ahead"] - 1)) * channels
    shift, weight = last.attributes["smoothing"], ", ".join(map(str, model.arrays["output.weight"].tolist()))
    return [
        SOURCES["detect"].read_text(),
        f"int {name}_detect(const int16_t *rows, int64_t *state, int16_t *forecast, void *memory) {{",
        f"    static const uint16_t weight[{channels}] = {{{weight}}};",
        f"    {name}_forecast(rows, forecast, memory);",
        f"    int64_t score = judged(rows + {first}, forecast, weight, {model.horizon}, {channels});",
        f"    *state = *state < 0 ? score << {shift} : *state + score - (*state >> {shift});",
        f"    return *state >> {shift} > {model.threshold};",
        "}",
        "",
    ]


TASKS = {"forecast": lambda name, model: (), "classify": _classify, "detect": _detect}


def _kernels(program):
    """The functions that the program needs, with those that they call: an unused one is a warning."""
    pieces, wanted, place = [], set(), {}  # place: {function: index of its piece}
    for source in program.sources:
        head, *marked = BLOCK.split(SOURCES[source].read_text())
        wanted.add(len(pieces))
        pieces.append(head)
        for names, text in zip(marked[::2], marked[1::2], strict=True):
            place |= dict.fromkeys(names.split(), len(pieces))
            pieces.append(text)
    text = "\n".join([*program.calls, *program.constants, *program.functions("")])
    while text:
        more = {place[name] for name in re.findall(r"\w+", COMMENT.sub("", text)) if name in place} - wanted
        wanted |= more
        text = "\n".join(pieces[i] for i in more)
    return "\n\n".join(pieces[i].strip() for i in sorted(wanted))


def _guard(name, guard):
    fields = "low", "high", "jump", "spike", "stuck", "drift", "noise"  # after the two first, in the order of guard.c
    values = [[guard.day, LONGEST_GAP, *(getattr(limits, field) for field in fields)] for limits in guard.channels]
    rows, count = [f"{{{', '.join(map(str, row))}}}" for row in values], len(values)
    if count == 1:
        body = f"    return look(counts, 1, {guard.context}, (limits){rows[0]});"
    else:
        body = f"""    static const limits channels[{count}] = {{{", ".join(rows)}}};
    for (int c = 0; c < {count}; c++) flags[c] = look(counts + c, {count}, {guard.context}, channels[c]);"""
    return f"\n{SOURCES['guard'].read_text()}\n{_guard_signature(name, count)} {{\n{body}\n}}\n"


def _guard_signature(name, channels):
    """Of one channel it returns its flags; of several it writes those of each."""
    if channels == 1:
        return f"uint8_t {name}_guard(int16_t *counts)"
    return f"void {name}_guard(int16_t *counts, uint8_t *flags)"


def _guard_declaration(name, channels):
    flags = ", ".join(f"{value} {flag}" for flag, value in FLAGS.items())
    result = "->" if channels == 1 else "flags[c]: of channel c,"
    return f"""
/* Mends gaps of up to {LONGEST_GAP} samples (INT16_MIN: missing) and single outliers in place;
   {result} the sum of what it found: {flags}. 0 and {REPAIRED} can be forecast. */
{_guard_signature(name, channels)};
"""


def _told_forecast(name, model):
    """What the header says of the result, and of the function that decides by it."""
    return f"the next {model.horizon}", ""


def _told_labels(name, model):
    return (
        f"scores of {model.horizon} labels",
        f"""
/* -> the label with the highest score, the first of equals: 0 to {model.horizon - 1}. */
int {name}_classify(const int16_t *counts, int16_t *scores, void *memory);
""",
    )


def _told_flag(name, model):
    last, prefix = model.operations[-1].attributes, name.upper()
    return (
        ("the next" if last["ahead"] else "its last") + f" {model.horizon}",
        f"""
/* -> whether the last of the {detection.length(model)} latest rows is faulty. state: -1 before the first; afterwards
   its score is state >> {last["smoothing"]}. forecast: room for {prefix}_HORIZON * {prefix}_TARGETS counts. */
int {name}_detect(const int16_t *rows, int64_t *state, int16_t *forecast, void *memory);
""",
    )


TOLD = {"forecast": _told_forecast, "classify": _told_labels, "detect": _told_flag}


def _header(program, name, guard):
    model, prefix = program.model, name.upper()
    steps = ", ".join(f"{channel.resolution:g}" for channel in model.channels)
    several = ""
    if len(model.channels) > 1:
        several = f"\n   {len(model.channels)} channels, side by side at every sample."
    result, decision = TOLD[model.task](name, model)
    if several and model.task == "forecast":
        which = ", ".join(map(str, model.targets))
        several += f" Forecast, side by side at every step, of the channels\n   counted from 0: {which}."
    return f"""/* {model.context} samples -> {result}, in counts of {steps}.{several} */
#ifndef {prefix}_H
#define {prefix}_H

#include <stdint.h>

#define {prefix}_CONTEXT {model.context}
#define {prefix}_HORIZON {model.horizon}
#define {prefix}_CHANNELS {len(model.channels)}
#define {prefix}_TARGETS {len(model.targets)}
#define {prefix}_WORKSPACE {program.workspace} /* bytes */

#ifdef __cplusplus
extern "C" {{
#endif

/* counts: the latest {model.context} samples, oldest first. memory: {prefix}_WORKSPACE bytes at a multiple of
   four; what is in them does not matter, before or after. */
void {name}_forecast(const int16_t *counts, int16_t *forecast, void *memory);

/* The same for several windows that lie one after another. */
void {name}_forecasts(const int16_t *counts, int64_t windows, int16_t *forecasts, void *memory);
{decision}{_guard_declaration(name, len(model.channels)) if guard else ""}
#ifdef __cplusplus
}}
#endif

#endif
"""
