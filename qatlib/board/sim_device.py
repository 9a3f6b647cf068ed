"""The board that is not there: a pynq device on simulated RTL, so that the same notebook runs on a laptop.

Every register access is an AXI4-Lite handshake in the Verilated engine, every buffer is memory that its AXI master
reads and writes. What a board decides otherwise is decided here as there: caches (a buffer that was not flushed is not
seen), addresses, interrupts, clocks.
"""

import asyncio
import json
import tempfile
import threading
import weakref
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pynq.interrupt import _InterruptController
from pynq.pl_server.device import Device
from pynq.ps import Clocks
from pynqmetadata.frontends import Metadata
from pynqmetadata.views.runtime import RuntimeMetadataParser

from qatlib.board.mapped import MappedDevice
from qatlib.engine import bitstream, hwh, isa
from qatlib.engine.registers import OFFSETS, bit
from qatlib.engine.rtl import Rtl
from qatlib.system import paths

POLL_CYCLES = 200  # that pass in the engine between two looks at its interrupt
IDLE_SECONDS = 0.02  # between two looks when the engine is not at work either


def write_overlay(config):
    """The folder of a simulated overlay, made where it is missing: metadata, and in place of a bitstream the
    configuration to simulate."""
    folder = paths.BUILD / "overlays" / f"{config.name}-{zlib.crc32(repr((config, isa.REGISTERS)).encode()):08x}"
    if not (folder / bitstream.SHA256).is_file():
        _make_overlay(config, folder)
    return folder


def described(folder):
    """The metadata of an overlay, as pynq reads them."""
    return RuntimeMetadataParser(Metadata(input=str(folder / bitstream.HWH)))


def _make_overlay(config, folder):
    """File by file, each whole: another process may be at the same, or read what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".make-") as scratch:
        scratch = Path(scratch)
        hwh.write(scratch / bitstream.HWH)
        (scratch / bitstream.BIT).write_text(
            json.dumps({"simulated RTL, no bitstream": asdict(config)}, indent=1) + "\n"
        )
        bitstream.record(scratch)
        for name in (bitstream.HWH, bitstream.BIT, bitstream.SHA256):
            (scratch / name).replace(folder / name)


class SimDevice(MappedDevice):
    """One engine on a Zynq-7000. `rtl` is there after a download. Buffers may come and go on any thread.

    idle: cycles that pass in the engine before each register access, as they do while a processor's access is on its
    way.
    """

    _probe_priority_ = 1000  # pynq takes the lowest that is found: a board has 40 or 50
    simulated = True
    _activating = threading.Lock()

    @classmethod
    def _probe_(cls):
        return [cls()]

    @classmethod
    def activate(cls):
        """Make the simulator pynq's device. -> it."""
        with cls._activating:
            if not isinstance(getattr(Device, "_active_device", None), cls):
                Device.active_device = cls()
            Clocks._real_instance = SimClocks()
            return Device.active_device

    def __init__(self):
        super().__init__("simulated")
        self.rtl, self.interrupts, self.idle = None, None, 16

    def get_bitfile_metadata(self, bitfile_name, partial=False):
        return described(Path(bitfile_name).parent)

    def download(self, bitstream, parser=None):
        """A new engine of the configuration that the .bit names; what was in the old one is gone."""
        (config,) = json.loads(Path(bitstream.bitfile_name).read_text()).values()
        with self._mapping:
            self.rtl = Rtl(isa.EngineConfig(**config))
            for address, (memory, _) in list(self._memory.items()):
                self.rtl.map(address, memory)
        self.interrupts = Interrupts(self.rtl)
        _InterruptController._uio_devices[hwh.IRQ] = Uio(self.interrupts)
        self.post_download(bitstream, parser or self.get_bitfile_metadata(bitstream.bitfile_name), self.name)

    def shutdown(self):
        pass

    @property
    def seconds(self):
        """Time as the engine sees it, at its clock."""
        return self.rtl.cycle / (Clocks.fclk0_mhz * 1e6)

    def read_words(self, address, count):
        slave, offset = self._slave(address)
        self.rtl.step(self.idle)
        return np.array([slave.read(offset + 4 * i) for i in range(count)], np.uint32)

    def write_words(self, address, words):
        slave, offset = self._slave(address)
        self.rtl.step(self.idle)
        slave.write_block(offset, words)

    def _slave(self, address):
        """Who answers at an address of the processor's bus, and the address as it sees it."""
        if hwh.BASE <= address < hwh.BASE + hwh.SIZE and self.rtl:
            return self.rtl, address - hwh.BASE
        if hwh.INTERRUPTS_BASE <= address < hwh.INTERRUPTS_BASE + hwh.INTERRUPTS_SIZE and self.rtl:
            return self.interrupts, address - hwh.INTERRUPTS_BASE
        raise MemoryError(f"nothing answers at address 0x{address:08X}; has an overlay been downloaded?")

    def _mapped(self, address, memory):
        if self.rtl:
            self.rtl.map(address, memory)

    def _unmapped(self, address):
        if self.rtl:
            self.rtl.unmap(address)

    # Addresses and caches are as a board has them: processor and engine see different memory until a buffer is flushed
    # or invalidated.
    def flush(self, bo, offset, vaddr, nbytes):
        memory, seen = self._buffer(bo)
        memory[offset : offset + nbytes] = seen[offset : offset + nbytes]

    def invalidate(self, bo, offset, vaddr, nbytes):
        memory, seen = self._buffer(bo)
        seen[offset : offset + nbytes] = memory[offset : offset + nbytes]


class SimClocks:
    """Stands in for the clock registers of the processor, which pynq reads and writes: 1000 MHz, divided twice."""

    def __init__(self):
        self.mhz = [hwh.CLOCK_MHZ] * 4

    def get_cpu_mhz(self):
        return 650.0

    def get_pl_clk(self, index):
        return self.mhz[index]

    def set_pl_clk(self, index, div0=None, div1=None, clk_mhz=None):
        if div0 and div1:
            self.mhz[index] = 1000 / (div0 * div1)
        elif clk_mhz:
            self.mhz[index] = float(clk_mhz)


class Interrupts:
    """Xilinx' AXI interrupt controller (PG099) with one line, the engine's, as far as pynq uses it.

    Registers: ISR 0, IPR 4, IER 8, IAR 0xC, SIE 0x10, CIE 0x14, MER 0x1C. `dropped`: the line is cut.
    """

    def __init__(self, rtl):
        self.rtl, self.dropped = rtl, False
        self.pending, self.enabled, self.master = 0, 0, 0

    def output(self, cycles=0):
        """Level of the line to the processor, after so many cycles or as soon as it is up."""
        self.pending |= self.rtl.wait_irq(cycles) and not self.dropped
        return bool(self.master & 1 and self.pending & self.enabled)

    def read(self, offset):
        self.output()
        return {0x0: self.pending, 0x4: self.pending & self.enabled, 0x8: self.enabled, 0x1C: self.master}.get(
            offset, 0
        )

    def write_block(self, offset, words):
        value = int(words[-1])
        if offset in (0x8, 0x10, 0x14):
            self.enabled = {0x8: value, 0x10: self.enabled | value, 0x14: self.enabled & ~value}[offset]
        elif offset == 0xC:
            self.pending &= ~value
        elif offset == 0x1C:
            self.master = value


class Uio:
    """Stands in for /dev/uio*: sets the events that wait for the controller's output. The engine's time passes while
    they wait.

    An event that nobody waits for any more, since pynq has forgotten its controller, is no longer looked after.
    """

    def __init__(self, interrupts):
        self.interrupts = interrupts

    def add_event(self, event, number):
        asyncio.get_running_loop().call_soon(self._look, weakref.ref(event))

    def _look(self, event):
        if event() is None:
            return
        if self.interrupts.output(POLL_CYCLES):
            event().set()
        else:
            delay = 0 if self.interrupts.rtl.read(OFFSETS["STATUS"]) & bit("STATUS", "BUSY") else IDLE_SECONDS
            asyncio.get_running_loop().call_later(delay, self._look, event)
