"""The accelerator from Python: `open_engine` finds it on a board, or as simulated RTL where there is none; then load,
forecast, stream.

    engine = open_engine()
    engine.load("model.safetensors")
    engine.forecast(values)  # sensor units, (context,) or (windows, context)

Needs numpy and pynq.
"""

import asyncio
import os
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from pynq import Clocks, DefaultIP, Overlay, allocate
from pynq.buffer import PynqBuffer
from pynq.interrupt import Interrupt, _InterruptController
from pynq.pl_server.device import Device
from pynq.pl_server.embedded_device import EmbeddedDevice

from qatlib.board import sim_device
from qatlib.board.turns import Turns
from qatlib.engine import bitstream, compiler, hwh, isa
from qatlib.engine.program import Program
from qatlib.engine.registers import MOST_WINDOWS, OFFSETS, WORD, EngineError, Status, bit, job
from qatlib.integer_model.model import IntegerModel
from qatlib.system import paths

BATCH = 64  # windows between two starts of the engine
TIMEOUT = 5.0  # seconds without a finished window
MOST_SECONDS = 86_400  # of a timeout


def open_engine(*, config="pynq-z2"):
    """The driver of the engine, identified and ready for `load`.

    On a board the overlay `overlays/<board>/engine.bit` is downloaded; elsewhere the RTL of `config` (a name in
    isa.CONFIGS) is simulated. EngineError for a bitstream that is not what was recorded, or not this qatlib's;
    FileNotFoundError where there is none. Drivers and threads of one process share an engine, a batch at a time, each
    with its own model; two processes must not. A driver whose overlay another one of another configuration has replaced
    refuses to run.
    """
    if not isinstance(config, str) or config not in isa.CONFIGS:
        raise EngineError(f"no configuration {config!r}; choose one of {', '.join(isa.CONFIGS)}")
    if _on_board():
        config = board_name()
        folder, device = paths.OVERLAYS / config, Device.active_device
    else:
        # imported only here: a board needs neither simulator nor compiler

        folder, device = sim_device.write_overlay(isa.CONFIGS[config]), sim_device.SimDevice.activate()
    try:
        bitstream.check(folder)
    except ValueError as error:
        raise EngineError(f"wrong bitstream: {error}") from None
    with _shared(device).turns.taken(f"opening {config}", TIMEOUT):
        overlay = Overlay(str(folder / bitstream.BIT), device=device)
        _shared(device).under_way = None  # whatever it was
        engine = getattr(overlay, hwh.INSTANCE)
    if engine.config.name != config:
        raise EngineError(
            f"wrong bitstream: it holds the configuration {engine.config.name}, {folder} should hold {config}"
        )
    engine.overlay = overlay  # as long as the driver lives
    return engine


def _on_board():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no device was found
        return any(isinstance(device, EmbeddedDevice) for device in Device.devices)


def board_name():
    """The folder of this board's overlay: `pynq-z2` or `kv260`; PYNQ's images name the board in $BOARD and in the
    device tree."""
    tree = Path("/proc/device-tree/chosen/pynq_board")
    name = os.environ.get("BOARD") or (tree.read_text().rstrip("\0\n") if tree.is_file() else "")
    if name.lower() not in isa.CONFIGS:
        raise FileNotFoundError(f"no overlay for board {name!r}: set BOARD to one of {', '.join(isa.CONFIGS)}")
    return name.lower()


@dataclass
class Times:
    """Where the time of a run went, in seconds: Python on the processor, the bus (registers, caches, windows,
    forecasts), the engine.

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

    def count(self, windows, cycles, engine_cycles):
        """A run of the engine more."""
        self.windows += windows
        self.cycles += cycles
        self.engine_cycles += engine_cycles
        self.engine += engine_cycles / (self.clock_mhz * 1e6)

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


class Loaded(NamedTuple):
    model: IntegerModel
    program: Program


@dataclass(eq=False)
class Run:
    """From a start of the engine to its end."""

    loaded: Loaded
    windows: int
    inputs: PynqBuffer
    outputs: PynqBuffer
    times: Times


@dataclass(eq=False)
class Shared:
    """What the drivers of a device have in common. written: the program in its memories; trace: what tells that it
    still is."""

    turns: Turns = field(default_factory=Turns)
    written: Program | None = None
    trace: tuple = ()
    under_way: Run | None = None  # started, and neither finished nor reset
    loop: asyncio.AbstractEventLoop | None = None  # that waited for the interrupt last


def _shared(device):
    return device.__dict__.setdefault("qatlib", Shared())


class Engine(DefaultIP):
    """Driver of the engine. pynq makes it where an overlay holds one; `open_engine` opens the overlay.

    Threads, coroutines and other drivers may use the same engine: a batch has it alone, the next waits. EngineError
    where it is not given back within `timeout`, and where waiting would be for ever: a coroutine's `run_async` cannot
    end while its own thread waits in `run`.

    timeout: seconds without a finished window after which a wait gives up. After any error the engine is reset, and the
    next run writes the model anew. last_run: Times of the run that was begun last, on any thread.
    """

    bindto = [hwh.VLNV]  # noqa: RUF012  pynq reads a list

    def __init__(self, description):
        super().__init__(description)
        self.timeout, self.last_run = TIMEOUT, None
        self.simulated = getattr(self.device, "simulated", False)
        self._shared, self._address, self._bitfile = (
            _shared(self.device),
            description["phys_addr"],
            self.device.bitfile_name,
        )
        self._loaded = self._buffers = self._last = None
        if description["addr_range"] != hwh.SIZE:
            raise EngineError(
                f"wrong metadata: the engine's aperture has {description['addr_range']} bytes, not {hwh.SIZE}"
            )
        self.config = self._identify()

    def _identify(self):
        """The configuration that answers at the engine's address."""
        identity, version, checksum = (self._read(name) for name in ("ID", "VERSION", "CONFIG"))
        if identity != isa.ID:
            raise EngineError(
                f"wrong bitstream: 0x{identity:08X} at address 0x{self._address:08X} identifies no engine "
                f"(0x{isa.ID:08X})"
            )
        if version != isa.VERSION:
            raise EngineError(
                f"wrong bitstream: it has version {version}, this qatlib drives {isa.VERSION}; take both from "
                f"one release"
            )
        found = [config for config in isa.CONFIGS.values() if config.checksum == checksum]
        if not found:
            raise EngineError(
                f"wrong bitstream: configuration 0x{checksum:08X} is none of {', '.join(isa.CONFIGS)} in this qatlib"
            )
        return found[0]

    def _check_overlay(self):
        """EngineError unless the overlay is still this driver's: its file first, since another's addresses may not even
        answer."""
        found = self.device.bitfile_name
        if found == self._bitfile:
            try:
                found = self._identify().name
            except EngineError as error:
                found = error
        if found != self.config.name:
            raise EngineError(
                f"another overlay was downloaded: {found}, not {self.config.name}; call open_engine again"
            )

    @property
    def timeout(self):
        return self._timeout

    @timeout.setter
    def timeout(self, seconds):
        if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"timeout is {seconds!r}; it must be seconds, more than 0 and at most {MOST_SECONDS}")
        self._timeout = seconds

    @property
    def model(self):
        return self._loaded and self._loaded.model

    @property
    def program(self):
        return self._loaded and self._loaded.program

    @property
    def note(self):
        """Where and how fast this runs, for figures and prints."""
        return f"{'simulated RTL' if self.simulated else 'overlay'} {self.config.name} at {Clocks.fclk0_mhz:g} MHz"

    @property
    def status(self):
        return Status.decode(self._read("STATUS"))

    # -- Models and forecasts

    def load(self, model):
        """Compile a model (IntegerModel, or the path of its file) and write it into the engine's memories: no new
        bitstream, no synthesis.

        EngineError for what is neither, and while the engine runs; whatever the compiler refuses leaves the model
        before in place.
        """
        if not isinstance(model, IntegerModel | str | os.PathLike):
            raise EngineError(f"load takes an IntegerModel or the path of its file, not {type(model).__name__}")
        model = model if isinstance(model, IntegerModel) else IntegerModel.load(model)
        loaded = Loaded(model, compiler.compile(model, self.config))
        with self._taken(f"loading {model.name!r}") as turn:
            self._check_overlay()
            self._refuse_if_busy(turn)
            self._write_program(loaded.program)
            self._loaded = loaded

    def forecast(self, values):
        """Forecast in sensor units: (windows, context) or (context,) -> float64 likewise. ValueError for NaN and out of
        range."""
        loaded = self._need_model()
        forward = partial(self._run, loaded)
        on_engine = SimpleNamespace(resolution=loaded.model.resolution, horizon=loaded.model.horizon, forward=forward)
        return IntegerModel.predict(on_engine, values)  # its checks and its scaling, this engine's integers

    def run(self, counts):
        """Forecast in counts: int16 (windows, context) -> int16 (windows, horizon). All by the model that is loaded as
        it begins."""
        return self._run(self._need_model(), counts)

    def _run(self, loaded, counts):
        parts, times = self._begin(loaded, counts, BATCH)
        return _joined(loaded, [self._run_batch(loaded, part, times) for part in parts])

    def stream(self, counts, batch=BATCH):
        """The same batch by batch, as they come: yields int16 (at most batch, horizon). Another model may be loaded in
        between.

        ValueError for a batch that is no number of windows from 1 to 65535.
        """
        parts, times = self._begin(self._need_model(), counts, batch)
        return (self._run_batch(self._loaded, part, times) for part in parts)

    async def run_async(self, counts, batch=BATCH):
        """`run`, waiting for the interrupt instead of asking for the status, so that the notebook stays usable
        meanwhile."""
        loaded, forecasts = self._need_model(), []
        self._need_interrupt()
        parts, times = self._begin(loaded, counts, batch)
        for part in parts:
            async with self._taken_async(_doing(loaded, len(part))) as turn:
                with self._timed(times), self._reset_if_broken_off():
                    run = Run(loaded, len(part), *self._fill(loaded.model, part), times)
                    with self._on_device(times):
                        self._start(turn, run, interrupt=True)
                        await self._wait_async()
                    forecasts.append(_forecasts(run))
        return _joined(loaded, forecasts)

    def _begin(self, loaded, counts, batch):
        """Checks before anything is started. -> batches of a copy of the counts, which the caller may change; the Times
        of the run."""
        if not _is_count(batch):
            raise ValueError(f"batch is {batch!r}; it must be from 1 to {MOST_WINDOWS} windows")
        counts = np.array(loaded.model.checked(counts))
        self.last_run = times = Times(Clocks.fclk0_mhz, self.simulated)
        return [counts[i : i + batch] for i in range(0, len(counts), batch)], times

    def _run_batch(self, loaded, counts, times):
        counts = loaded.model.checked(counts)
        with self._taken(_doing(loaded, len(counts))) as turn, self._timed(times), self._reset_if_broken_off():
            run = Run(loaded, len(counts), *self._fill(loaded.model, counts), times)
            with self._on_device(times):
                self._start(turn, run)
                self._wait()
            return _forecasts(run)

    # -- By hand

    def start(self, inputs, outputs, windows, *, interrupt=False):
        """Start the loaded model on two buffers of pynq.allocate, int16 (windows or more, counts rounded up to 4);
        `wait` goes with it.

        The engine is this driver's until then, or until `reset`. EngineError for a buffer that the model cannot use or
        the engine cannot address, and if the engine is busy, which leaves the run under way as it is.
        """
        loaded = self._need_model()
        if not _is_count(windows):
            raise EngineError(f"{windows!r} windows in one run; the engine takes 1 to {MOST_WINDOWS}", cause=4)
        for buffer, counts in ((inputs, loaded.model.context), (outputs, loaded.model.horizon)):
            self._check_buffer(buffer, windows, counts)
        run = Run(loaded, windows, inputs, outputs, Times(Clocks.fclk0_mhz, self.simulated))
        with self._taken(_doing(loaded, windows)) as turn, self._reset_if_broken_off():
            self._start(turn, run, interrupt)
            self.last_run, turn.kept = run.times, self

    def wait(self):
        """Until the run is over. EngineError if it ends in an error, is lost, or finishes no window for `timeout`
        seconds."""
        with self._taken("waiting", resumes=self) as turn, self._reset_if_broken_off():
            turn.kept = None
            self._check_overlay()
            self._wait()

    async def wait_async(self):
        """`wait` for the interrupt; one that does not come is an EngineError too."""
        self._need_interrupt()
        async with self._taken_async("waiting", resumes=self) as turn:
            with self._reset_if_broken_off():
                turn.kept = None
                self._check_overlay()
                await self._wait_async()

    def reset(self):
        """Soft reset, in mid-run too: waits until nothing is under way on the bus. The next run writes the model
        anew."""
        with self._taken("resetting", resumes=self) as turn:
            turn.kept = None
            self._check_overlay()
            self._reset()

    def close(self):
        """Give the buffers back."""
        with self._taken("closing"):
            self._free()

    # -- Alone with the device

    def _taken(self, doing, resumes=None):
        return self._shared.turns.taken(doing, self.timeout, resumes=resumes)

    def _taken_async(self, doing, resumes=None):
        return self._shared.turns.taken_async(doing, self.timeout, resumes=resumes)

    @contextmanager
    def _reset_if_broken_off(self):
        """An interrupt from the keyboard, or a cancelled task, leaves nothing under way."""
        try:
            yield
        except EngineError:
            raise  # has reset the engine, or did not start it
        except BaseException:
            if self._shared.under_way and self._shared.under_way is self._last:
                with suppress(EngineError):  # the next start tries again
                    self._reset()
            raise

    def _start(self, turn, run, interrupt=False):
        self._check_overlay()
        self._refuse_if_busy(turn)
        if self._shared.written is not run.loaded.program or self._shared.trace != self._trace():
            self._write_program(run.loaded.program)
        for buffer in (run.inputs, run.outputs):
            _check_address(buffer)
            buffer.flush()  # the output too: a line of the cache that is written back later would fall on the forecasts
        places = [
            (buffer.device_address, buffer.device_address + buffer.nbytes) for buffer in (run.inputs, run.outputs)
        ]
        for name, value in job(run.loaded.program, run.windows, *places).items():
            self._write(name, value)
        self._last = self._shared.under_way = run
        self._write("CTRL", bit("CTRL", "START") | interrupt * bit("CTRL", "IRQ_ENABLE"))

    def _wait(self):
        seen, deadline = 0, time.monotonic() + self.timeout
        while (status := self.status).busy:
            if time.monotonic() > deadline:
                seen, deadline = self._progress(seen), time.monotonic() + self.timeout
        self._finish(status)

    async def _wait_async(self):
        seen, irq = 0, self._interrupt()
        while not ((status := self.status).done or status.error):
            try:
                await asyncio.wait_for(irq.wait(), self.timeout)
            except asyncio.TimeoutError:
                if not self.status.busy:
                    self._fail(f"the interrupt did not arrive within {self.timeout:g} s, though the engine has stopped")
                seen = self._progress(seen)
        self._wait()

    def _need_interrupt(self):
        if getattr(self, "irq", None) is None:
            raise EngineError(
                "the engine's interrupt is not connected (pynq warned of it as the overlay was opened); use run"
            )

    def _interrupt(self):
        """pynq's, for this event loop and this download: its own waits in the loop and on the overlay that it saw
        first."""
        loop = asyncio.get_running_loop()
        if self._shared.loop not in (None, loop):
            _InterruptController._controllers.clear()  # they wait for an event in a loop that may have ended
        self._shared.loop = loop
        return Interrupt(self._interrupts["irq"]["fullpath"])

    def _progress(self, seen):
        """Windows finished; EngineError if they are no more than were seen before."""
        finished = self._read("FINISHED")
        if finished <= seen:
            self._fail(f"no window was finished within {self.timeout:g} s")
        self._shared.turns.promise(2 * self.timeout)  # for the next look, and a reset
        return finished

    def _finish(self, status):
        run = self._last
        if status.error:
            self._fail(f"the engine stopped: {status.reason}")
        if not status.done or run is None or run is not self._shared.under_way or self._read("FINISHED") != run.windows:
            self._fail("the run is lost: was the engine reset, or the overlay downloaded again?")
        self._write("STATUS", bit("STATUS", "DONE"))
        run.outputs.invalidate()
        run.times.count(run.windows, self._read("CYCLES"), self._read("ENGINE_CYCLES"))
        self._shared.under_way, self._shared.trace = None, self._trace()

    def _fail(self, what):
        """Reset, and raise what happened with the status before."""
        status, finished = self.status, self._read("FINISHED")
        message = f"{what}; {status}, {finished} of {self._last.windows if self._last else 0} windows finished"
        try:
            self._reset()
        except EngineError as second:
            message += f"; {second}"
        raise EngineError(message, status.cause)

    def _reset(self):
        self._shared.written = None
        self._write("CTRL", bit("CTRL", "RESET"))
        deadline = time.monotonic() + self.timeout
        while (status := self.status).resetting or status.busy:
            if time.monotonic() > deadline:
                raise EngineError(f"the reset does not end, the bus does not answer: open the overlay again ({status})")
        self._shared.under_way = None

    def _refuse_if_busy(self, turn):
        """EngineError for a run under way that somebody will wait for; what else is left over is reset."""
        status = self.status
        if status.resetting or (status.busy and self._shared.under_way and not turn.kept):
            # an earlier reset that did not end in its time, or a run that was broken off before its reset
            self._reset()
        elif status.busy:
            raise EngineError(f"the engine is busy: wait for the run under way, or reset() it; {status}", cause=1)

    def _write_program(self, program):
        self._shared.written = None
        for address, words in program.writes:
            # An array of places, not a slice: copied word by word. A slice goes through memcpy, whose wide or unaligned
            # stores a bus of 32-bit registers may refuse.
            self.mmio.array[address // 4 + np.arange(len(words))] = words
        self._shared.written, self._shared.trace = program, self._trace()

    def _trace(self):
        """What a download changes, and most of what another process does: time of the last download, cycles and windows
        of the last run."""
        return self.device.timestamp, self._read("CYCLES"), self._read("FINISHED")

    # -- Small things

    def _need_model(self):
        if self._loaded is None:
            raise EngineError("no model is loaded: call load(model) first")
        return self._loaded

    def _check_buffer(self, buffer, windows, counts):
        """EngineError unless the engine finds so many rows of so many counts in it."""
        if (
            not isinstance(buffer, PynqBuffer)
            or getattr(buffer, "device", None) is not self.device
            or not _is_allocated(buffer)
        ):
            raise EngineError(
                "start takes buffers of pynq.allocate on the engine's device, and views of them; not copies, nor "
                "freed ones"
            )
        shape, whole = buffer.shape, buffer.dtype == np.int16 and buffer.flags.c_contiguous
        if not whole or len(shape) != 2 or shape[0] < windows or shape[1] != _row(counts):
            wanted = f"{self.model.name!r} needs contiguous int16 ({windows} or more, {_row(counts)})"
            raise EngineError(
                f"a buffer of {buffer.dtype} {shape} is too short or of another layout: {wanted}", cause=4
            )
        _check_address(buffer)

    def _fill(self, model, counts):
        """Counts (windows, context) in the input buffer. -> input and output buffer, at least that long."""
        shapes = [(len(counts), _row(length)) for length in (model.context, model.horizon)]
        fits = self._buffers and all(b.shape[0] >= s[0] and b.shape[1] == s[1] for b, s in zip(self._buffers, shapes))
        if not fits:
            self._free()
            self._buffers = tuple(allocate(shape, np.int16, target=self.device) for shape in shapes)
        self._buffers[0][: len(counts), : model.context] = counts
        return self._buffers

    def _free(self):
        for buffer in self._buffers or ():
            buffer.freebuffer()
        self._buffers = None

    def _read(self, name):
        return self.read(OFFSETS[name])

    def _write(self, name, value):
        self.write(OFFSETS[name], int(value))

    def _now(self):
        """Seconds of the clock that bus and engine are measured by."""
        return self.device.seconds if self.simulated else time.perf_counter()

    @contextmanager
    def _timed(self, times):
        """What passes in here is Python's time, less what `_on_device` took; what that took is the bus's, less the
        engine's."""
        began = time.perf_counter()
        yield
        times.python += time.perf_counter() - began

    @contextmanager
    def _on_device(self, times):
        device, began, engine = self._now(), time.perf_counter(), times.engine
        yield
        times.bus += self._now() - device - (times.engine - engine)
        times.python -= time.perf_counter() - began


def _doing(loaded, windows):
    return f"{windows} windows of {loaded.model.name!r}"


def _joined(loaded, parts):
    return np.concatenate([np.empty((0, loaded.model.horizon), np.int16), *parts])


def _forecasts(run):
    return np.array(run.outputs[: run.windows, : run.loaded.model.horizon])


def _row(counts):
    """Counts from window to window in a buffer."""
    return -(-counts * 2 // WORD) * WORD // 2


def _is_count(windows):
    return isinstance(windows, Integral) and not isinstance(windows, bool) and 1 <= windows <= MOST_WINDOWS


def _is_allocated(buffer):
    """Whether this is device memory still: numpy gives a copy of a buffer an address too, but one of nothing."""
    while isinstance(buffer.base, PynqBuffer):
        buffer = buffer.base
    return not buffer.flags.owndata and (not buffer.freed or bool(getattr(buffer, "pointer", None)))


def _check_address(buffer):
    first, last = buffer.device_address, buffer.device_address + buffer.nbytes
    if first % WORD or last >= 1 << 32:
        raise EngineError(
            f"the engine reaches multiples of {WORD} below 2^32, not a buffer from 0x{first:X} to 0x{last:X}", cause=4
        )
