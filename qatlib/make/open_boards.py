"""`make verify-boards`: boards at a serial port, simulated with their line, against NumPy; cycles, forecasts a second.

Every shipped model that a board holds, on a line too fast for a wire, so that the proof ends today; the default model
also at the rates of real lines, where nothing but the line and the clock takes time: neither USB nor the computer does.
A full run keeps `overlays/serial/measured/open_boards.csv`.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from qatlib.board import open_engine
from qatlib.board.sim_serial import SimLine
from qatlib.device import shipped
from qatlib.engine import DoesNotFit, EngineError, compile, isa, lattice, parts, readback, serial_line
from qatlib.make.verify import TOOLS
from qatlib.system.measurements import MEASUREMENTS

DATASETS = ("etth1", "jfk-weather", "jfk-weather-faults", "occupancy")
DEFAULT = "etth1", "patch-c336-d16-w4a4"
WINDOWS = 200
RATES = (1_000_000, 3_000_000)  # baud
OF_BITS = 10  # windows, of a simulation that is a hundred times slower
RESET = 1000  # bytes on the line until a bitstream's own reset is over
SOME = 64  # windows


@lru_cache(maxsize=1)
def engine(board):
    return open_engine(port=SimLine(board))


def compared(board, model, counts):
    """One model on a board -> (windows that are not NumPy's, Times of its run)."""
    driver = engine(board)
    try:
        driver.load(model)
        found = driver.run(counts)
    except EngineError as error:
        print(error, flush=True)
        engine.cache_clear()
        return len(counts), None
    wrong = (found != model.forward(counts)).reshape(len(counts), -1).any(axis=1)
    return int(wrong.sum()), driver.last_run


def row(board, dataset, name):
    """A line of the table. DoesNotFit for a model that the board's engine does not hold."""
    model = shipped.load(dataset, name)
    cycles = sum(compile(part, isa.ALL_CONFIGS[board.config]).cycles for part in parts(model))
    counts = shipped.reference_windows(dataset, model)[:WINDOWS]
    wrong, _ = compared(replace(board, baud=board.clock_hz // 4), model, counts)
    return {"data": dataset, "model": name, "cycles": cycles, "windows_checked": len(counts), "mismatches": wrong}


def at_rates(board, line):
    """The default model's line of the table once for each rate."""
    model = shipped.load(*DEFAULT)
    windows = shipped.reference_windows(DEFAULT[0], model)
    for baud in RATES:
        slower = replace(board, baud=baud)
        wrong, times = compared(slower, model, counts := windows[:SOME])
        if times is None:  # said so already
            continue
        rate = {"line_baud": slower.baud, "forecasts_per_second": times.windows / (times.bus + times.engine)}
        yield line | rate | {"windows_checked": len(counts), "mismatches": wrong}


def of_bits(board):
    """A line of the table: the default model on the bitstream itself, turned into a netlist again, at the line's own
    rate."""
    line, model = SimLine(board, texts=readback.netlist(board)), shipped.load(*DEFAULT)
    line.rtl.send(bytes([serial_line.END]) * RESET)
    line.rtl.run(1 << 20)
    driver, counts = open_engine(port=line), shipped.reference_windows(DEFAULT[0], model)[:OF_BITS]
    driver.load(model)
    wrong = (driver.run(counts) != model.forward(counts)).any(axis=1).sum()
    cycles = driver.last_run.engine_cycles // len(counts)
    return {"board": f"{board.name}, bits read back", "data": DEFAULT[0], "model": DEFAULT[1], "cycles": cycles} | {
        "windows_checked": len(counts),
        "mismatches": wrong,
    }


def rows(board):
    facts, config = lattice.check(board), isa.ALL_CONFIGS[board.config]
    about = {"board": board.name, "device": board.device, "lanes": config.lanes}
    about |= {name: facts["used"][name] for name in ("lut", "ff", "dsp", "ram")}
    about |= {"fmax_mhz": facts["routed_mhz"], "clock_mhz": facts["clock_mhz"]}
    for dataset in DATASETS:
        for name in shipped.names(dataset):
            try:
                line = about | row(board, dataset, name)
            except DoesNotFit as error:
                print(f"{board.name}: {name} does not fit: {error}")
                continue
            print(
                f"{board.name:12}{dataset:20}{name:40}{line['cycles']:8,} cycles, {line['mismatches']} wrong",
                flush=True,
            )
            yield line
            if (dataset, name) == DEFAULT:
                yield from at_rates(board, line)
    if board.family == "ice40":
        yield about | of_bits(board)


def main():
    """-> the exit status: 1 where a forecast is not NumPy's."""
    readback.require()  # before all that takes long
    table = pd.DataFrame([line for board in serial_line.BOARDS.values() for line in rows(board)])
    MEASUREMENTS["open_boards"].keep(table.to_csv(index=False), TOOLS)
    print(table[["board", "model", "cycles", "line_baud", "forecasts_per_second", "mismatches"]].to_string(index=False))
    return int(bool(np.any(table.mismatches)))


if __name__ == "__main__":
    raise SystemExit(main())
