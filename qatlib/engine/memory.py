"""Room in the engine's memories: what comes and goes (`Allocator`), and what is loaded once (`Pool`)."""

import numpy as np


class DoesNotFit(ValueError):
    """A memory of the configuration is too small for the model."""

    def __init__(self, memory, needed, there, unit):
        self.short = needed - there
        way_out = "take a larger configuration or a smaller model"
        super().__init__(f"the {memory} is short by {self.short} {unit}: {needed} needed, {there} there; {way_out}")


class Unsupported(ValueError):
    """A program of a structure that the engine has no instructions for, whatever its size."""


class Allocator:
    """First fit among `depth` words, by name."""

    def __init__(self, memory, depth, unit):
        self.memory, self.depth, self.unit = memory, depth, unit
        self.taken = {}  # name: (base, size)

    def take(self, name, size):
        """-> the first word of a free run. DoesNotFit where there is none."""
        base = 0
        for start, length in sorted(self.taken.values()):
            if start - base >= size:
                break
            base = max(base, start + length)
        if base + size > self.depth:
            raise DoesNotFit(self.memory, base + size, self.depth, self.unit)
        self.taken[name] = (base, size)
        return base

    def rename(self, old, new):
        self.taken[new] = self.taken.pop(old)

    def free(self, name):
        self.taken.pop(name, None)


class Pool:
    """Words that are loaded with the program; equal blocks are kept once."""

    def __init__(self, memory, depth, width):
        self.memory, self.depth, self.width = memory, depth, width
        self.blocks, self.known, self.size = [], {}, 0

    def add(self, words):
        """Words (n, width) -> the first one's address."""
        key = words.shape[0], words.tobytes()
        if key not in self.known:
            if self.size + len(words) > self.depth:
                raise DoesNotFit(self.memory, self.size + len(words), self.depth, "words")
            self.known[key] = self.size
            self.blocks.append(words)
            self.size += len(words)
        return self.known[key]

    def array(self):
        return np.concatenate(self.blocks) if self.blocks else np.zeros((0, self.width), np.int64)


class Tables(Pool):
    """Tables of 256 bytes; those of nibbles go two to a table."""

    def __init__(self, memory, depth):
        super().__init__(memory, depth, 256)
        self.nibbles, self.half = {}, None

    def add_nibbles(self, codes):
        """Codes (256,) of 4 bits -> (table, whether in its upper nibbles)."""
        codes = codes & 15
        key = codes.tobytes()
        if key not in self.nibbles:
            if self.half is None:
                self.half = super().add(
                    codes.reshape(1, 256) | (1 + len(self.nibbles)) << 8
                )  # marked: not to be shared before it is full
                self.blocks[-1] = codes.reshape(1, 256)
                self.nibbles[key] = self.half, 0
            else:
                self.blocks[self.half] = self.blocks[self.half] | codes.reshape(1, 256) << 4
                self.nibbles[key], self.half = (self.half, 1), None
        return self.nibbles[key]
