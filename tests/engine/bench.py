"""What tests of the simulated engine share: a configuration, models that fit it, an engine between guarded buffers."""

import numpy as np

from qatlib.engine import CONFIGS, DoesNotFit, compile, isa
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.registers import OFFSETS, Status, bit, job
from qatlib.engine.rtl import Rtl
from qatlib.engine.simulation import INPUT, OUTPUT, load, pad

CONFIG = CONFIGS["xc7s15"]
SMALL = Shape(
    "patch", tokens=3, patch=5, horizon=5, d_model=8, heads=2
)  # a context and a horizon that do not fill their last word
GUARD, UNTOUCHED = 64, 0x5A5A  # bytes on either side of the output buffer, and what they hold
START, ENABLE, RESET = (bit("CTRL", name) for name in ("START", "IRQ_ENABLE", "RESET"))


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


class Bench:
    """An engine with a loaded program; the output buffer lies between guards, the input buffer between nothing."""

    def __init__(self, model, windows=3, *, inputs=INPUT, outputs=OUTPUT):
        self.program, self.rtl = compile(model, CONFIG), Rtl(CONFIG)
        load(self.rtl, self.program)
        counts = extreme_windows(model, 0, windows)
        self.right, self.source = model.forward(counts), pad(self.program.sent(counts))
        words = -(-self.program.outputs // 4)
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
        np.testing.assert_array_equal(self.program.received(self.target[:, : self.program.outputs]), self.right)


def fault(bench, cause, **registers):
    bench.start(**registers)
    status = bench.end()
    assert (isa.CAUSE_NAMES[status.cause], status.error, status.done) == (cause, 1, 0)
    return status
