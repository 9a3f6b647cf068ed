"""IntegerModel -> one .c and one .h: its program, and the functions of `kernels.c` that it calls."""

import re
from pathlib import Path

from qatlib.device.guard import FLAGS, LONGEST_GAP, REPAIRED
from qatlib.mcu.program import Program
from qatlib.system import paths

KERNELS, HOST, GUARD = (paths.PACKAGE / "mcu" / f"{name}.c" for name in ("kernels", "host", "guard"))
BLOCK = re.compile(r"^/\* block: (.*) \*/\n", re.MULTILINE)  # before functions that go together, with their names


def export_c(model, folder, name="forecaster", *, guard=None, host=False):
    """Write `name`.c and `name`.h into a folder, which is made; -> their paths. Of a model's names none gets into them.

    guard: a `qatlib.device.guard.Guard`, which becomes a function of the library.

    ValueError where the name is none for a C library, or the guard is of another context.
    """
    if not re.fullmatch(r"[A-Za-z]\w{0,62}", name, re.ASCII):
        what = "one of letters, digits and underscores that begins with a letter"
        raise ValueError(f"{name!r} is no name in C; give {what}")
    if guard and guard.context != model.context:
        windows = f"windows of {guard.context} samples, the model for {model.context}"
        raise ValueError(f"the guard is for {windows}; fit it to the model's windows")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source, header = folder / f"{name}.c", folder / f"{name}.h"
    program = Program(model, host=host)
    source.write_text(_source(program, name) + (_guard(model, name, guard) if guard else ""))
    header.write_text(_header(program, name, guard))
    return source, header


def _source(program, name):
    model = program.model
    anchor = f"counts[{model.context - 1}]" if model.anchor is None else str(model.anchor)
    return "\n".join(
        [
            f'#include "{name}.h"',
            "",
            "#if defined(__ARM_FEATURE_DSP)",
            "#include <arm_acle.h>",
            "#endif",
            "",
            f"#define SHIFTS {program.shifts}",
            "",
            _kernels(program),
            "",
            *program.constants,
            "",
            f"void {name}_forecast(const int16_t *counts, int16_t *forecast, void *memory) {{",
            "    int8_t *workspace = (int8_t *)memory;",
            f"    int32_t anchor = {anchor};",
            *program.calls,
            "}",
            "",
            *_batch(name, model),
        ]
    )


def _batch(name, model):
    return [
        f"void {name}_forecasts(const int16_t *counts, int64_t windows, int16_t *forecasts, void *memory) {{",
        f"    for (int64_t i = 0; i < windows; i++, counts += {model.context}, forecasts += {model.horizon})",
        f"        {name}_forecast(counts, forecasts, memory);",
        "}",
        "",
    ]


def _kernels(program):
    """The functions that the program needs, with those that they call: an unused one is a warning. A host's replace
    their namesakes."""
    pieces, wanted, place = [], set(), {}  # place: {function: index of its piece}
    for path in (KERNELS, HOST)[: 1 + program.host]:
        head, *marked = BLOCK.split(path.read_text())
        wanted.add(len(pieces))
        pieces.append(head)
        for names, text in zip(marked[::2], marked[1::2], strict=True):
            place |= dict.fromkeys(names.split(), len(pieces))
            pieces.append(text)
    text = "\n".join(program.calls)
    while text:
        more = {place[name] for name in re.findall(r"\w+", text) if name in place} - wanted
        wanted |= more
        text = "\n".join(pieces[i] for i in more)
    return "\n\n".join(pieces[i].strip() for i in sorted(wanted))


def _guard(model, name, guard):
    fields = "low", "high", "jump", "spike", "stuck", "drift", "noise"  # after the two first, in the order of guard.c
    values = [guard.day, LONGEST_GAP, *(getattr(guard, field) for field in fields)]
    call = f"look(counts, {model.context}, (limits){{{', '.join(map(str, values))}}})"
    return f"\n{GUARD.read_text()}\nuint8_t {name}_guard(int16_t *counts) {{ return {call}; }}\n"


def _guard_declaration(name):
    flags = ", ".join(f"{value} {flag}" for flag, value in FLAGS.items())
    return f"""
/* Mends gaps of up to {LONGEST_GAP} samples (INT16_MIN: missing) and single outliers in place;
   -> the sum of what it found: {flags}. 0 and {REPAIRED} can be forecast. */
uint8_t {name}_guard(int16_t *counts);
"""


def _header(program, name, guard):
    model, prefix = program.model, name.upper()
    return f"""/* {model.context} samples -> the next {model.horizon}, in counts of {model.resolution:g}. */
#ifndef {prefix}_H
#define {prefix}_H

#include <stdint.h>

#define {prefix}_CONTEXT {model.context}
#define {prefix}_HORIZON {model.horizon}
#define {prefix}_WORKSPACE {program.workspace} /* bytes */

#ifdef __cplusplus
extern "C" {{
#endif

/* counts: the latest {model.context} samples, oldest first. memory: {prefix}_WORKSPACE bytes at a multiple of
   four; what is in them does not matter, before or after. */
void {name}_forecast(const int16_t *counts, int16_t *forecast, void *memory);

/* The same for several windows that lie one after another. */
void {name}_forecasts(const int16_t *counts, int64_t windows, int16_t *forecasts, void *memory);
{_guard_declaration(name) if guard else ""}
#ifdef __cplusplus
}}
#endif

#endif
"""
