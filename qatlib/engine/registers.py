"""The registers as software sees them: offsets and bits out of the table in `isa`, the status decoded, what a run needs
to be told."""

from dataclasses import dataclass

from qatlib.engine import isa

OFFSETS = {name: offset for name, offset, *_ in isa.REGISTERS}
FIELDS = {name: fields for name, _, _, fields, _ in isa.REGISTERS}
WORD = 8  # bytes of the engine's bus: buffers, windows and forecasts begin at multiples of it
MOST_WINDOWS = (1 << 16) - 1  # of a run


class EngineError(RuntimeError):
    """What went wrong, with the engine's status. `cause`: a key of isa.CAUSES; 0 where the hardware named none."""

    def __init__(self, message, cause=0):
        super().__init__(message)
        self.cause = cause


def bit(register, field):
    """The lowest bit of a field, set."""
    names = [name for name, _ in FIELDS[register]]
    return 1 << sum(bits for _, bits in FIELDS[register][: names.index(field)])


def job(program, windows, inputs, outputs):
    """{register: value} of a run. inputs, outputs: (first address, first address beyond) of the two buffers."""
    if not 1 <= windows <= MOST_WINDOWS:
        raise EngineError(f"{windows} windows in one run; the engine takes 1 to {MOST_WINDOWS}", cause=4)
    anchor = 0 if program.anchor is None else (program.anchor & 0xFFFF) | bit("ANCHOR", "CONSTANT")
    shape = {"CONTEXT": program.inputs, "HORIZON": program.outputs, "ANCHOR": anchor, "WINDOWS": windows}
    return shape | dict(zip(("IN_BASE", "IN_END", "OUT_BASE", "OUT_END"), (*inputs, *outputs)))


@dataclass(frozen=True)
class Status:
    """The status register, decoded."""

    busy: int
    done: int
    error: int
    resetting: int
    cause: int
    pc: int

    @classmethod
    def decode(cls, word):
        values = {}
        for name, bits in FIELDS["STATUS"]:
            values[name.lower()], word = word & ((1 << bits) - 1), word >> bits
        return cls(**values)

    @property
    def reason(self):
        return isa.CAUSES.get(self.cause, "unknown cause")

    def __str__(self):
        flags = [name for name in ("busy", "done", "resetting") if getattr(self, name)] or ["idle"]
        return f"status: {', '.join(flags)}" + (
            f", error {self.cause} ({self.reason}) at program word {self.pc}" if self.error else ""
        )
