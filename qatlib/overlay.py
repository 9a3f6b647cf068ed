"""The accelerator from Python: `open_engine` finds it on a board, or as simulated RTL where there is none; then load, forecast, stream.

    engine = open_engine()
    engine.load("model.safetensors")
    engine.forecast(values)  # sensor units, (context,) or (windows, context)

Needs numpy and pynq.
"""

import asyncio
import os
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from pynq import Clocks, DefaultIP, Overlay, allocate
from pynq.pl_server.device import Device
from pynq.pl_server.embedded_device import EmbeddedDevice

from qatlib import paths
from qatlib.engine import bitstream, compiler, hwh, isa
from qatlib.engine.registers import OFFSETS, WORD, EngineError, Status, bit, job
from qatlib.integer_model import IntegerModel

BATCH = 64  # windows between two starts of the engine
TIMEOUT = 5.0  # seconds without a finished window


def open_engine(*, config="pynq-z2"):
    """The driver of the engine, identified and ready for `load`.

    On a board the overlay `overlays/<board>/engine.bit` is downloaded; elsewhere the RTL of `config` (a name in isa.CONFIGS) is simulated.
    EngineError for a bitstream that is not what was recorded, or not this qatlib's; FileNotFoundError where there is none.
    Drivers of one process share an engine (each writes its model anew where another's was written last); two processes must not.
    """
    if config not in isa.CONFIGS:
        raise EngineError(f"no configuration {config!r}; choose one of {', '.join(isa.CONFIGS)}")
    if _on_board():
        config = board_name()
        folder, device = paths.OVERLAYS / config, Device.active_device
    else:
        from qatlib import sim_device  # imported only here: a board needs neither simulator nor compiler

        folder, device = sim_device.write_overlay(isa.CONFIGS[config]), sim_device.SimDevice.activate()
    try:
        bitstream.check(folder)
    except ValueError as error:
        raise EngineError(f"wrong bitstream: {error}") from None
    overlay = Overlay(str(folder / bitstream.BIT), device=device)
    device.written_by = None  # a download empties the engine's memories
    engine = getattr(overlay, hwh.INSTANCE)
    if engine.config.name != config:
        raise EngineError(f"wrong bitstream: it holds the configuration {engine.config.name}, {folder} should hold {config}")
    engine.overlay = overlay  # as long as the driver lives
    return engine


def _on_board():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no device was found
        return any(isinstance(device, EmbeddedDevice) for device in Device.devices)


def board_name():
    """The folder of this board's overlay: `pynq-z2` or `kv260`; PYNQ's images name the board in $BOARD and in the device tree."""
    tree = Path("/proc/device-tree/chosen/pynq_board")
    name = os.environ.get("BOARD") or (tree.read_text().rstrip("\0\n") if tree.is_file() else "")
    if name.lower() not in isa.CONFIGS:
        raise FileNotFoundError(f"no overlay for board {name!r}: set BOARD to one of {', '.join(isa.CONFIGS)}")
    return name.lower()


@dataclass
class Times:
    """Where the time of a run went, in seconds: Python on the processor, the bus (registers, caches, windows, forecasts), the engine.

    If `simulated`, bus and engine are clock cycles of the RTL at `clock_mhz`, and Python is this computer's.
    """

    clock_mhz: float
    simulated: bool
    windows: int = 0
    python: float = 0.0
    bus: float = 0.0
    engine: float = 0.0
    cycles: int = 0  # from start to done
    engine_cycles: int = 0  # of these, with the program running

    def per_window(self):
        """{part: microseconds a window}."""
        return {part: 1e6 * getattr(self, part) / max(1, self.windows) for part in ("python", "bus", "engine")}

    def __str__(self):
        parts = ", ".join(f"{part} {value:,.1f} us" for part, value in self.per_window().items())
        where = f"at {self.clock_mhz:g} MHz{', simulated' if self.simulated else ''}"
        return f"{self.windows} windows; a window: {parts} ({where}; {self.engine_cycles / max(1, self.windows):,.0f} cycles of the engine)"


class Engine(DefaultIP):
    """Driver of the engine. pynq makes it where an overlay holds one; `open_engine` opens the overlay.

    timeout: seconds without a finished window after which a wait gives up. After any error the engine is reset, and the next run
    writes the model anew.
    """

    bindto = [hwh.VLNV]  # noqa: RUF012  pynq reads a list

    def __init__(self, description):
        super().__init__(description)
        self.timeout, self.model, self.program, self.last_run = TIMEOUT, None, None, None
        self.simulated = getattr(self.device, "simulated", False)
        self._buffers, self._outputs, self._windows, self._stale = None, None, 0, False
        if description["addr_range"] != hwh.SIZE:
            raise EngineError(f"wrong metadata: the engine's aperture has {description['addr_range']} bytes, not {hwh.SIZE}")
        self._identify(description["phys_addr"])

    def _identify(self, address):
        identity, version, checksum = (self._read(name) for name in ("ID", "VERSION", "CONFIG"))
        if identity != isa.ID:
            raise EngineError(f"wrong bitstream: 0x{identity:08X} at address 0x{address:08X} identifies no engine (0x{isa.ID:08X})")
        if version != isa.VERSION:
            raise EngineError(f"wrong bitstream: it has version {version}, this qatlib drives {isa.VERSION}; take both from one release")
        found = [config for config in isa.CONFIGS.values() if config.checksum == checksum]
        if not found:
            raise EngineError(f"wrong bitstream: configuration 0x{checksum:08X} is none of {', '.join(isa.CONFIGS)} in this qatlib")
        self.config = found[0]

    @property
    def note(self):
        """Where and how fast this runs, for figures and prints."""
        return f"{'simulated RTL' if self.simulated else 'overlay'} {self.config.name} at {Clocks.fclk0_mhz:g} MHz"

    @property
    def status(self):
        return Status.decode(self._read("STATUS"))

    def load(self, model):
        """Compile a model (IntegerModel, or the path of its file) and write it into the engine's memories: no new bitstream, no synthesis.

        EngineError while the engine runs; whatever the compiler refuses leaves the model before in place.
        """
        model = model if isinstance(model, IntegerModel) else IntegerModel.load(model)
        program = compiler.compile(model, self.config)
        self._refuse_if_busy()
        self.model, self.program = model, program
        self._write_program()

    def forecast(self, values):
        """Forecast in sensor units: (windows, context) or (context,) -> float64 likewise. ValueError for NaN and out of range."""
        model = self._loaded()
        on_engine = SimpleNamespace(resolution=model.resolution, horizon=model.horizon, forward=self.run)
        return IntegerModel.predict(on_engine, values)  # its checks and its scaling, this engine's integers

    def run(self, counts):
        """Forecast in counts: int16 (windows, context) -> int16 (windows, horizon)."""
        return np.concatenate([np.empty((0, self._loaded().horizon), np.int16), *self.stream(counts)])

    def stream(self, counts, batch=BATCH):
        """The same batch by batch, as they come: yields int16 (at most batch, horizon). Another model may be loaded in between."""
        counts = self._loaded().checked(counts)
        if batch < 1:
            raise ValueError(f"batch is {batch}; it must be at least 1 window")
        self.last_run = Times(Clocks.fclk0_mhz, self.simulated)
        return (self._run_batch(counts[i : i + batch]) for i in range(0, len(counts), batch))

    async def run_async(self, counts, batch=BATCH):
        """`run`, waiting for the interrupt instead of asking for the status, so that the notebook stays usable meanwhile."""
        counts, forecasts = self._loaded().checked(counts), [np.empty((0, self._loaded().horizon), np.int16)]
        self.last_run = Times(Clocks.fclk0_mhz, self.simulated)
        for i in range(0, len(counts), batch):
            with self._timed():
                inputs, outputs = self._fill(counts[i : i + batch])
                with self._on_device():
                    self.start(inputs, outputs, len(counts[i : i + batch]), interrupt=True)
                    await self.wait_async()
                forecasts.append(self._take(outputs))
        return np.concatenate(forecasts)

    def _run_batch(self, counts):
        with self._timed():
            inputs, outputs = self._fill(self._loaded().checked(counts))
            with self._on_device():
                self.start(inputs, outputs, len(counts))
                try:
                    self.wait()
                except KeyboardInterrupt:
                    self.reset()
                    raise
            return self._take(outputs)

    def start(self, inputs, outputs, windows, *, interrupt=False):
        """Start the loaded model on two buffers of pynq.allocate, int16 (windows or more, counts rounded up to 4). `wait` goes with it.

        EngineError for a buffer that the engine cannot address, and if it is busy, which leaves the run under way as it is.
        """
        self._loaded()
        self._refuse_if_busy()
        if self._stale or getattr(self.device, "written_by", None) is not self:
            self._write_program()
        for buffer in (inputs, outputs):
            _check_address(buffer)
            buffer.flush()  # the output too: a line of the cache that is written back later would fall on the forecasts
        self._windows, self._outputs = windows, outputs
        places = [(buffer.device_address, buffer.device_address + buffer.nbytes) for buffer in (inputs, outputs)]
        for name, value in job(self.program, windows, *places).items():
            self._write(name, value)
        self._write("CTRL", bit("CTRL", "START") | interrupt * bit("CTRL", "IRQ_ENABLE"))

    def wait(self):
        """Until the run is over. EngineError if it ends in an error, is lost, or finishes no window for `timeout` seconds."""
        seen, deadline = 0, time.monotonic() + self.timeout
        while (status := self.status).busy:
            if time.monotonic() > deadline:
                seen, deadline = self._progress(seen), time.monotonic() + self.timeout
        self._finish(status)

    async def wait_async(self):
        """`wait` for the interrupt; one that does not come is an EngineError too."""
        if getattr(self, "irq", None) is None:
            raise EngineError("the engine's interrupt is not connected (pynq warned of it as the overlay was opened); use run")
        seen = 0
        while not ((status := self.status).done or status.error):
            try:
                await asyncio.wait_for(self.irq.wait(), self.timeout)
            except asyncio.TimeoutError:
                if not self.status.busy:
                    self._fail(f"the interrupt did not arrive within {self.timeout:g} s, though the engine has stopped")
                seen = self._progress(seen)
        self.wait()

    def _progress(self, seen):
        """Windows finished; EngineError if they are no more than were seen before."""
        finished = self._read("FINISHED")
        if finished <= seen:
            self._fail(f"no window was finished within {self.timeout:g} s")
        return finished

    def _finish(self, status):
        if status.error:
            self._fail(f"the engine stopped: {status.reason}")
        if not status.done or self._read("FINISHED") != self._windows:
            self._fail("the run is lost: was the engine reset, or the overlay downloaded again?")
        self._write("STATUS", bit("STATUS", "DONE"))
        self._outputs.invalidate()
        if self.last_run:
            self.last_run.cycles += self._read("CYCLES")
            self.last_run.engine_cycles += self._read("ENGINE_CYCLES")
            self.last_run.windows += self._windows

    def _fail(self, what):
        """Reset, and raise what happened with the status before."""
        status, finished, message = self.status, self._read("FINISHED"), what
        message = f"{what}; {status}, {finished} of {self._windows} windows finished"
        try:
            self.reset()
        except EngineError as second:
            message += f"; {second}"
        raise EngineError(message, status.cause)

    def reset(self):
        """Soft reset, in mid-run too: waits until nothing is under way on the bus. The next run writes the model anew."""
        self._stale = True
        self._write("CTRL", bit("CTRL", "RESET"))
        deadline = time.monotonic() + self.timeout
        while (status := self.status).resetting or status.busy:
            if time.monotonic() > deadline:
                raise EngineError(f"the reset does not end, the bus does not answer: open the overlay again ({status})")

    def close(self):
        """Give the buffers back."""
        for buffer in self._buffers or ():
            buffer.freebuffer()
        self._buffers = self._outputs = None

    def _loaded(self):
        if self.model is None:
            raise EngineError("no model is loaded: call load(model) first")
        return self.model

    def _refuse_if_busy(self):
        if self.status.resetting:
            self.reset()  # an earlier one, which did not end in its time
        if (status := self.status).busy:
            raise EngineError(f"the engine is busy: wait for the run under way, or reset() it; {status}", cause=1)

    def _write_program(self):
        self._stale = True
        for address, words in self.program.writes:
            # An array of places, not a slice: copied word by word. A slice goes through memcpy, whose wide or unaligned stores a bus of
            # 32-bit registers may refuse.
            self.mmio.array[address // 4 + np.arange(len(words))] = words
        self._stale, self.device.written_by = False, self

    def _fill(self, counts):
        """Counts (windows, context) in the input buffer. -> input and output buffer, at least that long."""
        shapes = [(len(counts), -(-length * 2 // WORD) * WORD // 2) for length in (self.model.context, self.model.horizon)]
        fits = self._buffers and all(b.shape[0] >= s[0] and b.shape[1] == s[1] for b, s in zip(self._buffers, shapes))
        if not fits:
            self.close()
            self._buffers = tuple(allocate(shape, np.int16, target=self.device) for shape in shapes)
        self._buffers[0][: len(counts), : self.model.context] = counts
        return self._buffers

    def _take(self, outputs):
        return np.array(outputs[: self._windows, : self.model.horizon])

    def _read(self, name):
        return self.read(OFFSETS[name])

    def _write(self, name, value):
        self.write(OFFSETS[name], int(value))

    def _now(self):
        """Seconds of the clock that bus and engine are measured by."""
        return self.device.seconds if self.simulated else time.perf_counter()

    @contextmanager
    def _timed(self):
        """What passes in here is Python's time, less what `_on_device` took; what that took is the bus's, less the engine's."""
        before, began = self.last_run.engine_cycles, time.perf_counter()
        yield
        self.last_run.python += time.perf_counter() - began
        engine = (self.last_run.engine_cycles - before) / (self.last_run.clock_mhz * 1e6)
        self.last_run.engine += engine
        self.last_run.bus -= engine

    @contextmanager
    def _on_device(self):
        device, began = self._now(), time.perf_counter()
        yield
        self.last_run.bus += self._now() - device
        self.last_run.python -= time.perf_counter() - began


def _check_address(buffer):
    first, last = buffer.device_address, buffer.device_address + buffer.nbytes
    if first % WORD or last >= 1 << 32:
        raise EngineError(f"the engine reaches multiples of {WORD} below 2^32, not a buffer from 0x{first:X} to 0x{last:X}", cause=4)
