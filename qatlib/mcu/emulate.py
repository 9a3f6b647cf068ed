"""Exported models on emulated microcontrollers: every output, the instructions of a forecast, flash and RAM.

Compiled by ziglang's clang, linked for an address space of flash and RAM, and carried out by unicorn, both from PyPI:
nothing to install as root, the same versions everywhere. An emulator counts instructions, which are exact; it knows
nothing of cycles.
"""

import math
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qatlib.integer_model import detection
from qatlib.mcu.export import export_c, program_of
from qatlib.system import toolchain

FLASH, RAM, LENGTH = 0x1000_0000, 0x2000_0000, 1 << 20  # bytes of each
LIMIT = 10_000_000_000  # microseconds of emulation
STACK_FILL = 0xA5
STATE = -1  # of a detector before its first row
OPTIONS = (
    "-std=c99",
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-sanitize=undefined",
    "-Wall",
    "-Wextra",
    "-Werror",
)
ENTRIES = {"forecast": "model_forecast", "classify": "model_classify", "detect": "model_detect"}
LINK = f"""MEMORY {{
    flash (rx) : ORIGIN = {FLASH:#x}, LENGTH = {LENGTH}
    ram (rw) : ORIGIN = {RAM:#x}, LENGTH = {LENGTH}
}}
SECTIONS {{
    .text : {{ KEEP(*(.text.ENTRY)) *(.text*) *(.rodata*) *(.srodata*) }} > flash
    .data : {{ *(.data*) *(.sdata*) *(.bss*) *(.sbss*) *(COMMON) }} > ram
    /DISCARD/ : {{ *(.comment) *(.eh_frame*) *(.ARM.exidx*) *(.ARM.attributes) *(.riscv.attributes) }}
}}
"""


CORES = {"cortex-m4": "CORTEX_M4", "cortex-m33": "CORTEX_M33", "cortex-m0plus": "CORTEX_M0"}  # as unicorn names them


class EmulationError(RuntimeError):
    """A forecast that did not come to its end on the emulated processor."""


@dataclass(frozen=True)
class Target:
    """A processor. `triple` and `cpu` as zig cc takes them; kernels as `export_c` does."""

    name: str
    triple: str
    cpu: str
    kernels: str = "generic"
    optimise: str = "-O2"


TARGETS = {
    "rv32imc": Target("rv32imc", "riscv32-freestanding-none", "generic_rv32+m+c", "rv32"),  # ESP32-C3 class
    "cortex-m4": Target("cortex-m4", "thumb-freestanding-eabi", "cortex_m4", "cortex-m4"),
    "cortex-m33": Target("cortex-m33", "thumb-freestanding-eabi", "cortex_m33+dsp", "cortex-m4"),
    "cortex-m0plus": Target("cortex-m0plus", "thumb-freestanding-eabi", "cortex_m0plus", "rv32"),  # the cheapest
}


@dataclass(frozen=True)
class Outcome:
    """What a forecast, or a decision, costs. flash: code and constants; ram: workspace and the deepest stack, in bytes.
    decided: as `IntegerModel.classify` or `detect` gives it, () of a forecaster."""

    forecasts: np.ndarray
    instructions: np.ndarray
    flash: int
    ram: int
    decided: tuple = ()


class Firmware:
    """A model compiled and linked for a target."""

    def __init__(self, model, target):
        if isinstance(target, str) and target not in TARGETS:
            raise ValueError(f"no target {target!r}; choose one of {', '.join(TARGETS)}")
        self.model, self.target = model, TARGETS[target] if isinstance(target, str) else target
        self.workspace = program_of(model, self.target.kernels).workspace
        with tempfile.TemporaryDirectory() as folder:
            source, _ = export_c(model, folder, "model", kernels=self.target.kernels)
            script, elf = Path(folder) / "link.ld", Path(folder) / "model.elf"
            entry = ENTRIES[model.task]
            script.write_text(LINK.replace("ENTRY", entry))
            options = ("-target", self.target.triple, f"-mcpu={self.target.cpu}", self.target.optimise, *OPTIONS)
            linking = ("-nostdlib", "-lcompiler_rt", "-Wl,--gc-sections", f"-Wl,-T,{script}", f"-Wl,-e,{entry}")
            toolchain.run([sys.executable, "-m", "ziglang", "cc", *options, *linking, str(source), "-o", str(elf)])
            self._read(elf)

    def _read(self, path):
        from elftools.elf.elffile import ELFFile

        with path.open("rb") as file:
            elf = ELFFile(file)
            self.entry = elf.header.e_entry
            self.sections = {
                s.name: (s["sh_addr"], s.data()) for s in elf.iter_sections() if s["sh_flags"] & 2 and s["sh_size"]
            }

    @cached_property
    def flash(self):
        return sum(len(content) for address, content in self.sections.values() if address < RAM)

    def run(self, counts):
        """int16 windows, of a detector rows as `IntegerModel.detect` takes them -> Outcome. ValueError for others,
        EmulationError where a forecast does not end."""
        machine = _MACHINES[self.target.name](self)
        ran = [(*machine.forecast(window), machine.answer(), machine.state()) for window in self._windows(counts)]
        forecasts, instructions, stacks, answers, states = map(np.array, zip(*ran, strict=True))
        fixed = sum(len(content) for address, content in self.sections.values() if address >= RAM)
        decided = {"forecast": (), "classify": (answers, forecasts)}.get(self.model.task)
        if decided is None:
            decided = states >> self.model.operations[-1].attributes["smoothing"], answers == 1
        return Outcome(forecasts, instructions, self.flash, fixed + self.workspace + int(stacks.max()), decided)

    def _windows(self, counts):
        if self.model.task != "detect":
            return self.model.checked(counts)
        rows = detection.checked(self.model, counts)
        return np.lib.stride_tricks.sliding_window_view(rows, detection.length(self.model), axis=0).transpose(0, 2, 1)


class _Machine:
    """A processor with the firmware in its memory. RAM: the firmware's own, a detector's state, workspace, counts,
    forecast; the stack at its end."""

    def __init__(self, firmware):
        import unicorn

        self.firmware, self.engine = firmware, unicorn.Uc(*self.mode(unicorn))
        self.prepare(unicorn)
        for start in (FLASH, RAM):
            self.engine.mem_map(start, LENGTH)
        for address, content in firmware.sections.values():
            self.engine.mem_write(address, content)
        self.engine.mem_write(RAM + LENGTH // 2, STATE.to_bytes(8, "little", signed=True))
        self.lengths, self.count = {}, 0
        self.engine.hook_add(unicorn.UC_HOOK_BLOCK, self._block)

    def _block(self, engine, address, size, _):
        if (address, size) not in self.lengths:
            self.lengths[address, size] = self.instructions(bytes(engine.mem_read(address, size)))
        self.count += self.lengths[address, size]

    def forecast(self, window):
        """-> int16 (horizon,), instructions, bytes of stack"""
        import unicorn

        model, stack = self.firmware.model, RAM + LENGTH
        state, memory = RAM + LENGTH // 2, RAM + LENGTH // 2 + 8
        counts = memory + self.firmware.workspace + 8 & ~7
        forecast = counts + 2 * window.size + 8 & ~7
        back = FLASH + LENGTH - 8
        if forecast + 2 * math.prod(model.forecast_shape) > stack - LENGTH // 4:
            raise EmulationError(f"{model.name} on {self.firmware.target.name}: its windows do not fit the memory")
        self.engine.mem_write(stack - LENGTH // 4, bytes([STACK_FILL]) * (LENGTH // 4))
        self.engine.mem_write(counts, window.astype("<i2").tobytes())
        self.count = 0
        between = (state,) if model.task == "detect" else ()
        self.call((counts, *between, forecast, memory), stack, back)
        try:
            self.engine.emu_start(self.start(), back, timeout=LIMIT)
        except unicorn.UcError as error:
            raise EmulationError(f"{model.name} on {self.firmware.target.name}: {error} at {self.place():#x}") from None
        if self.place() != back:
            raise EmulationError(
                f"{model.name} on {self.firmware.target.name}: still at {self.place():#x} after {LIMIT // 1_000_000} s"
            )
        used = np.frombuffer(bytes(self.engine.mem_read(stack - LENGTH // 4, LENGTH // 4)), np.uint8) != STACK_FILL
        depth = LENGTH // 4 - int(np.argmax(used)) if used.any() else 0
        result = np.frombuffer(bytes(self.engine.mem_read(forecast, 2 * math.prod(model.forecast_shape))), "<i2")
        return result.astype(np.int16).reshape(model.forecast_shape), self.count, depth

    def answer(self):
        """What the last function returned."""
        return self.engine.reg_read(self.passed[0])

    def state(self):
        return int.from_bytes(self.engine.mem_read(RAM + LENGTH // 2, 8), "little", signed=True)


class _RiscV(_Machine):
    def mode(self, unicorn):
        return unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32

    def prepare(self, unicorn):
        from unicorn import riscv_const as registers

        self.registers = registers
        self.passed = [getattr(registers, f"UC_RISCV_REG_A{i}") for i in range(4)]

    def call(self, arguments, stack, back):
        r = self.registers
        for register, value in zip(self.passed, arguments, strict=False):
            self.engine.reg_write(register, value)
        self.engine.reg_write(r.UC_RISCV_REG_SP, stack)
        self.engine.reg_write(r.UC_RISCV_REG_RA, back)

    def start(self):
        return self.firmware.entry

    def place(self):
        return self.engine.reg_read(self.registers.UC_RISCV_REG_PC)

    @staticmethod
    def instructions(code):
        """Of two bytes, or of four where the lowest bits are both set."""
        count = at = 0
        while at < len(code):
            at += 4 if code[at] & 3 == 3 else 2
            count += 1
        return count


class _CortexM(_Machine):
    def mode(self, unicorn):
        """Not UC_MODE_MCLASS, which makes every core a Cortex-M33: what this one lacks must stop it."""
        return unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB

    def prepare(self, unicorn):
        from unicorn import arm_const as registers

        self.registers = registers
        self.passed = [getattr(registers, f"UC_ARM_REG_R{i}") for i in range(4)]
        self.engine.ctl_set_cpu_model(getattr(registers, f"UC_CPU_ARM_{CORES[self.firmware.target.name]}"))

    def call(self, arguments, stack, back):
        r = self.registers
        for register, value in zip(self.passed, arguments, strict=False):
            self.engine.reg_write(register, value)
        self.engine.reg_write(r.UC_ARM_REG_SP, stack)
        self.engine.reg_write(r.UC_ARM_REG_LR, back | 1)

    def start(self):
        return self.firmware.entry | 1

    def place(self):
        return self.engine.reg_read(self.registers.UC_ARM_REG_PC)

    @staticmethod
    def instructions(code):
        """Of two bytes, or of four where the first half-word begins 0b11101, 0b11110 or 0b11111."""
        count = at = 0
        while at < len(code):
            at += 4 if code[at + 1] >> 3 >= 0b11101 else 2
            count += 1
        return count


_MACHINES = {"rv32imc": _RiscV} | dict.fromkeys(CORES, _CortexM)


def multiply_accumulates(model):
    """Of a forecast, of all its channels: matrix products alone."""
    total = 0
    for o in model.operations:
        if o.kind in ("linear", "scores", "context"):
            (*_, rows, depth) = model.tensors[o.inputs[0]].shape
            out = model.tensors[o.output]
            if o.kind == "linear":
                total += rows * depth * out.shape[1]
            elif o.kind == "scores":
                total += np.prod(out.shape) * depth // o.attributes["heads"]
            else:
                total += np.prod(out.shape) * depth
    return int(total) * (len(model.channels) // model.inputs)
