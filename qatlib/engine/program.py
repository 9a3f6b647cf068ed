"""What the compiler makes: instructions with their cycles, and everything that is loaded with them."""

import math
from dataclasses import dataclass

from qatlib.engine import isa

MATRIX = ("matmul", "attend")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its fields, the operation it belongs to, useful multiply-accumulates, and when it runs.

    cycles: from the end of the one before to its own end; issues: of these, cycles in which it keeps the array or a
    memory busy.
    """

    fields: dict
    path: str
    macs: int
    issues: int
    cycles: int

    @property
    def opcode(self):
        return self.fields["opcode"]

    @property
    def coded(self):
        """The fields as numbers of the hardware."""
        coded = dict(
            self.fields, opcode=isa.OPCODES[self.opcode], dest=isa.DESTINATIONS[self.fields.get("dest", "none")]
        )
        return coded | {name: coded[name] - 1 for name in ("tokens", "groups", "chunks") if name in coded}


@dataclass(frozen=True)
class Program:
    """What the engine needs to run a model. window_shape, forecast_shape: of counts in samples, with channels and
    targets where there are several; anchor: what the register says, None for each window's last count; memories:
    {region: uint32 words}."""

    name: str
    config: isa.EngineConfig
    window_shape: tuple
    forecast_shape: tuple
    anchor: int | None
    instructions: tuple
    memories: dict

    @property
    def inputs(self):
        """Counts of a window."""
        return math.prod(self.window_shape)

    @property
    def outputs(self):
        """Counts of a forecast."""
        return math.prod(self.forecast_shape)

    def sent(self, counts):
        """Windows as the engine reads them, channel after channel: int16 (windows, inputs)."""
        return counts.swapaxes(1, -1).reshape(len(counts), self.inputs)

    def received(self, counts):
        """The inverse, of forecasts as it writes them, target after target: int16 (windows, outputs)."""
        return counts.reshape(len(counts), *self.forecast_shape[::-1]).swapaxes(1, -1)

    @property
    def writes(self):
        """(byte address, uint32 words) of everything to be loaded."""
        return [(isa.REGIONS[region] << 16, words) for region, words in self.memories.items()]

    @property
    def macs(self):
        """Multiply-accumulates of a forecast, without padding and identities."""
        return sum(i.macs for i in self.instructions)

    @property
    def cycles(self):
        """Predicted cycles from window to window, where the bus keeps up."""
        return sum(i.cycles for i in self.instructions)

    @property
    def bound(self):
        """Cycles that the multiply-accumulates alone would take on this array, at the widths of each instruction."""
        passes = sum(i.macs * self._passes(i) for i in self.instructions if i.opcode in MATRIX)
        return -(-passes // self.config.lanes)

    @property
    def utilisation(self):
        """Multiply-accumulates against the array's peak at their widths, over the cycles of the matrix instructions,
        stalls included."""
        return self.bound / sum(i.cycles for i in self.instructions if i.opcode in MATRIX)

    def operations(self):
        """(path, opcode, issues, cycles, macs, bound) of each instruction."""
        for i in self.instructions:
            yield i.path, i.opcode, i.issues, i.cycles, i.macs, i.macs * self._passes(i) / self.config.lanes

    def _passes(self, instruction):
        return self.config.passes(*(instruction.fields.get(name, 0) for name in ("x_wide", "w_wide", "x_unsigned")))

    def listing(self):
        """The program as text: one line an instruction."""
        lines = [
            (
                f"{self.name} on {self.config.name}: {self.macs} multiply-accumulates, {self.cycles} cycles a window "
                f"predicted"
            )
        ]
        for i in self.instructions:
            f = i.fields
            shape = f"{f.get('tokens', 1)} x {f.get('groups', 1)} x {f.get('chunks', 1)}"
            target = "residual" if f.get("s_write") else ""
            target = " + ".join(filter(None, (f.get("dest", "none").replace("none", ""), target)))
            lines.append(
                f"  {i.opcode:12}{i.path:34}{shape:16}{i.cycles:6} cycles, {f['stall']:3} stalled  -> {target}"
            )
        return "\n".join(lines)
