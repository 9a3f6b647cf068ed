"""The accelerator from Python: a model loaded, forecasts in counts or sensor units, at once, as a stream, or awaited.

    engine = open_engine()
    engine.load("model.safetensors")
    engine.forecast(values)  # sensor units, one window or several

Needs numpy and pynq.
"""

import os
import time
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from qatlib.board import buffers
from qatlib.board.control import Control, Run
from qatlib.board.times import Times
from qatlib.engine import compiler, hwh
from qatlib.engine.program import Program
from qatlib.engine.registers import MOST_WINDOWS, EngineError
from qatlib.integer_model import detection
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.units import in_units

BATCH = 64  # windows between two starts of the engine
MOST_SECONDS = 86_400  # of a timeout


class Loaded(NamedTuple):
    """A model and its program; of independent channels those of each, which the engine takes in turn."""

    model: IntegerModel
    program: Program
    channels: tuple = ()


def compiled(model, config):
    """IntegerModel -> Loaded."""
    parts = [Loaded(part, compiler.compile(part, config)) for part in compiler.parts(model)]
    return parts[0] if len(parts) == 1 else Loaded(model, parts[0].program, tuple(parts))


class Engine(Control):
    """Driver of the engine. pynq makes it where an overlay holds one; `open_engine` opens the overlay.

    Threads, coroutines and other drivers may use the same engine: a batch, of independent channels one channel of it,
    has it alone, the next waits. EngineError
    where it is not given back within `timeout`, and where waiting would be for ever: a coroutine's `run_async` cannot
    end while its own thread waits in `run`.

    timeout: seconds without a finished window after which a wait gives up. After any error the engine is reset, and the
    next run writes the model anew. last_run: Times of the run that was begun last, on any thread.
    """

    bindto = [hwh.VLNV]  # noqa: RUF012  pynq reads a list

    def __init__(self, description):
        super().__init__(description)
        self._buffers, self._loaded, self.last_run = buffers.Buffers(self.device), None, None

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
        """Of independent channels the first one's."""
        return self._loaded and self._loaded.program

    @property
    def note(self):
        """Where and how fast this runs, for figures and prints."""
        board = getattr(self.device, "board", None)
        line = f", at the serial line of a {board.name}" if board else ""
        return f"{'simulated RTL' if self.simulated else 'overlay'} {self.config.name} at {self.clock_mhz:g} MHz{line}"

    def load(self, model):
        """Compile a model (IntegerModel, or the path of its file) and write it into the engine's memories: no new
        bitstream, no synthesis.

        EngineError for what is neither, and while the engine runs; whatever the compiler refuses leaves the model
        before in place.
        """
        if not isinstance(model, IntegerModel | str | os.PathLike):
            raise EngineError(f"load takes an IntegerModel or the path of its file, not {type(model).__name__}")
        model = model if isinstance(model, IntegerModel) else IntegerModel.load(model)
        loaded = compiled(model, self.config)
        with self._taken(f"loading {model.name!r}") as turn:
            self._check_overlay()
            self._refuse_if_busy(turn)
            self._write_program(loaded.program)
            self._loaded = loaded

    # -- Forecasts

    def forecast(self, values):
        """In sensor units: windows, or one window, of the model's `window_shape` -> float64 forecasts likewise; of a
        classifier (labels, scores). ValueError for NaN and out of range."""
        loaded = self._need_model()
        return in_units(values, loaded.model, partial(self._run, loaded))

    def classify(self, counts):
        """As `IntegerModel.classify`."""
        loaded = self._need_model()
        loaded.model.need("classify")
        scores = self._run(loaded, counts)
        return scores.argmax(axis=-1), scores

    def detect(self, rows):
        """As `IntegerModel.detect`, the network on the engine."""
        loaded = self._need_model()
        return detection.detect(loaded.model, rows, partial(self._run, loaded))

    def run(self, counts):
        """Forecast in counts: int16 windows -> int16 forecasts, as `IntegerModel.forward`. All by the model that is
        loaded as it begins."""
        return self._run(self._need_model(), counts)

    def _run(self, loaded, counts):
        parts, times = self._begin(loaded, counts, BATCH)
        forecasts = self._run_parts(loaded, parts, times)
        times.windows = len(counts)
        return forecasts

    def _run_parts(self, loaded, parts, times):
        """Independent channels one after the other, of all batches: their programs are written once."""
        if loaded.channels:
            channels = enumerate(loaded.channels)
            return np.stack([self._run_parts(c, [p[:, :, i] for p in parts], times) for i, c in channels], axis=-1)
        return _joined(loaded, [self._run_batch(loaded, part, times) for part in parts])

    def stream(self, counts, batch=BATCH):
        """The same batch by batch, as they come: yields int16 forecasts of at most `batch` windows. Another model may
        be loaded in between.

        ValueError for a batch that is no number of windows from 1 to 65535.
        """
        parts, times = self._begin(self._need_model(), counts, batch)
        return (self._run_next(part, times) for part in parts)

    def _run_next(self, counts, times):
        """A batch by the model that is loaded now."""
        loaded = self._loaded
        forecasts = self._run_parts(loaded, [loaded.model.checked(counts)], times)
        times.windows += len(counts)
        return forecasts

    async def run_async(self, counts, batch=BATCH):
        """`run`, waiting for the interrupt instead of asking for the status, so that the notebook stays usable
        meanwhile."""
        loaded, forecasts = self._need_model(), []
        self._need_interrupt()
        parts, times = self._begin(loaded, counts, batch)
        for part in parts:
            forecasts.append(await self._run_batch_async(loaded, part, times))
            times.windows += len(part)
        return _joined(loaded, forecasts)

    async def _run_batch_async(self, loaded, counts, times):
        if loaded.channels:
            channels = enumerate(loaded.channels)
            return np.stack([await self._run_batch_async(one, counts[:, :, i], times) for i, one in channels], axis=-1)
        forecasts = []
        async with self._taken_async(_doing(loaded, len(counts))) as turn:
            with self._batch(loaded, counts, times, forecasts) as run:
                self._start(turn, run, interrupt=True)
                await self._wait_async()
        return forecasts[0]

    def _run_batch(self, loaded, counts, times):
        forecasts = []
        with self._taken(_doing(loaded, len(counts))) as turn:
            with self._batch(loaded, counts, times, forecasts) as run:
                self._start(turn, run)
                self._wait()
        return forecasts[0]

    def _begin(self, loaded, counts, batch):
        """Checks before anything is started. -> batches of a copy of the counts, which the caller may change; the Times
        of the run."""
        if not _is_count(batch):
            raise ValueError(f"batch is {batch!r}; it must be from 1 to {MOST_WINDOWS} windows")
        counts, batch = np.array(loaded.model.checked(counts)), min(batch, self._most(loaded.program))
        self.last_run = times = Times(self.clock_mhz, self.simulated)
        return [counts[i : i + batch] for i in range(0, len(counts), batch)], times

    def _most(self, program):
        """Windows of one run for which there is memory, with their forecasts."""
        needed = 2 * (buffers.row(program.inputs) + buffers.row(program.outputs))
        most = min(MOST_WINDOWS, getattr(self.device, "room", MOST_WINDOWS * needed) // needed)
        if not most:
            raise EngineError(
                f"a window of {program.name} needs {needed} bytes; {self.device.name} has {self.device.room}"
            )
        return most

    @contextmanager
    def _batch(self, loaded, counts, times, forecasts):
        """Around the start of a run in this driver's own buffers and the wait for it; then its forecasts are
        appended."""
        with times.timed(), self._reset_if_broken_off():
            run = Run(loaded.program, len(counts), *self._buffers.filled(loaded.program, counts), times)
            with times.on_device(self._now):
                yield run
            forecasts.append(run.program.received(np.array(run.outputs[: run.windows, : run.program.outputs])))

    def _now(self):
        """Seconds of the clock that bus and engine are measured by."""
        return self.device.seconds if self.simulated else time.perf_counter()

    def _need_model(self):
        if self._loaded is None:
            raise EngineError("no model is loaded: call load(model) first")
        return self._loaded

    # -- By hand

    def start(self, inputs, outputs, windows, *, interrupt=False):
        """Start the loaded model on two buffers of pynq.allocate, int16 (windows or more, counts rounded up to 4);
        `wait` goes with it. Mixed channels lie one after another, as do targets: see Program.sent and received.

        The engine is this driver's until then, or until `reset`. EngineError for a model of independent channels, for a
        buffer that the model cannot use or the engine cannot address, and if the engine is busy, which leaves the run
        under way as it is.
        """
        loaded = self._need_model()
        if loaded.channels:
            takes_turns = f"{len(loaded.channels)} channels, which take turns in the engine"
            raise EngineError(f"{loaded.model.name} has {takes_turns}: use run, or load model.channel(i)")
        if not _is_count(windows):
            raise EngineError(f"{windows!r} windows in one run; the engine takes 1 to {MOST_WINDOWS}", cause=4)
        for buffer, counts in ((inputs, loaded.program.inputs), (outputs, loaded.program.outputs)):
            buffers.check(buffer, self.device, loaded.model.name, windows, counts)
        run = Run(loaded.program, windows, inputs, outputs, Times(self.clock_mhz, self.simulated, windows))
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
        """Give the buffers back, and the port."""
        with self._taken("closing"):
            self._buffers.free()
            getattr(self.device, "release", lambda: None)()


def _doing(loaded, windows):
    return f"{windows} windows of {loaded.model.name!r}"


def _joined(loaded, parts):
    return np.concatenate([np.empty((0, *loaded.model.forecast_shape), np.int16), *parts])


def _is_count(windows):
    return isinstance(windows, Integral) and not isinstance(windows, bool) and 1 <= windows <= MOST_WINDOWS
