"""What an integer program is made of: tensors, operations, packed codes."""

import math
from dataclasses import dataclass, field

import numpy as np

LONGEST = 1 << 16  # samples, tokens, channels


class ProgramError(ValueError):
    """A program that breaks the contract; the message names the operation or tensor and what is wrong with it."""


def require(condition, what):
    """Raises ProgramError with `what` where the condition does not hold."""
    if not condition:
        raise ProgramError(what)


@dataclass(frozen=True)
class Tensor:
    """Shape for one window, (token, channel) or (head, query, key); range of the codes; code of the real zero."""

    shape: tuple
    low: int
    high: int
    zero_point: int

    @property
    def limits(self):
        return self.zero_point, self.low, self.high

    @property
    def reach(self):
        """The largest magnitude with the zero point taken out."""
        return max(self.high - self.zero_point, self.zero_point - self.low)


@dataclass(frozen=True)
class Channel:
    """One of a sensor's channels. resolution: sensor units per count; anchor: the constant count that is subtracted,
    None where it is each window's last count of the channel."""

    name: str
    resolution: float
    anchor: int | None


@dataclass(frozen=True)
class Operation:
    """One step: its arrays are named `path.something`, its result is the tensor `output`."""

    kind: str
    path: str
    inputs: tuple
    output: str
    attributes: dict = field(default_factory=dict)


def pack(codes, bits):
    """Signed codes of any shape -> uint8, `bits` bits each, lowest bits first, end to end."""
    unsigned = np.asarray(codes).ravel().astype(np.int64) & ((1 << bits) - 1)
    planes = (unsigned[:, None] >> np.arange(bits)) & 1
    return np.packbits(planes.astype(np.uint8).ravel(), bitorder="little")


def unpack(packed, bits, shape):
    """The inverse of `pack`: int32 of the given shape."""
    count = math.prod(shape)
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = np.packbits(planes, axis=1, bitorder="little").view(np.int8)  # one in a byte, its sign not yet carried up
    return (codes << (8 - bits) >> (8 - bits)).astype(np.int32).reshape(shape)
