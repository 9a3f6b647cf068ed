"""The engine through its registers: who answers there, a program written, a run started, waited for, reset."""

import asyncio
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
from pynq import Clocks, DefaultIP
from pynq.buffer import PynqBuffer
from pynq.interrupt import Interrupt, _InterruptController

from qatlib.board import buffers
from qatlib.board.times import Times
from qatlib.board.turns import Turns
from qatlib.engine import hwh, isa
from qatlib.engine.program import Program
from qatlib.engine.registers import OFFSETS, EngineError, Status, bit, job

TIMEOUT = 5.0  # seconds without a finished window
POLL = 0.001  # seconds between two looks of a coroutine where no interrupt comes


@dataclass(eq=False)
class Run:
    """From a start of the engine to its end."""

    program: Program
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


def shared(device):
    return device.__dict__.setdefault("qatlib", Shared())


class Control(DefaultIP):
    """What an engine's driver does by registers. All but `status` is for who has the device alone, see `_taken`."""

    def __init__(self, description):
        super().__init__(description)
        self.timeout, self.simulated = TIMEOUT, getattr(self.device, "simulated", False)
        self._shared, self._last = shared(self.device), None
        self._address, self._bitfile = description["phys_addr"], self.device.bitfile_name
        if description["addr_range"] != hwh.SIZE:
            raise EngineError(
                f"wrong metadata: the engine's aperture has {description['addr_range']} bytes, not {hwh.SIZE}"
            )
        self.config = self._identify()

    @property
    def polled(self):
        """Whether a coroutine asks for the status again and again: over a serial line no interrupt comes."""
        return hasattr(self.device, "room")

    @property
    def clock_mhz(self):
        return getattr(self.device, "clock_mhz", None) or Clocks.fclk0_mhz

    @property
    def status(self):
        return Status.decode(self._read("STATUS"))

    def _read(self, name):
        return self.read(OFFSETS[name])

    def _write(self, name, value):
        self.write(OFFSETS[name], int(value))

    # -- Who answers

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
        found = [config for config in isa.ALL_CONFIGS.values() if config.checksum == checksum]
        if not found:
            raise EngineError(
                f"wrong bitstream: configuration 0x{checksum:08X} is none of {', '.join(isa.ALL_CONFIGS)} in this "
                f"qatlib"
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

    def _need_interrupt(self):
        if getattr(self, "irq", None) is None and not self.polled:
            raise EngineError(
                "the engine's interrupt is not connected (pynq warned of it as the overlay was opened); use run"
            )

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
            raise  # has reset the engine, or did not start it, or cannot reach it
        except BaseException:
            if self._shared.under_way and self._shared.under_way is self._last:
                with suppress(EngineError):  # the next start tries again
                    self._reset()
            raise

    def _refuse_if_busy(self, turn):
        """EngineError for a run under way that somebody will wait for; what else is left over is reset."""
        status = self.status
        if status.resetting or (status.busy and self._shared.under_way and not turn.kept):
            # an earlier reset that did not end in its time, or a run that was broken off before its reset
            self._reset()
        elif status.busy:
            raise EngineError(f"the engine is busy: wait for the run under way, or reset() it; {status}", cause=1)

    # -- A run

    def _write_program(self, program, before=None):
        """before: the program that is known to be there; a memory that holds the same for both is left as it is."""
        self._shared.written, there = None, dict(before.writes) if before else {}
        for address, words in program.writes:
            if np.array_equal(there.get(address), words):
                continue
            # An array of places, not a slice: copied word by word. A slice goes through memcpy, whose wide or unaligned
            # stores a bus of 32-bit registers may refuse.
            self.mmio.array[address // 4 + np.arange(len(words))] = words
        self._shared.written, self._shared.trace = program, self._trace()

    def _trace(self):
        """What a download changes, and most of what another process does: time of the last download, cycles and windows
        of the last run."""
        return self.device.timestamp, self._read("CYCLES"), self._read("FINISHED")

    def _start(self, turn, run, interrupt=False):
        self._check_overlay()
        self._refuse_if_busy(turn)
        before = self._shared.written if self._shared.trace == self._trace() else None
        if before is not run.program:
            self._write_program(run.program, before)
        places = buffers.place(run.inputs), buffers.place(run.outputs)
        run.inputs[: run.windows].flush()
        if getattr(self.device, "caches", True):  # a line that is written back later would fall on the forecasts
            run.outputs[: run.windows].flush()
        for name, value in job(run.program, run.windows, *places).items():
            self._write(name, value)
        self._last = self._shared.under_way = run
        self._write("CTRL", bit("CTRL", "START") | interrupt * bit("CTRL", "IRQ_ENABLE"))

    def _looks(self):
        """Yields after each look at the status of a run that goes on; when it is over, finishes it."""
        seen, deadline = 0, time.monotonic() + self.timeout
        while (status := self.status).busy:
            yield
            if time.monotonic() > deadline:
                seen, deadline = self._progress(seen), time.monotonic() + self.timeout
        self._finish(status)

    def _wait(self):
        for _ in self._looks():
            pass

    async def _wait_async(self):
        if self.polled:
            for _ in self._looks():
                await asyncio.sleep(POLL)
        else:
            await self._wait_for_interrupt()

    async def _wait_for_interrupt(self):
        seen, irq = 0, self._interrupt()
        while not ((status := self.status).done or status.error):
            try:
                await asyncio.wait_for(irq.wait(), self.timeout)
            except asyncio.TimeoutError:
                if not self.status.busy:
                    self._fail(f"the interrupt did not arrive within {self.timeout:g} s, though the engine has stopped")
                seen = self._progress(seen)
        self._wait()

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
        run.outputs[: run.windows].invalidate()
        run.times.count(self._read("CYCLES"), self._read("ENGINE_CYCLES"))
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
