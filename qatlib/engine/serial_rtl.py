"""A board with a serial line as its RTL, simulated: bytes in and out, each bit of them on the line, each cycle carried
out."""

import ctypes
import re
import tempfile
from functools import lru_cache
from pathlib import Path

from qatlib.engine import rtl, serial_line, synthesis
from qatlib.system import paths, toolchain

SHIM = Path(__file__).with_name("line.cpp")
MOST = 1 << 16  # bytes taken at a time


def sources(board):
    """Text of every file behind a board's line, without what the board adds: {name: text}."""
    packages = {"serial_pkg.sv": serial_line.package(), "board_pkg.sv": board.package(simulated=True)}
    cells = {"cells.v": synthesis.cells("ice40")} if board.family == "ice40" else {}
    return packages | serial_line.modules(board) | cells


def gates(board):
    """The same as what Yosys reads and maps for the board's device, but for an engine that does nothing, whose gates
    `make verify` looks after: {name: text}. What Yosys reads otherwise than Verilator would show there."""
    texts = sources(board)
    engine = re.match(r".*?\n\);\n", texts["engine.sv"], re.DOTALL)[0]
    silent = "".join(
        f"  assign {name} = '0;\n" for name in re.findall(r"output wire .*?(\w+),?$", engine, re.MULTILINE)
    )
    line = {p.name for p in (paths.OVERLAYS / "serial").glob("*.sv")}
    needed = {"serial_pkg.sv", "board_pkg.sv", "engine_pkg.sv", "memory.sv", *line}
    texts = {name: texts[name] for name in texts if name in needed} | {"engine.sv": f"{engine}{silent}endmodule\n"}
    mapped = "synth_ecp5 -top serial_engine -nowidelut -run"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        rtl.write_sources(folder, texts)
        steps = [f"{mapped} begin:map_ram", f"{mapped} map_gates:check"]  # block memories stay arrays
        synthesis.yosys([f"read_verilog -sv -defer {' '.join(texts)}", *steps, "write_verilog -noattr gates.v"], folder)
        return {"gates.v": (folder / "gates.v").read_text(), "cells.v": synthesis.cells("ecp5")}


@lru_cache
def _library(path):
    library, pointer, u64, u32, integer = (
        toolchain.load(path),
        ctypes.c_void_p,
        ctypes.c_uint64,
        ctypes.c_uint32,
        ctypes.c_int,
    )
    signatures = {
        "line_new": (pointer, [u32]),
        "line_free": (None, [pointer]),
        "line_cycle": (u64, [pointer]),
        "line_send": (None, [pointer, ctypes.c_char_p, u32]),
        "line_receive": (u32, [pointer, ctypes.c_char_p, u32]),
        "line_run": (integer, [pointer, u64]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(library, name).restype, getattr(library, name).argtypes = result, arguments
    return library


class SerialRtl:
    """One simulated board. For one thread at a time. texts: its sources, or its `gates`."""

    def __init__(self, board, texts=None):
        name = f"line-{board.name}-{board.clocks}"
        path = rtl.simulation(name, texts or sources(board), "serial_engine", SHIM, gates=bool(texts))
        self.board, self._c = board, _library(path)
        self._sim = self._c.line_new(board.clocks)

    def __del__(self):
        if getattr(self, "_sim", None):
            self._c.line_free(self._sim)

    @property
    def cycle(self):
        return self._c.line_cycle(self._sim)

    def send(self, data):
        """Bytes to the board, one after another at the pace of the line."""
        self._c.line_send(self._sim, bytes(data), len(data))

    def run(self, most):
        """Until nothing is under way, at most so many cycles. -> whether something still is."""
        return bool(self._c.line_run(self._sim, most))

    def receive(self):
        """The bytes that have come out."""
        buffer = ctypes.create_string_buffer(MOST)
        count = self._c.line_receive(self._sim, buffer, MOST)
        return buffer.raw[:count]
