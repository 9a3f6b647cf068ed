"""Words over a serial line: framed, numbered, checked, and asked for again until they are there.

What does not arrive whole is sent again, and an answer counts for the request that has its number, once. Requests go
out ahead of their answers, but a read only behind the answers to all that was written before it, and no write beside a
read: a read that is repeated would see what was written meanwhile.
"""

import threading
import zlib
from typing import NamedTuple

import numpy as np
import serial

from qatlib.engine import serial_line as line
from qatlib.engine.registers import EngineError

AHEAD = 2  # requests under way: one that the bridge carries out, one that comes in
QUIET = 0.05  # seconds without a byte after which what was asked for is taken as lost
PATIENCE = 40  # times in a row that a request goes out before the line is given up
NOISE = 400  # frames in a row that answer nothing
SILENT = "the line is silent; is it the right port, and the bitstream loaded (make flash)?"
NOISY = "what arrives is not whole; another rate, or a bad cable?"
LONGEST = 2 * 4 * 256 + 2  # bytes of a frame, each of them escaped
SPOILT = object()  # an answer that did not arrive whole
END, ESC = bytes([line.END]), bytes([line.ESC])
ESCAPED = {ESC: ESC + bytes([line.ESCAPED_ESC]), END: ESC + bytes([line.ESCAPED_END])}  # ESC first: the other holds one
DONE, GAP, REFUSED = (line.STATUS[name] for name in ("done", "gap", "refused"))


def frame(words):
    """uint32 words -> bytes on the line, CRC and ends included."""
    content = np.asarray(words, "<u4").tobytes()
    content += zlib.crc32(content).to_bytes(4, "little")
    for byte, pair in ESCAPED.items():
        content = content.replace(byte, pair)
    return END + content + END


def words_of(content):
    """What lay between two ENDs -> uint32 words without their CRC; SPOILT where a byte is missing, or wrong."""
    first, *others = content.split(ESC)
    meant = {pair[1:]: byte for byte, pair in ESCAPED.items()}
    if any(other[:1] not in meant for other in others):
        return SPOILT
    whole = first + b"".join(meant[other[:1]] + other[1:] for other in others)
    if len(whole) < 8 or len(whole) % 4 or zlib.crc32(whole[:-4]).to_bytes(4, "little") != whole[-4:]:
        return SPOILT
    return np.frombuffer(whole[:-4], "<u4")


class Request(NamedTuple):
    """operation: of the head's lowest byte; words: to write; count: of words, less one."""

    operation: int
    address: int
    count: int
    words: np.ndarray

    def frame(self, number):
        return frame([self.operation | number << 8 | self.count << 16, self.address, *self.words])

    @property
    def answer_length(self):
        return 1 + (self.count + 1 if self.operation & ~line.BEGINS == line.OPERATIONS["read"] else 0)


def opened(name, baud):
    """A port by its name, such as /dev/ttyUSB0 or COM3. EngineError where it is not there, in use, or not ours."""
    try:
        return serial.Serial(name, baud, timeout=QUIET, write_timeout=5, exclusive=True)
    except (serial.SerialException, ValueError, OSError) as error:
        how = "is it plugged in, free, and yours to open (on Linux: group dialout)?"
        raise EngineError(f"port {name} cannot be opened: {error}; {how}") from None


class Link:
    """A bridge at the other end of a port of `opened`, or of what reads and writes like one. Threads may share it.

    EngineError where the line is silent, the port is gone, or the board has begun anew.
    """

    def __init__(self, port):
        self.name, self._port, self._lock, self._due, self._heard = port.name, port, threading.Lock(), 0, b""

    def wait(self, seconds):
        """How long the line may be quiet while an answer is due."""
        self._port.timeout = seconds

    def close(self):
        self._port.close()

    def begin(self):
        """The first request, from which numbers count. -> the facts of the board, {name: word}."""
        self._port.reset_input_buffer()
        operation = line.OPERATIONS["read"] | line.BEGINS
        facts = self._carry([Request(operation, line.address("facts"), len(line.FACTS) - 1, ())])
        return dict(zip(line.FACTS, map(int, facts[0])))

    def read(self, address, count):
        """-> uint32 (count,), of consecutive addresses in bytes."""
        parts = _parts(count)
        wanted = [Request(line.OPERATIONS["read"], address + 4 * at, n - 1, ()) for at, n in parts]
        return np.concatenate(self._carry(wanted))

    def write(self, address, words):
        """uint32 (n,) to consecutive addresses."""
        words, parts = np.ascontiguousarray(words, "<u4"), _parts(len(words))
        self._carry([Request(line.OPERATIONS["write"], address + 4 * at, n - 1, words[at : at + n]) for at, n in parts])

    def _carry(self, requests):
        """Requests all of one kind -> the words of each one's answer.

        What was lost shows by silence in the end: only then the first request without an answer goes out again, alone.
        Sent at the first sign of damage, it would meet what is still on its way, and one damaged frame would breed
        others.
        """
        with self._lock:
            answers, sent, silent, useless = [], 0, 0, 0
            while len(answers) < len(requests):
                for number in range(sent, min(len(requests), len(answers) + (1 if silent else AHEAD))):
                    self._send(requests[number].frame((self._due - len(answers) + number) & 0xFF))
                    sent = number + 1
                answer = self._receive()
                if self._is_next(answer, requests[len(answers)]):
                    answers.append(answer[1:])
                    self._due, silent, useless = (self._due + 1) & 0xFF, 0, 0
                    sent = max(sent, len(answers))
                elif answer is None:
                    silent, sent = silent + 1, len(answers)
                else:
                    useless += 1
                if silent > PATIENCE or useless > NOISE:
                    raise EngineError(f"no board answers at {self.name}: {SILENT if not useless else NOISY}")
            return answers

    def _is_next(self, answer, request):
        """Whether it is the answer to a request, the first that has none. EngineError for one that says no."""
        if answer is None or answer is SPOILT:
            return False
        head, number = int(answer[0]), int(answer[0]) >> 8 & 0xFF
        if _status(answer) == GAP and not request.operation & line.BEGINS and ((number - self._due) & 0xFF) > AHEAD:
            raise EngineError(f"the board at {self.name} has begun anew: was it reset, or loaded again? open it again")
        if head & 0xFF != request.operation or number != self._due or _status(answer) == GAP:
            return False
        if _status(answer) == REFUSED:
            raise EngineError(
                f"the bridge at {self.name} refuses address 0x{request.address:08X}: is it of this qatlib?"
            )
        return len(answer) == request.answer_length

    def _send(self, data):
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise EngineError(f"port {self.name} is gone: {error}; was the cable pulled? open it again") from None

    def _receive(self):
        """The next frame's words; SPOILT, of more bytes than a frame has too; None where the line is quiet."""
        for _ in range(LONGEST):  # reads, each of a byte or more
            content, end, rest = self._heard.partition(END)
            if content and end:
                self._heard = rest
                return words_of(content)
            if end:
                self._heard = rest.lstrip(END)
                continue
            heard = self._read()
            if not heard:
                self._heard = b""
                return None
            self._heard += heard
            if len(self._heard) > LONGEST and END not in self._heard:
                break
        self._heard = b""
        return SPOILT

    def _read(self):
        try:
            return self._port.read(max(1, self._port.in_waiting))
        except (serial.SerialException, OSError, TypeError) as error:
            raise EngineError(f"port {self.name} is gone: {error}; was the cable pulled? open it again") from None


def _parts(count):
    return [(at, min(line.MOST_WORDS, count - at)) for at in range(0, count, line.MOST_WORDS)]


def _status(answer):
    return int(answer[0]) >> 16 & 0xFF
