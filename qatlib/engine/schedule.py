"""When each instruction may begin: the engine never waits for a result, so the compiler keeps the distances.

Times are cycles of issue. An issue reads codes, weights, keys and values in its own cycle, and what it makes is there for issues
`*_LATENCY` cycles later; see `overlays/engine/core.sv`. Delays at run time only lengthen distances, so a schedule stays valid.
"""

from dataclasses import dataclass, field

import numpy as np

FETCH = 14  # cycles from one instruction's beginning to the next one's, at the least
CODE_LATENCY = 14  # to a code or key/value memory, from the first stage
OPERAND_LATENCY = 27  # to the code memory, from the third stage
SUM_LATENCY = 21  # to the residual memory
RESIDUAL_READ = 12  # after the issue
MAX_LATENCY = 16  # to the memory of largest scores
MAX_READ = 1
RECIPROCAL_LATENCY = 17
RECIPROCAL_READ = 6
DIVIDE = 10  # cycles of one divider for a row
DRAIN = 16  # from the last count's issue until it is in the output buffer


@dataclass
class Access:
    """Words of a memory, and when each is touched, in cycles after the instruction's first issue; both int (n,)."""

    memory: str
    words: np.ndarray
    times: np.ndarray


@dataclass
class Timeline:
    """Places instructions one after the other. `ready`: per memory, when each word can be read."""

    depths: dict
    ready: dict = field(default_factory=dict)
    end: int = 0  # last issue so far
    begun: int = -FETCH
    code_write: int = -1  # last write of a code so far

    def __post_init__(self):
        self.ready = {name: np.zeros(depth, np.int64) for name, depth in self.depths.items()}

    def place(self, issues, reads, writes, *, after=0, latency=CODE_LATENCY, first_code=None):
        """-> (stall, cycles from the end of the instruction before to its own end). `issues`: its length in cycles.

        after: cycles that must lie between the last issue and this one; first_code, latency: its first write of a code, where it has any.
        """
        start = max(self.end + 1 + after, *(int((self.ready[r.memory][r.words] - r.times).max()) for r in reads)) if reads else (
            self.end + 1 + after
        )
        if first_code is not None:  # codes are written in the order of instructions, so that two never meet
            start = max(start, self.code_write + 1 - first_code - latency)
        stall = start - self.end - 1
        taken = max(self.end, self.begun + FETCH)
        start = max(start, taken + 1)
        for w in writes:
            np.maximum.at(self.ready[w.memory], w.words, start + w.times)
            if w.memory == "code":
                self.code_write = max(self.code_write, start + int(w.times.max()))
        cycles = start + issues - 1 - self.end
        self.begun, self.end = taken, start + issues - 1
        return stall, cycles
