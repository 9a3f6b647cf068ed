"""The engine's bus master at slow memories and odd addresses, its registers and interrupt, and a reset in mid run."""

from dataclasses import replace

import pytest

from qatlib.engine import EngineError, isa, simulate
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.registers import OFFSETS, Status, bit
from qatlib.engine.rtl import Rtl
from qatlib.engine.simulation import INPUT, OUTPUT
from qatlib.integer_model.program import Channel
from tests.engine.bench import CONFIG, ENABLE, GUARD, RESET, Bench, models_that_fit


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
    model = replace(
        random_model(2, Shape("patch", 9, 19, horizon=77, d_model=5, factor=1)),
        channels=(Channel("channel", 0.5, anchor),),
    )
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
