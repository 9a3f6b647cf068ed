"""A board at a serial port, as a pynq device: the engine's registers and its buffers lie behind the line."""

from serial.tools import list_ports

from qatlib.board.mapped import MappedDevice
from qatlib.board.serial_link import Link, opened
from qatlib.engine import serial_line as line
from qatlib.engine.registers import WORD, EngineError

SIMULATED_QUIET = 5.0  # seconds: a simulated line takes longer than its bits


class SerialDevice(MappedDevice):
    """The device behind a Link. Its time is its clock's, read over the line too. EngineError where no board of ours
    answers.

    room: bytes of its memory, for windows and forecasts.
    """

    first, page, caches = line.address("memory"), WORD, False

    def __init__(self, link):
        super().__init__(link.name)
        self._link, facts = link, link.begin()
        boards = {board.number: board for board in line.BOARDS.values()}
        number = facts["board"] & 0xFFFF
        if facts["bridge"] != line.BRIDGE or number not in boards:
            raise EngineError(
                f"wrong bitstream at {link.name}: bridge 0x{facts['bridge']:08X}, board {number}; this qatlib drives "
                f"0x{line.BRIDGE:08X} on {', '.join(line.BOARDS)}; take both from one release"
            )
        self.board, self.simulated = boards[number], bool(facts["board"] & line.SIMULATED)
        self.clock_mhz, self.room = facts["clock"] / 1e6, facts["bytes"]
        self.beyond, self.bitfile_name = self.first + self.room, self.board.name
        self._cycles = self._seen = facts["cycles"]
        if self.simulated:
            link.wait(SIMULATED_QUIET)

    @property
    def seconds(self):
        """Time by the board's clock. It must be asked more often than its 32 bits overflow, each 70 s at 60 MHz."""
        with self._mapping:
            now = self._fact("cycles")
            self._cycles, self._seen = self._cycles + (now - self._seen) % (1 << 32), now
            return self._cycles / (self.clock_mhz * 1e6)

    @property
    def lost(self):
        """Frames that reached the board damaged, since it was loaded."""
        return self._fact("lost")

    def _fact(self, name):
        return int(self._link.read(line.address("facts", 4 * line.FACTS.index(name)), 1)[0])

    def read_words(self, address, count):
        return self._link.read(address, count)

    def write_words(self, address, words):
        self._link.write(address, words)

    def allocate(self, shape, dtype="u4", cacheable=True, **_):
        """Behind the line no memory is shared: a buffer has to be flushed and invalidated, however it was asked for."""
        return super().allocate(shape, dtype)

    def flush(self, bo, offset, vaddr, nbytes):
        """What the engine shall read goes over the line."""
        self._link.write(bo + offset // 4 * 4, self._words(bo, offset, nbytes))

    def invalidate(self, bo, offset, vaddr, nbytes):
        words = self._words(bo, offset, nbytes)
        words[:] = self._link.read(bo + offset // 4 * 4, len(words))

    def _words(self, address, offset, nbytes):
        _, seen = self._buffer(address)
        return seen.view("<u4")[offset // 4 : -(-(offset + nbytes) // 4)]

    def release(self):
        """The port."""
        self._link.close()


def connect(port):
    """-> SerialDevice. port: the name of one, "auto" for that of the only board that is plugged in, "simulated", or a
    port that is open."""
    if port == "simulated":
        from qatlib.board.sim_serial import SimLine  # which wants verilator, and a system with pseudo-terminals

        port = SimLine()
    port = found() if port == "auto" else port
    if not isinstance(port, str) and not hasattr(port, "read"):
        raise EngineError(f"port is {port!r}; it must be the name of one, 'auto', 'simulated', or an open port")
    link = Link(opened(port, line.BAUD) if isinstance(port, str) else port)
    try:
        return SerialDevice(link)
    except BaseException:
        link.close()
        raise


def found():
    """The name of the port of the only board that is plugged in, by what its USB chip says that it is."""
    known = [p for p in list_ports.comports() if any(_is(p, board) for board in line.BOARDS.values())]
    if len(known) != 1:
        seen = ", ".join(f"{port.device} ({port.product})" for port in known) or "none"
        raise EngineError(f"boards that are plugged in: {seen}; name the port, as in open_engine(port='/dev/ttyUSB0')")
    return known[0].device


def _is(port, board):
    """By the chip alone it could be anything; but Windows does not tell more. Of a chip with several ports Linux tells
    which one it is."""
    channel = (port.location or "").partition(":1.")[2] or str(board.channel)
    named = board.name in (port.product or board.name).lower()
    return (port.vid, port.pid) == board.usb and named and channel == str(board.channel)
