"""The plan of notebook 11: the gates between proof of concept, pilot and production."""

import pandas as pd

from qatlib.studies import assessment, cost

GATES = {  # key: stage, what must hold, bar, unit
    "error_baseline": ("proof of concept", "test error of the 4-bit integers, against the best baseline", "< 0", "%"),
    "error_float": ("proof of concept", "the same, against the float model", "< 2", "%"),
    "equal": ("proof of concept", "outputs on simulated and emulated hardware that equal NumPy's", ">= 100", "%"),
    "flash": ("proof of concept", "flash of a Cortex-M4, code and parameters", "< 20", "kB"),
    "alarms": ("pilot", "sound windows that the guard distrusts", "< 1", "%"),
    "detection": ("pilot", "faulty windows that it finds, the worst kind of fault", ">= 95", "%"),
    "update": ("pilot", "devices updated and rolled back without a visit", ">= 100", "%"),
    "latency": ("pilot", "measured latency, against the estimate", "< 2", "times"),
    "energy": ("pilot", "measured energy of a forecast, against the estimate", "< 2", "times"),
    "field_error": ("pilot", "error of ten devices over eight weeks, against the best baseline", "< 0", "%"),
    "break_even": (
        "production",
        "devices from which on the microcontroller pays against the cloud",
        "< 10000",
        "devices",
    ),
    "delivered": ("production", "hours with a forecast, over three months", ">= 99", "%"),
    "visits": ("production", "visits to a device in a year", "< 0.2", "visits"),
}


def gates(verdict, checked, detection, crossings):
    """The plan: what must hold before the next stage begins, and what of it is known. -> key, stage, gate, bar, found,
    unit, state

    found: empty where only a board or the field can tell; state: passed, failed or open, as what rests on assumed
    prices stays. checked: of `assessment.everywhere`; detection: of `real_data.detection`; crossings: of
    `cost.break_even`."""
    error = verdict.set_index("method")["mse"]
    four, flash = (assessment.four_bits(verdict).set_index("target")[column] for column in ("mse", "size_bytes"))
    sound = detection["strength"] == 0
    pays = crossings[(crossings["option"] == cost.M4.name) & crossings["against"].isin(cost.CLOUDS)]["devices"]
    found = {
        "error_baseline": 100 * (four.iloc[0] / verdict[verdict["target"] == "any"]["mse"].min() - 1),
        "error_float": 100 * (four.iloc[0] / error["float, PyTorch"] - 1),
        "equal": 100 * checked["equal"].sum() / checked["outputs"].sum(),
        "flash": flash[cost.M4.name] / 1e3,
        "alarms": detection[sound]["distrusted"].max(),
        "detection": detection[~sound & (detection["strength"] == detection["bar"])]["found"].min(),
        "break_even": min(pays, default=None),
    }
    states = {
        key: "open" if found.get(key) is None or key == "break_even" else _state(bar, found[key])
        for key, (_, _, bar, _) in GATES.items()
    }
    rows = [
        (key, stage, gate, bar, found.get(key), unit, states[key]) for key, (stage, gate, bar, unit) in GATES.items()
    ]
    return pd.DataFrame(rows, columns=["key", "stage", "gate", "bar", "found", "unit", "state"])


def _state(bar, found):
    sign, limit = bar.split()
    return "passed" if (found >= float(limit) if sign == ">=" else found < float(limit)) else "failed"
