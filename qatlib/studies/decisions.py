"""Notebooks 13 and 14: decisions in place of forecasts; what one takes, and where."""

import numpy as np
import pandas as pd

from qatlib import mcu
from qatlib.engine import CONFIGS, simulate
from qatlib.engine.memory import DoesNotFit, Unsupported
from qatlib.integer_model import detection
from qatlib.mcu import emulate
from qatlib.runs import scale_out
from qatlib.studies import cost

COLUMNS = (
    "task, dataset, protocol, model, family, method, weight_bits, activation_bits, seed, subject, f1_validation, f1, "
    "accuracy, far, mar, auc_pr, size_bytes, equal_outputs, source"
).split(", ")
STRIKEWATCH = "Ling et al., arXiv 2510.24738: a 6-bit convolutional network, iCE40UP5K at 20 MHz"
ANOMALIES = "arXiv 2505.17662: the least of its Transformers"
PUBLISHED = pd.DataFrame(
    [("iCE40UP5K", 0.140, 0.350, "published", STRIKEWATCH), ("published FPGA", np.nan, 33.0, "published", ANOMALIES)],
    columns=["target", "milliseconds", "microjoules", "evidence", "source"],
)


def everywhere(model, counts, windows=8):
    """AssertionError where C or a simulated engine differs from NumPy in a count of some windows. counts: int16 windows
    of a classifier, rows of a detector. -> {engine: cycles of a window, or what is short there}"""
    if model.task == "detect":
        sliding = np.lib.stride_tricks.sliding_window_view(counts.reshape(len(counts), -1), model.context, axis=0)
        counts = np.ascontiguousarray(sliding.transpose(0, 2, 1)).reshape(-1, *model.window_shape)
    some = counts[np.linspace(0, len(counts) - 1, min(windows, len(counts))).astype(int)]
    expected = model.forward(some)
    assert np.array_equal(mcu.compiled(model).forward(some), expected)
    found = {}
    for name, config in CONFIGS.items():
        try:
            scores, cycles = simulate(model, some, config)
            assert np.array_equal(scores, expected)
            found[name] = round(cycles.interval)
        except (DoesNotFit, Unsupported) as reason:
            found[name] = str(reason)
    return found


def _emulated(job):
    model, target, counts = job
    outcome = emulate.Firmware(model, target).run(counts)
    expected = model.classify(counts) if model.task == "classify" else model.detect(counts)
    for mine, its in zip(expected, outcome.decided, strict=True):
        assert np.array_equal(mine, its)
    return target, outcome.instructions.mean()


def costs(model, counts, windows=4):
    """What one decision takes: a row a target, and the published ones. counts: as of `everywhere`; a label or flag that
    is not NumPy's is an AssertionError. Time and energy of the cores and of the FPGA, which has the network alone, are
    estimated from counted instructions and simulated cycles, as in notebook 09."""
    some = counts[: windows if model.task == "classify" else detection.length(model) + windows - 1]
    counted = dict(
        scale_out.each(_emulated, [(model, target, some) for target in emulate.TARGETS if target in cost.DEVICES])
    )
    cycles = everywhere(model, counts, windows)
    counted |= {name: n for name, n in cycles.items() if name in cost.DEVICES and not isinstance(n, str)}
    rows = []
    for target, count in counted.items():
        device = cost.DEVICES[target]
        what = "instructions" if device.cycles_per_instruction else "cycles"
        rows.append(
            {
                "target": device.name, "counted": f"{count:,.0f} {what}", "evidence": "simulated, then estimated",
                "milliseconds": 1e3 * device.seconds(count).typical,
                "microjoules": 1e3 * device.millijoules(count).typical, "source": device.source,
            }
        )  # fmt: skip
    return pd.concat([pd.DataFrame(rows), PUBLISHED])[
        ["target", "counted", "milliseconds", "microjoules", "evidence", "source"]
    ]
