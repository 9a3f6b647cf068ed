"""Forecasts by the simulated hardware: the program and the windows go in over AXI, every cycle of the RTL is carried
out."""

from dataclasses import dataclass

import numpy as np

from qatlib.engine.compiler import compile, parts
from qatlib.engine.program import Program
from qatlib.engine.registers import OFFSETS, EngineError, Status, bit, job
from qatlib.engine.rtl import Rtl

INPUT, OUTPUT = 0x1000_0000, 0x2000_0000  # where the buffers lie for the engine
TIMEOUT = 1 << 20  # cycles for a window, many times what the largest needs


@dataclass(frozen=True)
class Cycles:
    """first: from the first input word accepted to the last output word valid, of the first window alone (nothing
    overlapped); interval: between windows, mean over the batch, None for one window; total: from start to done of the
    batch."""

    first: int
    interval: float | None
    total: int


def sum_of(cycles):
    """Of runs one after another."""
    runs = list(cycles)
    interval = None if runs[0].interval is None else sum(run.interval for run in runs)
    return Cycles(sum(run.first for run in runs), interval, sum(run.total for run in runs))


def pad(counts):
    """int16 (windows, n) -> the buffer's layout: every window begins at a multiple of 8 bytes."""
    padded = np.zeros((len(counts), -(-counts.shape[1] // 4) * 4), np.int16)
    padded[:, : counts.shape[1]] = counts
    return padded


def _check(program, counts):
    if counts.dtype != np.int16:
        raise TypeError(f"counts are {counts.dtype}, not int16")
    if counts.ndim < 2 or counts.shape[1:] != program.window_shape:
        wanted = ", ".join(map(str, ("windows", *program.window_shape)))
        raise ValueError(f"counts have shape {counts.shape}; {program.name} takes ({wanted})")


def load(rtl, program):
    """Write a program and its parameters."""
    for address, words in program.writes:
        rtl.write_block(address, words)


def run(rtl, program, counts):
    """int16 windows through a loaded engine -> (int16 forecasts, cycles from start to done).

    TypeError, ValueError for other counts; EngineError for a run that fails, or of less than one window or more than a
    run can have.
    """
    _check(program, counts)
    source = pad(program.sent(counts))
    target = pad(np.zeros((len(counts), program.outputs), np.int16))
    rtl.map(INPUT, source)
    rtl.map(OUTPUT, target)
    try:
        for name, value in job(
            program, len(counts), (INPUT, INPUT + source.nbytes), (OUTPUT, OUTPUT + target.nbytes)
        ).items():
            rtl.write(OFFSETS[name], value)
        rtl.mark()
        rtl.write(OFFSETS["CTRL"], bit("CTRL", "START") | bit("CTRL", "IRQ_ENABLE"))
        ended = rtl.wait_irq(TIMEOUT * len(counts))
        status = Status.decode(rtl.read(OFFSETS["STATUS"]))
        if status.error or not ended:
            what = status.reason if status.error else "it does not come to an end"
            raise EngineError(f"{program.name} on {program.config.name}: {what} ({status})", status.cause)
        rtl.write(OFFSETS["STATUS"], bit("STATUS", "DONE"))
        return program.received(target[:, : program.outputs]), rtl.read(OFFSETS["CYCLES"])
    finally:
        rtl.unmap(INPUT)
        rtl.unmap(OUTPUT)


def simulate(model, counts, config, *, rtl=None):
    """Forecasts of the simulated engine: int16 windows -> (int16 forecasts, Cycles). Independent channels go one after
    another, and their cycles add up.

    model: IntegerModel or Program. rtl: an engine to use; else one is made. Raises compiler.DoesNotFit, EngineError,
    rtl.BuildError; TypeError and ValueError for other counts.
    """
    if not isinstance(model, Program) and len(parts(model)) > 1:
        counts, programs = model.checked(counts), [compile(part, config) for part in parts(model)]
        rtl = rtl or Rtl(config)
        runs = [simulate(program, counts[:, :, i], config, rtl=rtl) for i, program in enumerate(programs)]
        return np.stack([forecast for forecast, _ in runs], axis=-1), sum_of(cycles for _, cycles in runs)
    program = model if isinstance(model, Program) else compile(model, config)
    _check(program, counts)
    rtl = rtl or Rtl(config)
    load(rtl, program)
    first, single = run(rtl, program, counts[:1])
    alone = rtl.last_out - rtl.first_in + 1
    if len(counts) == 1:
        return first, Cycles(alone, None, single)
    result, total = run(rtl, program, counts)
    return result, Cycles(alone, (total - single) / (len(counts) - 1), total)
