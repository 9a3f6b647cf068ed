"""Where the time of a run goes: Python, the bus, the engine."""

import time
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Times:
    """Where the time of a run went, in seconds: Python on the processor, the bus (registers, caches, windows,
    forecasts, and programs where they change), the engine.

    If `simulated`, bus and engine are clock cycles of the RTL at `clock_mhz`, and Python is this computer's. Channels
    that take turns in the engine are of one window.
    """

    clock_mhz: float
    simulated: bool
    windows: int = 0
    python: float = 0.0
    bus: float = 0.0
    engine: float = 0.0
    cycles: int = 0  # from start to done
    engine_cycles: int = 0  # of these, with the program running

    def count(self, cycles, engine_cycles):
        """A run of the engine more."""
        self.cycles += cycles
        self.engine_cycles += engine_cycles
        self.engine += engine_cycles / (self.clock_mhz * 1e6)

    @contextmanager
    def timed(self):
        """What passes in here is Python's time, less what `on_device` took."""
        began = time.perf_counter()
        yield
        self.python += time.perf_counter() - began

    @contextmanager
    def on_device(self, now):
        """What passes in here is the bus's time, less the engine's. now: seconds of the clock that both are measured
        by."""
        device, began, engine = now(), time.perf_counter(), self.engine
        yield
        self.bus += now() - device - (self.engine - engine)
        self.python -= time.perf_counter() - began

    def per_window(self):
        """{part: microseconds a window}."""
        return {part: 1e6 * getattr(self, part) / max(1, self.windows) for part in ("python", "bus", "engine")}

    def __str__(self):
        parts = ", ".join(f"{part} {value:,.1f} us" for part, value in self.per_window().items())
        where = f"at {self.clock_mhz:g} MHz{', simulated' if self.simulated else ''}"
        return (
            f"{self.windows} windows; a window: {parts} ({where}; "
            f"{self.engine_cycles / max(1, self.windows):,.0f} cycles of the engine)"
        )
