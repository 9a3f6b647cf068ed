"""The one table of the serial line: what frames hold, where words lie behind it, and the boards that have one.

Both ends are made from it: the SystemVerilog package of `overlays/serial`, the driver's link, the simulated board.
"""

from dataclasses import dataclass

from qatlib.engine import isa, rtl
from qatlib.system import paths

# Bytes of a frame (SLIP, RFC 1055)
END, ESC, ESCAPED_END, ESCAPED_ESC = 0xC0, 0xDB, 0xDC, 0xDD
POLYNOMIAL = 0xEDB8_8320  # of the CRC-32 that zlib computes, lowest bit first
CRC_OF_WHOLE = 0xDEBB_20E3  # what it comes to, not yet inverted, over words and their CRC

# The head of a frame, lowest byte first: operation (bit 7: a session begins), number, words less one or status, session
OPERATIONS = {"read": 1, "write": 2}
BEGINS = 0x80
STATUS = {"done": 0, "gap": 1, "refused": 2, "foreign": 3}  # gap: the number is the one that is due
AHEAD = 2  # requests under way: one that the bridge carries out, one that comes in
MOST_WORDS = 240  # of one frame; a buffer of the bridge holds 256 with head, address and CRC

BAUD = 3_000_000  # the fastest that the boards' USB chips share

# What an address names, by its highest four bits
REGIONS = {"engine": 0, "memory": 1, "facts": 2}
FACTS = ("bridge", "clock", "bytes", "board", "lost", "before", "cycles")  # words of their region
BRIDGE = 0x51B1_0002  # what the first one reads: the bridge, and the version of all this
SIMULATED = 1 << 31  # in the word of the board
BEGUN = 1 << 8  # in that of the session before: there was one


# Of the larger engine, what the small one is made of too
SHARED = ("engine_pkg.sv", "control.sv", "delay.sv", "memory.sv", "requantise.sv", "softmax.sv")


@dataclass(frozen=True)
class Board:
    """A board whose engine is driven by a serial line.

    family: of the device (lattice.FAMILIES). config: of the engine (isa.ALL_CONFIGS). pll: reference, feedback and
    output divider. usb: vendor and product of its serial chip.
    """

    name: str
    number: int  # as the bridge tells it
    device: str
    family: str
    config: str
    oscillator_mhz: float
    pll: tuple
    memory: int  # bytes, for windows and forecasts
    usb: tuple
    channel: int = 0  # of that chip
    baud: int = BAUD

    @property
    def clock_hz(self):
        reference, feedback, _ = self.pll
        return round(self.oscillator_mhz * 1e6 * feedback / reference)

    @property
    def clocks(self):
        """To a bit of the line."""
        return round(self.clock_hz / self.baud)

    def package(self, simulated=False):
        """The package `board_pkg`: all that differs from board to board, the engine's configuration included."""
        own = dict(zip(("REFERENCE", "FEEDBACK", "OUTPUT"), self.pll))
        own |= {"CLOCKS": self.clocks, "CLOCK_HZ": self.clock_hz, "BYTES": self.memory}
        own |= {"BOARD": self.number, "SIMULATED": int(simulated)}
        values = isa.ALL_CONFIGS[self.config].parameters | own
        lines = [f"  localparam int unsigned {name} = 32'd{value};" for name, value in values.items()]
        return "\n".join(["package board_pkg;", *lines, "endpackage", ""])


_ICEBREAKER = Board("icebreaker", 2, "iCE40UP5K", "ice40", "up5k", 12, (32, 56, 5), 65_536, (0x0403, 0x6010), 1)
_ULX3S = Board("ulx3s", 1, "LFE5U-25F, speed grade 6", "ecp5", "xc7s15", 25, (3, 8, 9), 16_384, (0x0403, 0x6015))
BOARDS = {board.name: board for board in (_ULX3S, _ICEBREAKER)}


def modules(board):
    """The engine behind the bridge, and the bridge: {name: text}."""
    small = isa.ALL_CONFIGS[board.config].in_turn
    folders = ("serial", "small") if small else ("serial",)
    own = {p.name: p.read_text() for folder in folders for p in sorted((paths.OVERLAYS / folder).glob("*.sv"))}
    return {name: text for name, text in rtl.sources().items() if not small or name in SHARED} | own


def address(region, offset=0):
    return REGIONS[region] << 28 | offset


def package():
    """The package `serial_pkg`."""
    constants = [(name, 8, globals()[name]) for name in ("END", "ESC", "ESCAPED_END", "ESCAPED_ESC")]
    constants += [("CRC_OF_WHOLE", 32, CRC_OF_WHOLE), ("BRIDGE", 32, BRIDGE), ("AHEAD", 8, AHEAD)]
    constants += [(f"OP_{name.upper()}", 7, value) for name, value in OPERATIONS.items()]
    constants += [(f"STATUS_{name.upper()}", 8, value) for name, value in STATUS.items()]
    constants += [(name.upper(), 4, value) for name, value in REGIONS.items()]
    constants += [(f"FACT_{name.upper()}", 4, place) for place, name in enumerate(FACTS)]
    lines = ["// Made by qatlib.engine.serial_line from its table: change it there.", "package serial_pkg;"]
    lines += [f"  localparam logic [{bits - 1}:0] {name} = {bits}'h{value:x};" for name, bits, value in constants]
    return "\n".join([*lines, CRC_OF, "endpackage", ""])


CRC_OF = f"""  function automatic logic [31:0] crc_of(input logic [31:0] crc, input logic [7:0] value);
    crc_of = crc;
    for (int i = 0; i < 8; i++) crc_of = (crc_of >> 1) ^ (crc_of[0] ^ value[i] ? 32'h{POLYNOMIAL:x} : 32'd0);
  endfunction"""
