"""`make bench-kernels CMSIS_NN=folder MURISCV_NN=folder`: the products of the default model by this project's C, by
CMSIS-NN and by muRISCV-NN, on the same emulated cores, in instructions.

The folders are git checkouts of github.com/ARM-software/CMSIS-NN and github.com/tum-ei-eda/muriscv-nn. Their public
functions are called with the same shapes, compiled by the same compiler in the project's way and in their own. Their
results are compared with NumPy's. What the numbers do not say: theirs get the values of an attention's context already
transposed, ours transpose them; theirs take shapes, multipliers and shifts that are not known before they run.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from qatlib.device import shipped
from qatlib.make import by_operation
from qatlib.mcu import emulate
from qatlib.system import toolchain
from qatlib.system.measurements import MEASUREMENTS

DATASET, MODELS = "etth1", ("patch-c336-d16-w8a8", "patch-c336-d16-w4a4")
CORES = ("cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc")  # those that `emulate` has
COLUMNS = ["core", "kernels", "commit", "flags", "bits", "layer", "function", "macs", "instructions", "per_mac"]
# zig makes -O2 of -O3 and of -Ofast, which is what CMSIS-NN is built with; clang itself is asked for -O3.
MORE = "-O2 -Xclang -O3"
ASSEMBLY = f"{MORE} -DCMSIS_NN_USE_REQUANTIZE_INLINE_ASSEMBLY"  # "faster on Cortex-M4, but slower on others": README.md
MULTIPLIER, ZERO, OUT_ZERO = 1_518_500_250, 5, 3  # the first is about 2^30.5
# Functions of each library, by the number that the harness knows them by: bits of weights, and the file.
FUNCTIONS = {
    "mat_mult_nt_t_s8": (8, "NNSupportFunctions/{matrix}"),
    "mat_mult_nt_t_s4": (4, "NNSupportFunctions/{matrix}"),
    "fully_connected_s8": (8, "FullyConnectedFunctions/{layer}"),
    "fully_connected_s4": (4, "FullyConnectedFunctions/{layer}"),
    "batch_matmul_s8": (8, "FullyConnectedFunctions/{layer}"),
}
CALLED = ("vec_mat_mult_t_s8", "vec_mat_mult_t_s4")  # by those
HEADERS = {  # what theirs ask of a C library, which a bare core has none of; loads and stores that are no calls
    "string.h": """#include <stddef.h>
#define memcpy __builtin_memcpy
#define memset __builtin_memset
""",
    "math.h": "",
    "stdio.h": "int printf(const char *, ...);\n",
}
HARNESS = """
typedef struct {
    int32_t function, rows, outputs, depth, offset, multiplier, shift, x; /* x: where it begins, in bytes */
} call;
void harness(const int16_t *counts, int16_t *results, void *memory) {
    const call *c = (const void *)counts;
    const int32_t *bias = (const int32_t *)(c + 1), *m = bias + c->outputs, *n = m + c->outputs;
    const int8_t *w = (const int8_t *)(n + c->outputs), *x = (const int8_t *)counts + c->x;
    int8_t *y = (int8_t *)results;
    const TYPE(context) none = {memory, 0};
    const TYPE(per_tensor_quant_params) scale = {c->multiplier, c->shift};
    const TYPE(bmm_params) batch = {0, 0, {c->offset, 0, OUT_ZERO, {-128, 127}}};
    const TYPE(dims) in = {1, 1, 1, c->depth}, filter = {c->depth, 1, 1, c->outputs}, out = {1, 1, 1, c->outputs};
    const TYPE(dims) left = {1, 1, c->rows, c->depth}, right = {1, 1, c->outputs, c->depth};
    const TYPE(fc_params) *fc = &batch.fc_params;
    switch (c->function) {
    case 0:
        MATRIX(mat_mult_nt_t_s8)(x, w, bias, y, m, n, c->rows, c->outputs, c->depth, c->offset, OUT_ZERO, -128, 127,
                                 c->outputs, c->depth);
        break;
    case 1:
        MATRIX(mat_mult_nt_t_s4)(x, w, bias, y, m, n, c->rows, c->outputs, c->depth, c->offset, OUT_ZERO, -128, 127,
                                 c->depth);
        break;
    case 2: LAYER(fully_connected_s8)(&none, fc, &scale, &in, x, &filter, w, &out, bias, &out, y); break;
    case 3: LAYER(fully_connected_s4)(&none, fc, &scale, &in, x, &filter, w, &out, bias, &out, y); break;
    case 4: LAYER(batch_matmul_s8)(&none, &batch, &scale, &left, x, &right, w, &out, y); break;
    }
}
"""


@dataclass(frozen=True)
class Library:
    """Public kernels. variable: of the environment, naming their checkout; types, matrix, layer: how names of types, of
    matrix products and of layers begin; cores: on which they are taken; flags: {core, or "": ways to compile}, the
    project's and their own."""

    name: str
    variable: str
    headers: tuple
    types: str
    matrix: str
    layer: str
    cores: tuple
    flags: dict

    @property
    def folder(self):
        """Where its checkout is. SystemExit where it is not given."""
        given = os.environ.get(self.variable)
        if not given or not (Path(given) / "Source").is_dir():
            what = f"no checkout of {self.name}: {given}" if given else "not given"
            sys.exit(f"{self.variable} is {what}; clone {self.name} with git, and give its folder as {self.variable}=")
        return Path(given).absolute()

    @property
    def commit(self):
        """SystemExit where the folder is no checkout."""
        try:
            return toolchain.run(["git", "-C", str(self.folder), "rev-parse", "HEAD"]).strip()
        except toolchain.BuildError as error:
            sys.exit(f"the commit of {self.folder} is not known: {error}")

    def sources(self):
        """Files of its functions."""
        places = [place for _, place in FUNCTIONS.values()] + ["NNSupportFunctions/{matrix}"] * len(CALLED)
        names = zip(places, [*FUNCTIONS, *CALLED], strict=True)
        return [f"{self.folder}/Source/{p.format(matrix=self.matrix, layer=self.layer)}{name}.c" for p, name in names]


LIBRARIES = (
    Library(
        "CMSIS-NN", "CMSIS_NN", ("arm_nnfunctions.h", "arm_nnsupportfunctions.h"), "cmsis_nn_", "arm_nn_", "arm_",
        CORES, {"": ("-O2", MORE), "cortex-m4": ("-O2", MORE, ASSEMBLY)},
    ),
    Library(
        "muRISCV-NN", "MURISCV_NN", ("muriscv_nn_functions.h", "muriscv_nn_support_functions.h"),
        *["muriscv_nn_"] * 3, ("rv32imc",), {"": ("-O2", MORE, "-Os")},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A matrix product of a model: its layer, kind of operation, bits of its weights, and shape."""

    layer: str
    kind: str
    bits: int
    rows: int
    outputs: int
    depth: int

    @property
    def macs(self):
        return self.rows * self.outputs * self.depth

    @property
    def functions(self):
        """Names of the public functions that carry it out."""
        if self.kind != "linear":
            return ["mat_mult_nt_t_s8", "batch_matmul_s8"]
        return [f"{name}_s{self.bits}" for name in ["mat_mult_nt_t", "fully_connected"][: 2 if self.rows == 1 else 1]]


def products(model):
    """The products of a model with one head, in the order of its operations."""
    found = []
    for o in model.operations:
        if o.kind in ("linear", "scores", "context"):
            (*_, rows, depth), outputs = model.tensors[o.inputs[0]].shape, model.tensors[o.output].shape[-1]
            found.append(Product(o.path, o.kind, o.attributes.get("weight_bits", 8), rows, outputs, depth))
    return found


class Foreign(emulate.Firmware):
    """A library's functions for a target, and a harness that calls one of them as the window says."""

    def __init__(self, library, target, flags):
        self.library, self.target, self.workspace = library, emulate.TARGETS[target], 8
        self.model = SimpleNamespace(name=f"{library.name} {flags}", task="forecast", forecast_shape=())
        defined = {"TYPE(name)": library.types, "MATRIX(name)": library.matrix, "LAYER(name)": library.layer}
        harness = [f"#include <{header}>" for header in library.headers]
        harness += [f"#define {macro} {prefix}##name" for macro, prefix in defined.items()]
        with tempfile.TemporaryDirectory() as folder:
            elf, texts = Path(folder) / "harness.elf", {"link.ld": emulate.LINK.replace("ENTRY", "harness"), **HEADERS}
            texts["harness.c"] = "\n".join([*harness, f"#define OUT_ZERO {OUT_ZERO}", HARNESS])
            for name, text in texts.items():
                (Path(folder) / name).write_text(text)
            options = [option for option in emulate.OPTIONS if not option.startswith("-W")]
            options += ["-w", *flags.split(), f"-I{library.folder}/Include", f"-I{folder}"]
            linking = ("-nostdlib", "-lcompiler_rt", "-Wl,--gc-sections", f"-Wl,-T,{folder}/link.ld", "-Wl,-e,harness")
            tool = [sys.executable, "-m", "ziglang", "cc", "-target", self.target.triple, f"-mcpu={self.target.cpu}"]
            files = [f"{folder}/harness.c", *library.sources(), "-o", str(elf)]
            toolchain.run([*tool, *options, *linking, *files])
            self._read(elf)
        self.machine = emulate._MACHINES[target](self)

    def count(self, product, function):
        """Instructions of one call on random codes. AssertionError where its results are not NumPy's."""
        rng = np.random.default_rng(0)
        bits, shape = FUNCTIONS[function][0], (product.outputs, product.depth)
        w = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape).astype(np.int8)
        x = rng.integers(-128, 128, (product.rows, product.depth)).astype(np.int8)
        offset = {"linear": ZERO, "scores": 0, "context": 128}[product.kind]
        bias = rng.integers(-999, 999, product.outputs).astype("<i4") * (product.kind == "linear")
        sums = (x.astype(np.int64) + offset) @ w.T.astype(np.int64) + bias
        shift = -int(np.log2(sums.std() / 60))
        window = self._window(list(FUNCTIONS).index(function), bias, offset, shift, x, _packed(w, bits))
        self.model.forecast_shape = (-(-sums.size // 2),)
        results, instructions, _ = self.machine.forecast(window)
        given = results.view(np.int8)[: sums.size].reshape(sums.shape)
        exact = np.floor(sums * (MULTIPLIER / 2.0 ** (31 - shift)) + 0.5) + OUT_ZERO
        wrong = np.abs(given - exact.clip(-128, 127)).max()
        assert wrong <= 1 and len(np.unique(given)) > 15, f"{self.model.name}, {function}: off by {wrong} in {product}"
        return instructions

    @staticmethod
    def _window(function, bias, offset, shift, x, w):
        """The bytes that the harness reads, as int16."""
        outputs, scales = len(bias), np.repeat([MULTIPLIER, shift], len(bias))
        w = w.tobytes() + bytes(-w.size % 4)
        begin = 4 * (8 + 3 * outputs) + len(w)
        call = np.array([function, len(x), outputs, x.shape[1], offset, MULTIPLIER, shift, begin])
        whole = np.concatenate([call, bias, scales]).astype("<i4").tobytes() + w + x.tobytes()
        return np.frombuffer(whole + bytes(len(whole) % 2), "<i2")


def _packed(w, bits):
    """Codes of 8 or 4 bits as bytes, the first of two lowest."""
    return w if bits == 8 else (w.ravel()[::2] & 15 | w.ravel()[1::2] << 4).astype(np.int8)


def theirs(library, target, flags, models):
    """Rows of the table for all functions of a library, compiled in one way."""
    foreign, rows, known = Foreign(library, target, flags), [], {}
    for model in models:
        for p in products(model):
            for function in p.functions:
                key = function, p.kind, p.rows, p.outputs, p.depth
                known[key] = known.get(key) or foreign.count(p, function)
                about = target, library.name, library.commit[:7], flags, _bits(model), p.layer
                rows.append((*about, function, p.macs, known[key], known[key] / p.macs))
    return rows


def ours(model, target):
    """Rows of the table for this project's kernels. Products that one call carries out together are one row."""
    rows, found = [], {p.layer: p for p in products(model)}
    window = shipped.reference_windows(DATASET, model)[0]
    for operations, function, instructions in by_operation.counted(model, target, window):
        inside = [found[path] for path in operations if path in found]
        if inside:
            macs, flags = sum(p.macs for p in inside), emulate.TARGETS[target].optimise
            about = target, "qatlib", "", flags, _bits(model), " + ".join(p.layer for p in inside)
            rows.append((*about, function, macs, instructions, instructions / macs))
    return rows


def _bits(model):
    """Of its weights."""
    return max(p.bits for p in products(model) if p.kind == "linear")


def main():
    commits = {library.name: library.commit for library in LIBRARIES}
    models, rows = [shipped.load(DATASET, name) for name in MODELS], []
    for target in [core for core in CORES if core in emulate.TARGETS]:
        rows += [row for model in models for row in ours(model, target)]
        for library in LIBRARIES:
            if target in library.cores:
                for flags in library.flags.get(target, library.flags[""]):
                    rows += theirs(library, target, flags, models)
    table = pd.DataFrame(rows, columns=COLUMNS)
    MEASUREMENTS["kernels"].keep(table.to_csv(index=False), ("ziglang", "unicorn", "numpy"), **commits)
    print(table.groupby(COLUMNS[:5], sort=False)[["macs", "instructions"]].sum().to_string())


if __name__ == "__main__":
    main()
