"""The figures of the accelerator say what they show, from hand-made frames."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from qatlib import engine
from qatlib.device import shipped
from qatlib.engine import CONFIGS, Cycles
from qatlib.studies import accelerator, accelerator_plots

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def program():
    return engine.compile(shipped.load("etth1", "patch-c336-d16-w4a4"), CONFIGS["xc7s15"])


def texts(ax):
    """All that is written on the figure."""
    ax.figure.canvas.draw()
    return [t.get_text() for t in ax.figure.findobj(matplotlib.text.Text) if t.get_text()]


def test_cycles_have_a_panel_a_width_and_a_mark_a_bound(program):
    frame = accelerator.operations({"W8A8": program, "W4A4": program}).assign(interval=1409.0)
    ax = accelerator_plots.plot_cycles(frame)
    written = texts(ax)
    assert "simulated RTL: patch-c336-d16 on xc7s15" in written
    assert sum(t.startswith(("W8A8: 1,409 cycles", "W4A4: 1,409 cycles")) for t in written) == 2
    marks = ax.lines[0].get_xdata()
    assert np.isfinite(marks).sum() == (frame["bound"] > 0).sum() / 2  # what multiplies nothing has no bound


def test_the_schedule_has_a_lane_an_operation_between_the_buses(program):
    cycles = Cycles(program.cycles + 17, program.cycles, 0)
    frame = accelerator.schedule(program, cycles, "W4A4")
    ax = accelerator_plots.plot_schedule(frame)
    lanes = [t.get_text() for t in ax.get_yticklabels()]
    assert (lanes[0], lanes[-1]) == ("bus in", "bus out") and set(lanes) == set(frame["lane"])
    assert {f"last word out: {cycles.first:,}  ", "simulated RTL: patch-c336-d16 W4A4 on xc7s15"} <= set(texts(ax))


def test_area_tells_of_how_much_and_that_nothing_was_placed():
    rows = [("xc7s15", "XC7S15", "lut", 9000.0, 8000, 112.5), ("xc7s15", "XC7S15", "bram36", 9.5, 10, 95.0)]
    ax = accelerator_plots.plot_area(
        pd.DataFrame(rows, columns=["config", "device", "resource", "used", "budget", "percent"])
    )
    written = texts(ax)
    assert {"9,000 of 8,000 LUT", "9.5 of 10 block RAM"} <= set(written)
    assert any("not placed and routed" in t for t in written)
    assert ax.get_xlim()[1] > 112.5


@pytest.fixture
def latencies():
    rows = [
        ("patch", "W8A8", "xc7s15", 43.0, "simulated RTL"),
        ("patch", "W4A4", "xc7s15", 15.0, "simulated RTL"),
        ("patch", "W2A2", "xc7s15", 15.0, "simulated RTL"),
        ("long", "W4A4", "xc7s15", np.nan, "does not fit"),
    ]
    return pd.DataFrame(rows, columns=["model", "width", "config", "microseconds", "evidence"])


def test_latencies_of_equal_widths_share_a_line(latencies):
    ax = accelerator_plots.plot_latency(accelerator.beside_published(latencies), {"xc7s15": 61.4})
    lines = [t.get_text() for t in ax.get_yticklabels()]
    assert lines[:3] == ["patch W8A8", "patch W4A4, W2A2", "long W4A4"] and "LSTM" in lines[3:]


def test_every_kind_of_evidence_is_in_the_legend(latencies):
    ax = accelerator_plots.plot_latency(accelerator.beside_published(latencies), {"xc7s15": 61.4})
    named = [t.get_text() for t in ax.figure.legends[0].get_texts()]
    assert set(named) == {"xc7s15, simulated RTL (an ECP5 reaches 61 MHz)", "published", "published code, simulated"}
    assert {"does not fit", "176 ms, ESP32", "43 µs"} <= set(texts(ax))
    assert any("simulated RTL, not measured" in t for t in texts(ax)) and "100 MHz" in ax.get_xlabel()
