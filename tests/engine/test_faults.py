"""Faults: each is named, ends the run, harms nothing, and the next run is right."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.engine import EngineError, isa, simulate
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.registers import OFFSETS
from qatlib.engine.rtl import Rtl
from qatlib.engine.simulation import INPUT, OUTPUT
from qatlib.integer_model.program import Channel
from tests.engine.bench import CONFIG, ENABLE, START, UNTOUCHED, Bench, fault


@pytest.mark.parametrize("register", ["WINDOWS", "CONTEXT", "HORIZON"])
def test_nothing_to_do(bench, register):
    fault(bench, "BUFFERS", **{register: 0})
    bench.check()


@pytest.mark.parametrize("registers", [
    {"IN_END": INPUT + 3 * 32 - 8}, {"IN_END": INPUT + 3 * 32 - 1}, {"IN_END": INPUT + 8}, {"IN_END": INPUT},
    {"IN_END": 0},
    {"IN_BASE": INPUT + 96}, {"OUT_END": OUTPUT + 3 * 16 - 8}, {"OUT_END": OUTPUT + 3 * 16 - 1},
    {"OUT_END": OUTPUT}, {"OUT_END": 0},
    {"CONTEXT": 4 * CONFIG.input_words + 1}, {"HORIZON": 4 * CONFIG.output_words + 1}, {"CONTEXT": 65535},
    {"HORIZON": 65535},
    {"IN_BASE": INPUT + 4}, {"IN_BASE": INPUT + 1}, {"OUT_BASE": OUTPUT + 2}, {"OUT_BASE": OUTPUT + 4},
    {"IN_BASE": 0xFFFF_FFF8, "IN_END": 0xFFFF_FFFF}, {"IN_BASE": 0xFFFF_FFF0, "IN_END": 0xFFFF_FFFF},
    {"IN_BASE": 0xFFFF_FFF0, "IN_END": 0xFFFF_FFF8}, {"OUT_BASE": 0xFFFF_FFF8, "OUT_END": 0xFFFF_FFFF}, {"WINDOWS": 4},
], ids=lambda r: " ".join(f"{name}={value:#x}" for name, value in r.items()))  # fmt: skip
def test_short_and_misaligned_buffers(bench, registers):
    fault(bench, "BUFFERS", **registers)
    bench.check()


def test_a_window_across_the_end_of_the_address_space():
    """Nothing is read at the bottom of it, where the last count would be."""
    bench = Bench(
        replace(
            random_model(2, Shape("patch", 9, 40, horizon=5, d_model=5, factor=1)),
            channels=(Channel("channel", 0.5, None),),
        )
    )
    bench.rtl.map(0xFFFF_FE00, np.zeros(0x100, np.int16))
    fault(bench, "BUFFERS", IN_BASE=0xFFFF_FE00, IN_END=0xFFFF_FFF8)


@pytest.mark.parametrize("window", [0, 1, 2])
@pytest.mark.parametrize(("what", "cause"), [("read", "READ"), ("write", "WRITE")])
def test_bus_errors(bench, window, what, cause):
    step = {"read": INPUT + 32 * window + 8, "write": OUTPUT + 16 * window + 8}
    bench.rtl.memory(**{f"bad_{what}": step[what]})
    fault(bench, cause)
    assert bench.rtl.read(OFFSETS["FINISHED"]) <= window
    bench.rtl.memory()
    bench.check()


@pytest.mark.parametrize(
    "registers", [{"IN_BASE": 0x4000_0000, "IN_END": 0x5000_0000}, {"OUT_BASE": 0x4000_0000, "OUT_END": 0x5000_0000}]
)
def test_buffers_where_nothing_answers(bench, registers):
    fault(bench, "READ" if "IN_BASE" in registers else "WRITE", **registers)
    bench.check()


def test_start_while_busy(bench):
    bench.start()
    bench.rtl.step(100)
    bench.rtl.write(OFFSETS["CTRL"], START | ENABLE)
    status = bench.end()
    assert (status.cause, status.done) == (1, 0)
    bench.check()


@pytest.mark.parametrize(
    "address", [OFFSETS["WINDOWS"], OFFSETS["OUT_BASE"], *(n << 16 for n in isa.REGIONS.values() if n)]
)
def test_write_while_busy(bench, address):
    """The run ends, and what was to be written is not."""
    bench.start()
    bench.rtl.step(100)
    bench.rtl.write(address, 0xDEAD_BEE8)
    assert isa.CAUSE_NAMES[bench.end().cause] == "LOCKED"
    bench.rtl.write(OFFSETS["CTRL"], START | ENABLE)  # with the registers as they are
    assert bench.end().done
    np.testing.assert_array_equal(bench.target[:, : bench.program.outputs], bench.right)


def test_any_bit_of_any_program_word(bench):
    """Sampled: the instruction is named, and no forecast is written."""
    words = bench.program.memories["program"]
    base = isa.REGIONS["program"] << 16
    rng = np.random.default_rng(0)
    picked = [*rng.integers(len(words), size=40), *range(isa.WORDS), len(words) - 1]
    for word, flipped in zip(picked, rng.integers(32, size=len(picked)), strict=True):
        bench.rtl.write(base + 4 * word, int(words[word]) ^ 1 << int(flipped))
        status = fault(bench, "PROGRAM")
        assert status.pc == word // isa.WORDS * isa.WORDS
        assert bench.rtl.read(OFFSETS["FINISHED"]) == 0
        bench.rtl.write(base + 4 * word, words[word])
    assert (bench.target == UNTOUCHED).all()
    bench.check()


def patched(bench, index, **fields):
    """Write instruction `index` with other fields, the check word right."""
    words = isa.encode(bench.program.instructions[index].coded | fields)
    bench.rtl.write_block((isa.REGIONS["program"] << 16) + 4 * isa.WORDS * index, words)


def test_an_opcode_that_is_none(bench):
    patched(bench, 2, opcode=7)
    fault(bench, "PROGRAM")
    patched(bench, 2)
    bench.check()


@pytest.mark.parametrize(("field", "depth", "fits"), [
    ("x_base", CONFIG.code_depth, lambda f: f["opcode"] == "matmul"),
    ("w_base", CONFIG.weight_depth, lambda f: f["opcode"] == "matmul"),
    ("w_base", CONFIG.kv_depth, lambda f: f["opcode"] == "attend"),
    ("w_base", 4 * CONFIG.input_words, lambda f: f["opcode"] == "quantise"),
    ("p_base", CONFIG.param_depth, lambda f: f["opcode"] == "matmul"),
    ("d_base", CONFIG.code_depth, lambda f: f.get("dest") == "codes"),
    ("d_base", CONFIG.kv_depth, lambda f: f.get("dest") == "keys"),
    ("d_base", CONFIG.kv_depth, lambda f: f.get("dest") == "values"),
    ("q_base", CONFIG.add_depth, lambda f: f.get("add")),
    ("r_base", CONFIG.residual_depth, lambda f: f.get("add")),
    ("s_base", CONFIG.residual_depth, lambda f: f.get("s_write")),
    ("row", CONFIG.softmax_rows, lambda f: f["opcode"] == "sum"),
])  # fmt: skip
def test_addresses_outside_of_a_memory(bench, field, depth, fits):
    index = next(i for i, instruction in enumerate(bench.program.instructions) if fits(instruction.fields))
    for value in (depth, (1 << next(bits for name, bits, *_ in isa.FIELDS if name == field)) - 1):
        patched(bench, index, **{field: value})
        fault(bench, "ADDRESS")
        patched(bench, index)
        bench.check()


def test_errors_of_the_engine_are_raised_by_name(small):
    rtl = Rtl(CONFIG)
    rtl.memory(bad_read=INPUT)
    with pytest.raises(EngineError, match="read error on the AXI bus") as caught:
        simulate(small, extreme_windows(small, 0, 2), CONFIG, rtl=rtl)
    assert caught.value.cause == 5
    rtl.memory()
    with pytest.raises(EngineError, match="65536 windows in one run"):
        simulate(small, np.zeros((65536, small.context), np.int16), CONFIG, rtl=rtl)
