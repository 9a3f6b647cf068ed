"""`make bench-kernels CMSIS_NN=folder MURISCV_NN=folder`: the products of the default model by this project's C, by
CMSIS-NN and by muRISCV-NN, on the same emulated cores, in instructions.

The folders are git checkouts of github.com/ARM-software/CMSIS-NN and github.com/tum-ei-eda/muriscv-nn, whose public
functions are called with the same shapes, compiled by the same compiler. Each function's results are compared with
NumPy's. What the numbers do not say: theirs take 31-bit multipliers and any shape, ours what a file says; theirs get
the values of an attention's context already transposed, ours transpose them; theirs know no 4-bit rows but weights.
"""

import os
import subprocess
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
from qatlib.system import paths, toolchain
from qatlib.system.measurements import MEASUREMENTS

MODELS = "etth1", {8: "patch-c336-d16-w8a8", 4: "patch-c336-d16-w4a4"}
CORES = ("cortex-m4", "cortex-m33", "cortex-m0plus", "rv32imc")
HARNESS = paths.PACKAGE / "make" / "kernels_beside.c"
MULTIPLIER = 1_518_500_250  # about 2^30.5
EMPTY = "string.h", "math.h", "stdio.h"  # of a C library, of which these functions need the first alone
STRING = "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\nvoid *memset(void *, int, size_t);\n"


@dataclass(frozen=True)
class Library:
    """Public kernels. variable: of the environment, naming their checkout; prefixes: of types, of matrix products and
    of layers; cores: on which they are taken; flags: ways to compile them, their own among them."""

    name: str
    variable: str
    prefixes: tuple
    cores: tuple
    flags: tuple
    only: dict

    @property
    def folder(self):
        """Where its checkout is. SystemExit where it is not given."""
        given = os.environ.get(self.variable)
        if not given or not (Path(given) / "Source").is_dir():
            sys.exit(f"{self.variable} is {given or 'not given'}; give the folder of a git checkout of {self.name}")
        return Path(given)

    @property
    def commit(self):
        done = subprocess.run(["git", "-C", self.folder, "rev-parse", "HEAD"], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{self.folder} is no git checkout, so its commit is not known; clone {self.name} with git")
        return done.stdout.strip()


ASSEMBLY = "-Ofast -DCMSIS_NN_USE_REQUANTIZE_INLINE_ASSEMBLY"  # its README: faster on Cortex-M4, slower on others
LIBRARIES = (
    Library("CMSIS-NN", "CMSIS_NN", ("cmsis_nn_", "arm_nn_", "arm_"), CORES, ("-O2", "-Ofast"), {"cortex-m4": ASSEMBLY}),
    Library("muRISCV-NN", "MURISCV_NN", ("muriscv_nn_",) * 3, ("rv32imc",), ("-O2", "-O3"), {"rv32imc": "-Os"}),
)
# Functions by what kernels_beside.c calls them, the bits of their weights, and whether they take a single row only
FUNCTIONS = {
    "mat_mult_nt_t_s8": (0, 8, False),
    "mat_mult_nt_t_s4": (1, 4, False),
    "fully_connected_s8": (2, 8, True),
    "fully_connected_s4": (3, 4, True),
    "batch_matmul_s8": (4, 8, False),
}


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
        fits = [n for n, (_, bits, _) in FUNCTIONS.items() if bits == self.bits and n != "batch_matmul_s8"]
        return [name for name in fits if self.rows == 1 or not FUNCTIONS[name][2]]


def products(model):
    """The products of a model with one head, in the order of its operations."""
    found = []
    for o in model.operations:
        if o.kind in ("linear", "scores", "context"):
            (*_, rows, depth), outputs = model.tensors[o.inputs[0]].shape, model.tensors[o.output].shape[-1]
            found.append(Product(o.path, o.kind, o.attributes.get("weight_bits", 8), rows, outputs, depth))
    return found


class Foreign(emulate.Firmware):
    """A library's functions, and the harness that calls one of them, for a target."""

    def __init__(self, library, target, flags):
        self.target, self.workspace = emulate.TARGETS[target], 8
        self.model = SimpleNamespace(name=f"{library.name} {flags}", task="forecast", forecast_shape=(0,))
        folder, (types, matrix, layer) = library.folder, library.prefixes
        sources = [folder / f"Source/NNSupportFunctions/{matrix}{name}.c" for name in NEEDED]
        sources += [folder / f"Source/FullyConnectedFunctions/{layer}{name}.c" for name in list(FUNCTIONS)[2:]]
        names = [f"-D{key}(name)={prefix}##name" for key, prefix in zip(("TYPE", "MATRIX", "LAYER"), library.prefixes, strict=True)]
        with tempfile.TemporaryDirectory() as scratch:
            script, elf = Path(scratch) / "link.ld", Path(scratch) / "harness.elf"
            script.write_text(emulate.LINK.replace("ENTRY", "harness"))
            for header in EMPTY:
                (Path(scratch) / header).write_text(STRING if header == "string.h" else "")
            options = [option for option in emulate.OPTIONS if not option.startswith("-W")]
            include = [f"-I{folder / 'Include'}", f"-I{scratch}", f"-DHEADER=<{HEADERS[library.name]}>"]
            linking = ("-nostdlib", "-lcompiler_rt", "-Wl,--gc-sections", f"-Wl,-T,{script}", "-Wl,-e,harness")
            processor = ("-target", self.target.triple, f"-mcpu={self.target.cpu}", "-w", *flags.split())
            tool = [sys.executable, "-m", "ziglang", "cc", *processor, *options, *names, *include, *linking]
            toolchain.run([*tool, *map(str, [HARNESS, *sources]), "-o", str(elf)])
            self._read(elf)
        self.machine = emulate._MACHINES[target](self)
