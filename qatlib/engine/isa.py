"""The one table of the accelerator: registers, memories, instruction fields, errors, configurations.

The SystemVerilog package (`systemverilog`), the compiler, the driver and the simulator's metadata are all made from it.
"""

import zlib
from dataclasses import asdict, dataclass, replace

ID = 0x71A7_11B0  # what the identification register reads
VERSION = 2  # of registers and instructions; counts up when either changes
CHECK = 0x5EED_1E55  # the words of an instruction XOR to this

OPCODES = {"end": 0, "matmul": 1, "attend": 2, "quantise": 3, "sum": 4, "probability": 5, "output": 6}
DESTINATIONS = {"none": 0, "codes": 1, "keys": 2, "values": 3}

# Instruction fields, lowest bits first: name, bits, signed (s) or not (u), what it says. Counts are stored less one.
FIELDS = (
    ("opcode", 3, "u", "see OPCODES"),
    ("stall", 12, "u", "cycles to wait after the last issue of the instruction before"),
    ("wait_input", 1, "u", "wait until a window is in the input buffer"),
    ("free_input", 1, "u", "the window is no longer needed when this has been issued"),
    ("tokens", 10, "u", "rows of the result, less one"),
    ("groups", 10, "u", "groups of COLS channels, less one; output: codes of a row; quantise: groups of samples"),
    ("chunks", 10, "u", "ROWS-long pieces of the sum, less one"),
    ("x_wide", 1, "u", "codes of 5 to 8 bits: two passes"),
    ("w_wide", 1, "u", "weights of 5 to 8 bits: two passes"),
    ("x_unsigned", 1, "u", "codes 0..15 or 0..255"),
    ("x_base", 12, "u", "row of the code memory"),
    ("x_token", 9, "u", "rows from token to token"),
    ("x_chunk", 7, "u", "rows from chunk to chunk"),
    ("w_base", 13, "u", "word of the weight or key/value memory; quantise: first sample"),
    ("w_group", 12, "u", "words from group to group"),
    ("w_chunk", 2, "u", "words from chunk to chunk"),
    ("p_base", 9, "u", "group of the bias and multiplier memories"),
    ("p_group", 1, "u", "whether parameters go on from group to group"),
    ("count", 10, "u", "channels (or keys) that exist; lanes beyond are masked in softmax"),
    ("lanes", 2, "u", "quantise: log2 of the samples of a group"),
    (
        "dest",
        2,
        "u",
        "see DESTINATIONS; none without add: lane 0 makes the anchor, of a sample (quantise) or its bias (matmul)",
    ),
    ("d_base", 12, "u", "row of the code memory, or word of the key/value memory"),
    (
        "d_token",
        9,
        "u",
        "codes: rows from token to token; keys: words from COLS tokens to the next; values: words from group to group",
    ),
    ("z1", 9, "s", "zero point, lowest and highest code of the first requantisation"),
    ("low1", 9, "s", ""),
    ("high1", 9, "s", ""),
    ("track_max", 1, "u", "keep the largest code of each row, for softmax"),
    ("row", 8, "u", "softmax row of the first token"),
    ("lut", 4, "u", "softmax: its table; add: the table that makes the operand of the sum"),
    ("lut_high", 1, "u", "the operand is in the upper nibbles of that table"),
    ("numerator", 25, "u", "softmax: N"),
    ("add", 1, "u", "second stage: residual add"),
    ("q_base", 9, "u", "group of the add memories"),
    ("r_base", 12, "u", "word of the residual memory to add"),
    ("r_token", 9, "u", "words from token to token"),
    ("r_unsigned", 1, "u", "its codes are unsigned"),
    ("s_write", 1, "u", "write the sum to the residual memory"),
    ("s_base", 12, "u", "word to write the sum to"),
    ("s_token", 9, "u", "words from token to token"),
    ("z2", 9, "s", "zero point, lowest and highest code of the sum; output: zero point of the codes read"),
    ("low2", 9, "s", ""),
    ("high2", 9, "s", ""),
)
PAYLOAD_BITS = sum(bits for _, bits, *_ in FIELDS)
WORDS = -(-PAYLOAD_BITS // 32) + 1  # of an instruction; the last one is the check

# Registers: byte offset, access, fields (lowest bits first), what they hold.
REGISTERS = (
    ("ID", 0x00, "r", (("ID", 32),), "identification"),
    ("VERSION", 0x04, "r", (("VERSION", 32),), "of registers and instructions"),
    ("CONFIG", 0x08, "r", (("CONFIG", 32),), "checksum of the configuration"),
    ("CTRL", 0x0C, "rw", (("START", 1), ("RESET", 1), ("IRQ_ENABLE", 1)), "start and reset clear themselves"),
    (
        "STATUS",
        0x10,
        "rw",
        (("BUSY", 1), ("DONE", 1), ("ERROR", 1), ("RESETTING", 1), ("CAUSE", 4), ("PC", 16)),
        "write 1 to DONE to clear it and the interrupt",
    ),
    ("WINDOWS", 0x14, "w", (("WINDOWS", 16),), "windows to run"),
    ("IN_BASE", 0x18, "w", (("IN_BASE", 32),), "address of the first count; a multiple of 8"),
    ("IN_END", 0x1C, "w", (("IN_END", 32),), "end of the input buffer: nothing from here on is read"),
    ("OUT_BASE", 0x20, "w", (("OUT_BASE", 32),), "address of the first forecast; a multiple of 8"),
    ("OUT_END", 0x24, "w", (("OUT_END", 32),), "end of the output buffer: nothing from here on is written"),
    ("CONTEXT", 0x28, "w", (("CONTEXT", 16),), "counts of a window; each window begins at a multiple of 8 bytes"),
    ("HORIZON", 0x2C, "w", (("HORIZON", 16),), "counts of a forecast; each forecast begins at a multiple of 8 bytes"),
    (
        "ANCHOR",
        0x30,
        "w",
        (("VALUE", 16), ("CONSTANT", 1)),
        "what is subtracted: VALUE if CONSTANT, else each window's last count; until an instruction makes another",
    ),
    ("CYCLES", 0x34, "r", (("CYCLES", 32),), "from start to done"),
    ("ENGINE_CYCLES", 0x38, "r", (("ENGINE_CYCLES", 32),), "of these, cycles in which the program ran"),
    ("FINISHED", 0x3C, "r", (("FINISHED", 16),), "windows written"),
)

# Causes of an error, in the status register.
CAUSES = {
    0: "none",
    1: "start while busy",
    2: "bad program word",
    3: "an address of the program lies outside of its memory",
    4: "the buffers are too short for the windows, misaligned, or there is nothing to do",
    5: "read error on the AXI bus",
    6: "write error on the AXI bus",
    7: "two results for one memory in the same cycle",
    8: "memory or register written while busy",
}

CAUSE_NAMES = (
    "NONE",
    "BUSY",
    "PROGRAM",
    "ADDRESS",
    "BUFFERS",
    "READ",
    "WRITE",
    "COLLISION",
    "LOCKED",
)  # in the hardware

# Memories as the bus sees them: bits 19..16 of the address (weights: 12 to 15). Write only; every word of 32 bits.
REGIONS = {
    "registers": 0,
    "program": 1,
    "bias": 2,
    "scale": 3,
    "add1": 4,
    "add2": 5,
    "addc": 6,
    "residual": 7,
    "tables": 8,
    "weights": 12,
}
ADDRESS_BITS = 20


@dataclass(frozen=True)
class EngineConfig:
    """A configuration of the hardware. rows x cols multiply lanes of 4 bits; depths in words of each memory."""

    name: str
    rows: int = 16  # inputs of a dot product
    cols: int = 4  # outputs at a time
    weight_depth: int = 512  # words of rows x cols nibbles
    code_depth: int = 512  # rows of codes
    kv_depth: int = 64  # words of rows x cols codes: keys and values
    residual_depth: int = 1024  # groups of cols codes: residual stream and positions
    param_depth: int = 128  # groups of cols: bias, multiplier, shift
    add_depth: int = 32  # groups of cols: m1, m2, c, n
    tables: int = 8  # of 256 bytes: softmax, and sums requantised as operands
    softmax_rows: int = 64
    program_words: int = 1024
    input_words: int = 256  # of 4 counts; there are two such buffers
    output_words: int = 32  # of 4 counts; there are two such buffers
    dividers: int = 2  # of softmax; each takes 10 cycles a row
    in_turn = False  # whether an instruction begins when the one before is over

    @property
    def lanes(self):
        return self.rows * self.cols

    def passes(self, x_wide, w_wide, x_unsigned):
        """Issues that a chunk of a sum takes, by the widths of its codes and weights."""
        return (1 + x_wide) * (1 + w_wide)

    @property
    def checksum(self):
        """What the CONFIG register reads."""
        return zlib.crc32(repr(sorted(asdict(self).items())).encode())

    @property
    def parameters(self):
        """Parameters of the top module."""
        numbers = {name.upper(): value for name, value in asdict(self).items() if name != "name"}
        return {**numbers, "CONFIG": self.checksum}


class SmallConfig(EngineConfig):
    """The engine of `overlays/small`: eight products of bytes, one result a cycle, and an instruction begins when the
    one before is over."""

    in_turn = True

    def passes(self, x_wide, w_wide, x_unsigned):
        return 1 + (x_wide and x_unsigned)  # its multipliers' bytes have a sign


_Z2 = EngineConfig(
    "pynq-z2",
    cols=16,
    code_depth=2048,
    residual_depth=2048,
    add_depth=64,
    tables=16,
    softmax_rows=256,
    program_words=4096,
    output_words=128,
    dividers=9,
)
CONFIGS = {c.name: c for c in (EngineConfig("xc7s15"), _Z2, replace(_Z2, name="kv260", rows=32))}
UP5K = SmallConfig(
    "up5k",
    rows=8,
    cols=1,
    weight_depth=8192,
    kv_depth=1024,
    residual_depth=4096,
    param_depth=512,
    add_depth=256,
    softmax_rows=256,
    program_words=4096,
    input_words=1024,
    output_words=128,
    dividers=1,
)
ALL_CONFIGS = CONFIGS | {UP5K.name: UP5K}


def scaled(m, n):
    """Multiplier and shift as the hardware wants them: the shift less one, halved; where that is odd, m doubled and n
    one more."""
    odd = (n - 1) & 1
    return m << odd, (n - 1 + odd) >> 1


def encode(fields):
    """{field: value} -> WORDS 32-bit words, lowest first, the check word last. ValueError names a field that does not
    fit."""
    bits, position = 0, 0
    unknown = set(fields) - {name for name, *_ in FIELDS}
    if unknown:
        raise ValueError(f"no instruction field {', '.join(sorted(unknown))}")
    for name, width, sign, _ in FIELDS:
        value = int(fields.get(name, 0))
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if sign == "s" else (0, (1 << width) - 1)
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; the field holds {low}..{high}")
        bits |= (value & ((1 << width) - 1)) << position
        position += width
    words = [(bits >> (32 * i)) & 0xFFFFFFFF for i in range(WORDS - 1)]
    check = CHECK
    for word in words:
        check ^= word
    return [*words, check]


def systemverilog():
    """The package `engine_pkg`: the instruction as a packed struct, opcodes, register offsets, regions, error
    causes."""
    lines = [
        "// Made by qatlib.engine.isa from its table: change it there.",
        "`default_nettype none",
        "",
        "package engine_pkg;",
    ]
    lines += ["  typedef struct packed {"]
    lines += [
        f"    logic [{bits - 1}:0] {name};" + (f"  // {text}" if text else "")
        for name, bits, _, text in reversed(FIELDS)
    ]
    lines += [
        "  } instruction_t;",
        f"  localparam int PAYLOAD_BITS = {PAYLOAD_BITS};",
        f"  localparam int WORDS = {WORDS};",
    ]
    constants = [("ID", 32, ID), ("VERSION", 32, VERSION), ("CHECK", 32, CHECK)]
    constants += [(f"OP_{name.upper()}", 3, value) for name, value in OPCODES.items()]
    constants += [(f"TO_{name.upper()}", 2, value) for name, value in DESTINATIONS.items()]
    constants += [(f"REG_{name}", 8, offset) for name, offset, *_ in REGISTERS]
    constants += [(f"REGION_{name.upper()}", 4, value) for name, value in REGIONS.items()]
    constants += [(f"CAUSE_{name}", 4, value) for value, name in enumerate(CAUSE_NAMES)]
    lines += [f"  localparam logic [{bits - 1}:0] {name} = {bits}'h{value:x};" for name, bits, value in constants]
    return "\n".join([*lines, "endpackage", "", "`default_nettype wire", ""])
