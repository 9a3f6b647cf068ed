"""The memory that processor and engine share: windows in one buffer of pynq.allocate, forecasts in another."""

import numpy as np
from pynq import allocate
from pynq.buffer import PynqBuffer

from qatlib.engine.registers import WORD, EngineError


class Buffers:
    """A driver's own two, kept from run to run as long as they fit."""

    def __init__(self, device):
        self.device, self.pair = device, ()

    def filled(self, program, counts):
        """Windows in the input buffer. -> input and output buffer, at least that long."""
        shapes = [(len(counts), row(length)) for length in (program.inputs, program.outputs)]
        if not self.pair or any(b.shape[0] < s[0] or b.shape[1] != s[1] for b, s in zip(self.pair, shapes)):
            self.free()
            self.pair = tuple(allocate(shape, np.int16, target=self.device) for shape in shapes)
        self.pair[0][: len(counts), : program.inputs] = program.sent(counts)
        return self.pair

    def free(self):
        for buffer in self.pair:
            buffer.freebuffer()
        self.pair = ()


def row(counts):
    """Counts from window to window in a buffer."""
    return -(-counts * 2 // WORD) * WORD // 2


def check(buffer, device, name, windows, counts):
    """EngineError unless the engine finds so many rows of so many counts in it. name: of the model that needs them."""
    if not isinstance(buffer, PynqBuffer) or getattr(buffer, "device", None) is not device or not _is_allocated(buffer):
        raise EngineError(
            "start takes buffers of pynq.allocate on the engine's device, and views of them; not copies, nor freed ones"
        )
    shape, whole = buffer.shape, buffer.dtype == np.int16 and buffer.flags.c_contiguous
    if not whole or len(shape) != 2 or shape[0] < windows or shape[1] != row(counts):
        wanted = f"{name!r} needs contiguous int16 ({windows} or more, {row(counts)})"
        raise EngineError(f"a buffer of {buffer.dtype} {shape} is too short or of another layout: {wanted}", cause=4)
    place(buffer)


def place(buffer):
    """First address, and first beyond. EngineError where the engine cannot reach them."""
    first, beyond = buffer.device_address, buffer.device_address + buffer.nbytes
    if first % WORD or beyond >= 1 << 32:
        raise EngineError(
            f"the engine reaches multiples of {WORD} below 2^32, not a buffer from 0x{first:X} to 0x{beyond:X}", cause=4
        )
    return first, beyond


def _is_allocated(buffer):
    """Whether this is device memory still: numpy gives a copy of a buffer an address too, but one of nothing."""
    while isinstance(buffer.base, PynqBuffer):
        buffer = buffer.base
    return not buffer.flags.owndata and (not buffer.freed or bool(getattr(buffer, "pointer", None)))
