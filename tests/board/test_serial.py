"""The engine at a serial port: frames, the driver on a simulated board, a line that loses bytes, foreign ports."""

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from qatlib.board import open_engine, serial_device, serial_link
from qatlib.board.serial_link import END, SPOILT, Link, frame, words_of
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


def test_the_bridge_answers_a_frame_once_and_writes_it_once():
    """By hand: a write that comes again is answered again, one after a gap is not carried out."""
    rtl = SerialRtl(FAST)

    def answer(operation, offset, *words, number):
        count = max(0, len(words) - 1)
        rtl.send(frame([operation | number << 8 | count << 16, serial_line.address("memory", offset), *words]))
        assert not rtl.run(100_000)
        return [int(word) for word in words_of(rtl.receive().strip(bytes([serial_line.END])))]

    read, write = serial_line.OPERATIONS["read"], serial_line.OPERATIONS["write"]
    assert answer(read | serial_line.BEGINS, 0, number=200)[0] == read | serial_line.BEGINS | 200 << 8
    assert answer(write, 0, 5, number=201) == [write | 201 << 8]
    assert answer(write, 0, 6, number=201) == [write | 201 << 8]
    assert answer(write, 0, 7, number=203) == [write | 202 << 8 | serial_line.STATUS["gap"] << 16]
    assert answer(read, 0, number=202) == [read | 202 << 8, 5]
    refused = serial_line.STATUS["refused"] << 16
    assert answer(write, FAST.memory, 7, number=203) == [write | 203 << 8 | refused]
    assert answer(write, 2, 7, number=204) == [write | 204 << 8 | refused]
    assert answer(9, 0, number=205) == [9 | 205 << 8 | refused]


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


def test_a_reset_and_another_model(engine, line, model, counts):
    engine.reset()
    np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    again = open_engine(port=line)
    np.testing.assert_array_equal((again.load(model), again.run(counts))[1], model.forward(counts))


def test_a_board_that_was_loaded_again_is_told(engine, line, counts):
    line.rtl = SerialRtl(FAST)
    with pytest.raises(EngineError, match="has begun anew"):
        engine.run(counts)


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
        write = reset_input_buffer = lambda self, *_: None

        def read(self, most):
            return chatter

    with pytest.raises(EngineError, match="no board answers at endless: what arrives is not whole"):
        Link(Endless()).begin()


def test_other_bridges_boards_and_configurations_are_refused(line, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(serial_line, "BRIDGE", 0x51B1_0002)
        with pytest.raises(EngineError, match="wrong bitstream at simulated ulx3s: bridge 0x51B10001, board 1"):
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
    ports = [
        Port("/dev/ttyUSB0", 0x0403, 0x6015, "FT231X USB UART"),
        Port("/dev/ttyUSB1", 0x0403, 0x6015, "ULX3S FPGA 25K"),
    ]
    monkeypatch.setattr(serial_device.list_ports, "comports", lambda: ports)
    assert serial_device.found() == "/dev/ttyUSB1"
    ports.append(ports[1])
    with pytest.raises(EngineError, match=r"boards that are plugged in: /dev/ttyUSB1 .*, /dev/ttyUSB1"):
        open_engine(port="auto")
    ports.clear()
    with pytest.raises(EngineError, match="plugged in: none"):
        open_engine(port="auto")


class Port:
    def __init__(self, device, vid, pid, product):
        self.device, self.vid, self.pid, self.product = device, vid, pid, product


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
