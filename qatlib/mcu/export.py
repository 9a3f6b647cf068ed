"""IntegerModel -> one .c and one .h: its arrays as constants, one call of `kernels.c` for every operation."""

import math
import re
from pathlib import Path

import numpy as np

from qatlib.device.guard import FLAGS, LONGEST_GAP, REPAIRED
from qatlib.integer_model.model import IntegerModel
from qatlib.system import paths

KERNELS, HOST, GUARD = (paths.PACKAGE / "mcu" / f"{name}.c" for name in ("kernels", "host", "guard"))
LANES = 16  # of host.c
MOVES = ("reshape",)  # operations that only rename a tensor


def export_c(model, folder, name="forecaster", *, guard=None, host=False):
    """Write `name`.c and `name`.h into a folder, which is made; -> their paths. Of a model's names none gets into them.

    guard: a `qatlib.device.guard.Guard`, which becomes a function of the library.

    ValueError where the name is none for a C library, or the guard is of another context.
    """
    if not re.fullmatch(r"[A-Za-z]\w{0,62}", name, re.ASCII):
        raise ValueError(
            f"{name!r} is no name in C; give one of letters, digits and underscores that begins with a letter"
        )
    if guard and guard.context != model.context:
        raise ValueError(
            f"the guard is for windows of {guard.context} samples, the model for {model.context}; fit it to the "
            f"model's windows"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source, header = folder / f"{name}.c", folder / f"{name}.h"
    program = Program(model, host=host)
    source.write_text(_source(program, name) + (_guard(model, name, guard) if guard else ""))
    header.write_text(_header(program, name, guard))
    return source, header


class Program:
    """The calls and constants of a model in C. `workspace`: bytes of memory that a forecast needs beside its stack.

    host: for a computer's vector units, weights in 32 bits a pair; else packed, for a microcontroller.
    """

    def __init__(self, model: IntegerModel, *, host=False):
        self.host = host
        self.model, self.constants, self.calls, self.shifts = model, [], [], 0
        self.labels = {o.path: f"{o.kind}_{i}" for i, o in enumerate(model.operations)}
        self._arrange()
        for operation in model.operations:
            if operation.kind not in MOVES:
                getattr(self, "_" + operation.kind)(operation)

    # -- where tensors lie

    def _arrange(self):
        """A place in the workspace for every tensor: the lowest that no tensor alive at the same time takes. Scratch
        lives for one call."""
        self._names = {}
        lives, sizes = {}, {}
        for now, operation in enumerate(self.model.operations):
            for name in operation.inputs:
                lives[self._names[name]][1] = now
            if operation.kind == "output":
                break
            self._names[operation.output] = (
                self._names[operation.inputs[0]] if operation.kind in MOVES else operation.output
            )
            if operation.kind not in MOVES:
                lives[operation.output] = [now, now]
                sizes[operation.output] = math.prod(self.model.tensors[operation.output].shape)
                if scratch := self._scratch(operation):
                    lives[operation.path, "scratch"], sizes[operation.path, "scratch"] = [now, now], scratch
        self.places = {}
        for name in sorted(sizes, key=sizes.get, reverse=True):
            taken = sorted(
                (self.places[other], self.places[other] + sizes[other])
                for other in self.places
                if lives[other][0] <= lives[name][1] and lives[name][0] <= lives[other][1]
            )
            place = 0
            for start, end in taken:
                if place + sizes[name] <= start:
                    break
                place = max(place, -(-end // 4) * 4)  # there are words among them
            self.places[name] = place
        self.workspace = max(self.places[name] + size for name, size in sizes.items())

    def _scratch(self, operation):
        """Bytes that a product needs for one call. Two rows of weights as pairs, and unpacked or transposed ones after
        them; on a host both its operands as pairs."""
        if operation.kind not in ("linear", "scores", "context"):
            return 0
        shapes = [self.model.tensors[name].shape for name in operation.inputs]
        heads = operation.attributes.get("heads", 1)
        depth = shapes[0][-1] // (heads if operation.kind == "scores" else 1)
        if self.host:
            columns = {"linear": 0, "scores": shapes[-1][0], "context": shapes[-1][1] // heads}[operation.kind]
            return 4 * (depth + 1 >> 1) * (shapes[0][-2] + _padded(columns))
        if operation.kind == "linear":
            return 4 * depth + 2 * depth * (operation.attributes["weight_bits"] < 8)
        return 4 * depth + (math.prod(shapes[1]) // heads if operation.kind == "context" else 0)

    def _scratch_places(self, operation, columns):
        """Of the pairs, and of what comes after them."""
        place = self.places[operation.path, "scratch"]
        return [f"(int32_t *)(void *)(workspace + {place})"] + [f"workspace + {place + 4 * columns}"] * (not self.host)

    def _place(self, name):
        return f"workspace + {self.places[self._names.get(name, name)]}"

    # -- what is written

    def _constant(self, operation, name, array, kind):
        """A constant array; -> its name in C."""
        label = f"{self.labels[operation.path]}_{name}"
        array = np.ravel(array)
        if self.host and (
            len(array) > 1 or name == "bias"
        ):  # read as vectors; a scale of one channel is read by itself
            array = np.pad(array, (0, _padded(len(array)) - len(array)))
        values = ", ".join(map(str, array.tolist()))
        self.constants.append(f"static const {kind} {label}[{len(array)}] = {{{values}}};")
        return label

    def _scale(self, operation):
        """As kernels.c has it: an accumulator has 25 bits with its sign, which leaves seven for shifting it up."""
        m, n = (self.model.arrays[f"{operation.path}.{name}"].astype(np.int64) for name in ("m", "n"))
        up = np.maximum(17 - n, 0)
        general = (up > 7) | (n > 32)
        shifts = np.where(general, -n, up)
        self.shifts = max(self.shifts, 2 if general.any() else int(shifts.any()))
        fields = [self._constant(operation, "m", np.where(general, m, m << np.maximum(32 - n - up, 0)), "int32_t")]
        fields += [self._constant(operation, "n", shifts, "int8_t") if shifts.any() else "0", len(m)]
        label = f"{self.labels[operation.path]}_scale"
        self.constants.append(f"static const scale {label} = {{{', '.join(map(str, fields))}}};")
        return f"&{label}"

    def _range(self, operation):
        tensor = self.model.tensors[operation.output]
        return f"(range){{{tensor.zero_point}, {tensor.low}, {tensor.high}}}"

    def _unsigned(self, name):
        return int(self.model.tensors[name].low >= 0)

    def _call(self, function, *arguments):
        self.calls.append(f"    {function}({', '.join(str(a) for a in arguments)});")

    def _array(self, operation, name, kind):
        return self._constant(operation, name, self.model.arrays[f"{operation.path}.{name}"], kind)

    def _quantise(self, o):
        self._call(
            "quantise", "counts", "anchor", self.model.context, self._scale(o), self._place(o.output), self._range(o)
        )

    def _requantise(self, o):
        x = o.inputs[0]
        tensor = self.model.tensors[x]
        count = math.prod(tensor.shape)
        arguments = self._unsigned(x), tensor.zero_point, count, self._scale(o), self._place(o.output), self._range(o)
        self._call("requantise", self._place(x), *arguments)

    def _linear(self, o):
        (rows, depth), outputs = self.model.tensors[o.inputs[0]].shape, self.model.tensors[o.output].shape[1]
        if self.host:
            weights = [self._constant(o, "weight", _pairs(self.model.weight(o)), "int32_t")]
        else:
            weights = [self._array(o, "weight", "uint8_t"), o.attributes["weight_bits"]]
        weights += [self._array(o, "bias", "int32_t"), self._scale(o)]
        x = self._place(o.inputs[0]), self._unsigned(o.inputs[0])
        self._call(
            "linear",
            *weights,
            *x,
            rows,
            outputs,
            depth,
            *self._scratch_places(o, depth),
            self._place(o.output),
            self._range(o),
        )

    def _add(self, o, y=None):
        x = o.inputs[0]
        rows, channels = self.model.tensors[o.output].shape
        y = y or (self._place(o.inputs[1]), self._unsigned(o.inputs[1]))
        factors = [
            self._array(o, name, kind)
            for name, kind in (("m1", "int32_t"), ("m2", "int32_t"), ("c", "int32_t"), ("n", "uint8_t"))
        ]
        self._call(
            "add",
            self._place(x),
            self._unsigned(x),
            *y,
            *factors,
            rows,
            channels,
            self._place(o.output),
            self._range(o),
        )

    def _add_position(self, o):
        """The positions are unpacked into the place of the result, which takes theirs one by one."""
        bits, count = o.attributes["position_bits"], math.prod(self.model.tensors[o.output].shape)
        self._call("unpack", self._array(o, "position", "uint8_t"), bits, 0, count, self._place(o.output))
        self._add(o, (self._place(o.output), 0))

    def _scores(self, o):
        heads, queries, keys = self.model.tensors[o.output].shape
        width = self.model.tensors[o.inputs[0]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        pairs = self._scratch_places(o, width)[0]
        self._call(
            "scores", *places, heads, queries, keys, width, self._scale(o), pairs, self._place(o.output), self._range(o)
        )

    def _softmax(self, o):
        heads, queries, keys = self.model.tensors[o.output].shape
        table = self._array(o, "table", "uint8_t")
        numerator, k = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("numerator", "k"))
        high = self.model.tensors[o.output].high
        self._call(
            "softmax", self._place(o.inputs[0]), heads * queries, keys, table, numerator, k, self._place(o.output), high
        )

    def _context(self, o):
        heads, queries, keys = self.model.tensors[o.inputs[0]].shape
        width = self.model.tensors[o.inputs[1]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        scratch = self._scratch_places(o, keys)
        self._call(
            "context",
            *places,
            heads,
            queries,
            keys,
            width,
            self._scale(o),
            *scratch,
            self._place(o.output),
            self._range(o),
        )

    def _pool(self, o):
        x = o.inputs[0]
        tensor = self.model.tensors[x]
        arguments = (
            self._unsigned(x),
            tensor.zero_point,
            *tensor.shape,
            self._scale(o),
            self._place(o.output),
            self._range(o),
        )
        self._call("pool", self._place(x), *arguments)

    def _part(self, o, start, count):
        after = self.model.tensors[o.output]
        zeros = math.prod(after.shape) - count
        self._call(
            "part", f"{self._place(o.inputs[0])} + {start}", count, zeros, after.zero_point, self._place(o.output)
        )

    def _placeholders(self, o):
        before, label = math.prod(self.model.tensors[o.inputs[0]].shape), o.attributes["label"]
        self._part(o, before - label, label)

    def _last_tokens(self, o):
        before, after = (math.prod(self.model.tensors[name].shape) for name in (o.inputs[0], o.output))
        self._part(o, before - after, after)

    def _output(self, o):
        x = o.inputs[0]
        m, n = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("m", "n"))
        arguments = self._unsigned(x), self.model.tensors[x].zero_point, m, n, "anchor", self.model.horizon, "forecast"
        self._call("output", self._place(x), *arguments)


def _padded(n):
    return -(-n // LANES) * LANES


def _pairs(weight):
    """(outputs, columns) -> int32 (columns / 2, outputs padded): two columns in 16 bits each."""
    outputs, columns = weight.shape
    even = np.zeros((_padded(outputs), columns + columns % 2), np.int64)
    even[:outputs, :columns] = weight
    return ((even[:, ::2] & 0xFFFF) | (even[:, 1::2] & 0xFFFF) << 16).astype(np.uint32).view(np.int32).T


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
    blocks = [
        block for path in (KERNELS, HOST)[: 1 + program.host] for block in path.read_text().rstrip().split("\n\n")
    ]
    defined = [re.findall(r"^static [\w ]*?(\w+)\(", block, re.MULTILINE) for block in blocks]
    last = {name: i for i, names in enumerate(defined) for name in names}
    wanted = {i for i, names in enumerate(defined) if not names}
    text = "\n".join(program.calls)
    while text:
        more = {last[name] for name in re.findall(r"\w+", text) if name in last} - wanted
        wanted |= more
        text = "\n".join(blocks[i] for i in more)
    return "\n\n".join(blocks[i] for i in sorted(wanted))


def _guard(model, name, guard):
    values = [
        guard.day,
        LONGEST_GAP,
        guard.low,
        guard.high,
        guard.jump,
        guard.spike,
        guard.stuck,
        guard.drift,
        guard.noise,
    ]
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
