"""The engine at a serial port: the driver on a simulated board, a line that loses bytes, foreign ports."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from qatlib.board import open_engine, serial_device, serial_link
from qatlib.board.serial_link import END, Link
from qatlib.board.sim_serial import SimBoard, SimLine
from qatlib.device import shipped
from qatlib.engine import EngineError, isa, serial_line
from qatlib.engine.serial_rtl import SerialRtl
from tests.attack.serial_line import BOARD as FAST
from tests.attack.serial_line import Faults

ULX3S = serial_line.BOARDS["ulx3s"]


@pytest.fixture(scope="module")
def model():
    return shipped.load("etth1", "point-w12-d32-h1-w2a2")


@pytest.fixture(scope="module")
def counts(model):
    return np.random.default_rng(4).integers(-3000, 3000, (9, *model.window_shape)).astype(np.int16)


@pytest.fixture
def line():
    return SimLine(FAST)


@pytest.fixture
def engine(line, model):
    engine = open_engine(port=line)
    engine.load(model)
    return engine


def test_forecasts_are_numpys_and_times_the_boards(engine, model, counts):
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    np.testing.assert_array_equal(np.concatenate(list(engine.stream(counts, batch=4))), model.forward(counts))
    np.testing.assert_array_equal(asyncio.run(engine.run_async(counts, batch=4)), model.forward(counts))
    assert int(engine.register_map.ID) == isa.ID
    times = engine.last_run
    assert engine.simulated and times.simulated and times.windows == 9 and times.clock_mhz == FAST.clock_hz / 1e6
    assert times.bus > 0 and times.engine > 0
    assert "ulx3s" in engine.note and "simulated" in engine.note


def test_more_windows_than_there_is_memory_for(engine, model):
    counts = np.random.default_rng(5).integers(-3000, 3000, (600, *model.window_shape)).astype(np.int16)
    assert engine._most(engine.program) < 600
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    engine.device.room = 8
    with pytest.raises(EngineError, match=r"a window of .* needs .* bytes; simulated ulx3s has 8"):
        engine.run(counts)


def test_lost_doubled_and_flipped_bytes_are_not_seen(engine, line, model, counts):
    faults = line.touch = Faults(seed=7, one_in=150)
    for _ in range(4):
        np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    line.touch = lambda data, inward: data
    assert faults.injected > 20 and engine.device.lost > 5
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))


def test_a_reset_and_a_second_driver(engine, line, model, counts):
    engine.reset()
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    again = open_engine(port=line)
    again.load(model)
    for _ in range(3):
        with pytest.raises(EngineError, match="somebody else has opened it"):
            engine.run(counts)
        np.testing.assert_array_equal(again.run(counts), model.forward(counts))


@pytest.fixture
def link(line):
    link = Link(line)
    link.begin()
    return link


@pytest.mark.parametrize("number", [0, 1, 64, 127, 128, 129, 200, 250, 254, 255])
def test_a_board_that_was_loaded_again_is_told(link, line, number):
    at = serial_line.address("memory")
    while link._due != number:
        link.write(at, [1])
    line.rtl = SerialRtl(FAST)
    for attempt in (lambda: link.write(at, [2]), lambda: link.read(at, 1), lambda: link.read(at, 1)):
        with pytest.raises(EngineError, match="has begun anew"):
            attempt()


class Broken(BaseException):
    """As an interrupt from the keyboard."""


@pytest.mark.parametrize("inward", [True, False])
@pytest.mark.parametrize("bytes_later", [0, 5, 14, 15, 40])
def test_a_request_that_is_broken_off_takes_nothing_from_the_next_one(link, line, inward, bytes_later):
    at, left = serial_line.address("memory"), bytes_later

    def touch(data, way):
        nonlocal left
        if way == inward and data:
            left -= len(data)
            if left < 0:
                line.touch = lambda data, inward: data
                line.rtl.send(data) if way else None
                raise Broken
        return data

    link.write(at, [100, 101, 102, 103])
    for first in (lambda: link.write(at, [111]), lambda: link.read(at + 4, 1), lambda: link.write(at + (1 << 20), [5])):
        left, line.touch = bytes_later, touch
        try:
            first()
        except (Broken, EngineError):
            pass
        line.touch = lambda data, inward: data
        link.write(at, [222])
        assert [int(link.read(at + 4 * i, 1)[0]) for i in (3, 0)] == [103, 222]


def test_a_refused_request_takes_nothing_from_the_next_one(link):
    at = serial_line.address("memory")
    for value in (5, 6):
        with pytest.raises(EngineError, match="refuses address"):
            link.write(at + FAST.memory, [value])
        link.write(at, [value])
        assert link.read(at, 1)[0] == value


def test_a_port_that_trickles_is_given_up(monkeypatch):
    """A byte now and then, for hours: the clock alone tells."""
    now = [0.0]
    monkeypatch.setattr(serial_link.time, "monotonic", lambda: now[0])

    class Trickling:
        name, in_waiting = "trickling", 0

        def write(self, data):
            pass

        def read(self, most):
            now[0] += 0.04
            return b"U"

    with pytest.raises(EngineError, match="no board answers at trickling"):
        Link(Trickling()).begin()
    assert now[0] < 3 * serial_link.LONGEST_WAIT


def test_a_failed_opening_gives_the_port_back():
    with SimBoard(FAST, touch=lambda data, inward: b"") as board:
        for _ in range(2):
            with pytest.raises(EngineError, match="no board answers"):
                open_engine(port=board.port)


def test_a_silent_port_and_a_noisy_one_are_no_board(line):
    line.touch = lambda data, inward: b""
    with pytest.raises(EngineError, match="no board answers at simulated ulx3s: the line is silent"):
        open_engine(port=line)
    noise = random.Random(1)
    line.touch = lambda data, inward: data if inward or not data else noise.randbytes(len(data)) + END
    with pytest.raises(EngineError, match="what arrives is not whole"):
        open_engine(port=line)


@pytest.mark.parametrize("chatter", [END, b"$GPGGA", bytes([serial_line.ESC])])
def test_a_port_that_never_stops_is_no_board(chatter):
    class Endless:
        name, in_waiting = "endless", len(chatter)
        write = close = lambda self, *_: None

        def read(self, most):
            return chatter

    with pytest.raises(EngineError, match="no board answers at endless: what arrives is not whole"):
        Link(Endless()).begin()


def test_other_bridges_boards_and_configurations_are_refused(line, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(serial_line, "BRIDGE", 0x51B1_0009)
        with pytest.raises(EngineError, match="wrong bitstream at simulated ulx3s: bridge 0x51B10002, board 1"):
            open_engine(port=line)
    with monkeypatch.context() as patch:
        patch.setattr(serial_device.line, "BOARDS", {"ulx3s": replace(ULX3S, config="pynq-z2")})
        with pytest.raises(EngineError, match="ulx3s should hold pynq-z2, not xc7s15"):
            open_engine(port=line)
    with monkeypatch.context() as patch:
        patch.setattr(isa, "VERSION", isa.VERSION + 1)
        with pytest.raises(EngineError, match="wrong bitstream: it has version"):
            open_engine(port=line)


def test_a_board_at_a_pseudo_terminal_and_its_cable(model, counts):
    with SimBoard(FAST) as board:
        engine = open_engine(port=board.port)
        engine.load(model)
        np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
        with pytest.raises(EngineError, match="cannot be opened"):  # it is busy
            serial_link.opened(board.port, serial_line.BAUD)
        board.pull()
        with pytest.raises(EngineError, match="was the cable pulled"):
            engine.run(counts)


def test_ports_that_are_not_there_and_boards_that_are_not_plugged_in(monkeypatch):
    with pytest.raises(EngineError, match="port /dev/nothing cannot be opened"):
        open_engine(port="/dev/nothing")
    with pytest.raises(EngineError, match="port is 7; it must be the name of one"):
        open_engine(port=7)
    ports = [
        Port("/dev/ttyUSB0", 0x0403, 0x6015, "FT231X USB UART"),
        Port("/dev/ttyUSB1", 0x0403, 0x6015, "ULX3S FPGA 25K"),
    ]
    monkeypatch.setattr(serial_device.list_ports, "comports", lambda: ports)
    assert serial_device.found() == "/dev/ttyUSB1"
    icebreaker = 0x0403, 0x6010, "iCEBreaker V1.0e"
    ports[:] = [Port("/dev/ttyUSB2", *icebreaker, "1-2:1.0"), Port("/dev/ttyUSB3", *icebreaker, "1-2:1.1")]
    assert serial_device.found() == "/dev/ttyUSB3"  # the other one of its chip leads to the flash memory
    ports[0] = Port("/dev/ttyUSB1", 0x0403, 0x6015, "ULX3S FPGA 25K")
    with pytest.raises(EngineError, match=r"boards that are plugged in: /dev/ttyUSB1 .*, /dev/ttyUSB3"):
        open_engine(port="auto")
    ports.clear()
    with pytest.raises(EngineError, match="plugged in: none"):
        open_engine(port="auto")


class Port:
    def __init__(self, device, vid, pid, product, location=None):
        self.device, self.vid, self.pid, self.product, self.location = device, vid, pid, product, location


def test_a_line_that_gives_up_in_the_midst_is_an_error(engine, line, model, counts):
    left = 200

    def touch(data, inward):
        nonlocal left
        left -= len(data)
        return data if left > 0 else b""

    line.touch = touch
    with pytest.raises(EngineError, match="the line is silent"):
        engine.run(counts)
    line.touch = lambda data, inward: data
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
