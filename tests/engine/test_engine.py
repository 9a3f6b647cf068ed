"""The simulated hardware is NumPy, count for count and cycle for cycle; and what it does when something is wrong. One
configuration."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine import CONFIGS, DoesNotFit, EngineError, compile, isa, simulate
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.registers import OFFSETS, Status, bit, job
from qatlib.engine.rtl import Rtl
from qatlib.engine.simulation import INPUT, OUTPUT, load, pad
from tests.integer_model.by_hand import by_hand, expected_by_hand, with_identity

CONFIG = CONFIGS["xc7s15"]
SMALL = Shape(
    "patch", tokens=3, patch=5, horizon=5, d_model=8, heads=2
)  # a context and a horizon that do not fill their last word
GUARD, UNTOUCHED = 64, 0x5A5A  # bytes on either side of the output buffer, and what they hold
START, ENABLE, RESET = (bit("CTRL", name) for name in ("START", "IRQ_ENABLE", "RESET"))


@pytest.fixture(scope="module")
def rtl():
    return Rtl(CONFIG)


@pytest.fixture(scope="module")
def small():
    return random_model(0, SMALL)


def models_that_fit(shape, count):
    """Random models of a shape; some need too many tables."""
    seeds = iter(range(40))
    while count:
        model = random_model(next(seeds), shape)
        try:
            compile(model, CONFIG)
        except DoesNotFit:
            continue
        count -= 1
        yield model


def agree(rtl, model, counts, *, paced=True):
    """Every count is NumPy's; and the interval is the predicted one, to the cycle. paced: the bus keeps up with the
    program."""
    program = compile(model, CONFIG)
    forecast, cycles = simulate(program, counts, CONFIG, rtl=rtl)
    np.testing.assert_array_equal(forecast, model.forward(counts))
    if paced and len(counts) > 1:
        assert cycles.interval == program.cycles
    return program, cycles


def test_placeholders_that_are_rearranged_twice(rtl):
    """An identity between placeholders and their layer: the tokens that are not stored are still there."""
    for model in models_that_fit(
        Shape("decoder", tokens=4, patch=4, horizon=6, d_model=8, heads=2, factor=1, label=5), 2
    ):
        for name in ("placeholders", "decoder_tokens.patches"):
            agree(rtl, with_identity(model, name), extreme_windows(model, 0, 6))


# -- Counts and cycles


@pytest.mark.parametrize("name", shipped.names("etth1"))
def test_shipped_models(rtl, name):
    """Every family at 8, 4, 2 and mixed bits, on real windows and on extreme ones."""
    model = shipped.load("etth1", name)
    real = shipped.windows("jfk-weather")[0][:6, -model.context :]
    agree(rtl, model, np.concatenate([real, extreme_windows(model, 0, 6)]))


@pytest.mark.parametrize("shape", [
    Shape("patch", tokens=5, patch=6, horizon=7, d_model=6, heads=3, layers=2, factor=2),
    Shape("patch", tokens=5, patch=7, horizon=7, d_model=5, layers=3, factor=2),
    Shape("patch", tokens=1, patch=25, horizon=1, d_model=5),
    Shape("patch", tokens=40, patch=3, horizon=3, d_model=8, heads=2, factor=1),
    Shape("point", tokens=9, patch=1, horizon=4, d_model=8, heads=4, factor=2),
    Shape("point", tokens=9, patch=1, horizon=9, d_model=8, heads=2, layers=2, factor=2),
    Shape("point", tokens=100, patch=1, horizon=6, d_model=5, factor=1),
    Shape("decoder", tokens=4, patch=4, horizon=6, d_model=8, heads=2, factor=1, label=5),
    Shape("decoder", tokens=4, patch=4, horizon=6, d_model=5, layers=2, factor=1, label=5),
    Shape("decoder", tokens=2, patch=50, horizon=27, d_model=6, factor=1, label=40),
], ids=lambda s: f"{s.family}-{s.tokens}x{s.patch}-d{s.d_model}-h{s.heads}-l{s.layers}")  # fmt: skip
def test_layers_heads_and_long_windows(rtl, shape):
    for model in models_that_fit(shape, 3):
        agree(rtl, model, extreme_windows(model, 0, 12))


@pytest.mark.parametrize("depth", [512, 192, 128, 96])
def test_some_tokens_at_a_time(rtl, depth):
    """A program for less code memory runs as well, in more instructions."""
    model = random_model(0, Shape("point", tokens=40, patch=1, horizon=4, d_model=8))
    program, counts = compile(model, replace(CONFIG, code_depth=depth)), extreme_windows(model, 0, 6)
    forecast, cycles = simulate(program, counts, CONFIG, rtl=rtl)
    np.testing.assert_array_equal(forecast, model.forward(counts))
    assert cycles.interval == program.cycles


@pytest.mark.parametrize("input_shift", [15, 16, 17, 20])
@pytest.mark.parametrize("anchor", [None, -7])
def test_ties_go_up_for_negatives_too(rtl, input_shift, anchor):
    """Differences around zero, whose halves, quarters and so on are ties, at three roundings; against Python's
    integers."""
    weight = np.eye(6, dtype=int)[:5] * [1, -1, 2, 3, -3, 0]
    model = by_hand(weight, [0, 1, -1, 0, 0], input_shift=input_shift, out_shift=16, counts_shift=16, anchor=anchor)
    counts = (np.arange(-60, 60)[:, None] + np.arange(6) * (np.arange(6) < 5)).astype(np.int16)
    forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
    assert forecast.tolist() == expected_by_hand(model, counts)


@pytest.mark.parametrize("codes", [(-128, 127, 0), (-128, 127, -128), (-8, 7, 3), (0, 255, 17)])
@pytest.mark.parametrize("counts_shift", [1, 8, 15, 40])
def test_saturation_at_every_step(rtl, extreme_counts, codes, counts_shift):
    weight = np.random.default_rng(counts_shift).integers(-127, 128, (5, 6))
    model = by_hand(
        weight, [1 << 22, -(1 << 22), 0, 5, -5], codes=codes, out=(-128, 127, -20), counts_shift=counts_shift
    )
    counts = extreme_counts(6)
    forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
    assert forecast.tolist() == expected_by_hand(model, counts)


def test_the_largest_accumulators(rtl):
    for sign in (1, -1):
        bias = sign * ((1 << 24) - 1 - 4 * 127 * 128)
        model = by_hand([[127 * sign] * 4], [bias], out_shift=33)
        counts = np.array([[-32768] * 3 + [32767], [32767] * 3 + [-32768], [0, 0, 0, 0]], np.int16)
        forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
        assert forecast.tolist() == expected_by_hand(model, counts)


@pytest.mark.parametrize("windows", [1, 2, 3, 8])
@pytest.mark.parametrize("context", [5, 6, 7, 8])
def test_windows_take_turns_in_two_buffers(rtl, windows, context):
    model = random_model(context, Shape("point", context, 1, horizon=context - 4, d_model=5, factor=1))
    agree(rtl, model, extreme_windows(model, windows, windows))


def test_a_window_that_fills_the_input_buffer(rtl):
    """The bus takes longer than the program."""
    model = random_model(3, Shape("patch", tokens=4, patch=256, horizon=128, d_model=5, factor=1))
    assert model.context == 4 * CONFIG.input_words and model.horizon == 4 * CONFIG.output_words
    agree(rtl, model, extreme_windows(model, 3, 5), paced=False)


def test_cycles_of_a_window_alone(rtl, small):
    program, cycles = agree(rtl, small, extreme_windows(small, 0, 4))
    assert program.cycles < cycles.first < program.cycles + 40
    again, alone = simulate(program, extreme_windows(small, 0, 1), CONFIG, rtl=rtl)
    assert alone.first == cycles.first and alone.interval is None and len(again) == 1
    assert cycles.total == alone.total + 3 * program.cycles


# -- The bus


class Bench:
    """An engine with a loaded program; the output buffer lies between guards, the input buffer between nothing."""

    def __init__(self, model, windows=3, *, inputs=INPUT, outputs=OUTPUT):
        self.program, self.rtl = compile(model, CONFIG), Rtl(CONFIG)
        load(self.rtl, self.program)
        counts = extreme_windows(model, 0, windows)
        self.right, self.source = model.forward(counts), pad(counts)
        words = -(-model.horizon // 4)
        self.memory = np.full(GUARD + windows * words * 4, UNTOUCHED, np.int16)  # a guard is GUARD / 2 counts
        self.target = self.memory[GUARD // 2 : -GUARD // 2].reshape(windows, -1)
        self.rtl.map(inputs, self.source)
        self.rtl.map(outputs - GUARD, self.memory)
        self.job = job(
            self.program, windows, (inputs, inputs + self.source.nbytes), (outputs, outputs + self.target.nbytes)
        )

    def start(self, **registers):
        for name, value in (self.job | registers).items():
            self.rtl.write(OFFSETS[name], value)
        self.rtl.write(OFFSETS["CTRL"], START | ENABLE)

    @property
    def status(self):
        return Status.decode(self.rtl.read(OFFSETS["STATUS"]))

    def end(self):
        """Wait for the interrupt, then for the bus; -> Status. Nothing has been written beyond the buffer."""
        assert self.rtl.wait_irq(1 << 18)
        self.rtl.step(2000)
        assert not self.status.busy
        assert (self.memory[: GUARD // 2] == UNTOUCHED).all() and (self.memory[-GUARD // 2 :] == UNTOUCHED).all()
        return self.status

    def check(self, **registers):
        """A right run."""
        self.target[:] = 0
        self.start(**registers)
        status = self.end()
        assert (status.error, status.done) == (0, 1)
        np.testing.assert_array_equal(self.target[:, : self.program.horizon], self.right)


@pytest.fixture
def bench(small):
    return Bench(small)


@pytest.mark.parametrize(("latency", "stall"), [(0, 0), (1, 20), (7, 128), (40, 60), (200, 250), (3, 200)])
def test_slow_memory(latency, stall):
    (model,) = models_that_fit(Shape("decoder", 4, 15, horizon=11, d_model=5, label=9, factor=1), 1)
    bench = Bench(model, windows=5)
    bench.rtl.memory(latency=latency, stall=stall)
    bench.check()


@pytest.mark.parametrize("offset", [0x000, 0x008, 0x7F8, 0xF78, 0xF80, 0xFC8, 0xFF0, 0xFF8])
@pytest.mark.parametrize("anchor", [None, 5])
def test_bursts_across_pages_and_at_the_ends_of_buffers(offset, anchor):
    """Bursts that cross 4 KiB or leave the buffers are answered with an error."""
    model = replace(random_model(2, Shape("patch", 9, 19, horizon=77, d_model=5, factor=1)), anchor=anchor)
    bench = Bench(model, windows=4, inputs=INPUT + offset, outputs=OUTPUT + 0x1000 - offset + GUARD)
    bench.check()


def test_interrupt_and_identity(bench):
    registers = {name: bench.rtl.read(OFFSETS[name]) for name in ("ID", "VERSION", "CONFIG")}
    assert registers == {"ID": isa.ID, "VERSION": isa.VERSION, "CONFIG": CONFIG.checksum}
    bench.start()
    bench.rtl.write(OFFSETS["CTRL"], 0)
    assert not bench.rtl.wait_irq(5000) and bench.status.done
    bench.rtl.write(OFFSETS["CTRL"], ENABLE)
    assert bench.rtl.wait_irq(1)
    bench.rtl.write(OFFSETS["STATUS"], bit("STATUS", "DONE"))
    assert not bench.rtl.wait_irq(100) and not bench.status.done
    assert bench.rtl.read(OFFSETS["FINISHED"]) == 3
    assert 0 < bench.rtl.read(OFFSETS["ENGINE_CYCLES"]) <= bench.rtl.read(OFFSETS["CYCLES"])


# -- Faults: each is named, ends the run, harms nothing, and the next run is right


def fault(bench, cause, **registers):
    bench.start(**registers)
    status = bench.end()
    assert (isa.CAUSE_NAMES[status.cause], status.error, status.done) == (cause, 1, 0)
    return status


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
    bench = Bench(replace(random_model(2, Shape("patch", 9, 40, horizon=5, d_model=5, factor=1)), anchor=None))
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
    np.testing.assert_array_equal(bench.target[:, : bench.program.horizon], bench.right)


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
    for value in (depth, (1 << next(bits for name, bits, _ in isa.FIELDS if name == field)) - 1):
        patched(bench, index, **{field: value})
        fault(bench, "ADDRESS")
        patched(bench, index)
        bench.check()


@pytest.mark.parametrize("cycles", [1, 5, 20, 100, 300, 1000])
@pytest.mark.parametrize("latency", [0, 50])
def test_reset_in_mid_run(bench, cycles, latency):
    bench.rtl.memory(latency=latency, stall=50)
    bench.start()
    bench.rtl.step(cycles)
    bench.rtl.write(OFFSETS["CTRL"], RESET)
    bench.rtl.step(500)
    assert bench.status == Status(0, 0, 0, 0, 0, bench.status.pc) and not bench.rtl.wait_irq(1)
    bench.check()


def test_reset_waits_until_the_bus_is_drained(bench):
    bench.rtl.memory(latency=300)
    bench.start()
    bench.rtl.step(50)
    bench.rtl.write(OFFSETS["CTRL"], RESET)
    assert (bench.status.busy, bench.status.resetting) == (1, 1)
    bench.rtl.step(1000)
    assert (bench.status.busy, bench.status.resetting) == (0, 0)
    bench.rtl.memory()
    bench.check()


def test_memory_that_never_answers(small, monkeypatch):
    """`simulate` gives up, and tells the status."""
    monkeypatch.setattr("qatlib.engine.simulation.TIMEOUT", 10_000)
    deaf = Rtl(CONFIG)
    deaf.memory(deaf=True)
    with pytest.raises(EngineError, match=r"random-0 on xc7s15: it does not come to an end \(status: busy"):
        simulate(small, extreme_windows(small, 0, 2), CONFIG, rtl=deaf)


def test_reset_of_an_engine_whose_memory_never_answers(bench):
    bench.rtl.memory(deaf=True)
    bench.start()
    bench.rtl.step(100)
    bench.rtl.write(OFFSETS["CTRL"], RESET)
    bench.rtl.step(10_000)
    assert bench.status.resetting
    bench.rtl.memory()
    bench.rtl.step(100)
    assert not bench.status.resetting
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
