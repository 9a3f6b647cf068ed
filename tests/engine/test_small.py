"""The small engine, behind its line: it does what NumPy does, in the cycles that the compiler says; each fault is named
and harms nothing."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.board import open_engine
from qatlib.board.serial_link import Link
from qatlib.board.sim_serial import SimLine, untouched
from qatlib.device import shipped
from qatlib.engine import DoesNotFit, compile, isa, parts
from qatlib.engine.memory import Unsupported
from qatlib.engine.random_models import extreme_windows, random_model
from qatlib.engine.registers import OFFSETS, Status, job
from qatlib.engine.serial_line import BOARDS, address
from qatlib.engine.simulation import pad
from tests.attack.serial_line import Faults
from tests.engine.bench import ENABLE, START, UNTOUCHED

BOARD = replace(BOARDS["icebreaker"], baud=BOARDS["icebreaker"].clock_hz // 4)  # a line too fast for a wire
CONFIG = isa.UP5K
INPUT, OUTPUT = address("memory"), address("memory", 0x4000)
GUARD = 64  # bytes on either side of the forecasts
WINDOWS = 3


def fits(model):
    try:
        return bool([compile(part, CONFIG) for part in parts(model)])
    except (DoesNotFit, Unsupported):
        return False


@pytest.fixture(scope="module")
def engine():
    return open_engine(port=SimLine(BOARD))


@pytest.mark.parametrize("seeds", [range(start, start + 8) for start in range(0, 32, 8)], ids=str)
def test_random_models(engine, seeds):
    models = [model for model in map(random_model, seeds) if fits(model)]
    assert len(models) > 2
    for model in models:
        counts = extreme_windows(model, 0, 5)
        engine.load(model)
        np.testing.assert_array_equal(engine.run(counts), model.forward(counts), err_msg=model.name)
        wanted = sum(compile(part, CONFIG).cycles for part in parts(model))
        assert engine.last_run.engine_cycles == 5 * wanted, model.name


def test_a_line_that_loses_bytes_takes_time_and_no_number(engine):
    line, model = engine.device._link._port, shipped.load("etth1", "point-w12-d32-h1-w2a2")
    counts = extreme_windows(model, 3, 9)
    engine.load(model)
    faults = line.touch = Faults(seed=3, one_in=400)
    for _ in range(3):
        np.testing.assert_array_equal(engine.run(counts), model.forward(counts))
    line.touch = untouched
    assert faults.injected > 3


def test_what_its_memories_do_not_hold_is_refused_by_name(engine):
    large = next(model for model in map(random_model, range(60)) if not fits(model))
    with pytest.raises(DoesNotFit, match=r"memory is short by .* take a larger configuration or a smaller model"):
        engine.load(large)


class Bench:
    """An engine with a loaded program; forecasts between guards."""

    def __init__(self, model):
        self.program, self.link = compile(model, CONFIG), Link(SimLine(BOARD))
        self.link.begin()
        for place, words in self.program.writes:
            self.link.write(address("engine", place), words)
        counts = extreme_windows(model, 0, WINDOWS)
        source, self.right = pad(self.program.sent(counts)), model.forward(counts)
        self.target = pad(np.zeros((WINDOWS, self.program.outputs), np.int16)).shape
        self.link.write(INPUT, source.view("<u4").ravel())
        places = (INPUT, INPUT + source.nbytes), (OUTPUT, OUTPUT + 2 * int(np.prod(self.target)))
        self.job = job(self.program, WINDOWS, *places)

    def write(self, name, value):
        self.link.write(address("engine", OFFSETS[name]), [value])

    def read(self, name):
        return int(self.link.read(address("engine", OFFSETS[name]), 1)[0])

    def patched(self, index, **fields):
        """Instruction `index` with other fields, its check right."""
        words = isa.encode(self.program.instructions[index].coded | fields)
        self.link.write(address("engine", (isa.REGIONS["program"] << 16) + 4 * isa.WORDS * index), words)

    def ended(self, **registers):
        """A run. -> (Status, the forecasts' counts); what lies around them is as it was."""
        size = 2 * int(np.prod(self.target)) + 2 * GUARD
        self.link.write(OUTPUT - GUARD, np.full(size // 4, UNTOUCHED << 16 | UNTOUCHED, np.uint32))
        for name, value in (self.job | registers).items():
            self.write(name, value)
        self.write("CTRL", START | ENABLE)
        for _ in range(100):
            status = Status.decode(self.read("STATUS"))
            if not status.busy:
                break
        around = self.link.read(OUTPUT - GUARD, size // 4).view(np.int16)
        assert (around[: GUARD // 2] == UNTOUCHED).all() and (around[-GUARD // 2 :] == UNTOUCHED).all()
        assert not status.busy
        return status, around[GUARD // 2 : -GUARD // 2].reshape(self.target)

    def fault(self, cause, **registers):
        status, _ = self.ended(**registers)
        assert (isa.CAUSE_NAMES[status.cause], status.error, status.done) == (cause, 1, 0)
        return status

    def check(self):
        status, found = self.ended()
        assert (status.error, status.done) == (0, 1)
        np.testing.assert_array_equal(self.program.received(found[:, : self.program.outputs]), self.right)


@pytest.fixture(scope="module")
def bench(small):
    return Bench(small)


BUFFERS = [
    {"WINDOWS": 0}, {"CONTEXT": 0}, {"HORIZON": 0}, {"WINDOWS": 4}, {"IN_END": INPUT}, {"IN_END": INPUT + 3 * 32 - 8},
    {"IN_END": 0}, {"IN_BASE": INPUT + 96}, {"IN_BASE": INPUT + 4}, {"OUT_BASE": OUTPUT + 2}, {"OUT_END": OUTPUT},
    {"OUT_END": OUTPUT + 3 * 16 - 8}, {"OUT_END": 0}, {"CONTEXT": 4 * CONFIG.input_words + 1}, {"CONTEXT": 65535},
    {"HORIZON": 4 * CONFIG.output_words + 1}, {"HORIZON": 65535}, {"IN_BASE": 0x2000_0000, "IN_END": 0x2000_1000},
    {"IN_BASE": 0xFFFF_FFF8, "IN_END": 0xFFFF_FFFF}, {"OUT_END": INPUT + BOARD.memory + 8},
    {"IN_BASE": INPUT + BOARD.memory, "IN_END": INPUT + BOARD.memory},
]  # fmt: skip


@pytest.mark.parametrize(
    "registers", BUFFERS, ids=lambda r: " ".join(f"{name}={value:#x}" for name, value in r.items())
)
def test_short_and_misaligned_buffers(bench, registers):
    bench.fault("BUFFERS", **registers)
    bench.check()


def test_the_last_byte_of_the_memory_is_one(bench):
    base = INPUT + BOARD.memory - 3 * 32
    bench.link.write(base, bench.link.read(INPUT, 3 * 32 // 4))
    status, found = bench.ended(IN_BASE=base, IN_END=INPUT + BOARD.memory)
    np.testing.assert_array_equal(bench.program.received(found[:, : bench.program.outputs]), bench.right)
    assert status.done


def test_program_words_that_are_none(bench):
    """The instruction is named, and no forecast is finished."""
    words, rng = bench.program.memories["program"], np.random.default_rng(0)
    picked = [*rng.integers(len(words), size=12), *range(isa.WORDS), len(words) - 1]
    for word, flipped in zip(picked, rng.integers(32, size=len(picked)), strict=True):
        place = address("engine", (isa.REGIONS["program"] << 16) + 4 * int(word))
        bench.link.write(place, [int(words[word]) ^ 1 << int(flipped)])
        status = bench.fault("PROGRAM")
        assert status.pc == word // isa.WORDS * isa.WORDS and bench.read("FINISHED") == 0
        bench.link.write(place, [words[word]])
    bench.patched(2, opcode=7)
    bench.fault("PROGRAM")
    bench.patched(2)
    bench.check()


@pytest.mark.parametrize(("field", "values", "which"), [
    ("x_base", (512, 1023), lambda f: f["opcode"] == "matmul"),
    ("w_base", (1024, 8191), lambda f: f["opcode"] == "attend"),
    ("w_base", (4096, 8191), lambda f: f["opcode"] == "quantise"),
    ("d_base", (512, 2047), lambda f: f.get("dest") == "codes" and not f.get("add")),
    ("d_base", (512, 2047), lambda f: f.get("dest") == "codes" and f.get("add")),
    ("d_base", (1024, 2047), lambda f: f.get("dest") == "keys"),
    ("d_base", (1024, 2047), lambda f: f.get("dest") == "values"),
    ("q_base", (256, 511), lambda f: f.get("add")),
])  # fmt: skip
def test_addresses_outside_of_a_memory(bench, field, values, which):
    index = next(i for i, instruction in enumerate(bench.program.instructions) if which(instruction.fields))
    for value in values:
        bench.patched(index, **{field: value})
        bench.fault("ADDRESS")
        bench.patched(index)
        bench.check()


def test_more_counts_than_a_forecast_has_room_for(bench):
    """They would be somebody else's."""
    index = next(i for i, instruction in enumerate(bench.program.instructions) if instruction.opcode == "output")
    bench.patched(index, groups=bench.program.outputs + 3)
    bench.fault("ADDRESS")
    bench.patched(index)
    bench.check()


def test_write_and_start_while_busy(bench):
    long = {"WINDOWS": 500, "IN_END": INPUT + 500 * 32, "OUT_END": OUTPUT + 500 * 16}
    for name, cause in (("WINDOWS", "LOCKED"), ("CTRL", "BUSY")):
        for register, value in (bench.job | long).items():
            bench.write(register, value)
        bench.write("CTRL", START | ENABLE)
        bench.write(name, 1)
        assert isa.CAUSE_NAMES[Status.decode(bench.read("STATUS")).cause] == cause
        bench.check()
