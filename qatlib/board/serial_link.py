"""Words over a serial line: framed, numbered, checked, and asked for again until they are there.

What does not arrive whole is sent again, and an answer counts for the request of this session that has its number,
once. Requests go out ahead of their answers, but a read only behind the answers to all that was written before it, and
no write beside a read: a read that is repeated would see what was written meanwhile.
"""

import contextlib
import secrets
import threading
import time
import zlib
from typing import NamedTuple

import numpy as np
import serial

from qatlib.engine import serial_line as line
from qatlib.engine.registers import EngineError

QUIET = 0.05  # seconds without a byte after which what was asked for is taken as lost
PATIENCE = 40  # times in a row that a request goes out before the line is given up
NOISE = 400  # frames in a row that answer nothing
LONGEST_WAIT = 60  # seconds without an answer, however much else arrives
LONGEST_TALK = 2  # seconds of a line that is not asked anything
SILENT = "the line is silent; is it the right port, and the bitstream loaded (make flash)?"
NOISY = "what arrives is not whole; another rate, or a bad cable?"
FOREIGN_BOARD = "has begun anew: it was loaded again, or somebody else has opened it; open it again"
LONGEST = 2 * 4 * 256 + 2  # bytes of a frame, each of them escaped
SPOILT = object()  # an answer that did not arrive whole
END, ESC = bytes([line.END]), bytes([line.ESC])
ESCAPED = {ESC: ESC + bytes([line.ESCAPED_ESC]), END: ESC + bytes([line.ESCAPED_END])}  # ESC first: the other holds one
DONE, GAP, REFUSED, FOREIGN = (line.STATUS[name] for name in ("done", "gap", "refused", "foreign"))


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

    def frame(self, number, session):
        head = self.operation | number << 8 | self.count << 16 | session << 24
        return frame([head, self.address, *self.words])

    @property
    def answer_length(self):
        return 1 + (self.count + 1 if self.operation & ~line.BEGINS == line.OPERATIONS["read"] else 0)


class Head(NamedTuple):
    """Of an answer, byte by byte."""

    operation: int
    number: int
    status: int
    session: int


def opened(name, baud):
    """A port by its name, such as /dev/ttyUSB0 or COM3. EngineError where it is not there, in use, or not ours."""
    try:
        port = serial.Serial(name, baud, timeout=QUIET, write_timeout=5, exclusive=True)
    except (serial.SerialException, ValueError, OSError) as error:
        how = "is it plugged in, free, and yours to open (on Linux: group dialout)?"
        raise EngineError(f"port {name} cannot be opened: {error}; {how}") from None
    with contextlib.suppress(
        Exception
    ):  # else a USB chip of FTDI's keeps each answer back for 16 ms; Linux alone has it
        port.set_low_latency_mode(True)
    return port


class Link:
    """A bridge at the other end of a port of `opened`, or of what reads and writes like one. Threads may share it.

    EngineError where the line is silent, the port is gone, or the board has begun another session: it was loaded again,
    or opened by somebody else.
    """

    def __init__(self, port):
        self.name, self._port, self._lock, self._heard = port.name, port, threading.Lock(), b""
        self._due, self._session, self._old = 0, secrets.randbelow(256), None
        self._broken_off = self._foreign = False

    def wait(self, seconds):
        """How long the line may be quiet while an answer is due."""
        self._port.timeout = seconds

    def close(self):
        self._port.close()

    def begin(self):
        """The first request of a session. -> the facts of the board, {name: word}."""
        with self._lock:
            self._drain()
            facts = self._begun()
            self._broken_off = False
            return facts

    def _begun(self):
        operation, self._due = line.OPERATIONS["read"] | line.BEGINS, 0
        facts = self._answers([Request(operation, line.address("facts"), len(line.FACTS) - 1, ())])
        return dict(zip(line.FACTS, map(int, facts[0])))

    def _begin_anew(self):
        """After a request that was broken off nobody knows whether it was carried out: its number may be taken, and
        answers to it be on their way. So another session, which tells that the one before it was this one's."""
        if self._old is None:
            self._old, self._session = self._session, (self._session + 1 + secrets.randbelow(255)) & 0xFF
        self._drain()
        if self._begun()["before"] != line.BEGUN | self._old:
            self._give_up()
        self._old = None

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
        """Requests all of one kind -> the words of each one's answer."""
        with self._lock:
            if self._foreign:
                self._give_up()
            if self._broken_off:
                self._begin_anew()
            self._broken_off = True
            answers = self._answers(requests)
            self._broken_off = False
            return answers

    def _answers(self, requests):
        """What was lost shows by silence in the end: only then the first request without an answer goes out again,
        alone. Sent at the first sign of damage, it would meet what is still on its way, and one damaged frame would
        breed others."""
        answers, sent, silent, useless, began = [], 0, 0, 0, time.monotonic()
        while len(answers) < len(requests):
            for number in range(sent, min(len(requests), len(answers) + (1 if silent else line.AHEAD))):
                self._send(requests[number].frame((self._due - len(answers) + number) & 0xFF, self._session))
                sent = number + 1
            answer = self._receive(began + LONGEST_WAIT)
            if self._is_next(answer, requests[len(answers)]):
                answers.append(answer[1:])
                self._due, silent, useless, began = (self._due + 1) & 0xFF, 0, 0, time.monotonic()
                sent = max(sent, len(answers))
            elif answer is None:
                silent, sent = silent + 1, len(answers)
            else:
                useless += 1
            if silent > PATIENCE or useless > NOISE or time.monotonic() > began + LONGEST_WAIT:
                raise EngineError(f"no board answers at {self.name}: {NOISY if useless else SILENT}")
        return answers

    def _is_next(self, answer, request):
        """Whether it is the answer to a request, the first that has none. EngineError for one that says no."""
        if answer is None or answer is SPOILT:
            return False
        head = _head(answer)
        if head.session != self._session or (head.operation, head.number) != (request.operation, self._due):
            return False
        if head.status == FOREIGN:
            self._give_up()
        if head.status == REFUSED:
            raise EngineError(
                f"the bridge at {self.name} refuses address 0x{request.address:08X}: is it of this qatlib?"
            )
        return head.status == DONE and len(answer) == request.answer_length

    def _give_up(self):
        """For good: to begin anew would take the board from whoever has it now."""
        self._foreign = True
        raise EngineError(f"the board at {self.name} {FOREIGN_BOARD}")

    def _send(self, data):
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise EngineError(f"port {self.name} is gone: {error}; was the cable pulled? open it again") from None

    def _receive(self, until):
        """The next frame's words; SPOILT, of more bytes than a frame has too; None where the line is quiet, or after
        `until` by the monotonic clock."""
        for _ in range(LONGEST):  # reads, each of a byte or more
            content, end, rest = self._heard.partition(END)
            if content and end:
                self._heard = rest
                return words_of(content)
            if end:
                self._heard = rest.lstrip(END)
                continue
            heard = self._read()
            if not heard or time.monotonic() > until:
                self._heard = b""
                return None
            self._heard += heard
            if len(self._heard) > LONGEST and END not in self._heard:
                break
        self._heard = b""
        return SPOILT

    def _drain(self):
        """Until the line is quiet: what is still on its way answers nothing any more."""
        self._heard, until = b"", time.monotonic() + LONGEST_TALK
        while self._read():
            if time.monotonic() > until:
                raise EngineError(f"no board answers at {self.name}: {NOISY}")

    def _read(self):
        try:
            return self._port.read(max(1, self._port.in_waiting))
        except (serial.SerialException, OSError, TypeError) as error:
            raise EngineError(f"port {self.name} is gone: {error}; was the cable pulled? open it again") from None


def _parts(count):
    return [(at, min(line.MOST_WORDS, count - at)) for at in range(0, count, line.MOST_WORDS)]


def _head(answer):
    return Head(*int(answer[0]).to_bytes(4, "little"))
