"""What the devices have in common that are no board of PYNQ's: registers as an array of words, buffers of memory that
the engine reaches."""

import threading

import numpy as np
from pynq.buffer import PynqBuffer
from pynq.pl_server.device import Device


class MappedDevice(Device):
    """A pynq device by `read_words` and `write_words`. Buffers may come and go on any thread.

    first, page, beyond: of the memory for buffers: lowest address, what addresses and sizes are multiples of, first
    address after it.
    """

    first, page, beyond = 0x1000_0000, 0x1000, 1 << 32

    def __init__(self, name):
        super().__init__(name)
        self.name = self.arch = name
        self.capabilities = {"MEMORY_MAPPED": True}
        self.timestamp, self.bitfile_name = "", None
        self._memory = {}  # address -> (what the engine sees, what the processor sees), both uint8
        self._mapping = threading.RLock()  # of that; a buffer may be forgotten in the midst of it

    def mmap(self, base, length):
        return Words(self, base, length // 4)

    def allocate(self, shape, dtype="u4", cacheable=True, **_):
        """A buffer that the engine can reach. A cacheable one has to be flushed before the engine reads it, invalidated
        after it wrote."""
        size = max(1, -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // self.page)) * self.page
        seen = np.zeros(size, np.uint8)
        memory = np.zeros(size, np.uint8) if cacheable else seen
        with self._mapping:
            address = self._free(size)
            self._memory[address] = memory, seen
            self._mapped(address, memory)
        buffer = PynqBuffer(
            shape, dtype, buffer=seen, device=self, device_address=address, bo=address, coherent=not cacheable
        )
        # what `freebuffer` looks at
        buffer.memory, buffer.pointer, buffer.return_to, buffer.freed = self, address, self, True
        return buffer

    def _free(self, size):
        """The lowest address with so many bytes that no buffer has."""
        address = self.first
        for taken, (memory, _) in sorted(self._memory.items()):
            if address + size <= taken:
                break
            address = taken + memory.nbytes
        if address + size > self.beyond:
            raise MemoryError(f"{self.name} has no {size} bytes left for a buffer: free others (engine.close())")
        return address

    def return_pointer(self, address):
        with self._mapping:
            if self._memory.pop(address, None):
                self._unmapped(address)

    def _mapped(self, address, memory):
        """There is a buffer."""

    def _unmapped(self, address):
        """There is none any more."""

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
        if (np.diff(places) != 1).any():
            raise ValueError("only consecutive words can be written at once")
        words = np.ascontiguousarray(np.broadcast_to(np.asarray(value).astype(np.uint32), places.shape))
        if len(places):
            self.device.write_words(self.base + 4 * int(places[0]), words)

    def __array__(self, dtype=None, copy=None):
        return self.device.read_words(self.base, self.count).astype(dtype or self.dtype)
