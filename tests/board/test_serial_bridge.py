"""The bridge at the other end of a serial line, frame by frame: its RTL, and the gates that Yosys makes of it."""

import numpy as np

from qatlib.board.serial_link import END, SPOILT, frame, words_of
from qatlib.engine import serial_line, serial_rtl
from qatlib.engine.serial_rtl import SerialRtl
from tests.attack.serial_line import BOARD as FAST


def test_frames_carry_any_word():
    for words in ([0], [0xC0C0C0C0, 0xDBDBDBDB, 0xDCDDC0DB], list(range(256))):
        sent = frame(words)
        assert sent[0] == sent[-1] == serial_line.END and serial_line.END not in sent[1:-1]
        np.testing.assert_array_equal(words_of(sent[1:-1]), words)


def test_a_frame_with_a_wrong_byte_is_none():
    content = frame([0xC0FFEE, 0xDB, 7])[1:-1]
    for at in range(len(content)):
        before, byte, after = content[:at], content[at], content[at + 1 :]
        wrong = [before + after, before + bytes([byte, byte]) + after]
        wrong += [before + bytes([byte ^ 1 << bit]) + after for bit in range(8)]
        assert all(words_of(whole) is SPOILT for whole in wrong), at


READ, WRITE = serial_line.OPERATIONS["read"], serial_line.OPERATIONS["write"]
GAP, REFUSED, FOREIGN = (serial_line.STATUS[name] << 16 for name in ("gap", "refused", "foreign"))
SESSION = 0x5A << 24


class ByHand:
    """Frames to a bridge, and the words of its answers."""

    def __init__(self, texts=None):
        self.rtl = SerialRtl(FAST, texts)

    def sent(self, content):
        self.rtl.send(content)
        assert not self.rtl.run(100_000)
        return [int(word) for word in words_of(self.rtl.receive().strip(END))]

    def __call__(self, operation, offset, *words, number, session=SESSION, region="memory"):
        head = operation | number << 8 | max(0, len(words) - 1) << 16 | session
        return self.sent(frame([head, serial_line.address(region, offset), *words]))

    def begin(self, number=0, session=SESSION):
        assert self(READ | serial_line.BEGINS, 0, number=number, session=session)[0] & ~0xFF00 == READ | 0x80 | session


def test_the_bridge_answers_a_frame_once_and_writes_it_once():
    """A write that comes again is answered again, one after a gap is not carried out."""
    answer = ByHand()
    answer.begin(number=200)
    assert answer(WRITE, 0, 5, number=201) == [SESSION | WRITE | 201 << 8]
    assert answer(WRITE, 0, 6, number=201) == [SESSION | WRITE | 201 << 8]
    assert answer(WRITE, 0, 7, number=203) == [SESSION | WRITE | 202 << 8 | GAP]
    assert answer(READ, 0, number=202) == [SESSION | READ | 202 << 8, 5]
    assert answer(WRITE, FAST.memory, 7, number=203) == [SESSION | WRITE | 203 << 8 | REFUSED]
    assert answer(WRITE, 2, 7, number=204) == [SESSION | WRITE | 204 << 8 | REFUSED]
    assert answer(9, 0, number=205) == [SESSION | 9 | 205 << 8 | REFUSED]


def test_the_gates_that_yosys_makes_of_it_answer_too():
    """Whoever reads the sources otherwise makes a bitstream that is silent."""
    answer = ByHand(serial_rtl.gates(FAST))
    answer.begin()
    facts = answer(READ | len(serial_line.FACTS) - 1 << 16, 0, number=1, region="facts")[1:]
    assert facts[:4] == [serial_line.BRIDGE, FAST.clock_hz, FAST.memory, FAST.number | serial_line.SIMULATED]
    words = [int(word) for word in np.random.default_rng(3).integers(0, 1 << 32, 200)]
    assert answer(WRITE, 8, *words, number=2) == [SESSION | WRITE | 2 << 8]
    assert answer(READ | 199 << 16, 8, number=3) == [SESSION | READ | 3 << 8, *words]
    assert answer(WRITE, 0, 7, number=5) == [SESSION | WRITE | 4 << 8 | GAP]
    spoilt = frame([SESSION | WRITE | 4 << 8, serial_line.address("memory"), 9]).replace(b"\t", b"\n")
    assert answer.sent(spoilt)[0] & 0xFFFF00 == 4 << 8 | GAP
    assert answer(READ, 8, number=4)[1:] == words[:1]


def test_numbers_are_those_of_a_session():
    """Every number but the one that is due and the two before it is a gap; of another session, or of none, foreign."""
    answer = ByHand()
    for number in (0, 1, 128, 255):
        assert answer(WRITE, 0, 7, number=number) == [SESSION | WRITE | number << 8 | FOREIGN]
    answer.begin(number=9)  # 10 is due
    for number in (11, 20, 137, 138, 200, 255, 0, 7):
        assert answer(WRITE, 0, 7, number=number) == [SESSION | WRITE | 10 << 8 | GAP], number
    assert answer(WRITE, 0, 7, number=10, session=1 << 24) == [1 << 24 | WRITE | 10 << 8 | FOREIGN]
    assert answer(READ, 0, number=10) == [SESSION | READ | 10 << 8, 0]
    answer.begin(session=2 << 24)
    before = 4 * serial_line.FACTS.index("before")
    assert answer(READ, before, number=1, session=2 << 24, region="facts")[1] == serial_line.BEGUN | SESSION >> 24
    assert answer(WRITE, 0, 7, number=1) == [SESSION | WRITE | 1 << 8 | FOREIGN]


def test_nothing_between_two_ends_is_a_request():
    """Of no bytes, and of four, the CRC may be right."""
    answer = ByHand()
    answer.begin(number=9)
    answer.rtl.send(END + END + END)
    assert not answer.rtl.run(10_000) and answer.rtl.receive() == b""
    assert answer.sent(END + bytes(4) + END)[0] & 0xFFFF00 == 10 << 8 | GAP
    assert answer(WRITE, 0, 7, number=10) == [SESSION | WRITE | 10 << 8]
