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
from pynq.buffer import PynqBuffer
from pynq.interrupt import _InterruptController
from pynq.pl_server.device import Device
from pynq.ps import Clocks
from pynqmetadata.frontends import Metadata
from pynqmetadata.views.runtime import RuntimeMetadataParser

from qatlib.engine import bitstream, hwh, isa
from qatlib.engine.registers import OFFSETS, bit
from qatlib.engine.rtl import Rtl
from qatlib.system import paths

DDR_BASE, PAGE = 0x1000_0000, 0x1000
POLL_CYCLES = 200  # that pass in the engine between two looks at its interrupt
IDLE_SECONDS = 0.02  # between two looks when the engine is not at work either


def write_overlay(config):
    """The folder of a simulated overlay, made where it is missing: metadata, and in place of a bitstream the
    configuration to simulate."""
    folder = paths.BUILD / "overlays" / f"{config.name}-{zlib.crc32(repr((config, isa.REGISTERS)).encode()):08x}"
    if not (folder / bitstream.SHA256).is_file():
        _make_overlay(config, folder)
    return folder


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


class SimDevice(Device):
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
        self.name = self.arch = "simulated"
        self.capabilities = {"MEMORY_MAPPED": True}
        self.timestamp, self.bitfile_name = "", None
        self.rtl, self.interrupts, self.idle = None, None, 16
        self._memory = {}  # address -> (what the engine sees, what the processor sees), both uint8
        # of that and of what the engine's bus sees; a buffer may be forgotten in the midst of it
        self._mapping = threading.RLock()

    def get_bitfile_metadata(self, bitfile_name, partial=False):
        return RuntimeMetadataParser(Metadata(input=str(Path(bitfile_name).with_suffix(".hwh"))))

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

    def mmap(self, base, length):
        return Words(self, base, length // 4)

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

    def allocate(self, shape, dtype="u4", cacheable=True, **_):
        """A buffer that the engine can reach. A cacheable one has to be flushed before the engine reads it, invalidated
        after it wrote."""
        size = max(1, -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // PAGE)) * PAGE
        seen = np.zeros(size, np.uint8)
        memory = np.zeros(size, np.uint8) if cacheable else seen
        with self._mapping:
            address = self._free(size)
            self._memory[address] = memory, seen
            if self.rtl:
                self.rtl.map(address, memory)
        buffer = PynqBuffer(
            shape, dtype, buffer=seen, device=self, device_address=address, bo=address, coherent=not cacheable
        )
        # what `freebuffer` looks at
        buffer.memory, buffer.pointer, buffer.return_to, buffer.freed = self, address, self, True
        return buffer

    def _free(self, size):
        """The lowest address with so many bytes that no buffer has."""
        address = DDR_BASE
        for taken, (memory, _) in sorted(self._memory.items()):
            if address + size <= taken:
                break
            address = taken + memory.nbytes
        return address

    def return_pointer(self, address):
        with self._mapping:
            if self._memory.pop(address, None) and self.rtl:
                self.rtl.unmap(address)

    # Addresses and caches are as a board has them: processor and engine see different memory until a buffer is flushed
    # or invalidated.
    def flush(self, bo, offset, vaddr, nbytes):
        memory, seen = self._buffer(bo)
        memory[offset : offset + nbytes] = seen[offset : offset + nbytes]

    def invalidate(self, bo, offset, vaddr, nbytes):
        memory, seen = self._buffer(bo)
        seen[offset : offset + nbytes] = memory[offset : offset + nbytes]

    def _buffer(self, address):
        if address not in self._memory:
            raise MemoryError(f"there is no buffer at address 0x{address:08X}; was it freed?")
        return self._memory[address]


class Words:
    """What a board's mapped uint32 registers look like: index, slice (a view, read when it is made an array), array of
    indices."""

    dtype, itemsize, ndim = np.dtype("u4"), 4, 1

    def __init__(self, device, base, count):
        self.device, self.base, self.count = device, base, count

    def __len__(self):
        return self.count

    def view(self, dtype="u4"):
        return self

    def __getitem__(self, key):
        if isinstance(key, slice):
            start, stop, _ = key.indices(self.count)
            return Words(self.device, self.base + 4 * start, max(0, stop - start))
        return self.device.read_words(self.base + 4 * range(self.count)[key], 1)[0]

    def __setitem__(self, key, value):
        places = np.atleast_1d(np.arange(self.count)[key])
        words = np.ascontiguousarray(np.broadcast_to(np.asarray(value).astype(np.uint32), places.shape))
        if len(places):
            self.device.write_words(self.base + 4 * int(places[0]), words)

    def __array__(self, dtype=None, copy=None):
        return self.device.read_words(self.base, self.count).astype(dtype or self.dtype)


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
