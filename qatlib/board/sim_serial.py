"""A board with a serial line that is not there: its RTL, simulated, every bit on the line and every cycle behind it.

`SimLine` is a port in this process, where the board's time passes while somebody reads; `SimBoard` puts it behind a
pseudo-terminal, which a driver opens as any port.
"""

import os
import pty
import select
import threading
import tty

from qatlib.engine.serial_line import BOARDS
from qatlib.engine.serial_rtl import SerialRtl

MOST = 1000  # slices that a read waits for
SLICE = 20_000  # cycles between two looks at what came out
LOOK = 0.05  # seconds between two looks whether the cable was pulled


def untouched(data, inward):
    return data


class SimLine:
    """A simulated board's port, used like one of pyserial. A read returns nothing where the board has nothing more to
    say.

    board: a Board, or the name of one. texts: of the RTL that it is made of, if not the one that is here. touch: what
    happens to bytes on the line, (bytes, whether towards the board) -> bytes.
    """

    def __init__(self, board="ulx3s", touch=untouched, texts=None):
        self.board, self.touch = BOARDS.get(board, board), touch
        self.name = f"simulated {self.board.name}"
        self.rtl, self._out = SerialRtl(self.board, texts), b""

    @property
    def in_waiting(self):
        return len(self._out)

    def write(self, data):
        self.rtl.send(self.touch(bytes(data), True))

    def read(self, most):
        for _ in range(MOST):
            if self._out or not self.step():
                break
        taken, self._out = self._out[:most], self._out[most:]
        return taken

    def step(self):
        """Some cycles. -> whether anything is still under way."""
        busy = self.rtl.run(SLICE)
        self._out += self.touch(self.rtl.receive(), False)
        return busy

    def close(self):
        pass


class SimBoard:
    """A simulated board behind a pseudo-terminal, plugged in at `port` until `pull`, or the end of its `with`."""

    def __init__(self, board="ulx3s", touch=untouched):
        self.line = SimLine(board, touch)
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port, self._pulled = os.ttyname(self._slave), threading.Event()
        self._thread = threading.Thread(target=self._live, name=self.line.name, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pull()

    def pull(self):
        """The cable out."""
        if not self._pulled.is_set():
            self._pulled.set()
            self._thread.join()
            os.close(self._slave)
            os.close(self._master)

    def _live(self):
        """The board's time stands still while nothing is under way."""
        busy = False
        while not self._pulled.is_set():
            if select.select([self._master], [], [], 0 if busy else LOOK)[0]:
                self.line.write(os.read(self._master, 4096))
            busy = self.line.step()
            if self.line.in_waiting and select.select([], [self._master], [], LOOK)[1]:
                os.write(self._master, self.line.read(256))
            busy = busy or bool(self.line.in_waiting)
